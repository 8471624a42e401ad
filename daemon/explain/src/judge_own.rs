//! The verdict of hpetun's own report, laid out like the one of a kernel's.

use super::explanation::{Judged, Judgement, Standing};
use super::trace::OwnFacts;
use stall_report::hypothesis::{Hypothesis, Verdict};

/// `None` where the report has no verdict and no lock.
pub fn judge(own: &OwnFacts) -> Option<Judgement> {
    let verdict = match &own.report {
        Some(report) => report.verdict.clone(),
        None => read(own.verdict.as_ref()?),
    };
    if verdict == Verdict::default() {
        return None;
    }
    let standing = |hypothesis: Hypothesis| {
        if verdict.hypothesis == Some(hypothesis) {
            return (Standing::Stays, reason(&verdict));
        }
        let against = verdict.ruled_out.iter().find(|(ruled, _)| *ruled == hypothesis);
        match against {
            Some((_, evidence)) => (Standing::RuledOut, evidence.clone()),
            None => (Standing::Open, "the report says nothing of it".to_owned()),
        }
    };
    let hypotheses = Hypothesis::INJECTED
        .into_iter()
        .map(|hypothesis| {
            let (standing, evidence) = standing(hypothesis);
            Judged {
                hypothesis,
                summary: hypothesis.summary(),
                standing,
                evidence,
            }
        })
        .collect();
    let mut notes: Vec<String> = own
        .fits_2019
        .iter()
        .map(|fits| format!("The report of 2019: {}.", fits.trim_end_matches('.')))
        .collect();
    if let Some(fit) = &verdict.fits_2019 {
        let fits = if fit.fits { "fits" } else { "does not fit" };
        notes.push(format!(
            "The signature {fits} the 2019 report: {}.",
            fit.reason.trim_end_matches('.')
        ));
    }
    let found = match verdict.hypothesis {
        Some(hypothesis) => format!("The watchdog says {hypothesis} ({}).", hypothesis.summary()),
        None => format!(
            "The watchdog names none: {}.",
            reason(&verdict).trim_end_matches('.')
        ),
    };
    Some(Judgement {
        verdict: found,
        hypotheses,
        notes,
    })
}

fn reason(verdict: &Verdict) -> String {
    match verdict.reason.is_empty() {
        true => "the watchdog's verdict, with no reason in the text log; the JSON log has it".to_owned(),
        false => verdict.reason.clone(),
    }
}

/// `H2 (the holder stalled); not H1: word unchanged between samples; not H4: owner alive`
fn read(line: &str) -> Verdict {
    let mut verdict = Verdict::default();
    let line = line.strip_prefix("none of H1 to H10: ").unwrap_or(line);
    for part in line.split("; ") {
        let part = part.trim();
        let Some((hypothesis, rest)) = part.strip_prefix("not ").and_then(leading) else {
            // A reason may have a semicolon of its own.
            match (verdict.ruled_out.last_mut(), leading(part)) {
                (Some((_, evidence)), _) => *evidence = format!("{evidence}; {part}"),
                (None, Some((hypothesis, rest))) if verdict.hypothesis.is_none() => {
                    verdict.hypothesis = Some(hypothesis);
                    let summary = format!("({})", hypothesis.summary());
                    let rest = rest.trim().trim_start_matches(&summary);
                    verdict.reason = rest.trim_start_matches([':', ' ']).to_owned();
                }
                (None, _) if verdict.reason.is_empty() => verdict.reason = part.to_owned(),
                (None, _) => verdict.reason = format!("{}; {part}", verdict.reason),
            }
            continue;
        };
        let evidence = rest.trim_start_matches([':', ' ']).to_owned();
        verdict.ruled_out.push((hypothesis, evidence));
    }
    verdict
}

fn leading(text: &str) -> Option<(Hypothesis, &str)> {
    let digits = text.strip_prefix('H')?;
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let index: usize = digits[..end].parse().ok()?;
    let hypothesis = Hypothesis::INJECTED.get(index.checked_sub(1)?)?;
    Some((*hypothesis, &digits[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form_of_a_verdict() {
        let line = "H2 (the holder stalled); not H1: word unchanged between samples; not H4: owner alive; blocked in \
                    clock_nanosleep; not H10: no drift";
        let verdict = read(line);
        assert_eq!(verdict.hypothesis, Some(Hypothesis::H2));
        assert_eq!(verdict.reason, "");
        assert_eq!(
            verdict.ruled_out,
            [
                (Hypothesis::H1, "word unchanged between samples".to_owned()),
                (
                    Hypothesis::H4,
                    "owner alive; blocked in clock_nanosleep".to_owned()
                ),
                (Hypothesis::H10, "no drift".to_owned()),
            ]
        );
        let none = read("none of H1 to H10: the clock answers; not H2: free");
        assert_eq!(
            (none.hypothesis, none.reason.as_str()),
            (None, "the clock answers")
        );
        assert_eq!(read("H11 (nothing)").hypothesis, None);
        assert_eq!(
            read("H3: values the same; owners change").reason,
            "values the same; owners change"
        );
    }
}
