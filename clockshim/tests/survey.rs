//! The survey of this machine's clocks.

use std::time::Duration;

use clockshim::{SourceKind, Survey};

#[test]
fn every_clock_is_told_of_and_those_that_are_there_have_figures() {
    let survey = Survey::take(SourceKind::Boottime, Duration::from_secs(1));
    assert!(survey.cores >= 1);
    assert_eq!(survey.verdict, None);
    assert!(
        survey
            .arbiter
            .as_ref()
            .is_some_and(|arbiter| arbiter.using == "boottime")
    );
    let mut names: Vec<_> = survey.sources.iter().map(|source| source.name.as_str()).collect();
    assert!(
        survey.sources.is_sorted_by(|a, b| a.rating >= b.rating),
        "{names:?}"
    );
    names.sort_unstable();
    assert_eq!(
        names,
        ["boottime", "coarse", "hpet", "hpet-locked", "hpet-sim", "tsc"]
    );
    for source in &survey.sources {
        assert_eq!(source.in_use, source.name == "boottime");
        assert_eq!(
            source.why_not.is_some(),
            source.figures.is_none(),
            "{}",
            source.name
        );
        let Some(figures) = &source.figures else {
            assert!(
                matches!(source.name.as_str(), "tsc" | "hpet" | "hpet-locked"),
                "{source:?}"
            );
            continue;
        };
        assert!(figures.read_ns.p50 <= figures.read_ns.p99, "{source:?}");
        assert!(
            figures.drift_ppm.abs() < 1_000.0 + figures.drift_uncertainty_ppm,
            "{source:?}"
        );
        let counts_sleep = match source.name.as_str() {
            "boottime" => Some(true),
            "coarse" | "hpet-sim" => Some(false),
            _ => None,
        };
        assert_eq!(figures.counts_sleep, counts_sleep);
    }
    let sim = survey
        .sources
        .iter()
        .find(|source| source.name == "hpet-sim")
        .unwrap()
        .figures
        .as_ref()
        .unwrap();
    assert_eq!(sim.width, 32);
    assert!((sim.wrap_s.unwrap() - 178.957).abs() < 0.01, "{:?}", sim.wrap_s);
    assert!((sim.resolution_ns - 41.667).abs() < 0.01);
    // A read of the simulated bus waits for 1.2 microseconds, and no less.
    assert!(sim.read_ns.p50 >= 1_000.0, "{}", sim.read_ns.p50);
    let text = serde_json::to_string(&survey).unwrap();
    let again: Survey = serde_json::from_str(&text).unwrap();
    assert_eq!(again.sources.len(), survey.sources.len());
}
