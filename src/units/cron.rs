//! Schedules as cron writes them: `"0 6 * * mon-fri"`. In UTC, to the minute, or to the second with
//! a sixth field in front.

use chrono::{DateTime, Utc};
use std::fmt;
use std::str::FromStr;

/// When something is done again and again.
#[derive(Clone, Debug)]
pub struct Cron(croner::Cron);

impl Cron {
    /// Reads five fields, or six, or `@hourly`, `@daily`, `@weekly`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong =
            |why: String| format!("`{text}` is not a schedule such as \"0 6 * * *\": {why}");
        let cron = croner::Cron::from_str(text).map_err(|error| wrong(error.to_string()))?;
        let cron = Self(cron);
        // The 30th of February.
        if cron.after(0).is_none() { Err(wrong("it never comes".to_owned())) } else { Ok(cron) }
    }

    /// The first time after `unix_seconds`, in the same.
    pub fn after(&self, unix_seconds: u64) -> Option<u64> {
        let now = i64::try_from(unix_seconds).ok()?;
        let now: DateTime<Utc> = DateTime::from_timestamp(now, 0)?;
        let next = self.0.find_next_occurrence(&now, false).ok()?;
        u64::try_from(next.timestamp()).ok()
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::Cron;

    #[test]
    fn the_next_time_is_found() {
        // 2026-01-01 00:00 UTC, a Thursday.
        const NEW_YEAR: u64 = 1_767_225_600;
        for (text, later) in [
            ("0 6 * * *", 6 * 3600),
            ("*/5 * * * *", 300),
            ("0 0 * * mon", 4 * 86_400),
            ("@hourly", 3600),
            ("*/10 * * * * *", 10),
        ] {
            let cron = Cron::parse(text).unwrap();
            assert_eq!(cron.after(NEW_YEAR), Some(NEW_YEAR + later), "{text}");
        }
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for text in ["", "* * *", "61 * * * *", "soon", "0 0 30 2 *"] {
            let error = Cron::parse(text).unwrap_err();
            assert!(error.contains("is not a schedule"), "{error}");
        }
    }
}
