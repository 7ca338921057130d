//! What is so at the moment, where nobody counts: the configuration, upstream's identity, the
//! threads' runtimes, the log.
//!
//! In: [`State`], asked at each scrape. Out: Prometheus text, written here because the recorder
//! would keep a series for every digest, role and version that there ever was.

use super::heard::Heard;
use super::metrics::Source;
use super::{quiet, text};
use crate::stats::counters::Family;
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::RuntimeMetrics;

/// The configuration in force.
#[derive(Clone, Debug, Default)]
pub struct ConfigFigures {
    /// False if the last attempt to load it was refused.
    pub is_last_good: bool,
    /// When it was loaded, in seconds since 1970.
    pub loaded_at: u64,
    /// What tells it from others.
    pub digest: String,
    /// The key version that every worker serves under.
    pub version: String,
    /// Keys that were set over it, and are written nowhere.
    pub set: Vec<&'static str>,
    /// Keys that wait for a restart.
    pub pending: Vec<&'static str>,
}

/// What upstream says of itself.
#[derive(Clone, Debug)]
pub struct UpstreamFigures {
    /// `master` or `replica`, as it says.
    pub role: String,
    /// Its version.
    pub version: String,
}

/// Bytes of all clients.
#[derive(Clone, Copy, Debug, Default)]
pub struct BufferFigures {
    /// Received, and not yet carried out.
    pub input: u64,
    /// Queued, and not yet taken by the sockets.
    pub output: u64,
    /// Memory that they hold in all, for both and for what will come.
    pub held: u64,
}

/// The certificate that a listener shows.
#[derive(Clone, Copy, Debug)]
pub struct CertificateFigures {
    /// `resp`.
    pub listener: &'static str,
    /// The end of its validity, in seconds since 1970.
    pub expires_at: i64,
}

/// What was acknowledged before upstream has it (`[write_behind]`).
#[derive(Clone, Copy, Debug, Default)]
pub struct BehindFigures {
    /// Writes that wait.
    pub entries: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// How long the oldest has waited.
    pub oldest: Duration,
    /// False while their log has failed.
    pub is_taking: bool,
}

/// One thread's runtime.
#[derive(Clone, Copy, Debug)]
pub struct RuntimeFigures {
    /// The number of the worker, if it is one.
    pub worker: Option<usize>,
    /// Time spent on tasks.
    pub busy: Duration,
    /// Tasks that live.
    pub tasks: usize,
}

/// What the process allocates by.
#[derive(Clone, Copy, Debug)]
pub struct Allocator {
    /// What it is called.
    pub name: &'static str,
    /// What it says of itself.
    pub figures: fn() -> Option<AllocatorFigures>,
}

/// Bytes that the allocator knows of.
#[derive(Clone, Copy, Debug)]
pub struct AllocatorFigures {
    /// Asked for, and not given back.
    pub allocated: usize,
    /// In pages that hold some of it.
    pub active: usize,
    /// In memory, for it and for its own needs.
    pub resident: usize,
}

/// The runtimes of all threads that have one.
#[derive(Debug, Default)]
pub struct Runtimes(Mutex<Vec<(Option<usize>, RuntimeMetrics)>>);

impl Runtimes {
    /// One more, of a thread of this name.
    pub fn add(&self, name: &str, runtime: RuntimeMetrics) {
        let worker = name.strip_prefix("worker-").and_then(|number| number.parse().ok());
        self.0.lock().push((worker, runtime));
    }

    /// As of now, workers in their order.
    pub fn figures(&self) -> Vec<RuntimeFigures> {
        let figures = |(worker, runtime): &(Option<usize>, RuntimeMetrics)| {
            let busy = runtime.worker_total_busy_duration(0);
            RuntimeFigures { worker: *worker, busy, tasks: runtime.num_alive_tasks() }
        };
        let mut all: Vec<_> = self.0.lock().iter().map(figures).collect();
        all.sort_unstable_by_key(|figures| figures.worker);
        all
    }
}

/// Who knows. They may lock, but not wait.
pub struct State {
    /// The configuration.
    pub config: Source<ConfigFigures>,
    /// Upstream, once it has been met.
    pub upstream: Source<Option<UpstreamFigures>>,
    /// The certificates that are shown to clients; none, then the series are absent.
    pub certificates: Source<Vec<CertificateFigures>>,
    /// Clients that subscribe.
    pub subscribers: Source<usize>,
    /// What clients have sent and are still to be sent.
    pub buffers: Source<BufferFigures>,
    /// What waits for upstream; `None`, then the series are absent.
    pub behind: Source<Option<BehindFigures>>,
    /// When invalidation channels were heard.
    pub heard: Arc<Heard>,
    /// The threads.
    pub runtimes: Source<Vec<RuntimeFigures>>,
    /// The allocator, if it tells.
    pub allocator: Source<Option<AllocatorFigures>>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").finish_non_exhaustive()
    }
}

