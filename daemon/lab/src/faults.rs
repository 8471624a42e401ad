//! The list of faults that a simulated clock can have.

use std::fmt::Write as _;

use clockshim::fault::FaultKind;

use text::wrap::wrap;

/// Columns at most, and where the descriptions begin.
const WIDTH: usize = 100;
const INDENT: usize = 20;

const KEYS: &str = "\
Keys of every fault:
  at=TIME     when it first comes, from the daemon's start (default 0s)
  for=TIME    how long it stays (default: for ever)
  every=TIME  how often it comes again (default: once)
  jitter=TIME each time late by up to that
  seed=N      chooses what is random in it
Times: 250ns, 1.2us, 3ms, 10s, 2m, 1h. H1 to H10 are ways in which a clock can stall who reads it;
`hpetun lab --fault h2` plays one of them, `hpetun lab --faults all` plays them all.
Example: hpetun lab --fault freeze,at=3s,for=2s,every=10s";

/// Every fault with what it does, for people.
pub fn list() -> String {
    let mut text = "Faults of the clock hpet-sim, written NAME,KEY=VALUE,...:\n\n".to_owned();
    for fault in FaultKind::ALL {
        let lines = wrap(fault.what, WIDTH - INDENT);
        let head = format!("  {:<12}{:<6}", fault.name, fault.hypotheses);
        let heads = std::iter::once(head.as_str()).chain(std::iter::repeat(""));
        for (head, line) in heads.zip(lines) {
            let _ = writeln!(text, "{head:<INDENT$}{line}");
        }
    }
    text + "\n" + KEYS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_told_in_full() {
        let text = list();
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let flat = words(&text);
        for fault in FaultKind::ALL {
            let line = format!("{} {} {}", fault.name, fault.hypotheses, fault.what);
            assert!(flat.contains(&words(&line)), "{line} in\n{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        let example = text.rsplit_once("--fault ").unwrap().1;
        assert!(example.parse::<clockshim::Fault>().is_ok(), "{example}");
    }
}
