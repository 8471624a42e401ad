//! Durations, sizes and switches, as every option and configuration key takes them.
//!
//! A duration is a decimal number and a unit (`ns`, `us`, `ms`, `s`, `m`, `h`), a size a whole number and a unit of
//! 1024 (`K`, `M`, `G`, also as `KiB`, `MiB`, `GiB`) or none for bytes; `0` needs no unit in either. Errors quote the
//! text and say which range is expected.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

/// Names and lengths in nanoseconds, from the longest. The first name of a length is the one that is shown.
const TIME_UNITS: [(&str, u64); 8] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("min", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("µs", 1_000),
    ("ns", 1),
];

/// Names in lower case and sizes in bytes, from the largest. The first name of a size is the one that is shown.
const SIZE_UNITS: [(&str, u64); 7] = [
    ("g", 1 << 30),
    ("gib", 1 << 30),
    ("m", 1 << 20),
    ("mib", 1 << 20),
    ("k", 1 << 10),
    ("kib", 1 << 10),
    ("", 1),
];

/// A duration that an option takes: `100ms`, `20us`, `1.5s`, `2m`, `0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Duration);

/// A size in bytes that an option takes: `7M`, `8MiB`, `64K`, `0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// Why a text is no value of an option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidValue {
    what: &'static str,
    text: String,
    expected: String,
}

impl fmt::Display for InvalidValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "invalid {} `{}`: expected {}",
            self.what, self.text, self.expected
        )
    }
}

impl std::error::Error for InvalidValue {}

impl InvalidValue {
    /// `what` is the kind of value, such as `time`; `expected` completes "expected ...".
    pub fn new(what: &'static str, text: &str, expected: impl Into<String>) -> Self {
        Self {
            what,
            text: text.to_owned(),
            expected: expected.into(),
        }
    }
}

impl FromStr for Time {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        nanoseconds(text)
            .map(|nanos| Self(Duration::from_nanos(nanos)))
            .ok_or_else(|| {
                InvalidValue::new("time", text, "a number and a unit, such as 100ms, 20us, 1s or 2m")
            })
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        let unit = TIME_UNITS
            .iter()
            .find(|(_, unit)| nanos != 0 && nanos.is_multiple_of(u128::from(*unit)));
        match unit {
            Some((name, unit)) => write!(f, "{}{name}", nanos / u128::from(*unit)),
            None => f.write_str("0"),
        }
    }
}

impl FromStr for Size {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        bytes(text)
            .map(Self)
            .ok_or_else(|| InvalidValue::new("size", text, "a number of bytes, such as 7M, 64K or 65536"))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = SIZE_UNITS
            .iter()
            .find(|(_, unit)| self.0 != 0 && self.0.is_multiple_of(*unit));
        match unit {
            Some((name, unit)) => write!(f, "{}{}", self.0 / unit, name.to_ascii_uppercase()),
            None => f.write_str("0"),
        }
    }
}

/// A duration in `range`.
///
/// # Errors
/// What is no duration, or out of the range, with both ends of it.
pub fn time_within(text: &str, range: &RangeInclusive<Duration>) -> Result<Duration, InvalidValue> {
    let time = text.parse::<Time>().ok().map(|Time(time)| time);
    time.filter(|time| range.contains(time)).ok_or_else(|| {
        let expected = format!("{} to {}", Time(*range.start()), Time(*range.end()));
        InvalidValue::new("time", text, expected)
    })
}

/// Like [`time_within`], and a number without a unit is in seconds: for options whose name says so.
///
/// # Errors
/// As [`time_within`].
pub fn seconds_within(text: &str, range: &RangeInclusive<Duration>) -> Result<Duration, InvalidValue> {
    match text.ends_with(|c: char| c.is_ascii_digit()) {
        true => time_within(&format!("{text}s"), range).map_err(|error| InvalidValue {
            text: text.to_owned(),
            ..error
        }),
        false => time_within(text, range),
    }
}

/// A size in `range`, in bytes.
///
/// # Errors
/// What is no size, or out of the range, with both ends of it.
pub fn size_within(text: &str, range: &RangeInclusive<u64>) -> Result<u64, InvalidValue> {
    let size = text.parse::<Size>().ok().map(|Size(bytes)| bytes);
    size.filter(|bytes| range.contains(bytes)).ok_or_else(|| {
        let expected = format!("{} to {}", Size(*range.start()), Size(*range.end()));
        InvalidValue::new("size", text, expected)
    })
}

/// `on`, `yes` or `true`; `off`, `no` or `false`.
///
/// # Errors
/// Any other word.
pub fn switch(text: &str) -> Result<bool, InvalidValue> {
    match text.to_ascii_lowercase().as_str() {
        "on" | "yes" | "true" => Ok(true),
        "off" | "no" | "false" => Ok(false),
        _ => Err(InvalidValue::new(
            "value",
            text,
            "on or off (or yes, no, true, false)",
        )),
    }
}

