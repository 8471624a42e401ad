//! Numbers and times as people read them, worded as `wg(8)` does.

use std::fmt::{self, Write as _};
use std::time::Duration;

/// `1,234,567`
#[derive(Debug, Clone, Copy)]
pub struct Grouped(pub u64);

impl fmt::Display for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (index, digit) in digits.chars().enumerate() {
            if index != 0 && (digits.len() - index).is_multiple_of(3) {
                f.write_char(',')?;
            }
            f.write_char(digit)?;
        }
        Ok(())
    }
}

/// `17 B`, `1.50 KiB`, ... as `wg show` has it.
#[derive(Debug, Clone, Copy)]
pub struct Iec(pub u64);

impl fmt::Display for Iec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        let unit = (self.0.ilog2() / 10) as usize;
        write!(
            f,
            "{:.2} {}",
            self.0 as f64 / (1u64 << (10 * unit)) as f64,
            UNITS[unit - 1]
        )
    }
}

/// A time in microseconds, to three digits: `0.42us`, `17.3us`, `2.10ms`, `1.25s`.
#[derive(Debug, Clone, Copy)]
pub struct Micros(pub f64);

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (value, unit) = match self.0 {
            us if us < 1e3 => (us, "us"),
            us if us < 1e6 => (us / 1e3, "ms"),
            us => (us / 1e6, "s"),
        };
        let decimals = match value {
            value if value < 10.0 => 2,
            value if value < 100.0 => 1,
            _ => 0,
        };
        write!(f, "{value:.decimals$}{unit}")
    }
}

/// `1 packet`, `2 packets`
#[derive(Debug, Clone, Copy)]
pub struct Plural(pub u64, pub &'static str);

impl fmt::Display for Plural {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}", self.0, self.1, if self.0 == 1 { "" } else { "s" })
    }
}

/// Seconds as `wg show` spells them: `1 hour, 2 minutes, 5 seconds`.
#[derive(Debug, Clone, Copy)]
pub struct Span(pub u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DAY: u64 = 24 * 3600;
        let parts = [
            (self.0 / (365 * DAY), "year"),
            (self.0 / DAY % 365, "day"),
            (self.0 / 3600 % 24, "hour"),
            (self.0 / 60 % 60, "minute"),
            (self.0 % 60, "second"),
        ];
        let parts: Vec<String> = parts
            .into_iter()
            .filter(|(n, _)| *n != 0)
            .map(|(n, unit)| Plural(n, unit).to_string())
            .collect();
        f.write_str(if parts.is_empty() { "0 seconds" } else { "" })?;
        f.write_str(&parts.join(", "))
    }
}

/// How long ago, or that the clock cannot tell.
#[derive(Debug, Clone, Copy)]
pub enum Ago {
    Now,
    Before(u64),
    Future,
}

impl Ago {
    /// `then` in seconds since 1970.
    pub fn new(then: u64, now: Duration) -> Self {
        match now.as_secs().checked_sub(then) {
            Some(0) => Self::Now,
            Some(seconds) => Self::Before(seconds),
            None => Self::Future,
        }
    }
}

impl fmt::Display for Ago {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now => f.write_str("now"),
            Self::Before(seconds) => write!(f, "{} ago", Span(*seconds)),
            Self::Future => f.write_str("(the system clock went back since)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_700_000_000);

    #[test]
    fn spans_and_ages() {
        for (seconds, text) in [
            (0, "0 seconds"),
            (1, "1 second"),
            (60, "1 minute"),
            (3_725, "1 hour, 2 minutes, 5 seconds"),
            (366 * 86_400, "1 year, 1 day"),
        ] {
            assert_eq!(Span(seconds).to_string(), text);
        }
        assert_eq!(Ago::new(NOW.as_secs(), NOW).to_string(), "now");
        assert_eq!(
            Ago::new(NOW.as_secs() + 1, NOW).to_string(),
            "(the system clock went back since)"
        );
    }

    #[test]
    fn numbers_for_people() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (1 << 40, "1.00 TiB"),
            (u64::MAX, "16.00 EiB"),
        ] {
            assert_eq!(Iec(bytes).to_string(), text);
        }
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (12_345_678, "12,345,678"),
        ] {
            assert_eq!(Grouped(number).to_string(), text);
        }
        for (us, text) in [
            (0.424, "0.42us"),
            (9.99, "9.99us"),
            (999.0, "999us"),
            (12_300.0, "12.3ms"),
        ] {
            assert_eq!(Micros(us).to_string(), text);
        }
    }
}
