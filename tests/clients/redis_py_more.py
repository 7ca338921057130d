"""redis-py where a connection is more than requests and answers: transactions, blocking, pub/sub,
locks, scripts, streams, its own client-side cache. Arguments: port, protocol (2 or 3)."""

import queue
import sys
import threading

import redis
from redis.cache import CacheConfig
from redis.connection import CacheProxyConnection
from redis.exceptions import (
    ExecAbortError,
    LockNotOwnedError,
    NoScriptError,
    ResponseError,
    WatchError,
)

from until import LONG, fails, until

port, protocol = int(sys.argv[1]), int(sys.argv[2])


def connect(**more):
    settings = {"protocol": protocol, "decode_responses": True, "socket_timeout": 2 * LONG, **more}
    return redis.Redis(port=port, **settings)


def aside(work):
    """Runs it in a thread; what comes back waits for its result."""
    result = queue.Queue()

    def run():
        try:
            result.put((work(), None))
        except BaseException as error:
            result.put((None, error))

    threading.Thread(target=run, daemon=True).start()

    def wait():
        value, error = result.get(timeout=LONG)
        if error is not None:
            raise error
        return value

    return wait


def is_waiting(client, command):
    """Whether a client is in a blocking command, as the server's list tells."""
    return any(c["cmd"] == command and "b" in c["flags"] for c in client.client_list())


def blocked_upstream(client):
    """Clients that wait in the server itself."""
    return client.execute_command("INFO", "upstream", "clients")["blocked_clients"]


def transactions(client, other):
    pipe = client.pipeline()
    for number in range(300):
        pipe.set(f"t{number}", number)
        pipe.get(f"t{number}")
        pipe.incr("count")
    answers = pipe.execute()
    assert answers == [x for n in range(300) for x in (True, str(n), n + 1)], answers[:9]
    assert client.mget("t0", "t299", "count") == ["0", "299", "300"]

    # Names of keys inside the answer of EXEC.
    client.rpush("list", "a", "b")
    client.xadd("log", {"f": "v"}, id="1-1")
    pipe = client.pipeline()
    pipe.keys("lis*").scan(0, match="t29?", count=1000).blpop("list", 1).xread({"log": "0"})
    keys, (_, scanned), popped, read = pipe.execute()
    assert keys == ["list"] and list(popped) == ["list", "a"], (keys, popped)
    assert sorted(scanned) == [f"t29{n}" for n in range(10)], scanned
    assert [name for name in (read if protocol == 3 else dict(read))] == ["log"], read

    # An error of one command leaves the others; an error while queuing stops all.
    pipe = client.pipeline().set("text", "x").lpush("text", "y").get("text")
    first, second, third = pipe.execute(raise_on_error=False)
    assert (first, third) == (True, "x") and "WRONGTYPE" in str(second), second
    pipe = client.pipeline().set("text", "never")
    pipe.execute_command("GET")
    with fails(ResponseError, "wrong number of arguments"):
        pipe.execute()
    raw = client.client()
    raw.execute_command("MULTI")
    with fails(ResponseError, "unknown command"):
        raw.execute_command("NOSUCH", "text")
    with fails(ExecAbortError):
        raw.execute_command("EXEC")
    assert client.get("text") == "x"

    # WATCH sees another's write, and nothing else.
    with client.pipeline() as pipe:
        pipe.watch("seen")
        assert pipe.get("seen") is None
        pipe.multi()
        pipe.set("seen", "mine")
        assert other.set("seen", "other")
        with fails(WatchError):
            pipe.execute()
    assert client.get("seen") == "other"

    def add(pipe):
        value = int(pipe.get("sum") or 0)
        pipe.multi()
        pipe.set("sum", value + 1)

    waits = [
        aside(lambda: [connect().transaction(add, "sum") for _ in range(25)]) for _ in range(4)
    ]
    for wait in waits:
        assert all(answer == [True] for answer in wait())
    assert client.get("sum") == "100"


