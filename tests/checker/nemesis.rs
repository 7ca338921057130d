//! What goes wrong while clients play. Each fault is done, held for a while, and mended again.

use crate::client::{Client, http, once};
use crate::draw::Draw;
use crate::field::{Field, LEVELS};
use crate::history::Route;
use crate::pace;
use crate::shim::{Line, Mode};
use crate::world::World;
use std::io::{Error, Result};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

/// Databases that SWAPDB can put everything away in.
const SPARE: u32 = 15;

macro_rules! nemeses {
    ($($name:ident = $word:literal),* $(,)?) => {
        /// A kind of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Nemesis { $($name),* }

        impl Nemesis {
            pub(crate) const ALL: &[Self] = &[$(Self::$name),*];

            pub(crate) fn word(self) -> &'static str {
                match self { $(Self::$name => $word),* }
            }
        }
    };
}

nemeses! {
    LinkKill = "link_kill",
    LinkStall = "link_stall",
    LinkDelay = "link_delay",
    LinkSplit = "link_split",
    LinkLate = "link_late",
    LinkLateStall = "link_late_stall",
    DataStall = "data_stall",
    DataDelay = "data_delay",
    DataSplit = "data_split",
    DataCut = "data_cut",
    FreezeServer = "freeze_server",
    FreezeProxy = "freeze_proxy",
    DebugSleep = "debug_sleep",
    BusyScript = "busy_script",
    Flush = "flush",
    FlushProxy = "flush_proxy",
    Swap = "swap",
    Memory = "memory",
    TrackingTable = "tracking_table",
    NoActiveExpire = "no_active_expire",
    Restart = "restart",
    ReplaceProxy = "replace_proxy",
    KeyVersion = "key_version",
    Invalidate = "invalidate",
    Clear = "clear",
    Reload = "reload",
    Bypass = "bypass",
}

impl Nemesis {
    pub(crate) fn named(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|nemesis| nemesis.word() == word)
    }

    /// True if requests may fail for it.
    pub(crate) fn breaks(self) -> bool {
        matches!(
            self,
            Self::DataCut | Self::BusyScript | Self::Memory | Self::Restart | Self::ReplaceProxy
        )
    }

    /// How long it is held, in milliseconds.
    fn hold(self) -> (u64, u64) {
        match self {
            // Long enough for a lease to end.
            Self::LinkStall | Self::LinkLateStall => (1200, 2000),
            Self::FreezeProxy | Self::DataStall => (200, 1500),
            Self::LinkDelay | Self::DataDelay | Self::LinkLate | Self::NoActiveExpire => {
                (500, 1500)
            }
            Self::FreezeServer | Self::DebugSleep | Self::BusyScript => (50, 700),
            _ => (50, 300),
        }
    }

    /// Does it, once.
    pub(crate) fn strike(self, world: &World, field: &Field, draw: &mut Draw) -> Result<()> {
        let (least, most) = self.hold();
        let held = Duration::from_millis(draw.between(least, most));
        let hold = || pace::play(held);
        let which = draw.below(2);
        let shims = |line, mode| {
            world.shim(which).set(line, mode);
            hold();
            world.shim(which).set(line, Mode::Pass);
        };
        match self {
            Self::LinkKill => kill_links(world)?,
            Self::LinkStall => shims(Line::Tracking, Mode::Stall),
            Self::LinkDelay => shims(Line::Tracking, Mode::Delay(200)),
            Self::LinkSplit => shims(Line::Tracking, Mode::Split),
            Self::LinkLate => shims(Line::Tracking, Mode::Late),
            Self::LinkLateStall => shims(Line::Tracking, Mode::LateThenStall),
            Self::DataStall => shims(Line::Data, Mode::Stall),
            Self::DataDelay => shims(Line::Data, Mode::Delay(draw.between(2, 60))),
            Self::DataSplit => shims(Line::Data, Mode::Split),
            Self::DataCut => world.shim(which).cut(Line::Data),
            Self::FreezeServer => world.freeze_server(hold),
            Self::FreezeProxy => world.freeze_proxy(which, hold)?,
            Self::DebugSleep => {
                world.tell(&format!("DEBUG SLEEP {}", held.as_secs_f64()))?;
            }
            Self::BusyScript => busy(world, hold)?,
            Self::Flush | Self::FlushProxy | Self::Swap | Self::Restart | Self::KeyVersion => {
                self.wipe(world, field, which)?;
            }
            Self::Memory => memory(world, hold)?,
            Self::TrackingTable => {
                world.tell("CONFIG SET tracking-table-max-keys 10")?;
                hold();
                world.tell("CONFIG SET tracking-table-max-keys 1000000")?;
            }
            Self::NoActiveExpire => {
                world.tell("DEBUG SET-ACTIVE-EXPIRE 0")?;
                hold();
                world.tell("DEBUG SET-ACTIVE-EXPIRE 1")?;
            }
            Self::ReplaceProxy => world.replace_proxy(which),
            Self::Invalidate => invalidate(world, field, which, draw)?,
            Self::Clear => {
                let scope = ["{}", "{\"local_only\":false}"][draw.below(2)];
                order(world, which, "POST", "/api/v1/cache/clear", scope)?;
            }
            Self::Reload => {
                world.rewrite(which)?;
                order(world, which, "POST", "/api/v1/config/reload", "{}")?;
            }
            Self::Bypass => {
                order(world, which, "PUT", "/api/v1/mode", "{\"mode\":\"bypass\"}")?;
                hold();
                order(world, which, "PUT", "/api/v1/mode", "{\"mode\":\"cache\"}")?;
            }
        }
        Ok(())
    }

    /// Leaves nothing of all keys.
    fn wipe(self, world: &World, field: &Field, which: usize) -> Result<()> {
        let all = [true; 3];
        let direct = [false, false, true];
        let mut told = direct;
        told[which] = true;
        field.wipe(self == Self::KeyVersion, || match self {
            Self::FlushProxy => {
                // What it did, if it failed, is not known: then it is done surely.
                let route = [Route::First, Route::Second][which];
                let is_done = once(world.port(route), "FLUSHALL").is_ok_and(|r| r == b"+OK\r\n");
                if is_done {
                    return Ok((told, all));
                }
                world.tell("FLUSHALL").map(|_| (direct, all))
            }
            Self::Swap => {
                let route = [Route::First, Route::Second][which];
                let spare = 1 + field.slots[0].incarnation.load(Ordering::SeqCst) % SPARE;
                let swap = format!("SWAPDB 0 {spare}");
                let is_done = once(world.port(route), &swap).is_ok_and(|r| r == b"+OK\r\n");
                if is_done {
                    // The other proxy is not told, and no server tells it.
                    return Ok((told, told));
                }
                world.tell("FLUSHALL").map(|_| (direct, all))
            }
            Self::Restart => {
                world.restart_server();
                Ok((direct, all))
            }
            Self::KeyVersion => {
                let mut version = world.version.lock();
                *version += 1;
                let body = format!("{{\"version\":\"v{version}\"}}");
                for which in [0, 1] {
                    order(world, which, "PUT", "/api/v1/key-versions/current", &body)?;
                }
                field.version.store(*version, Ordering::SeqCst);
                drop(version);
                Ok((all, all))
            }
            _ => world.tell("FLUSHALL").map(|_| (direct, all)),
        })
    }
}

