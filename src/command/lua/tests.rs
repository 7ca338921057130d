//! Scripts of real libraries, and each reason by itself.

use super::{TEXT_MAX, check, check_library};
use std::fmt::Write as _;

/// As libraries send them: `(whose, script)`.
const FINE: &[(&str, &str)] = &[
    (
        "Redlock, release",
        "if redis.call(\"get\",KEYS[1]) == ARGV[1] then return redis.call(\"del\",KEYS[1]) \
         else return 0 end",
    ),
    (
        "node-redlock, acquire",
        r#"
  -- Return 0 if an entry already exists.
  for i, key in ipairs(KEYS) do
    if redis.call("exists", key) == 1 then
      return 0
    end
  end
  -- Create an entry for each provided key.
  for i, key in ipairs(KEYS) do
    redis.call("set", key, ARGV[1], "PX", ARGV[2])
  end
  return #KEYS
"#,
    ),
    (
        "node-redlock, extend",
        r#"
  for i, key in ipairs(KEYS) do
    if redis.call("get", key) ~= ARGV[1] then return 0 end
  end
  for i, key in ipairs(KEYS) do redis.call("pexpire", key, ARGV[2]) end
  return #KEYS
"#,
    ),
    (
        "redis-py, Lock.extend",
        r"
        local token = redis.call('get', KEYS[1])
        if not token or token ~= ARGV[1] then
            return 0
        end
        local expiration = redis.call('pttl', KEYS[1])
        if not expiration then
            expiration = 0
        end
        if expiration < 0 then
            return 0
        end
        local newttl = ARGV[2]
        if ARGV[3] == '0' then
            newttl = ARGV[2] + expiration
        end
        redis.call('pexpire', KEYS[1], newttl)
        return 1
    ",
    ),
    (
        "python-redis-lock",
        r#"
    if redis.call("get", KEYS[1]) ~= ARGV[1] then
        return 1
    else
        redis.call("del", KEYS[2])
        redis.call("lpush", KEYS[2], 1)
        redis.call("pexpire", KEYS[2], ARGV[2])
        redis.call("del", KEYS[1])
        return 0
    end
"#,
    ),
    (
        "Sidekiq, zpopbyscore",
        r#"
local key, now = KEYS[1], ARGV[1]
local jobs = redis.call("zrange", key, "-inf", now, "byscore", "limit", 0, 1)
if jobs[1] then
  redis.call("zrem", key, jobs[1])
  return jobs[1]
end
"#,
    ),
    (
        "a rate limiter",
        "local current = redis.call('incr', KEYS[1]) if tonumber(current) == 1 then \
         redis.call('expire', KEYS[1], ARGV[1]) end return current",
    ),
    (
        "a sliding window",
        r"
local now = redis.call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
local args = {}
for i = 3, #ARGV do args[#args + 1] = ARGV[i] end
redis.call('ZREMRANGEBYSCORE', KEYS[1], 0, ms - tonumber(ARGV[1]))
local n = redis.call('ZCARD', KEYS[1])
if n < tonumber(ARGV[2]) then
  redis.call('ZADD', KEYS[1], ms, ms .. ':' .. math.random())
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
  return {1, n + 1}
end
return {0, n}
",
    ),
    (
        "django-redis, incr",
        r"
local exists = redis.call('EXISTS', KEYS[1])
if (exists == 1) then return redis.call('INCRBY', KEYS[1], ARGV[1])
else return false end
",
    ),
    (
        "Celery, a chord's part",
        r"
local jkey, tkey, skey = KEYS[1], KEYS[2], KEYS[3]
redis.call('RPUSH', jkey, ARGV[1])
for _, key in ipairs({jkey, tkey, skey}) do
    redis.call('EXPIRE', key, ARGV[2])
end
return {redis.call('LLEN', jkey), redis.call('GET', tkey)}
",
    ),
    (
        "rspamd's and Envoy's style",
        r"
#!lua flags=no-writes
local rcall, keys = redis.call, KEYS
local function read(key, ...) return rcall('hmget', key, ...) end
local first = keys[1] or nil
if first ~= nil then return read(first, 'a', 'b', unpack(ARGV)) end
",
    ),
    ("Redis' manual", "return redis.pcall('DEL', unpack(KEYS))"),
    ("Valkey's name for it", "return server.call('get', KEYS[1])"),
    ("nothing", ""),
    ("no key", "return 1"),
    ("no key of its own", "return {redis.call('PING'), redis.call('TIME'), redis.sha1hex('a')}"),
    ("a channel that is no key", "return redis.call('publish', 'news', ARGV[1])"),
    ("counted", "return redis.call('zunionstore', KEYS[1], 2, KEYS[2], KEYS[3], 'WEIGHTS', 1, 2)"),
    ("counted by KEYS", "return redis.call('zunionstore', KEYS[1], #KEYS-1, unpack(KEYS, 2))"),
    ("stored", "return redis.call('georadius', KEYS[1], ARGV[1], 1, 2, 'm', 'store', KEYS[2])"),
    ("a subcommand", "return redis.call('OBJECT', 'ENCODING', KEYS[1])"),
    ("sorted", "return redis.call('sort', KEYS[1], 'by', 'nosort', 'get', '#', 'store', KEYS[2])"),
    ("pcall", "local ok, r = pcall(redis.call, 'get', KEYS[1]); return ok and r or 0"),
    ("pcall of its own", "return pcall(function() return redis.call('get', KEYS[1]) end)"),
    ("a choice", "local k = ARGV[1] == '1' and KEYS[1] or KEYS[2]; return redis.call('get', k)"),
    ("a swap", "local a, b = KEYS[1], KEYS[2]; a, b = b, a; return redis.call('rename', a, b)"),
    ("a result", "local function k(n) return KEYS[n] end return redis.call('get', k(1))"),
    (
        "recursion",
        "local function f(k, n) if n > 0 then f(k, n-1) end redis.call('incr', k) end \
                   f(KEYS[1], 3)",
    ),
    ("long strings", "--[==[ ]] ]==] return redis.call([[get]], KEYS[1]) -- end"),
    (
        "a loop",
        "local i = 1 repeat local k = KEYS[i]; redis.call('del', k) i = i + 1 \
                until not KEYS[i] while false do break end",
    ),
    ("same keys", "if KEYS[1] == KEYS[2] then return redis.error_reply('same') end"),
    ("cjson", "return cjson.encode({a = redis.call('hgetall', KEYS[1]), [1] = ARGV[1]})"),
    ("short, with the server", "return redis.pcall('set', 'a')"),
    ("nothing at all", "return redis.call()"),
    ("what the server executes in no script", "return redis.call('subscribe', 'a')"),
    ("a value taken", "local c = redis['call'] local d = c return d('get', KEYS[1])"),
    ("a name in a variable", "local cmd = 'get' return redis.call(cmd, KEYS[1])"),
    ("no such variable", "if ARGV[1] then return print end return undeclared"),
    ("no such function", "return loadfile('a')"),
    ("KEYS passed on", "local function f(all) return redis.call('get', all[1]) end return f(KEYS)"),
    ("shadowed", "local k = ARGV[1] do local k = KEYS[1] redis.call('get', k) end return k"),
    ("its own arg", "local function f(...) for _, arg in ipairs({...}) do return arg end end f(1)"),
    (
        "branches",
        "local function k(n) if n then return KEYS[1] else return KEYS[2] end end \
                  return redis.call('get', k(1))",
    ),
    ("xpcall", "return xpcall(function() return redis.call('get', KEYS[1]) end, tostring)"),
    ("arithmetic", "return 0xe-1 + 3e-2 + .5"),
    (
        "a sort of data",
        "local t = redis.call('lrange', KEYS[1], 0, -1) \
                        table.sort(t, function(a, b) return a < b end) return t",
    ),
];