/// Rounded to the nearest nanosecond.
fn nanoseconds(text: &str) -> Option<u64> {
    let (number, name) = number_and_unit(text);
    // `parse` alone would take signs, exponents and names.
    let value: f64 = number
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.')
        .then(|| number.parse().ok())??;
    if name.is_empty() {
        return (value == 0.0).then_some(0);
    }
    let (_, unit) = TIME_UNITS.iter().find(|(unit, _)| *unit == name)?;
    let nanos = (value * *unit as f64).round();
    // The largest value that converts without saturating: 2^64 itself is out.
    (nanos < u64::MAX as f64).then_some(nanos as u64)
}

fn bytes(text: &str) -> Option<u64> {
    let (number, name) = number_and_unit(text);
    let value: u64 = number
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| number.parse().ok())??;
    let name = name.to_ascii_lowercase();
    let (_, unit) = SIZE_UNITS.iter().find(|(unit, _)| *unit == name)?;
    value.checked_mul(*unit)
}

fn number_and_unit(text: &str) -> (&str, &str) {
    let unit = text.find(|c: char| c.is_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit);
    (number.trim(), unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_shown() {
        for (text, nanos, shown) in [
            ("0", 0, "0"),
            ("0us", 0, "0"),
            ("1ms", 1_000_000, "1ms"),
            ("1000us", 1_000_000, "1ms"),
            ("20us", 20_000, "20us"),
            ("1.5s", 1_500_000_000, "1500ms"),
            ("0.5 m", 30_000_000_000, "30s"),
            ("2min", 120_000_000_000, "2m"),
            ("90m", 5_400_000_000_000, "90m"),
            ("7µs", 7_000, "7us"),
            ("3ns", 3, "3ns"),
        ] {
            let time: Time = text.parse().unwrap();
            assert_eq!(time.0, Duration::from_nanos(nanos), "{text}");
            assert_eq!(time.to_string(), shown);
            assert_eq!(shown.parse(), Ok(time));
        }
        for bad in [
            "",
            "20",
            "ms",
            "-1s",
            "+1s",
            "1e3s",
            "1d",
            "nans",
            "1.2.3s",
            "1 s s",
            "99999999999h",
            ".",
        ] {
            let error = bad.parse::<Time>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("invalid time `{bad}`")), "{error}");
        }
    }

    #[test]
    fn sizes_are_read_and_shown() {
        for (text, bytes, shown) in [
            ("0", 0, "0"),
            ("65536", 65_536, "64K"),
            ("7M", 7 << 20, "7M"),
            ("8MiB", 8 << 20, "8M"),
            ("64k", 65_536, "64K"),
            ("1024 M", 1 << 30, "1G"),
            ("1023", 1023, "1023"),
        ] {
            let size: Size = text.parse().unwrap();
            assert_eq!(size, Size(bytes), "{text}");
            assert_eq!(size.to_string(), shown);
            assert_eq!(shown.parse(), Ok(size));
        }
        for bad in ["", "M", "-1", "1.5M", "7MB", "18446744073709551615M"] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
    }

    #[test]
    fn ranges_are_named_where_they_are_left() {
        let millisecond = Duration::ZERO..=Duration::from_millis(1);
        assert_eq!(time_within("1ms", &millisecond), Ok(Duration::from_millis(1)));
        assert_eq!(
            time_within("1001us", &millisecond).unwrap_err().to_string(),
            "invalid time `1001us`: expected 0 to 1ms"
        );
        assert_eq!(
            size_within("63K", &(65_536..=1 << 30)).unwrap_err().to_string(),
            "invalid size `63K`: expected 64K to 1G"
        );
        let minute = Duration::from_millis(500)..=Duration::from_secs(60);
        assert_eq!(seconds_within("0.5", &minute), Ok(Duration::from_millis(500)));
        assert_eq!(seconds_within("1m", &minute), Ok(Duration::from_secs(60)));
        assert_eq!(
            seconds_within("61", &minute).unwrap_err().to_string(),
            "invalid time `61`: expected 500ms to 1m"
        );
    }

    #[test]
    fn one_list_of_words_for_on_and_off() {
        for (on, off) in [("on", "off"), ("yes", "no"), ("true", "false"), ("Yes", "OFF")] {
            assert_eq!((switch(on), switch(off)), (Ok(true), Ok(false)));
        }
        let error = switch("1").unwrap_err().to_string();
        assert_eq!(
            error,
            "invalid value `1`: expected on or off (or yes, no, true, false)"
        );
    }
}
