//! The kernel's clocksource watchdog: which clock it marked as unstable, by which other, and which of them is likelier wrong.
//!
//! The lines are those of `kernel/time/clocksource.c`: the watchdog compares both clocks over an interval of half a second.

use serde::Serialize;
use text::units::Grouped;

/// The watchdog's timer comes each half second, or later.
const PERIOD_NS: f64 = 5e8;
/// A clock that shows less than this of a period, though no timer comes early, has lost time.
const EARLY: f64 = 0.98;

/// What the lines hold.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Clocksource {
    /// The clock that was marked as unstable.
    pub accused: String,
    /// The clock that it was compared with.
    pub accuser: Option<String>,
    /// Length of the interval by each, in nanoseconds; kernels before 5.13 do not print it.
    pub accused_ns: Option<f64>,
    pub accuser_ns: Option<f64>,
    /// The accused's interval less the accuser's, in nanoseconds.
    pub skew_ns: Option<f64>,
    pub skew_ppm: Option<f64>,
    /// Which of the two is likelier wrong: `None` where the lines do not tell.
    pub likelier_wrong: Option<String>,
    /// The accused was the kernel's own time.
    #[serde(skip)]
    pub is_current: bool,
}

/// `timekeeping watchdog on CPU1: Marking clocksource 'tsc' as unstable because the skew is too large:`, and before 4.0
/// `Clocksource tsc unstable (delta = 62500000 ns)`.
pub fn headline(line: &str) -> Option<Clocksource> {
    let body = line.strip_prefix("clocksource: ").unwrap_or(line).trim_start();
    if body.starts_with("timekeeping watchdog") {
        let (_, rest) = body.split_once("Marking clocksource '")?;
        let (accused, why) = rest.split_once('\'')?;
        return why.contains("unstable").then(|| named(accused));
    }
    let (accused, rest) = body
        .strip_prefix("Clocksource ")?
        .split_once(" unstable (delta = ")?;
    let delta: f64 = rest.split_once(" ns)")?.0.parse().ok()?;
    Some(Clocksource {
        skew_ns: Some(delta),
        ..named(accused)
    })
}

fn named(accused: &str) -> Clocksource {
    Clocksource {
        accused: accused.trim_matches('\'').chars().take(40).collect(),
        ..Clocksource::default()
    }
}

impl Clocksource {
    /// Takes in a line below the headline. False for a line of anything else.
    pub fn read(&mut self, line: &str) -> bool {
        let body = line.strip_prefix("clocksource:").unwrap_or(line).trim_start();
        let Some((name, rest)) = body.strip_prefix('\'').and_then(|body| body.split_once('\'')) else {
            return body.starts_with("Clocksource '") && body.contains(" skewed ");
        };
        let nanoseconds = |words| -> Option<f64> {
            let (_, number) = rest.split_once(words)?;
            number.split_whitespace().next()?.parse().ok()
        };
        if rest.contains("wd_now:") {
            self.accuser = Some(name.chars().take(40).collect());
            self.accuser_ns = nanoseconds("wd_nsec:");
        } else if rest.contains("cs_now:") {
            self.accused_ns = nanoseconds("cs_nsec:");
        } else if rest.contains("is current clocksource") {
            self.is_current = name == self.accused;
        } else {
            return false;
        }
        true
    }

    /// Works out the skew and who is likelier wrong; the paragraphs that say so.
    pub fn explain(&mut self) -> Vec<String> {
        let accuser = self.accuser.clone().unwrap_or("another clock".to_owned());
        let mut first = format!(
            "The kernel's clocksource watchdog compared {0} with {accuser}, found that they disagree, and marked {0} as unstable. \
             {0} is the accused and {accuser} the accuser; the watchdog takes for granted that the accuser is right.",
            self.accused
        );
        if self.is_current {
            first += &format!(" {} was the kernel's own time until then.", self.accused);
        }
        let mut paragraphs = vec![first];
        if let (Some(accused), Some(accuser_ns)) = (self.accused_ns, self.accuser_ns) {
            let skew = accused - accuser_ns;
            self.skew_ns = Some(skew);
            self.skew_ppm = (accuser_ns > 0.0).then(|| skew / accuser_ns * 1e6);
            paragraphs.push(format!(
                "Over one interval {} counted {} ns and {accuser} {} ns: a skew of {} ns{}.",
                self.accused,
                signed(accused),
                signed(accuser_ns),
                signed(skew),
                self.skew_ppm
                    .map_or(String::new(), |ppm| format!(", {} ppm", signed(ppm)))
            ));
        } else if let Some(skew) = self.skew_ns {
            paragraphs.push(format!(
                "The skew is {} ns; over which interval is not in the line, so it is no rate.",
                signed(skew)
            ));
        } else {
            paragraphs.push(
                "The lines have counter values and no nanoseconds, as before 5.13: the skew needs the frequency of each clock."
                    .to_owned(),
            );
        }
        let (wrong, why) = self.judge(&accuser);
        self.likelier_wrong = wrong.clone();
        paragraphs.push(match wrong {
            Some(wrong) => format!("{wrong} is likelier wrong: {why}."),
            None => format!("Which of the two is wrong cannot be told from these lines: {why}."),
        });
        paragraphs.push(format!(
            "Two clocks that disagree do not tell which of them is wrong. hpetun's arbiter would have needed a third clock, read at \
             both ends of the same interval: the clock that disagrees with the other two is the wrong one, {} or {accuser}.",
            self.accused
        ));
        paragraphs
    }

    fn judge(&self, accuser: &str) -> (Option<String>, String) {
        let (Some(accused_ns), Some(accuser_ns)) = (self.accused_ns, self.accuser_ns) else {
            return (None, "they do not have the interval by both".to_owned());
        };
        let lost = |ns: f64| ns < PERIOD_NS * EARLY;
        let accuser_lost = lost(accuser_ns) && accuser_ns < accused_ns;
        if matches!(accuser, "jiffies" | "refined-jiffies") {
            let why = "jiffies count timer interrupts, which get lost where interrupts stay off or a hypervisor is away";
            return (Some(accuser.to_owned()), why.to_owned());
        }
        if accuser == "hpet" && accuser_lost {
            let why = "no timer comes before its half second is over, and the HPET counted less than that. A HPET that halts in deep \
                       idle (PC10; Coffee Lake and others, disabled there since 5.4) does this";
            return (Some(accuser.to_owned()), why.to_owned());
        }
        if accuser_lost {
            let why = format!(
                "no timer comes before its half second is over, and {accuser} counted less than that"
            );
            return (Some(accuser.to_owned()), why);
        }
        if lost(accused_ns) && accused_ns < accuser_ns {
            let why = "no timer comes before its half second is over, and it counted less than that";
            return (Some(self.accused.clone()), why.to_owned());
        }
        let why = "both show the half second after which the watchdog's timer is due, or a late timer; one may have gained time, \
                   or the other lost it";
        (None, why.to_owned())
    }
}

fn signed(number: f64) -> String {
    let sign = if number < 0.0 { "-" } else { "" };
    format!("{sign}{}", Grouped(number.abs().round() as u64))
}