/// `(script, words of the reason)`.
const REFUSED: &[(&str, &str)] = &[
    ("return redis.call('get', ARGV[1])", "line 1: a key of 'get' is none of KEYS"),
    ("return redis.call('get', 'a')", "a key of 'get' is none of KEYS"),
    ("\n\nreturn redis.call('mset', KEYS[1], 1, 'b', 2)", "line 3: a key of 'mset'"),
    ("return redis.call('get', KEYS[1] .. ':lock')", "it builds a name from a key"),
    ("local k = 'a:' .. KEYS[1] return redis.call('get', k)", "it builds a name from a key"),
    ("return redis.call('set', KEYS[1], KEYS[2])", "it uses the name of a key as a value"),
    ("return KEYS[1]", "it uses the name of a key as a value"),
    ("return {KEYS[1]}", "it uses the name of a key as a value"),
    ("return string.sub(KEYS[1], 2)", "it uses the name of a key as a value"),
    ("return KEYS[1]:sub(2)", "it uses the name of a key as a value"),
    ("for i = 1, #KEYS do table.insert(ARGV, KEYS[i]) end", "the name of a key as a value"),
    ("if KEYS[1] == 'a' then return 1 end", "the name of a key as a value"),
    ("return redis.call('publish', KEYS[1], 'x')", "publishes to a channel that a key names"),
    ("local k = ARGV[1] or KEYS[1] return redis.call('get', k)", "may be a key, or something"),
    ("local k = KEYS[1] k = 'b' return redis.call('get', k)", "may be a key, or something"),
    ("return redis.call(ARGV[1], KEYS[1])", "whose name is not written out"),
    ("return redis.call(unpack(ARGV))", "whose name is not written out"),
    ("return redis.call('g' .. 'et', KEYS[1])", "whose name is not written out"),
    ("return redis.call('object', ARGV[1], KEYS[1])", "whose name is not written out"),
    ("return redis.call('keys', '*')", "'keys' reaches beyond the keys"),
    ("return redis.call('scan', 0)", "'scan' reaches beyond the keys"),
    ("return redis.call('flushall')", "'flushall' reaches beyond the keys"),
    ("return redis.call('lmpop', 1, KEYS[1], 'left')", "'lmpop' reaches beyond the keys"),
    ("return redis.call('no.such', KEYS[1])", "it calls 'no.such', which is no known command"),
    ("return redis.call('sort', KEYS[1], 'by', 'w_*')", "a key of 'sort' is none of KEYS"),
    ("return redis.call('sort', KEYS[1], ARGV[1], KEYS[2])", "which keys 'sort' gets cannot"),
    ("return redis.call('mset', unpack(ARGV))", "which keys 'mset' gets cannot be seen"),
    ("return redis.call('del', unpack(ARGV))", "a key of 'del' is none of KEYS"),
    ("return redis.call('zinter', ARGV[1], KEYS[1], 'weights', 1)", "a key of 'zinter' is none"),
    ("return redis.call('georadius', KEYS[1], 1, 2, 3, 'm', ARGV[1], KEYS[2])", "which keys"),
    ("return loadstring(ARGV[1])()", "it uses 'loadstring'"),
    ("return _G.redis.call('get', 'a')", "it uses '_G'"),
    ("return getfenv().redis", "it uses 'getfenv'"),
    ("return setmetatable(KEYS, {})", "it uses 'setmetatable'"),
    ("redis.register_function('f', print)", "it uses 'redis.register_function'"),
    ("return redis[ARGV[1]]('get', 'a')", "it passes 'redis.call' on"),
    ("local t = {redis.call} return t[1]('get', 'a')", "it passes 'redis.call' on"),
    ("local t = {r = redis} return t", "it passes 'redis.call' on"),
    ("return string.gsub('a', '.', redis.call)", "it passes 'redis.call' on"),
    ("KEYS[1] = 'a' return redis.call('get', KEYS[1])", "it changes 'KEYS'"),
    ("local k = KEYS k[1] = 'a' return redis.call('get', KEYS[1])", "it changes 'KEYS'"),
    ("KEYS = ARGV return redis.call('get', KEYS[1])", "it changes 'KEYS'"),
    ("for _, k in ipairs({KEYS[1], ARGV[1]}) do redis.call('del', k) end", "key"),
    ("for k in pairs({[KEYS[1]] = 1}) do redis.call('del', k) end", "key"),
    ("for _, k in ipairs({KEYS[1]}) do redis.call('del', k .. 'x') end", "builds a name"),
    ("function ipairs() end", "it changes 'ipairs'"),
    ("local function f(k) redis.call('get', k) end f(KEYS[1]) f('b')", "may be a key, or"),
    ("return pcall(function(k) return redis.call('get', k) end, KEYS[1])", "no reason"),
    ("local t = {f = function(k) return redis.call('get', k) end} t.f('a')", "none of KEYS"),
    ("local f f = function() return 1 end f = redis.call return f('get', 'a')", "may be a key"),
    ("return redis.call('get' KEYS[1])", "cannot be read as Lua 5.1"),
    ("return 'open", "cannot be read as Lua 5.1"),
    ("return [[open", "cannot be read as Lua 5.1"),
    ("x = = 1", "cannot be read as Lua 5.1"),
    ("if 1 then", "cannot be read as Lua 5.1"),
    ("return 1 1", "cannot be read as Lua 5.1"),
    // It ends the comment.
    ("-- a\rredis.call('flushall')", "'flushall' reaches beyond"),
    ("--[[ a\r]]redis.call('flushall')", "'flushall' reaches beyond"),
    // 14 minus what the call gives.
    ("local a = 0xe-redis.call('flushall'):len()", "'flushall' reaches beyond"),
    // Both line breaks are one.
    ("redis.call([[\n\rflushall]])", "'flushall' reaches beyond"),
    ("redis.call([==[\r\nflushall]==])", "'flushall' reaches beyond"),
    // A nil is a name, too.
    ("return redis.call('get', tostring(KEYS[9]))", "the name of a key as a value"),
    // Nothing is given behind the key, so that the call is complete.
    ("local function f() end return redis.call('get', 'a', f())", "a key of 'get' is none"),
    ("return redis.call('get', 'a', 'of a newer server')", "a key of 'get' is none of KEYS"),
    ("return redis.call('clusterscan', '0')", "'clusterscan' reaches beyond"),
    ("return redis.call('xread', ARGV[1], 'a', '0')", "'xread' reaches beyond"),
    // What Lua declares by itself.
    ("local function f(...) return redis.call('get', arg[1]) end return f('a')", "may be a key"),
    (
        "local arg = KEYS local function f(...) return redis.call('get', arg[1]) end return f('a')",
        "may be a key",
    ),
    // It may be a renamed FLUSHALL.
    ("return redis.call('zap')", "it calls 'zap', which is no known command"),
    ("return redis.call('get\\0', 'a')", "which is no known command"),
    ("return __redis__err__handler({err = 'a'})", "it uses '__redis__err__handler'"),
    ("return f_e0e1f9fabfc9d4800c877a703b823ac0578ff8db()", "it uses 'f_e0e1"),
    ("return redis.call(unpack(KEYS))", "whose name is not written out"),
    ("local c = redis.call for _ = 1, 2 do c('get', ARGV[1]) end", "a key of 'get' is none"),
    ("local c = 'get' c = 'set' return redis.call(c, KEYS[1])", "whose name is not written out"),
    ("local function f(KEYS) return redis.call('get', KEYS[1]) end return f(ARGV)", "none of KEYS"),
    ("for KEYS = 1, 2 do redis.call('get', KEYS) end", "a key of 'get' is none of KEYS"),
    ("table.insert(KEYS, 'a') return redis.call('get', KEYS[2])", "the name of a key as a value"),
    ("return rawset(KEYS, 1, 'a')", "it uses 'rawset'"),
    ("return dofile('a'), load('a'), setfenv(1, {})", "it uses 'load'"),
    ("return ('x'):gsub('.', function(c) return redis.call('get', c) end)", "none of KEYS"),
    ("return coroutine.wrap(redis.call)('get', 'a')", "it passes 'redis.call' on"),
    ("return xpcall(redis.call, print)", "it passes 'redis.call' on"),
    ("xpcall = pcall", "it changes 'xpcall'"),
    ("xpcall(function() return 1 end, function(e) redis.call('get', e) end)", "none of KEYS"),
    ("local k while true do redis.call('get', k) k = ARGV[1] end", "a key of 'get' is none"),
    ("#!js name=a\nreturn 1", "cannot be read as Lua 5.1"),
    ("'a\rb'", "cannot be read as Lua 5.1"),
    // BullMQ, moveToDelayed and others: key names come from a prefix in ARGV.
    (
        "local rcall = redis.call\nlocal jobKey = ARGV[1] .. ARGV[2]\n\
         if rcall('EXISTS', jobKey) == 1 then return rcall('ZADD', KEYS[1], 0, ARGV[2]) end",
        "line 3: a key of 'exists' is none of KEYS",
    ),
    // BullMQ, getOrSetMaxEvents: a function that is given both.
    (
        "local function getOrSetMaxEvents(metaKey) return redis.call('HGET', metaKey, 'opts') end\n\
         local baseKey = ARGV[1]\ngetOrSetMaxEvents(baseKey .. 'meta')",
        "a key of 'hget' is none of KEYS",
    ),
    // rq and others: a name derived from a key.
    (
        "local ids = redis.call('lrange', KEYS[1], 0, -1)\n\
         for _, id in ipairs(ids) do redis.call('del', KEYS[2] .. id) end",
        "line 2: it builds a name from a key",
    ),
    // Keys that were stored as data.
    (
        "local job = redis.call('lpop', KEYS[1])\nreturn redis.call('hgetall', job)",
        "line 2: a key of 'hgetall' is none of KEYS",
    ),
];