/// A request to a proxy's admin port.
fn order(world: &World, which: usize, method: &str, path: &str, body: &str) -> Result<()> {
    let (status, answer) = http(world.admin(which)?, method, path, body)?;
    if status / 100 == 2 {
        return Ok(());
    }
    Err(Error::other(format!("{method} {path} {body}: {status} {answer}")))
}

/// The server cuts off who tracks.
fn kill_links(world: &World) -> Result<()> {
    let list = world.tell("CLIENT LIST")?;
    let list = String::from_utf8_lossy(&list).into_owned();
    let word = |line: &str, name: &str| {
        line.split(' ').find_map(|word| word.strip_prefix(name).map(str::to_owned))
    };
    for line in list.lines() {
        let is_tracking = word(line, "flags=").is_some_and(|flags| flags.contains('t'));
        // (The first line stands behind the length.)
        if let (true, Some(id)) = (is_tracking, word(line, "id=")) {
            once(world.server_port, &format!("CLIENT KILL ID {id}"))?;
        }
    }
    Ok(())
}

fn busy(world: &World, hold: impl FnOnce()) -> Result<()> {
    world.tell("CONFIG SET busy-reply-threshold 20")?;
    let mut script = Client::dial(world.server_port)?;
    let mut bytes = Vec::new();
    crate::client::write(&mut bytes, &["EVAL", "while true do end", "0"]);
    script.send(&bytes)?;
    hold();
    thread::scope(|scope| {
        let ended = scope.spawn(|| script.reply());
        // It may not have begun, or not be busy enough to be killed; or another fault has ended it.
        while !ended.is_finished() && !once(world.server_port, "SCRIPT KILL")?.starts_with(b"+OK") {
        }
        ended.join().expect("an answer is awaited").map(|_| ())
    })
}

/// The server has less room than it uses.
fn memory(world: &World, hold: impl FnOnce()) -> Result<()> {
    let info = world.tell("INFO memory")?;
    let info = String::from_utf8_lossy(&info).into_owned();
    let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")?.parse::<u64>().ok());
    let used = used.ok_or_else(|| Error::other("no used_memory"))?;
    world.tell(&format!("CONFIG SET maxmemory {}", used - used / 50))?;
    hold();
    world.tell("CONFIG SET maxmemory 0").map(|_| ())
}

/// Somebody says that something is to be forgotten.
fn invalidate(world: &World, field: &Field, which: usize, draw: &mut Draw) -> Result<()> {
    let word = LEVELS[draw.below(LEVELS.len())].word;
    let key = field.key(field.register(draw.below(field.slots.len()), 0));
    let body = match draw.below(3) {
        0 => format!("{{\"keys\":[\"{key}\"]}}"),
        1 => format!("{{\"namespace\":\"{word}\"}}"),
        _ => format!("{{\"pattern\":\"{word}:*:{}*\"}}", draw.below(10)),
    };
    order(world, which, "POST", "/api/v1/invalidations", &body)
}