def blocking(client):
    me = connect()
    got = aside(lambda: me.blpop(["none", "work"], timeout=LONG))
    until("a waiting BLPOP", lambda: is_waiting(client, "blpop"))
    assert client.rpush("work", "job") == 1
    assert list(got()) == ["work", "job"]

    got = aside(lambda: me.blmove("work", "done", LONG))
    until("a waiting BLMOVE", lambda: is_waiting(client, "blmove"))
    client.rpush("work", "moved")
    assert got() == "moved" and client.lrange("done", 0, -1) == ["moved"]

    got = aside(lambda: me.bzpopmin("scores", timeout=LONG))
    until("a waiting BZPOPMIN", lambda: is_waiting(client, "bzpopmin"))
    client.zadd("scores", {"low": 1.5, "high": 2})
    assert list(got()) == ["scores", "low", 1.5]
    assert me.bzmpop(1, 1, ["scores"], min=True)[0] == "scores"
    assert me.blmpop(0.01, 1, "none", direction="LEFT") is None
    assert me.blpop("none", timeout=0.01) is None and me.brpop("none", timeout=0.01) is None

    # One that another client lets go, and one whose client leaves: its element stays.
    number = me.client_id()
    got = aside(lambda: me.blpop("none", timeout=LONG))
    until("a waiting BLPOP", lambda: is_waiting(client, "blpop"))
    assert client.client_unblock(number) == 1 and got() is None
    leaves = connect(socket_timeout=0.2, retry=None)
    with fails(redis.TimeoutError):
        leaves.blpop("left", timeout=LONG)
    leaves.close()
    until("it is gone", lambda: not is_waiting(client, "blpop"))
    client.rpush("left", "stays")
    assert client.lpop("left") == "stays"
    me.close()


def published(client, other):
    sub = client.pubsub(ignore_subscribe_messages=False)
    sub.subscribe("news", "later")
    sub.psubscribe("n*")
    heard = [sub.get_message(timeout=LONG) for _ in range(3)]
    assert [(m["type"], m["channel"], m["data"]) for m in heard] == [
        ("subscribe", "news", 1),
        ("subscribe", "later", 2),
        ("psubscribe", "n*", 3),
    ], heard
    assert other.pubsub_numsub("news", "none") == [("news", 1), ("none", 0)]
    assert sorted(other.pubsub_channels("*")) == ["later", "news"] and other.pubsub_numpat() == 1
    assert other.publish("news", "hello") == 2
    heard = [sub.get_message(timeout=LONG) for _ in range(2)]
    assert [(m["type"], m["pattern"], m["channel"], m["data"]) for m in heard] == [
        ("message", None, "news", "hello"),
        ("pmessage", "n*", "news", "hello"),
    ], heard
    if protocol == 2:  # In RESP3 it is a plain answer, which redis-py takes apart wrongly.
        sub.ping("are you there")
        pong = sub.get_message(timeout=LONG)
        assert pong["type"] == "pong" and pong["data"] == "are you there", pong
    sub.unsubscribe("later")
    assert sub.get_message(timeout=LONG)["type"] == "unsubscribe"
    assert other.publish("later", "nobody") == 0

    # Messages keep their order, and all arrive.
    for number in range(500):
        assert other.publish("news", number) == 2
    got = [sub.get_message(timeout=LONG) for _ in range(1000)]
    assert [m["data"] for m in got if m["type"] == "message"] == [str(n) for n in range(500)]
    sub.close()
    until("nobody listens", lambda: other.pubsub_numsub("news") == [("news", 0)])

    # In a thread, with a handler.
    heard = queue.Queue()
    sub = client.pubsub(ignore_subscribe_messages=True)
    sub.subscribe(handled=heard.put)
    thread = sub.run_in_thread(daemon=True)
    until("it listens", lambda: other.pubsub_numsub("handled") == [("handled", 1)])
    other.publish("handled", "by thread")
    assert heard.get(timeout=LONG)["data"] == "by thread"
    thread.stop()
    thread.join(LONG)

    sub = client.pubsub()
    sub.ssubscribe("shard")
    assert sub.get_sharded_message(timeout=LONG)["type"] == "ssubscribe"
    assert other.pubsub_shardnumsub("shard") == [("shard", 1)]
    assert other.spublish("shard", "part") == 1
    message = sub.get_sharded_message(timeout=LONG)
    assert (message["type"], message["data"]) == ("smessage", "part"), message
    sub.close()


