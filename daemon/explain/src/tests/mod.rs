//! Reports whose truth is known: the one of 2019, and those of readers that a small machine runs.

mod clocksources;
mod compilers;
mod formats;
mod kernel;
mod machine;
mod order;
mod others;
mod own;
mod printed;
mod seed;

use super::explanation::{Explanation, Fact};
use super::*;

const SEED: &str = include_str!("soft-lockup-4.19.47.txt");

/// The only report in `text`.
#[track_caller]
fn only(text: &str) -> Explanation {
    let mut explained = all(text);
    assert_eq!(explained.len(), 1, "{text}");
    explained.remove(0)
}

#[track_caller]
fn all(text: &str) -> Vec<Explanation> {
    let explained =
        explain(text.as_bytes(), Frequency::default()).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(explained.problems, Vec::<String>::new());
    explained.reports
}

#[track_caller]
fn fact<'a>(explanation: &'a Explanation, register: &str) -> &'a Fact {
    let facts = &explanation.views[0].facts;
    facts
        .iter()
        .find(|fact| fact.registers.contains(&register))
        .unwrap_or_else(|| panic!("nothing of {register}: {facts:#?}"))
}
