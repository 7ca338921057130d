//! Schedules as cron writes them: `"0 6 * * mon-fri"`. By the clocks of a time zone, to the minute,
//! or to the second with a sixth field in front.
//!
//! Where clocks are put forward, what falls into the hour that is left out is done when it is over;
//! where they are put back, a time of day comes once.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use std::fmt;
use std::str::FromStr;

/// When something is done again and again.
#[derive(Clone, Debug)]
pub struct Cron {
    schedule: croner::Cron,
    zone: Tz,
}

impl Cron {
    /// Reads five fields, or six, or `@hourly`, `@daily`, `@weekly`; in UTC.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong =
            |why: String| format!("`{text}` is not a schedule such as \"0 6 * * *\": {why}");
        let schedule = croner::Cron::from_str(text).map_err(|error| wrong(error.to_string()))?;
        let cron = Self { schedule, zone: Tz::UTC };
        // The 30th of February.
        if cron.after(0).is_none() { Err(wrong("it never comes".to_owned())) } else { Ok(cron) }
    }

    /// The same by the clocks of another place: `Europe/Berlin`.
    pub fn within(self, zone: &str) -> Result<Self, String> {
        let wrong = |_| format!("`{zone}` is not a time zone such as \"Europe/Berlin\" or \"UTC\"");
        Ok(Self { zone: zone.parse().map_err(wrong)?, ..self })
    }

    /// The first time after `unix_seconds`, in the same.
    pub fn after(&self, unix_seconds: u64) -> Option<u64> {
        let now = i64::try_from(unix_seconds).ok()?;
        let now: DateTime<Utc> = DateTime::from_timestamp(now, 0)?;
        let now = now.with_timezone(&self.zone);
        let next = self.schedule.find_next_occurrence(&now, false).ok()?;
        u64::try_from(next.timestamp()).ok()
    }

    /// The name of its time zone.
    pub fn zone(&self) -> &'static str {
        self.zone.name()
    }
}

impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        self.schedule.as_str() == other.schedule.as_str() && self.zone == other.zone
    }
}

impl Eq for Cron {}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.schedule.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::Cron;

    /// 2026-01-01 00:00 UTC, a Thursday.
    const NEW_YEAR: u64 = 1_767_225_600;

    #[test]
    fn the_next_time_is_found() {
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

    /// In 2026 Berlin's clocks are put forward on 29 March and back on 25 October.
    #[test]
    fn clocks_are_those_of_the_place() {
        let berlin = |text: &str| Cron::parse(text).unwrap().within("Europe/Berlin").unwrap();
        let six = berlin("0 6 * * *");
        assert_eq!(six.after(NEW_YEAR), Some(NEW_YEAR + 5 * 3600), "CET");
        const JULY: u64 = 1_782_864_000;
        assert_eq!(six.after(JULY), Some(JULY + 4 * 3600), "CEST");
        // 02:30 is left out, so it is done when the hour is over, at 03:00 = 01:00 UTC.
        const MARCH_29: u64 = 1_774_742_400;
        let night = berlin("30 2 * * *");
        assert_eq!(night.after(MARCH_29), Some(MARCH_29 + 3600));
        // 02:30 is there twice, and done once.
        const OCTOBER_25: u64 = 1_792_886_400;
        let first = night.after(OCTOBER_25).unwrap();
        assert_eq!(first, OCTOBER_25 + 1800);
        assert_eq!(night.after(first), Some(OCTOBER_25 + 86_400 + 5400));
        for zone in ["", "Berlin", "CEST+1", "Europe/berlin"] {
            let error = Cron::parse("@daily").unwrap().within(zone).unwrap_err();
            assert!(error.contains("is not a time zone"), "{error}");
        }
        assert_eq!(six.zone(), "Europe/Berlin");
        assert!(six != Cron::parse("0 6 * * *").unwrap() && six == berlin("0 6 * * *"));
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for text in ["", "* * *", "61 * * * *", "soon", "0 0 30 2 *"] {
            let error = Cron::parse(text).unwrap_err();
            assert!(error.contains("is not a schedule"), "{error}");
        }
    }
}