def notified(client, other):
    """Keyspace notifications name keys as this client does."""
    other.config_set("notify-keyspace-events", "KEA")
    sub = client.pubsub(ignore_subscribe_messages=True)
    sub.psubscribe("__keyspace@0__:note*")
    sub.subscribe("__keyevent@0__:del")
    until("it listens", lambda: other.pubsub_numpat() == 1)
    until("it listens", lambda: other.pubsub_numsub("__keyevent@0__:del")[0][1] == 1)

    def event():
        return until("a notification", lambda: sub.get_message(timeout=LONG))

    other.set("noted", 1)
    message = event()
    assert (message["channel"], message["data"]) == ("__keyspace@0__:noted", "set"), message
    other.delete("noted")
    got = sorted((m["channel"], m["data"]) for m in (event(), event()))
    assert got == [("__keyevent@0__:del", "noted"), ("__keyspace@0__:noted", "del")], got
    sub.close()
    other.config_set("notify-keyspace-events", "")


def locked(client, other):
    lock = client.lock("lock", timeout=LONG)
    assert lock.acquire() and lock.owned()
    assert not other.lock("lock", timeout=LONG).acquire(blocking=False)
    assert lock.extend(LONG) and lock.reacquire()
    lock.release()
    with other.lock("lock", timeout=LONG) as held:
        assert held.locked()
        assert client.delete("lock") == 1
        assert client.set("lock", "stolen")
        with fails(LockNotOwnedError):
            held.extend(1)
        other.set("lock", held.local.token)

    # One after the other, by waiting.
    def work():
        mine = connect()
        for _ in range(10):
            with mine.lock("turn", timeout=LONG, sleep=0.001):
                mine.set("turns", int(mine.get("turns") or 0) + 1)

    for wait in [aside(work) for _ in range(3)]:
        wait()
    assert client.get("turns") == "30"


def scripted(client):
    add = client.register_script(
        "local had = redis.call('GET', KEYS[1])\n"
        "redis.call('SET', KEYS[2], (tonumber(had) or 0) + ARGV[1])\n"
        "return redis.call('GET', KEYS[2])"
    )
    client.set("from", 40)
    assert add(keys=["from", "to"], args=[2]) == "42" and client.get("to") == "42"
    assert client.script_exists(add.sha) == [True]
    pipe = client.pipeline()
    add(keys=["to", "to"], args=[1], client=pipe)
    pipe.get("to")
    assert pipe.execute() == ["43", "43"]
    assert client.script_flush()
    with fails(NoScriptError):
        client.evalsha("f" * 40, 1, "from")
    assert add(keys=["to", "to"], args=[1]) == "44" and client.get("to") == "44"
    assert client.eval("return {ARGV[1], 2, {3}}", 0, "one") == ["one", 2, [3]]
    assert client.eval_ro("return redis.call('GET', KEYS[1])", 1, "to") == "44"
    with fails(ResponseError, "WRONGTYPE"):
        client.eval("return redis.call('LPUSH', KEYS[1], 'x')", 1, "to")
    library = (
        "#!lua name=counting\n"
        "redis.register_function('add', function(keys, args)\n"
        "  return redis.call('INCRBY', keys[1], args[1])\nend)\n"
    )
    assert client.function_load(library, replace=True) == "counting"
    assert client.fcall("add", 1, "to", 6) == 50 and client.get("to") == "50"
    assert client.function_delete("counting")


