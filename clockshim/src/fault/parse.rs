//! The textual form of a fault.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use super::kind::{FaultKind, Hold};
use super::schedule::Schedule;
use super::{Fault, ThreadPrefix};

/// A fault that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("fault `{text}`: {why}")]
pub struct FaultError {
    /// The text as it was given.
    pub text: String,
    /// What is wrong with it, and what would be right.
    pub why: String,
}

impl FaultError {
    /// Whether the text begins with the name of a fault, so that only the rest is wrong.
    pub fn names_a_fault(&self) -> bool {
        let name = self.text.split(',').next().unwrap_or_default().trim();
        FaultKind::ALL.iter().any(|fault| fault.name == name)
    }
}

/// `NAME,KEY=VALUE,...`. Keys of every fault: `at` (default 0s), `for` (default: for ever), `every` (default: once),
/// `jitter` (each window late by up to that), `seed`. Times are written with `ns`, `us`, `ms`, `s`, `m` or `h`. What a fault has
/// beside them, [`FaultKind::ALL`] tells.
impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Fault, FaultError> {
        parse(text).map_err(|why| FaultError {
            text: text.to_owned(),
            why,
        })
    }
}

fn parse(text: &str) -> Result<Fault, String> {
    let mut parts = text.split(',');
    let name = parts.next().unwrap_or_default().trim();
    let mut keys = Keys(BTreeMap::new());
    for part in parts {
        let (key, value) = part
            .split_once('=')
            .ok_or_else(|| format!("`{part}` is not of the form KEY=VALUE, such as at=3s"))?;
        if keys.0.insert(key.trim(), value.trim()).is_some() {
            return Err(format!("`{}` is given twice", key.trim()));
        }
    }
    let kind = kind(name, &mut keys)?;
    let (mut span, mut every) = (keys.time("for")?, keys.time("every")?);
    if kind == FaultKind::DeepIdle {
        every = every.or(Some(Duration::from_millis(100)));
        // As much of the time as in the trace's laptop, or so.
        span = span.or(every.map(|every| every * 35 / 100));
    }
    // What happens once in a window needs no duration; it still ends before the next one may come.
    if kind.is_once_a_window() && every.is_some() {
        span = span.or(Some(Duration::from_nanos(1)));
    }
    let at = keys.time("at")?.unwrap_or_default();
    let jitter = keys.time("jitter")?.unwrap_or_default();
    let seed = keys.number("seed")?.unwrap_or(0);
    let chance = match kind {
        FaultKind::Slow(_) => keys.number("chance")?.unwrap_or(1.0),
        _ => 1.0,
    };
    if !(0.0..=1.0).contains(&chance) {
        return Err("`chance` must be from 0 to 1".to_owned());
    }
    let thread = if matches!(kind, FaultKind::Hold(_) | FaultKind::Reenter) {
        keys.take("thread").unwrap_or_default()
    } else {
        ""
    };
    let thread = ThreadPrefix::new(thread).ok_or_else(|| {
        format!(
            "`thread={thread}` is longer than the {} bytes of a name",
            ThreadPrefix::LONGEST
        )
    })?;
    keys.none_left(name)?;
    let schedule = Schedule::new(at, span, every, jitter, seed)?;
    Ok(Fault {
        kind,
        schedule,
        chance: (chance * 4_294_967_296.0) as u64,
        thread,
    })
}

