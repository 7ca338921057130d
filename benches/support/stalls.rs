//! When the machine stood still: moments at which a core ran nothing of ours although we asked.
//!
//! A virtual machine's core is taken away for milliseconds, here about once a second, and whatever
//! was on its way then takes that much longer. At one per cent of the time that decides a p99 by
//! itself. So a thread of real-time priority sleeps briefly on each core, over and over: no
//! program of the benchmark can keep it from waking, and when it wakes late the machine was away.

#![allow(
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    unreachable_pub,
    reason = "see mod.rs; it measures time, and its lock is taken a thousand times a second"
)]

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

/// How long the watcher sleeps: four times as often, and its wakes are seen in the p50 of a hit.
const NAP: Duration = Duration::from_millis(1);
/// Waking later than this is a stall: more than an interrupt takes.
const LATE: Duration = Duration::from_micros(500);

/// Watches cores until dropped.
#[derive(Debug)]
pub struct Stalls {
    seen: Arc<Mutex<Vec<(Instant, Instant)>>>,
    is_over: Arc<AtomicBool>,
}

impl Drop for Stalls {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
    }
}

impl Stalls {
    /// `None` where real-time priority is not allowed.
    pub fn watch(cores: &[&str]) -> Option<Self> {
        let me = Self { seen: Arc::default(), is_over: Arc::default() };
        for core in cores {
            let (core, seen, is_over) =
                ((*core).to_owned(), Arc::clone(&me.seen), Arc::clone(&me.is_over));
            let (ready, is_ready) = mpsc::channel();
            std::thread::spawn(move || {
                ready.send(is_first(&core)).expect("it is waited for");
                watch(&seen, &is_over);
            });
            if is_ready.recv() != Ok(true) {
                return None;
            }
        }
        Some(me)
    }

    /// Whether what began at `begun` and took `took` was untouched by a stall, and by the queue
    /// behind it: that is gone after twice the stall on a core that is busy for two thirds. A
    /// stall began within the nap that it made longer.
    pub fn spared(&self, begun: Instant, took: Duration) -> bool {
        let seen = self.seen.lock().expect("no watcher fails");
        !seen.iter().any(|(from, to)| begun < *to + (*to - *from) * 2 && *from < begun + took)
    }
}

/// Puts the calling thread on `core`, before all others there.
fn is_first(core: &str) -> bool {
    let path = std::fs::read_link("/proc/thread-self").expect("/proc");
    let thread = path.file_name().unwrap_or_default().to_owned();
    let run = |program: &str, args: &[&str]| {
        let mut command = Command::new(program);
        command.args(args).arg(&thread).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    run("taskset", &["-cp", core]) && run("chrt", &["-f", "-p", "50"])
}

fn watch(seen: &Mutex<Vec<(Instant, Instant)>>, is_over: &AtomicBool) {
    while !is_over.load(Ordering::SeqCst) {
        let before = Instant::now();
        std::thread::sleep(NAP);
        let now = Instant::now();
        if now - before > NAP + LATE {
            seen.lock().expect("no reader fails").push((before, now));
        }
    }
}
