//! Whose log it is: every line ends with `instance`, and with `region` if there is one, so that
//! lines of several proxies can be told apart where they are gathered.
//!
//! In: a line as `tracing_subscriber` writes it. Out: the same with these two behind what it says.

use crate::config::Settings;
use std::fmt::{self, Write as _};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

/// What stands at the end of a line.
#[derive(Clone, Debug)]
pub(super) enum Stamp {
    /// `,"instance":"web-1","region":"eu"`, before the last brace.
    Json(String),
    /// ` instance=web-1 region=eu`
    Text(String),
}

impl Stamp {
    pub(super) fn new(settings: &Settings, as_json: bool) -> Self {
        let mut text = String::new();
        let labels = [("instance", &settings.instance), ("region", &settings.region)];
        for (name, value) in labels.iter().filter(|(_, value)| !value.is_empty()) {
            // Writing to a string cannot fail.
            if as_json {
                let value = serde_json::Value::String((*value).clone());
                write!(text, ",\"{name}\":{value}").ok();
            } else {
                write!(text, " {name}={value}").ok();
            }
        }
        if as_json { Self::Json(text) } else { Self::Text(text) }
    }

    fn put(&self, line: &str, mut out: impl fmt::Write) -> fmt::Result {
        let line = line.trim_end_matches('\n');
        match self {
            Self::Json(labels) => {
                let (said, end) = line.strip_suffix('}').map_or((line, ""), |said| (said, "}"));
                writeln!(out, "{said}{labels}{end}")
            }
            Self::Text(labels) => writeln!(out, "{line}{labels}"),
        }
    }
}

/// A format of lines, stamped.
#[derive(Debug)]
pub(super) struct Stamped<F> {
    pub(super) format: F,
    pub(super) stamp: Stamp,
}

impl<F, S, N> FormatEvent<S, N> for Stamped<F>
where
    F: FormatEvent<S, N>,
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::new();
        self.format.format_event(ctx, Writer::new(&mut line), event)?;
        self.stamp.put(&line, writer)
    }
}

#[cfg(test)]
mod tests {
    use super::Stamp;
    use crate::config::{Overrides, load};

    #[test]
    fn lines_say_whose_they_are() {
        let overrides = Overrides { file: Some("/dev/null".into()), ..Overrides::default() };
        let mut settings = load(&overrides).unwrap().settings;
        settings.instance = "a \"b\"".to_owned();
        let stamped = |settings: &_, as_json, line: &str| {
            let mut out = String::new();
            Stamp::new(settings, as_json).put(line, &mut out).unwrap();
            out
        };
        let line = stamped(&settings, true, "{\"level\":\"INFO\"}\n");
        assert_eq!(line, "{\"level\":\"INFO\",\"instance\":\"a \\\"b\\\"\"}\n");
        settings.region = "eu".to_owned();
        assert_eq!(stamped(&settings, false, "INFO x\n"), "INFO x instance=a \"b\" region=eu\n");
    }
}
