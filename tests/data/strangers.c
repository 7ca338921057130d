/* A module whose commands are the server's own by other names: what a server has and the table of
 * commands does not. Only what it calls of the module API is declared here, so that no header is
 * needed; Redis and Valkey load it alike. */

#include <stddef.h>

typedef struct Context Context;
typedef struct String String;
typedef struct Reply Reply;
typedef int (*Command)(Context *, String **, int);

static Reply *(*call)(Context *, const char *, const char *, ...);
static int (*answer)(Context *, Reply *);
static int (*create)(Context *, const char *, Command, const char *, int, int, int);
static void (*introduce)(Context *, const char *, int, int);

#define ALIAS(name, command)                                                   \
    static int name(Context *context, String **args, int count) {              \
        return answer(context, call(context, command, "v", args + 1, (size_t)count - 1)); \
    }

ALIAS(set, "SET")
ALIAS(unite, "ZUNIONSTORE")
ALIAS(size, "DBSIZE")
ALIAS(tell, "PUBLISH")

int RedisModule_OnLoad(Context *context, String **args, int count) {
    (void)args;
    (void)count;
    int (*find)(const char *, void *) = *(int (**)(const char *, void *))context;
    find("RedisModule_Call", &call);
    find("RedisModule_ReplyWithCallReply", &answer);
    find("RedisModule_CreateCommand", &create);
    find("RedisModule_SetModuleAttribs", &introduce);
    introduce(context, "strangers", 1, 1);
    create(context, "new.set", set, "write", 1, 1, 1);
    create(context, "new.unite", unite, "write", 1, 1, 1);
    create(context, "new.size", size, "readonly", 0, 0, 0);
    create(context, "new.tell", tell, "pubsub", 0, 0, 0);
    return 0;
}