def streamed(client):
    ids = [client.xadd("s", {"n": n}) for n in range(10)]
    assert client.xlen("s") == 10
    assert [i for i, _ in client.xrange("s", count=3)] == ids[:3]
    with fails(ResponseError, "NOGROUP", "'s'"):
        client.xreadgroup("g", "me", {"s": ">"})
    assert client.xgroup_create("s", "g", id="0")
    assert client.xgroup_create("made", "g", mkstream=True)

    def entries(reply, name="s"):
        if not reply:
            return []
        found = dict(reply)[name]
        return [i for i, _ in (found[0] if protocol == 3 else found)]

    assert entries(client.xreadgroup("g", "one", {"s": ">"}, count=4)) == ids[:4]
    assert entries(client.xreadgroup("g", "two", {"s": ">", "made": ">"})) == ids[4:]
    assert client.xack("s", "g", *ids[:2]) == 2
    pending = client.xpending("s", "g")
    assert pending["pending"] == 8 and pending["min"] == ids[2], pending
    assert client.xpending_range("s", "g", "-", "+", 1)[0]["consumer"] == "one"
    assert [i for i, _ in client.xclaim("s", "g", "two", 0, [ids[2]])] == [ids[2]]
    assert [i for i, _ in client.xautoclaim("s", "g", "two", 0, count=100)[1]] == ids[2:]
    groups = client.xinfo_groups("s")
    assert [(g["name"], g["consumers"], g["pending"]) for g in groups] == [("g", 2, 8)], groups
    assert client.xinfo_stream("s")["length"] == 10

    reads = connect()
    got = aside(lambda: reads.xreadgroup("g", "one", {"s": ">"}, block=LONG * 1000))
    until("a waiting XREADGROUP", lambda: is_waiting(client, "xreadgroup"))
    new = client.xadd("s", {"n": "new"})
    assert entries(got()) == [new]
    got = aside(lambda: reads.xread({"none": "$", "s": "$"}, block=LONG * 1000))
    # `$` is what the server has when it gets there: CLIENT LIST tells what nearside has sent.
    until("a waiting XREAD", lambda: blocked_upstream(client) == 1)
    new = client.xadd("s", {"n": "newer"})
    assert entries(got()) == [new]
    assert client.xtrim("s", maxlen=2, approximate=False) == 10


def walked(client):
    """Where a reply or a pattern names keys."""
    client.mset({f"user:{n}:name": n for n in range(50)})
    client.mset({"w_1": 3, "w_2": 1, "w_3": 2, "d_1": "a", "d_2": "b", "d_3": "c"})
    client.rpush("ids", 1, 2, 3)
    assert client.sort("ids", by="w_*", get="d_*") == ["b", "c", "a"]
    assert client.sort("ids", by="w_*", get=["#", "d_*"], store="sorted") == 6
    assert client.lrange("sorted", 0, 1) == ["2", "b"]
    found = set(client.scan_iter("user:[1-2]?:name", count=7))
    assert found == {f"user:{n}:name" for n in range(10, 30)}, found
    assert client.copy("d_1", "d_9") and client.rename("d_9", "d_8") and client.get("d_8") == "a"
    assert client.restore("d_7", 0, client_bytes.dump("d_8")) and client.get("d_7") == "a"
    client.geoadd("geo", (13.361389, 38.115556, "Palermo", 15.087269, 37.502669, "Catania"))
    assert (
        client.geosearchstore("near", "geo", longitude=15, latitude=37, radius=200, unit="km") == 2
    )
    assert client.randomkey() in client.keys()
    assert client.object("encoding", "d_8") == "embstr"


def cached_by_itself():
    """redis-py's own cache, which the server keeps true. It asks for Redis 7.4 by name, though the
    protocol that it speaks is that of Redis 6: that check is lifted."""
    name = redis.Redis(port=port).execute_command("HELLO", 3)[b"server"].decode()
    CacheProxyConnection.MIN_ALLOWED_VERSION = "6.0.0"
    CacheProxyConnection.DEFAULT_SERVER_NAME = name
    caches = redis.Redis(port=port, protocol=3, decode_responses=True, cache_config=CacheConfig())
    writes = connect()
    writes.mset({"c1": "a", "c2": "b"})
    assert [caches.get("c1"), caches.get("c2"), caches.get("c1")] == ["a", "b", "a"]
    assert caches.get_cache().size == 2
    for number in range(20):
        writes.set("c1", number)
        until("the write is seen", lambda now=number: caches.get("c1") == str(now))
    assert caches.hgetall("h") == {}
    writes.hset("h", "f", "v")
    until("the write is seen", lambda: caches.hgetall("h") == {"f": "v"})
    writes.delete("c2")
    until("the delete is seen", lambda: caches.get("c2") is None)
    pipe = caches.pipeline().set("c1", "own").get("c1")
    assert pipe.execute() == [True, "own"]
    until("the own write is seen", lambda: caches.get("c1") == "own")
    caches.close()


client, other = connect(), connect()
client_bytes = redis.Redis(port=port, protocol=protocol)
client.flushall()
transactions(client, other)
blocking(client)
published(client, other)
notified(client, other)
locked(client, other)
scripted(client)
streamed(client)
walked(client)
if protocol == 3:
    cached_by_itself()
print("ok")
