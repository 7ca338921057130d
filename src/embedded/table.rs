//! The commands this server claims, and who runs them. Names, arities and flags are the command
//! room's.
//!
//! A command that is not here is an unknown command. `tests/embedded_differential.rs` compares
//! every row with a real server.

use super::core::Core;
use super::reply::{Done, Out};
use super::session::Client;
use super::store::Store;
use super::types::{hash, list, set, set_algebra, string, zset, zset_range};
use super::{
    args::Args, blocking, client_commands, keyspace, pubsub, server, session, transaction,
};
use crate::command::{self, Flags, Spec, Unknown};

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
    /// Arguments that it takes at most in the version this server speaks.
    args_max: usize,
    pub(super) run: Run,
}

impl Row {
    const fn new(name: &'static str, run: Run) -> Self {
        Self { name, args_max: usize::MAX, run }
    }

    const fn up_to(self, args_max: usize) -> Self {
        Self { args_max, ..self }
    }
}

const fn store(name: &'static str, run: OnStore) -> Row {
    Row::new(name, Run::Store(run))
}

const fn core(name: &'static str, run: OnCore) -> Row {
    Row::new(name, Run::Core(run))
}

const fn now(name: &'static str, run: OnCore) -> Row {
    Row::new(name, Run::Now(run))
}

const fn container(name: &'static str) -> Row {
    Row::new(name, Run::Container)
}

/// Every command.
pub(super) static ROWS: &[Row] = &[
    // Connection
    core("auth", session::auth),
    container("client"),
    core("client|getname", client_commands::getname),
    core("client|id", client_commands::id),
    core("client|info", client_commands::info),
    core("client|list", client_commands::list),
    core("client|no-evict", client_commands::no_evict),
    core("client|reply", client_commands::reply),
    core("client|setname", client_commands::setname),
    core("client|tracking", client_commands::tracking),
    core("client|trackinginfo", client_commands::trackinginfo),
    core("client|unblock", blocking::client_unblock),
    core("echo", session::echo),
    core("hello", session::hello),
    core("ping", session::ping),
    now("quit", session::quit),
    now("reset", session::reset),
    core("select", session::select),
    // Transactions
    now("discard", transaction::discard),
    now("exec", transaction::exec),
    now("multi", transaction::multi),
    core("unwatch", transaction::unwatch),
    now("watch", transaction::watch),
    // Messages
    core("psubscribe", pubsub::subscribe),
    core("publish", pubsub::publish),
    container("pubsub"),
    core("pubsub|channels", pubsub::channels),
    core("pubsub|numpat", pubsub::numpat),
    core("pubsub|numsub", pubsub::numsub),
    core("punsubscribe", pubsub::unsubscribe),
    core("subscribe", pubsub::subscribe),
    core("unsubscribe", pubsub::unsubscribe),
    // Server
    container("config"),
    core("config|get", server::config_get),
    store("dbsize", keyspace::dbsize),
    store("flushall", keyspace::flushall),
    store("flushdb", keyspace::flushdb),
    core("info", server::info),
    core("lastsave", server::lastsave),
    core("role", server::role),
    core("time", server::time),
    // Keys
    store("copy", keyspace::copy),
    store("del", keyspace::del),
    store("exists", keyspace::exists),
    store("expire", keyspace::expire),
    store("expireat", keyspace::expireat),
    store("expiretime", keyspace::expiretime),
    store("keys", keyspace::keys),
    store("move", keyspace::move_key),
    store("persist", keyspace::persist),
    store("pexpire", keyspace::pexpire),
    store("pexpireat", keyspace::pexpireat),
    store("pexpiretime", keyspace::pexpiretime),
    store("pttl", keyspace::pttl),
    store("randomkey", keyspace::randomkey),
    store("rename", keyspace::rename),
    store("renamenx", keyspace::renamenx),
    store("scan", keyspace::scan),
    store("touch", keyspace::exists),
    store("ttl", keyspace::ttl),
    store("type", keyspace::type_of),
    store("unlink", keyspace::del),
    // Strings
    store("append", string::append),
    store("decr", string::decr),
    store("decrby", string::decrby),
    store("get", string::get),
    store("getdel", string::getdel),
    store("getex", string::getex),
    store("getrange", string::getrange),
    store("getset", string::getset),
    store("incr", string::incr),
    store("incrby", string::incrby),
    store("incrbyfloat", string::incrbyfloat),
    store("mget", string::mget),
    store("mset", string::mset),
    store("msetnx", string::msetnx),
    store("psetex", string::psetex),
    store("set", string::set),
    store("setex", string::setex),
    store("setnx", string::setnx),
    store("setrange", string::setrange),
    store("strlen", string::strlen),
    store("substr", string::getrange),
    // Hashes
    store("hdel", hash::hdel),
    store("hexists", hash::hexists),
    store("hget", hash::hget),
    store("hgetall", hash::hgetall),
    store("hincrby", hash::hincrby),
    store("hincrbyfloat", hash::hincrbyfloat),
    store("hkeys", hash::hkeys),
    store("hlen", hash::hlen),
    store("hmget", hash::hmget),
    store("hmset", hash::hmset),
    store("hrandfield", hash::hrandfield),
    store("hscan", hash::hscan),
    store("hset", hash::hset),
    store("hsetnx", hash::hsetnx),
    store("hstrlen", hash::hstrlen),
    store("hvals", hash::hvals),
    // Sets
    store("sadd", set::sadd),
    store("scard", set::scard),
    store("sdiff", set_algebra::sdiff),
    store("sdiffstore", set_algebra::sdiffstore),
    store("sinter", set_algebra::sinter),
    store("sintercard", set_algebra::sintercard),
    store("sinterstore", set_algebra::sinterstore),
    store("sismember", set::sismember),
    store("smembers", set::smembers),
    store("smismember", set::smismember),
    store("smove", set::smove),
    store("spop", set::spop),
    store("srandmember", set::srandmember),
    store("srem", set::srem),
    store("sscan", set::sscan),
    store("sunion", set_algebra::sunion),
    store("sunionstore", set_algebra::sunionstore),
    // Lists
    core("blmove", blocking::blmove),
    core("blpop", blocking::blpop),
    core("brpop", blocking::brpop),
    core("brpoplpush", blocking::brpoplpush),
    store("lindex", list::lindex),
    store("linsert", list::linsert),
    store("llen", list::llen),
    store("lmove", list::lmove),
    store("lpop", list::lpop),
    store("lpos", list::lpos),
    store("lpush", list::lpush),
    store("lpushx", list::lpushx),
    store("lrange", list::lrange),
    store("lrem", list::lrem),
    store("lset", list::lset),
    store("ltrim", list::ltrim),
    store("rpop", list::rpop),
    store("rpoplpush", list::rpoplpush),
    store("rpush", list::rpush),
    store("rpushx", list::rpushx),
    // Sorted sets
    core("bzpopmax", blocking::bzpopmax),
    core("bzpopmin", blocking::bzpopmin),
    store("zadd", zset::zadd),
    store("zcard", zset::zcard),
    store("zcount", zset_range::zcount),
    store("zincrby", zset::zincrby),
    store("zlexcount", zset_range::zlexcount),
    store("zmscore", zset::zmscore),
    store("zpopmax", zset::zpopmax),
    store("zpopmin", zset::zpopmin),
    store("zrange", zset_range::zrange),
    store("zrangebylex", zset_range::zrangebylex),
    store("zrangebyscore", zset_range::zrangebyscore),
    // WITHSCORE came with 7.2.
    store("zrank", zset::zrank).up_to(3),
    store("zrem", zset::zrem),
    store("zremrangebylex", zset_range::zremrangebylex),
    store("zremrangebyrank", zset_range::zremrangebyrank),
    store("zremrangebyscore", zset_range::zremrangebyscore),
    store("zrevrange", zset_range::zrevrange),
    store("zrevrangebylex", zset_range::zrevrangebylex),
    store("zrevrangebyscore", zset_range::zrevrangebyscore),
    store("zrevrank", zset::zrevrank).up_to(3),
    store("zscan", zset::zscan),
    store("zscore", zset::zscore),
];