fn kind(name: &str, keys: &mut Keys<'_>) -> Result<FaultKind, String> {
    Ok(match name {
        "slow" => FaultKind::Slow(keys.time_up_to("by", HOUR)?.unwrap_or(Duration::from_micros(20))),
        "freeze" => FaultKind::Freeze,
        "rate" => FaultKind::Rate(rate(keys.number("by")?.unwrap_or(0.6))?),
        "deep-idle" => FaultKind::DeepIdle,
        "reset" => FaultKind::Reset,
        "step" => FaultKind::Step(keys.signed_time("by")?.unwrap_or(1_000_000_000)),
        "wrap" => FaultKind::Wrap(keys.time_up_to("by", HOUR)?.unwrap_or(Duration::from_millis(100))),
        "hold" => FaultKind::Hold(match keys.take("how") {
            None | Some("sleep") => Hold::Sleep,
            Some("spin") => Hold::Spin,
            Some(other) => return Err(format!("`how={other}` is unknown: use sleep or spin")),
        }),
        "preempt" => FaultKind::Hold(Hold::Idle(
            keys.time_up_to("by", HOUR)?.unwrap_or(Duration::from_millis(10)),
        )),
        "lock-lost" => FaultKind::LockLost,
        "torn" => FaultKind::Torn,
        "reenter" => FaultKind::Reenter,
        _ => {
            let names: Vec<_> = FaultKind::ALL.iter().map(|fault| fault.name).collect();
            let names = names.join(", ");
            return Err(format!("`{name}` is unknown: use one of {names}"));
        }
    })
}

/// The most that one read, one lag or one piece of work may be.
const HOUR: Duration = Duration::from_secs(3600);

/// Rates are kept in 2^-32 of a nanosecond a nanosecond.
fn rate(by: f64) -> Result<f64, String> {
    if (0.0..=1000.0).contains(&by) {
        Ok(by)
    } else {
        Err("`by` must be a rate from 0 to 1000".to_owned())
    }
}

/// Keys that nobody has asked for yet.
struct Keys<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Keys<'a> {
    fn take(&mut self, key: &str) -> Option<&'a str> {
        self.0.remove(key)
    }

    fn time(&mut self, key: &str) -> Result<Option<Duration>, String> {
        self.take(key).map(|value| time(key, value)).transpose()
    }

    fn time_up_to(&mut self, key: &str, most: Duration) -> Result<Option<Duration>, String> {
        match self.time(key)? {
            Some(time) if time > most => Err(format!("`{key}` must be no longer than {}s", most.as_secs())),
            time => Ok(time),
        }
    }

    fn signed_time(&mut self, key: &str) -> Result<Option<i64>, String> {
        let Some(value) = self.take(key) else {
            return Ok(None);
        };
        let (sign, size) = match value.strip_prefix('-') {
            Some(size) => (-1, size),
            None => (1, value),
        };
        if size.starts_with('-') {
            return Err(format!("`{key}={value}` has two signs"));
        }
        let nanos = time(key, size)?.as_nanos();
        i64::try_from(nanos)
            .map(|nanos| Some(sign * nanos))
            .map_err(|_| format!("`{key}={value}` is too long"))
    }

    fn number<T: FromStr>(&mut self, key: &str) -> Result<Option<T>, String> {
        let parse = |value: &str| {
            value
                .parse()
                .map_err(|_| format!("`{key}={value}` is not a number that fits"))
        };
        self.take(key).map(parse).transpose()
    }

    fn none_left(&self, name: &str) -> Result<(), String> {
        let Some(key) = self.0.keys().next() else {
            return Ok(());
        };
        let own = FaultKind::ALL.iter().find(|fault| fault.name == name);
        let own = own.map_or(String::new(), |fault| {
            fault.keys.iter().map(|key| format!("{key}, ")).collect()
        });
        Err(format!(
            "`{name}` has no key `{key}`: use one of {own}at, for, every, jitter, seed"
        ))
    }
}

