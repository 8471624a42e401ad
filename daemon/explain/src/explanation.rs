//! What is made of a report: the facts in words, each with the registers that it comes from. `--json` prints it as it is.

use serde::{Serialize, Serializer};

use super::clocksource::Clocksource;
use super::disassembly::Offset;
use super::trace::{Kind, Place, Task, optional_hex};
use stall_report::hypothesis::Hypothesis;

#[derive(Debug, Clone, Serialize)]
pub struct Explanation {
    pub kind: Kind,
    pub headline: String,
    /// First and last line in the input.
    pub lines: (usize, usize),
    pub cpu: Option<u32>,
    pub seconds: Option<f64>,
    pub task: Option<Task>,
    /// What was reported, a paragraph each.
    pub summary: Vec<String>,
    /// Whether the first of `views` is of what is stuck, and not only of who found it.
    pub shows_stuck: bool,
    /// One for each processor or thread that the report shows, the stuck one first.
    pub views: Vec<View>,
    /// `None` where the report is not about the HPET's reader.
    pub judgement: Option<Judgement>,
    /// Of the clocksource watchdog alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clocksource: Option<Clocksource>,
}

/// What one processor or thread was doing.
#[derive(Debug, Clone, Default, Serialize)]
pub struct View {
    pub cpu: Option<u32>,
    pub task: Option<Task>,
    pub rip: Option<Place>,
    pub position: Position,
    /// Where RIP is, and in which loop.
    pub position_in_words: Option<String>,
    pub code: Vec<CodeLine>,
    pub facts: Vec<Fact>,
    /// EFLAGS.IF; `None` in user mode, where it is always set.
    pub interrupts: Option<bool>,
    pub lock: Option<LockWord>,
    pub held_at_entry: HeldAtEntry,
    pub elapsed: Option<Elapsed>,
    /// Innermost first; `?` marks those that may be left over on the stack.
    pub call_trace: Vec<String>,
    /// What cannot be said, and why.
    pub limits: Vec<String>,
}

/// Where RIP is in the routine that reads the HPET.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Position {
    /// The wait for somebody else's reading.
    WaitLoop,
    /// At the read of the counter itself, with the lock held.
    ReadsLocked,
    /// At the read of the counter itself; whether with the lock is not in sight.
    Reads,
    /// In a routine that reads the counter and has no lock.
    ReadsPlain,
    /// Between the lock and its release.
    Section,
    /// Behind the release.
    Released,
    /// In the routine, at no place that tells anything, or without code bytes.
    Elsewhere,
    /// In another routine.
    #[default]
    NotThere,
}

#[derive(Debug, Clone, Serialize)]
pub struct CodeLine {
    #[serde(serialize_with = "offset")]
    pub offset: i64,
    /// In hexadecimal.
    pub bytes: String,
    pub text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    pub in_loop: bool,
    pub at_rip: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fact {
    pub registers: Vec<&'static str>,
    pub value: String,
    pub meaning: String,
}

/// The combined lock, as the registers show it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LockWord {
    #[serde(serialize_with = "optional_hex")]
    pub word: Option<u64>,
    pub value: u32,
    pub locked: bool,
    /// The value at the routine's first look.
    pub old_value: Option<u32>,
    /// Whether the loop goes on with this word.
    pub keeps_waiting: bool,
    /// The pointer to the word, where a register holds it.
    #[serde(serialize_with = "optional_hex")]
    pub address: Option<u64>,
    /// Value and lock come from two loads.
    pub torn: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeldAtEntry {
    /// The lock was held at the first look.
    Yes,
    /// It was free, and another one was quicker.
    No,
    #[default]
    Unknown,
}

/// The counter against the timekeeper's last update.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Elapsed {
    pub mask_in: Option<&'static str>,
    pub cycle_last_in: &'static str,
    pub cycle_last: u64,
    /// Wraps of the counter that `cycle_last` counts.
    pub wraps: u64,
    /// From `cycle_last` to the value; negative where the value is behind.
    pub ticks: i64,
    pub seconds: f64,
    pub hz: u64,
    /// Nobody said so.
    pub hz_is_assumed: bool,
}

/// What the evidence says of each hypothesis.
#[derive(Debug, Clone, Serialize)]
pub struct Judgement {
    pub verdict: String,
    pub hypotheses: Vec<Judged>,
    /// What one should know beside it.
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Judged {
    pub hypothesis: Hypothesis,
    pub summary: &'static str,
    pub standing: Standing,
    pub evidence: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It fits all of the evidence.
    Stays,
    RuledOut,
    /// The evidence says nothing for it and does not decide against it.
    Open,
}

impl Judgement {
    pub fn with(&self, standing: Standing) -> Vec<Hypothesis> {
        let chosen = self
            .hypotheses
            .iter()
            .filter(|judged| judged.standing == standing);
        chosen.map(|judged| judged.hypothesis).collect()
    }
}

fn offset<S: Serializer>(offset: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&Offset(*offset))
}