/// A claimed command: what everybody knows of it, and what this server does for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    pub(super) spec: &'static Spec,
    row: &'static Row,
}

impl Claim {
    pub(super) const fn run(self) -> Run {
        self.row.run
    }

    pub(super) fn accepts(self, count: usize) -> bool {
        self.spec.accepts(count) && count <= self.row.args_max
    }

    /// Is it refused when memory is short?
    pub(super) const fn deny_oom(self) -> bool {
        self.spec.flags.has(Flags::DENYOOM)
    }
}

/// The rows by the index of their [`Spec`].
#[derive(Debug)]
pub(super) struct Table([Option<&'static Row>; command::COUNT]);

impl Table {
    pub(super) fn new() -> Self {
        let mut rows = [None; command::COUNT];
        for row in ROWS {
            let spec = command::by_name(row.name);
            debug_assert!(spec.is_some(), "{} is not in the command table", row.name);
            if let Some(slot) = spec.and_then(|spec| rows.get_mut(usize::from(spec.index))) {
                *slot = Some(row);
            }
        }
        Self(rows)
    }

    /// The command of a request; what is not claimed is unknown.
    pub(super) fn find(&self, args: Args<'_>) -> Result<Claim, Unknown> {
        let container = match command::resolve(args.len(), |at| args.at(at)) {
            Ok(spec) => match self.claim(spec) {
                Some(claim) => return Ok(claim),
                None => command::find(args.at(0)),
            },
            Err(Unknown::Subcommand(container)) => Some(container),
            Err(Unknown::Command) => None,
        };
        let container = container.filter(|container| self.claim(container).is_some());
        Err(container.map_or(Unknown::Command, Unknown::Subcommand))
    }

    fn claim(&self, spec: &'static Spec) -> Option<Claim> {
        let row = (*self.0.get(usize::from(spec.index))?)?;
        Some(Claim { spec, row })
    }
}
