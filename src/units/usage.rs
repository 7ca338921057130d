//! How much processor time this process has used, as the system counts it.

use std::fs;

/// The unit of times in `/proc`: `USER_HZ`, 100 in the ABI of every Linux we build for.
const TICKS_PER_SECOND: u64 = 100;

/// Processor time in hundredths of a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    user: u64,
    system: u64,
}

impl Usage {
    /// What was used so far; `None` without `/proc`.
    pub fn read() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/self/stat").ok()?)
    }

    /// The 14th and 15th field, counted from behind the command's name, which may hold spaces and
    /// parentheses.
    fn parse(stat: &str) -> Option<Self> {
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
        let user = fields.next()?.parse().ok()?;
        Some(Self { user, system: fields.next()?.parse().ok()? })
    }

    /// In the process itself, as seconds with a fraction.
    pub fn user(self) -> String {
        seconds(self.user)
    }

    /// In the system on its behalf, as seconds with a fraction.
    pub fn system(self) -> String {
        seconds(self.system)
    }
}

fn seconds(ticks: u64) -> String {
    let (whole, rest) = (ticks / TICKS_PER_SECOND, ticks % TICKS_PER_SECOND);
    format!("{whole}.{rest:02}0000")
}

#[cfg(test)]
mod tests {
    use super::Usage;

    #[test]
    fn fields_are_counted_from_behind_the_name() {
        let stat = "7 (a ) b) S 1 2 3 4 5 6 7 8 9 10 1234 56 0 0 20 0 9 0 100";
        let usage = Usage::parse(stat).unwrap();
        assert_eq!((usage.user(), usage.system()), ("12.340000".into(), "0.560000".into()));
        assert_eq!(Usage::parse("7 (a) S 1"), None);
        assert!(Usage::read().is_some());
    }
}