#[test]
fn scripts_that_keep_to_their_keys() {
    for (whose, script) in FINE {
        let script = script.trim_start_matches('\n');
        assert_eq!(check(script.as_bytes()).err(), None, "{whose}:\n{script}");
    }
}

#[test]
fn what_a_script_calls_is_told() {
    let script = "local f = redis.call\nlocal function g(k) return f('GET', k) end\n\
                  if false then redis.pcall('object', 'ENCODING', KEYS[1]) end\n\
                  f('get', KEYS[2])\nf('select')\nreturn g(KEYS[1])";
    let called = check(script.as_bytes()).unwrap();
    let mut names: Vec<&str> = called.iter().map(|spec| spec.name).collect();
    names.sort_unstable();
    assert_eq!(names, ["get", "object|encoding"]);
}

#[test]
fn scripts_that_do_not_say_why() {
    for (script, words) in REFUSED {
        match check(script.as_bytes()) {
            Ok(_) => assert_eq!(*words, "no reason", "passed: {script}"),
            Err(fault) => {
                let text = fault.to_string();
                assert!(text.contains(words), "{script}:\n{text}");
            }
        }
    }
}

/// What a library remembers, its next call finds, which may be another version's.
#[test]
fn a_library_keeps_no_key_for_later() {
    let fault = |body: &str| {
        let text = format!("#!LUA name=a flags=no\n{body}");
        check_library(text.as_bytes()).err().map(|fault| fault.to_string())
    };
    for fine in [
        "local count = 0 redis.register_function('f', function(keys) count = count + 1 \
         return redis.call('get', keys[1]) end)",
        "local function get(k) return redis.call('get', k) end \
         redis.register_function('f', function(keys) local k k = keys[1] return get(k) end)",
        "local get get = function(k) return redis.call('get', k) end \
         redis.register_function('f', function(keys) return pcall(function() \
         return get(keys[1]) end) end)",
        "local function low(c) return c:lower() end \
         redis.register_function('f', function(keys, args) \
         return args[1]:gsub('.', function(c) return low(c) end) end)",
    ] {
        assert_eq!(fault(fine), None, "{fine}");
    }
    for keeps in [
        "local last redis.register_function('f', function(keys) last = keys[1] end) \
         redis.register_function('g', function() return redis.call('get', last) end)",
        "local last redis.register_function('f', function(keys) last = keys end)",
        "local last redis.register_function('f', function(keys) \
         last = function() return redis.call('get', keys[1]) end end) \
         redis.register_function('g', function() return last() end)",
        "local function make() local last return function(keys) \
         if last then redis.call('get', last) end last = keys[1] end end \
         redis.register_function('f', make())",
        "local t = {} redis.register_function('f', function(keys) \
         t.f = function() return redis.call('get', keys[1]) end end) \
         redis.register_function('g', function() return t.f() end)",
        "local t = {} redis.register_function('f', function(keys) \
         local function get() return redis.call('get', keys[1]) end \
         t.f = function() return get() end end)",
        "local t = {} redis.register_function('f', function(keys) \
         t.f = function() return (function() return redis.call('get', keys[1]) end)() end end)",
    ] {
        let fault = fault(keeps);
        assert_eq!(fault.as_deref(), Some("line 2: it keeps a key for a later call"), "{keeps}");
    }
}

