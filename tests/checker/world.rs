//! The processes: one server, two proxies on it, each behind a shim of its own. All end when
//! dropped, by their pid.

use crate::client::{Client, count, once};
use crate::harness::{Kind, Proxy, Server, eventually, free_port};
use crate::history::Route;
use crate::shim::Shim;
use parking_lot::Mutex;
use rustix::process::{Signal, kill_process};
use std::io::{Error, Result};

/// How many workers each proxy has.
const WORKERS: u32 = 2;

/// As [`crate::field::LEVELS`] promises.
const RULES: &str = "rules = [\
    { match = \"re:*\", level = \"relaxed\", ttl = \"1s\", negative_ttl = \"1s\" },\
    { match = \"tt:*\", level = \"ttl\", ttl = \"500ms\", negative_ttl = \"500ms\" }]";

/// A line of the configuration that a reload changes.
const CHANGED: [&str; 2] = ["cache.negative_ttl = \"5s\"", "cache.negative_ttl = \"4s\""];

struct Instance {
    process: Mutex<Option<Proxy>>,
    port: u16,
    shim: Shim,
    admission: &'static str,
}

/// All processes of one run.
pub(crate) struct World {
    server: Mutex<Server>,
    pub(crate) server_port: u16,
    instances: [Instance; 2],
    /// The key version in force: `v1` is 1.
    pub(crate) version: Mutex<u32>,
}

impl World {
    pub(crate) fn start(kind: Kind, seed: u64) -> Self {
        let mut args = vec!["--enable-debug-command", "yes", "--maxmemory-policy"];
        args.push("volatile-random");
        if kind != Kind::Redis {
            args.extend(["--io-threads", "3"]);
        }
        let server = Server::with(kind, &args);
        let server_port = server.port;
        let instance = |admission| Instance {
            process: Mutex::new(None),
            port: free_port(),
            shim: Shim::start(free_port(), server_port, seed).expect("a free port"),
            admission,
        };
        let world = Self {
            server: Mutex::new(server),
            server_port,
            instances: [instance("always"), instance("second_hit")],
            version: Mutex::new(1),
        };
        for which in [0, 1] {
            world.start_proxy(which, 1);
        }
        world
    }

    /// Where clients of a route connect.
    pub(crate) fn port(&self, route: Route) -> u16 {
        match route {
            Route::Direct => self.server_port,
            _ => self.instances[route as usize].port,
        }
    }

    pub(crate) fn shim(&self, which: usize) -> &Shim {
        &self.instances[which].shim
    }

    /// Its admin port, while it runs.
    pub(crate) fn admin(&self, which: usize) -> Result<u16> {
        let process = self.instances[which].process.lock();
        process.as_ref().map(Proxy::admin_port).ok_or_else(|| Error::other("it is away"))
    }

    /// The process of a proxy, which runs.
    pub(crate) fn pid(&self, which: usize) -> i32 {
        let process = self.instances[which].process.lock();
        process.as_ref().map(Proxy::pid).expect("it runs").as_raw_pid()
    }

    fn start_proxy(&self, which: usize, version: u32) {
        let instance = &self.instances[which];
        let settings = [
            format!("server.listen = [\"127.0.0.1:{}\"]", instance.port),
            format!("server.workers = {WORKERS}"),
            format!("keys.version = \"v{version}\""),
            format!("cache.admission = \"{}\"", instance.admission),
            CHANGED[0].to_owned(),
            // A machine that does much else is no fault: a new link may take its time.
            "upstream.connect_timeout = \"10s\"".to_owned(),
            "upstream.reconnect_wait = \"5s\"".to_owned(),
            RULES.to_owned(),
        ];
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        let upstream = format!("redis://127.0.0.1:{}", instance.shim.port);
        let proxy = Proxy::unready(&upstream, &settings);
        *instance.process.lock() = Some(proxy);
    }

    /// SIGKILL, and another on the same port.
    pub(crate) fn replace_proxy(&self, which: usize) {
        // Not while the version changes, or it would begin with the one before.
        let version = self.version.lock();
        let process = self.instances[which].process.lock().take();
        drop(process);
        self.start_proxy(which, *version);
    }

    /// SIGSTOP, and SIGCONT.
    pub(crate) fn freeze_proxy(&self, which: usize, during: impl FnOnce()) -> Result<()> {
        let process = self.instances[which].process.lock();
        let pid = process.as_ref().map(Proxy::pid).ok_or_else(|| Error::other("it is away"))?;
        kill_process(pid, Signal::STOP)?;
        during();
        let thawed = kill_process(pid, Signal::CONT);
        drop(process);
        Ok(thawed?)
    }

    pub(crate) fn freeze_server(&self, during: impl FnOnce()) {
        let server = self.server.lock();
        server.freeze();
        during();
        server.thaw();
    }

    /// SIGKILL, and another on the same port, without data.
    pub(crate) fn restart_server(&self) {
        let mut server = self.server.lock();
        server.kill();
        server.restart();
    }

    /// Writes another line into a proxy's file.
    pub(crate) fn rewrite(&self, which: usize) -> Result<()> {
        let process = self.instances[which].process.lock();
        let proxy = process.as_ref().ok_or_else(|| Error::other("it is away"))?;
        let path = proxy.folder.path().join("proxy.toml");
        // By one at a time, or another nemesis would read half of it, and write that back.
        let text = std::fs::read_to_string(&path)?;
        let (from, to) = if text.contains(CHANGED[0]) { (0, 1) } else { (1, 0) };
        let written = std::fs::write(&path, text.replace(CHANGED[from], CHANGED[to]));
        drop(process);
        written
    }

    /// One command to the server.
    pub(crate) fn tell(&self, line: &str) -> Result<Vec<u8>> {
        let reply = once(self.server_port, line)?;
        if reply.starts_with(b"-") {
            return Err(Error::other(format!("{line}: {}", reply.escape_ascii())));
        }
        Ok(reply)
    }

    /// Everything is empty and as it was, both proxies have their links.
    pub(crate) fn prepare(&self) {
        eventually("the server is emptied", || self.tell("FLUSHALL").ok());
        for which in [0, 1] {
            eventually("the proxy is ready", || {
                drop(Client::dial(self.instances[which].port).ok()?);
                let up = "nearside_invalidation_channel_up{channel=\"tracking\"";
                (count(self.admin(which).ok()?, up) > 0).then_some(())
            });
        }
    }

    /// Reads that the caches of both were asked for: hits, and all.
    pub(crate) fn lookups(&self) -> (u64, u64) {
        let of = |series: &str| {
            let admins = [self.admin(0), self.admin(1)];
            admins.into_iter().flatten().map(|admin| count(admin, series)).sum()
        };
        let hits = of("nearside_cache_lookups_total{result=\"hit\"}");
        (hits, of("nearside_cache_lookups_total{result="))
    }

    /// What the proxies have logged last.
    pub(crate) fn logs(&self) -> String {
        let instances = self.instances.iter().map(|instance| instance.process.lock());
        let logs = instances.filter_map(|process| process.as_ref().map(Proxy::log));
        logs.map(|log| log.lines().rev().take(20).collect::<Vec<_>>().join("\n")).collect()
    }
}
