//! The commands this server claims: name, arity, whether memory must be left for it, who runs it.
//!
//! A command that is not here is an unknown command. `tests/embedded_differential.rs` compares
//! every row with a real server.

use super::core::Core;
use super::reply::{Done, Out};
use super::session::Client;
use super::store::Store;
use super::types::{hash, list, set, set_algebra, string, zset, zset_range};
use super::{args::Args, client_commands, keyspace, server, session, transaction};
use foldhash::fast::RandomState;
use indexmap::IndexMap;

/// A command that needs the data only.
pub(super) type OnStore = fn(&mut Store, Args<'_>, &mut Out) -> Done;

/// A command that needs the connection or the server as a whole.
pub(super) type OnCore = fn(&mut Core, &mut Client, Args<'_>, &mut Out) -> Done;

/// Who runs a command.
#[derive(Clone, Copy, Debug)]
pub(super) enum Run {
    Store(OnStore),
    Core(OnCore),
    /// Runs inside MULTI instead of being queued.
    Now(OnCore),
    /// Only has subcommands.
    Container,
}

/// One command, or one subcommand (`client|id`).
#[derive(Debug)]
pub(super) struct Row {
    pub(super) name: &'static str,
    /// Arguments with the name; negative: at least so many.
    pub(super) arity: i8,
    /// Refused when memory is short.
    pub(super) deny_oom: bool,
    pub(super) run: Run,
}

impl Row {
    pub(super) fn takes(&self, count: usize) -> bool {
        let wanted = usize::from(self.arity.unsigned_abs());
        if self.arity < 0 { count >= wanted } else { count == wanted }
    }
}

const fn read(name: &'static str, arity: i8, run: OnStore) -> Row {
    Row { name, arity, deny_oom: false, run: Run::Store(run) }
}

const fn grow(name: &'static str, arity: i8, run: OnStore) -> Row {
    Row { name, arity, deny_oom: true, run: Run::Store(run) }
}

const fn core(name: &'static str, arity: i8, run: OnCore) -> Row {
    Row { name, arity, deny_oom: false, run: Run::Core(run) }
}

const fn now(name: &'static str, arity: i8, run: OnCore) -> Row {
    Row { name, arity, deny_oom: false, run: Run::Now(run) }
}

const fn container(name: &'static str) -> Row {
    Row { name, arity: -2, deny_oom: false, run: Run::Container }
}

/// Every command. `read` rows may also delete: they never need memory.
pub(super) static ROWS: &[Row] = &[
    // Connection
    core("auth", -2, session::auth),
    container("client"),
    core("client|getname", 2, client_commands::getname),
    core("client|id", 2, client_commands::id),
    core("client|info", 2, client_commands::info),
    core("client|list", -2, client_commands::list),
    core("client|no-evict", 3, client_commands::no_evict),
    core("client|reply", 3, client_commands::reply),
    core("client|setname", 3, client_commands::setname),
    core("client|tracking", -3, client_commands::tracking),
    core("client|trackinginfo", 2, client_commands::trackinginfo),
    core("echo", 2, session::echo),
    core("hello", -1, session::hello),
    core("ping", -1, session::ping),
    now("quit", -1, session::quit),
    now("reset", 1, session::reset),
    core("select", 2, session::select),
    // Transactions
    now("discard", 1, transaction::discard),
    now("exec", 1, transaction::exec),
    now("multi", 1, transaction::multi),
    core("unwatch", 1, transaction::unwatch),
    now("watch", -2, transaction::watch),
    // Server
    container("command"),
    core("command|count", 2, server::command_count),
    core("command|list", -2, server::command_list),
    container("config"),
    core("config|get", -3, server::config_get),
    read("dbsize", 1, keyspace::dbsize),
    read("flushall", -1, keyspace::flushall),
    read("flushdb", -1, keyspace::flushdb),
    core("info", -1, server::info),
    core("lastsave", 1, server::lastsave),
    core("publish", 3, server::publish),
    core("role", 1, server::role),
    core("time", 1, server::time),
    // Keys
    grow("copy", -3, keyspace::copy),
    read("del", -2, keyspace::del),
    read("exists", -2, keyspace::exists),
    read("expire", -3, keyspace::expire),
    read("expireat", -3, keyspace::expireat),
    read("expiretime", 2, keyspace::expiretime),
    read("keys", 2, keyspace::keys),
    read("move", 3, keyspace::move_key),
    read("persist", 2, keyspace::persist),
    read("pexpire", -3, keyspace::pexpire),
    read("pexpireat", -3, keyspace::pexpireat),
    read("pexpiretime", 2, keyspace::pexpiretime),
    read("pttl", 2, keyspace::pttl),
    read("randomkey", 1, keyspace::randomkey),
    read("rename", 3, keyspace::rename),
    read("renamenx", 3, keyspace::renamenx),
    read("scan", -2, keyspace::scan),
    read("touch", -2, keyspace::exists),
    read("ttl", 2, keyspace::ttl),
    read("type", 2, keyspace::type_of),
    read("unlink", -2, keyspace::del),
    // Strings
    grow("append", 3, string::append),
    grow("decr", 2, string::decr),
    grow("decrby", 3, string::decrby),
    read("get", 2, string::get),
    read("getdel", 2, string::getdel),
    read("getex", -2, string::getex),
    read("getrange", 4, string::getrange),
    grow("getset", 3, string::getset),
    grow("incr", 2, string::incr),
    grow("incrby", 3, string::incrby),
    grow("incrbyfloat", 3, string::incrbyfloat),
    read("mget", -2, string::mget),
    grow("mset", -3, string::mset),
    grow("msetnx", -3, string::msetnx),
    grow("psetex", 4, string::psetex),
    grow("set", -3, string::set),
    grow("setex", 4, string::setex),
    grow("setnx", 3, string::setnx),
    grow("setrange", 4, string::setrange),
    read("strlen", 2, string::strlen),
    read("substr", 4, string::getrange),
    // Hashes
    read("hdel", -3, hash::hdel),
    read("hexists", 3, hash::hexists),
    read("hget", 3, hash::hget),
    read("hgetall", 2, hash::hgetall),
    grow("hincrby", 4, hash::hincrby),
    grow("hincrbyfloat", 4, hash::hincrbyfloat),
    read("hkeys", 2, hash::hkeys),
    read("hlen", 2, hash::hlen),
    read("hmget", -3, hash::hmget),
    grow("hmset", -4, hash::hmset),
    read("hrandfield", -2, hash::hrandfield),
    read("hscan", -3, hash::hscan),
    grow("hset", -4, hash::hset),
    grow("hsetnx", 4, hash::hsetnx),
    read("hstrlen", 3, hash::hstrlen),
    read("hvals", 2, hash::hvals),
    // Sets
    grow("sadd", -3, set::sadd),
    read("scard", 2, set::scard),
    read("sdiff", -2, set_algebra::sdiff),
    grow("sdiffstore", -3, set_algebra::sdiffstore),
    read("sinter", -2, set_algebra::sinter),
    read("sintercard", -3, set_algebra::sintercard),
    grow("sinterstore", -3, set_algebra::sinterstore),
    read("sismember", 3, set::sismember),
    read("smembers", 2, set::smembers),
    read("smismember", -3, set::smismember),
    read("smove", 4, set::smove),
    read("spop", -2, set::spop),
    read("srandmember", -2, set::srandmember),
    read("srem", -3, set::srem),
    read("sscan", -3, set::sscan),
    read("sunion", -2, set_algebra::sunion),
    grow("sunionstore", -3, set_algebra::sunionstore),
    // Lists
    read("lindex", 3, list::lindex),
    grow("linsert", 5, list::linsert),
    read("llen", 2, list::llen),
    grow("lmove", 5, list::lmove),
    read("lpop", -2, list::lpop),
    read("lpos", -3, list::lpos),
    grow("lpush", -3, list::lpush),
    grow("lpushx", -3, list::lpushx),
    read("lrange", 4, list::lrange),
    read("lrem", 4, list::lrem),
    grow("lset", 4, list::lset),
    read("ltrim", 4, list::ltrim),
    read("rpop", -2, list::rpop),
    grow("rpoplpush", 3, list::rpoplpush),
    grow("rpush", -3, list::rpush),
    grow("rpushx", -3, list::rpushx),
    // Sorted sets
    grow("zadd", -4, zset::zadd),
    read("zcard", 2, zset::zcard),
    read("zcount", 4, zset_range::zcount),
    grow("zincrby", 4, zset::zincrby),
    read("zlexcount", 4, zset_range::zlexcount),
    read("zmscore", -3, zset::zmscore),
    read("zpopmax", -2, zset::zpopmax),
    read("zpopmin", -2, zset::zpopmin),
    read("zrange", -4, zset_range::zrange),
    read("zrangebylex", -4, zset_range::zrangebylex),
    read("zrangebyscore", -4, zset_range::zrangebyscore),
    read("zrank", 3, zset::zrank),
    read("zrem", -3, zset::zrem),
    read("zremrangebylex", 4, zset_range::zremrangebylex),
    read("zremrangebyrank", 4, zset_range::zremrangebyrank),
    read("zremrangebyscore", 4, zset_range::zremrangebyscore),
    read("zrevrange", -4, zset_range::zrevrange),
    read("zrevrangebylex", -4, zset_range::zrevrangebylex),
    read("zrevrangebyscore", -4, zset_range::zrevrangebyscore),
    read("zrevrank", 3, zset::zrevrank),
    read("zscan", -3, zset::zscan),
    read("zscore", 3, zset::zscore),
];

/// The rows by name.
#[derive(Debug)]
pub(super) struct Table(IndexMap<&'static [u8], &'static Row, RandomState>);

impl Table {
    pub(super) fn new() -> Self {
        Self(ROWS.iter().map(|row| (row.name.as_bytes(), row)).collect())
    }

    /// The row of a command, in any case.
    pub(super) fn command(&self, name: &[u8]) -> Option<&'static Row> {
        // A bar would reach the subcommands.
        if name.contains(&b'|') { None } else { self.lookup(&[name]) }
    }

    /// The row of a container's subcommand.
    pub(super) fn subcommand(&self, container: &'static Row, name: &[u8]) -> Option<&'static Row> {
        self.lookup(&[container.name.as_bytes(), b"|", name])
    }

    fn lookup(&self, parts: &[&[u8]]) -> Option<&'static Row> {
        let mut folded = [0_u8; 32];
        let mut length = 0;
        for part in parts {
            let place = folded.get_mut(length..length + part.len())?;
            place.copy_from_slice(part);
            place.make_ascii_lowercase();
            length += part.len();
        }
        self.0.get(folded.get(..length)?).copied()
    }
}