fn time(key: &str, value: &str) -> Result<Duration, String> {
    let wrong = || format!("`{key}={value}` is not a time such as 3s, 250ms, 1.2us or 2m");
    let unit = value.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(wrong)?;
    let (number, unit) = value.split_at(unit);
    let seconds = match unit {
        "ns" => 1e-9,
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let time = Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())?;
    if u64::try_from(time.as_nanos()).is_err() {
        return Err(format!("`{key}={value}` is longer than 584 years"));
    }
    Ok(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn why(text: &str) -> String {
        text.parse::<Fault>().unwrap_err().why
    }

    #[test]
    fn every_listed_fault_can_be_written() {
        for fault in FaultKind::ALL {
            let text = format!("{},at=3s,for=2ms,every=10s,jitter=1s,seed=7", fault.name);
            assert!(text.parse::<Fault>().is_ok(), "{text}");
            assert!(fault.name.parse::<Fault>().is_ok(), "{}", fault.name);
        }
    }

    #[test]
    fn keys_are_read() {
        let fault: Fault = "slow,by=1.5us,at=250ms,for=1m,chance=0.25,seed=9"
            .parse()
            .unwrap();
        assert_eq!(fault.kind, FaultKind::Slow(Duration::from_nanos(1500)));
        assert_eq!(fault.occurrence(249_999_999), None);
        assert_eq!(fault.occurrence(250_000_000), Some((0, 60_250_000_000)));
        let hit = (0..100_000).filter(|&read| fault.hits(read)).count();
        assert!((24_000..26_000).contains(&hit), "{hit}");
        assert_eq!(
            "step,by=-2s".parse::<Fault>().unwrap().kind,
            FaultKind::Step(-2_000_000_000)
        );
    }

    #[test]
    fn errors_say_what_would_be_right() {
        assert!(why("melt").contains("use one of slow, freeze"));
        assert!(why("freeze,at").contains("KEY=VALUE"));
        assert!(why("freeze,at=3").contains("such as 3s"));
        assert!(why("freeze,at=-3s").contains("such as 3s"));
        assert_eq!(
            why("freeze,by=3s"),
            "`freeze` has no key `by`: use one of at, for, every, jitter, seed"
        );
        assert!(why("hold,by=3s").contains("use one of how, thread, at, for"));
        assert!(why("freeze,at=99999999999999s").contains("`at=99999999999999s` is longer"));
        assert!(why("slow,by=2h").contains("`by` must be no longer than 3600s"));
        assert!(why("step,by=--2s").contains("two signs"));
        assert!(why("freeze,at=1s,at=2s").contains("twice"));
        assert!(why("freeze,every=1s").contains("needs `for`"));
        assert_eq!(
            why("freeze,every=1s,for=2s"),
            "`for` (2s) and `jitter` (0ns) together must not be longer than `every` (1s)"
        );
        assert!(why("rate,by=-1").contains("from 0 to 1000"));
        assert!(why("freeze,thread=x").contains("no key `thread`"));
        assert!(why("freeze,chance=0.5").contains("no key `chance`"));
        assert!(why("hold,thread=a-name-of-many-bytes").contains("15 bytes"));
        assert!(why("hold,how=dance").contains("sleep or spin"));
        assert!(why("slow,chance=2").contains("from 0 to 1"));
    }

    #[test]
    fn what_is_not_given_fits_what_is() {
        let windows = |text: &str| {
            let fault: Fault = text.parse().unwrap();
            let ends = [0, 1].map(|window| fault.occurrence(window * 20_000_000).map(|(_, end)| end));
            ends.map(Option::unwrap)
        };
        assert_eq!(windows("deep-idle,every=20ms"), [7_000_000, 27_000_000]);
        for once in ["reset", "step", "wrap", "reenter", "preempt"] {
            assert_eq!(windows(&format!("{once},every=20ms")), [1, 20_000_001], "{once}");
        }
    }

    #[test]
    fn a_holder_is_chosen_by_its_name() {
        let strikes = |text: &str| {
            let fault: Fault = text.parse().unwrap();
            let thread = std::thread::Builder::new().name("hpet-reader/1".to_owned());
            thread
                .spawn(move || fault.strikes_this_thread())
                .unwrap()
                .join()
                .unwrap()
        };
        assert!(
            strikes("hold") && strikes("hold,thread=hpet-reader") && strikes("reenter,thread=hpet-reader/1")
        );
        assert!(!strikes("hold,thread=wg-tx") && !strikes("preempt,thread=hpet-reader/10"));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[a-z0-9,=.:-]{0,40}") {
            let _ = text.parse::<Fault>();
        }

        #[test]
        fn no_value_panics(name in 0usize..12, key in "at|for|every|jitter|by|seed|chance|how", value in "[-0-9.einf]{0,12}(ns|s|h)?") {
            let _ = format!("{},{key}={value}", FaultKind::ALL[name].name).parse::<Fault>();
        }
    }
}
