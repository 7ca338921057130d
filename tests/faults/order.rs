//! What is asked for on the command line.

use crate::harness::free_port;
use crate::target::Which;

pub(crate) const USAGE: &str = "usage: faults [--rows F05,F16] [--times N] [--seconds N] [--seed N] \
                                [--peer twemproxy|envoy | --target PORT --upstream PORT]";

/// What is to be done.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) which: Which,
    rows: Vec<String>,
    /// By how much more often than in the short run each fault is brought about.
    times: u64,
    /// For so long all rows are played again and again.
    pub(crate) seconds: u64,
    pub(crate) seed: u64,
    /// Where the scripted upstream listens; any port if none is given.
    upstream: Option<u16>,
}

impl Order {
    /// Without arguments: each row, as short as it can be.
    pub(crate) fn read(args: &[String]) -> Result<Self, String> {
        let mut order = Self {
            which: Which::Nearside,
            rows: Vec::new(),
            times: 1,
            seconds: 0,
            seed: 1,
            upstream: None,
        };
        let mut args = args.iter().filter(|arg| *arg != "--nocapture");
        while let Some(name) = args.next() {
            let value = args.next().ok_or_else(|| format!("{name} wants a value"))?;
            let number = || value.parse::<u64>().map_err(|_| format!("{name}: no number: {value}"));
            let port = || value.parse::<u16>().map_err(|_| format!("{name}: no port: {value}"));
            match name.as_str() {
                "--rows" => order.rows = value.split(',').map(str::to_owned).collect(),
                "--times" => order.times = number()?.max(1),
                "--seconds" => order.seconds = number()?,
                "--seed" => order.seed = number()?,
                "--peer" if value == "twemproxy" => order.which = Which::Twemproxy,
                "--peer" if value == "envoy" => order.which = Which::Envoy,
                "--target" => order.which = Which::Other(port()?),
                "--upstream" => order.upstream = Some(port()?),
                _ => return Err(format!("unknown: {name} {value}")),
            }
        }
        if matches!(order.which, Which::Other(_)) != order.upstream.is_some() {
            return Err("--target and --upstream go together".to_owned());
        }
        Ok(order)
    }

    pub(crate) fn wants(&self, row: &str) -> bool {
        self.rows.is_empty() || self.rows.iter().any(|wanted| wanted == row)
    }

    /// True unless a peer is looked at: nobody's promises are judged then.
    pub(crate) fn is_nearside(&self) -> bool {
        self.which == Which::Nearside
    }

    /// True if a peer was started here.
    pub(crate) fn is_peer(&self) -> bool {
        matches!(self.which, Which::Twemproxy | Which::Envoy)
    }

    /// True if it can be put before a real server.
    pub(crate) fn has_servers(&self) -> bool {
        !matches!(self.which, Which::Other(_))
    }

    pub(crate) fn times(&self, short: u64) -> u64 {
        short * self.times
    }

    /// True if figures are held against bars that a busy machine may miss.
    pub(crate) fn is_long(&self) -> bool {
        self.times > 1 || self.seconds > 0
    }

    pub(crate) fn upstream_port(&self) -> u16 {
        self.upstream.unwrap_or_else(free_port)
    }
}