#[test]
fn no_script_exhausts_its_reader() {
    let deep = |open: &str, close: &str| {
        let count = 10_000;
        check(format!("return {}1{}", open.repeat(count), close.repeat(count)).as_bytes())
    };
    for (open, close) in [
        ("(", ")"),
        ("{", "}"),
        ("not ", ""),
        ("pcall(", ")"),
        ("1+", ""),
        ("'a'..", ""),
        ("f{", "}"),
        ("function() return ", " end"),
    ] {
        let text = deep(open, close).unwrap_err().to_string();
        assert!(text.contains("too intricate"), "{open}: {text}");
    }
    for nested in [".a", "()", "[1]", "''"] {
        let text = check(format!("return tostring{}", nested.repeat(20_000)).as_bytes());
        assert!(text.unwrap_err().to_string().contains("too intricate"), "{nested}");
    }
    let blocks = format!("{}{}", "do ".repeat(20_000), "end ".repeat(20_000));
    assert!(check(blocks.as_bytes()).unwrap_err().to_string().contains("too intricate"));
    // Each value needs a round of its own to come one further.
    let mut chain = String::from("local v0\n");
    for at in 1..500 {
        writeln!(chain, "local v{at}").unwrap();
        if at > 1 {
            writeln!(chain, "v{} = v{at}", at - 1).unwrap();
        }
    }
    chain.push_str("v499 = KEYS[1] return redis.call('get', v1)");
    assert!(check(chain.as_bytes()).is_err());
    let long = vec![b' '; TEXT_MAX + 1];
    assert!(check(&long).unwrap_err().to_string().contains("longer than"));
}

/// Nothing that is sent makes the reader fail in any other way than with its words.
#[test]
fn cut_and_mangled_scripts_are_read_or_refused() {
    for (_, script) in FINE {
        for cut in 0..script.len() {
            let (front, back) = (&script.as_bytes()[..cut], &script.as_bytes()[cut..]);
            drop((check(front), check(back)));
            let mut mangled = script.as_bytes().to_vec();
            mangled[cut] ^= 0x15;
            drop(check(&mangled));
        }
    }
}