impl State {
    /// Appends all of it. `upstream` is the node's address.
    pub(super) fn write(&self, upstream: &str, out: &mut String) {
        self.config(out);
        self.upstream(upstream, out);
        self.certificates(out);
        let help = "Clients that are subscribed to something.";
        one(out, "nearside_pubsub_clients", help, "gauge", (self.subscribers)());
        let BufferFigures { input, output, held } = (self.buffers)();
        let help = "Memory held in client read buffers.";
        one(out, "nearside_client_input_buffer_bytes", help, "gauge", input);
        let help = "Memory held in client write buffers.";
        one(out, "nearside_client_output_buffer_bytes", help, "gauge", output);
        let help = "Memory that clients hold in all, of server.max_clients_memory.";
        one(out, "nearside_clients_memory_bytes", help, "gauge", held);
        self.behind(out);
        self.heard.write(out);
        self.runtimes(out);
        log(out);
        self.allocator(out);
    }

    fn config(&self, out: &mut String) {
        let ConfigFigures { is_last_good, loaded_at, digest, .. } = (self.config)();
        let name = "nearside_config_info";
        let help = "Always 1; digest of the configuration in force, secrets excluded.";
        text::family(out, Family { name, help }, "gauge");
        text::line(out, &format!("{name}{{digest=\"{digest}\"}} 1"));
        let help = "1 if the last configuration load or reload succeeded.";
        let is_good = u8::from(is_last_good);
        one(out, "nearside_config_last_reload_successful", help, "gauge", is_good);
        let help = "Unix time of the last successful configuration load.";
        let name = "nearside_config_last_reload_success_timestamp_seconds";
        one(out, name, help, "gauge", loaded_at);
    }

    /// Nothing before it was met: who it is is not known.
    fn upstream(&self, address: &str, out: &mut String) {
        let Some(UpstreamFigures { role, version }) = (self.upstream)() else { return };
        let name = "nearside_upstream_info";
        let help = "Always 1; role and server version in labels.";
        text::family(out, Family { name, help }, "gauge");
        // They are upstream's words.
        let [role, version] = [role, version].map(|word| word.escape_default().to_string());
        let labels = format!("upstream=\"{address}\",role=\"{role}\",version=\"{version}\"");
        text::line(out, &format!("{name}{{{labels}}} 1"));
    }

    fn behind(&self, out: &mut String) {
        let Some(BehindFigures { entries, bytes, oldest, is_taking }) = (self.behind)() else {
            return;
        };
        let help = "Writes waiting to be sent upstream.";
        one(out, "nearside_write_behind_queue_entries", help, "gauge", entries);
        let help = "Bytes waiting to be sent upstream.";
        one(out, "nearside_write_behind_queue_bytes", help, "gauge", bytes);
        let help = "Age of the oldest waiting write.";
        let name = "nearside_write_behind_oldest_seconds";
        one(out, name, help, "gauge", oldest.as_secs_f64());
        let help = "0 while the log of write-behind has failed, and writes go upstream at once.";
        one(out, "nearside_write_behind_log_up", help, "gauge", u8::from(is_taking));
    }

    fn certificates(&self, out: &mut String) {
        let certificates = (self.certificates)();
        if certificates.is_empty() {
            return;
        }
        let name = "nearside_tls_certificate_expiry_timestamp_seconds";
        let help = "Unix notAfter time of the serving certificate.";
        text::family(out, Family { name, help }, "gauge");
        for CertificateFigures { listener, expires_at } in certificates {
            text::line(out, &format!("{name}{{listener=\"{listener}\"}} {expires_at}"));
        }
    }

    fn runtimes(&self, out: &mut String) {
        let runtimes = (self.runtimes)();
        let name = "nearside_runtime_busy_seconds_total";
        let help = "Time workers spent polling tasks.";
        text::family(out, Family { name, help }, "counter");
        for RuntimeFigures { worker, busy, .. } in &runtimes {
            if let Some(worker) = worker {
                let busy = busy.as_secs_f64();
                text::line(out, &format!("{name}{{worker=\"{worker}\"}} {busy}"));
            }
        }
        let tasks: usize = runtimes.iter().map(|runtime| runtime.tasks).sum();
        one(out, "nearside_runtime_tasks", "Live tasks.", "gauge", tasks);
    }

    /// What is not told is left out, as of the process.
    fn allocator(&self, out: &mut String) {
        let Some(AllocatorFigures { allocated, active, resident }) = (self.allocator)() else {
            return;
        };
        let help = "Bytes that the process has asked for and not given back.";
        one(out, "allocator_allocated_bytes", help, "gauge", allocated);
        let help = "Bytes of pages that hold something allocated.";
        one(out, "allocator_active_bytes", help, "gauge", active);
        let help = "Bytes of memory that the allocator has, its own needs included.";
        one(out, "allocator_resident_bytes", help, "gauge", resident);
    }
}

fn log(out: &mut String) {
    let name = "nearside_log_messages_total";
    text::family(out, Family { name, help: "Log events emitted." }, "counter");
    for (level, count) in quiet::LEVELS.iter().zip(quiet::logged()) {
        text::line(out, &format!("{name}{{level=\"{level}\"}} {count}"));
    }
    let help = "Log events dropped by the log rate limit.";
    one(out, "nearside_log_suppressed_total", help, "counter", quiet::suppressed());
}

fn one(
    out: &mut String,
    name: &'static str,
    help: &'static str,
    kind: &str,
    value: impl fmt::Display,
) {
    text::family(out, Family { name, help }, kind);
    text::line(out, &format!("{name} {value}"));
}
