//! What `--fault` and `--faults` ask for: hypotheses by number, or faults of the clock.

use std::str::FromStr;

use anyhow::bail;
use clap::ValueEnum;
use clockshim::Fault;

use stall_report::hypothesis::Hypothesis;

/// A value of `--fault`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    Hypothesis(Hypothesis),
    /// A fault of the simulated clock, as it was written.
    Fault(String),
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let same = |hypothesis: &Hypothesis| hypothesis.to_string().eq_ignore_ascii_case(text);
        if let Some(hypothesis) = Hypothesis::INJECTED.into_iter().find(same) {
            return Ok(Self::Hypothesis(hypothesis));
        }
        match text.parse::<Fault>() {
            Ok(_) => Ok(Self::Fault(text.to_owned())),
            // What has the name of a fault is meant to be one.
            Err(error) if error.names_a_fault() => Err(error.to_string()),
            Err(error) => Err(format!("{error}; or a hypothesis, h1 to h10")),
        }
    }
}

/// A value of `--faults`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FaultSet {
    /// The hypotheses H1 to H10, one after the other
    All,
}

/// The hypotheses that are asked for, each once, in the order of their numbers. Empty for an ordinary lab.
///
/// # Errors
/// Where faults of the clock stand beside hypotheses.
pub fn hypotheses(wanted: &[Wanted], set: Option<FaultSet>) -> anyhow::Result<Vec<Hypothesis>> {
    let named: Vec<Hypothesis> = wanted.iter().filter_map(Wanted::hypothesis).collect();
    let chosen = match set {
        Some(FaultSet::All) => Hypothesis::INJECTED.to_vec(),
        None => Hypothesis::INJECTED
            .into_iter()
            .filter(|hypothesis| named.contains(hypothesis))
            .collect(),
    };
    let fault = wanted.iter().find_map(Wanted::fault);
    if let (false, Some(fault)) = (chosen.is_empty(), fault) {
        bail!(
            "--fault {fault} is a fault of the clock and cannot stand beside a hypothesis, which orders its own: \
             give one or the other"
        );
    }
    Ok(chosen)
}

impl Wanted {
    pub fn hypothesis(&self) -> Option<Hypothesis> {
        match self {
            Self::Hypothesis(hypothesis) => Some(*hypothesis),
            Self::Fault(_) => None,
        }
    }

    pub fn fault(&self) -> Option<&str> {
        match self {
            Self::Hypothesis(_) => None,
            Self::Fault(text) => Some(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(text: &str) -> Wanted {
        text.parse().unwrap()
    }

    #[test]
    fn hypotheses_and_faults_are_told_apart() {
        assert_eq!(wanted("h10"), Wanted::Hypothesis(Hypothesis::H10));
        assert_eq!(wanted("H1"), Wanted::Hypothesis(Hypothesis::H1));
        assert_eq!(wanted("freeze,at=3s"), Wanted::Fault("freeze,at=3s".to_owned()));
        for bad in ["h0", "h11", "h", "1", "", "h1,at=3s"] {
            let error = bad.parse::<Wanted>().unwrap_err();
            assert!(error.contains("h1 to h10"), "{bad}: {error}");
        }
    }

    #[test]
    fn each_is_played_once_and_in_order() {
        let both = [wanted("h7"), wanted("h2"), wanted("h7")];
        assert_eq!(hypotheses(&both, None).unwrap(), [Hypothesis::H2, Hypothesis::H7]);
        assert_eq!(
            hypotheses(&both, Some(FaultSet::All)).unwrap(),
            Hypothesis::INJECTED
        );
        let faults = [wanted("torn")];
        assert!(hypotheses(&faults, None).unwrap().is_empty());
        let error = hypotheses(&faults, Some(FaultSet::All)).unwrap_err().to_string();
        assert!(error.contains("--fault torn"), "{error}");
    }
}
