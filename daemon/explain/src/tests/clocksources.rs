//! The lines of the kernel's clocksource watchdog.

use super::*;

fn marked(accused: &str, cs_nsec: u64, accuser: &str, wd_nsec: u64) -> String {
    format!(
        "[  100.000001] clocksource: timekeeping watchdog on CPU1: Marking clocksource '{accused}' as unstable because the skew is too large:\n\
         [  100.000002] clocksource:                       '{accuser}' wd_nsec: {wd_nsec} wd_now: 5a5ad301 wd_last: 59d0f1a2 mask: ffffffff\n\
         [  100.000003] clocksource:                       '{accused}' cs_nsec: {cs_nsec} cs_now: 2f8a1c3b00 cs_last: 2f31415926 mask: ffffffffffffffff\n\
         [  100.000004] clocksource:                       '{accused}' is current clocksource.\n\
         [  100.000005] tsc: Marking TSC unstable due to clocksource watchdog\n"
    )
}

#[test]
fn skew_and_the_likelier_wrong() {
    let likelier = |accused_ns, accuser: &str, accuser_ns| {
        let report = only(&marked("tsc", accused_ns, accuser, accuser_ns));
        assert_eq!(report.kind, Kind::Clocksource);
        report.clocksource.unwrap()
    };
    let halted = likelier(504_000_000, "hpet", 400_000_000);
    assert_eq!(
        (halted.accused.as_str(), halted.accuser.as_deref()),
        ("tsc", Some("hpet"))
    );
    assert_eq!((halted.skew_ns, halted.skew_ppm), (Some(104e6), Some(260_000.0)));
    assert_eq!(halted.likelier_wrong.as_deref(), Some("hpet"));
    assert_eq!(
        likelier(400_000_000, "hpet", 504_000_000)
            .likelier_wrong
            .as_deref(),
        Some("tsc")
    );
    assert_eq!(likelier(504_000_000, "acpi_pm", 505_000_000).likelier_wrong, None);
    assert_eq!(
        likelier(600_000_000, "refined-jiffies", 504_000_000)
            .likelier_wrong
            .as_deref(),
        Some("refined-jiffies")
    );
}

#[test]
fn the_words_name_skew_and_what_an_arbiter_needs() {
    let report = only(&marked("tsc", 504_000_000, "hpet", 400_000_000));
    assert_eq!(report.lines, (1, 4));
    let text = report.summary.join("\n");
    for words in [
        "tsc is the accused and hpet the accuser",
        "104,000,000 ns, 260,000 ppm",
        "hpet is likelier wrong",
        "a third clock",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn older_kernels_say_less() {
    let old = only("Clocksource tsc unstable (delta = -62500000 ns)\n")
        .clocksource
        .unwrap();
    assert_eq!(
        (old.skew_ns, old.skew_ppm, old.likelier_wrong),
        (Some(-62.5e6), None, None)
    );
    let ticks = "clocksource: timekeeping watchdog: Marking clocksource 'tsc' as unstable because the skew is too large:\n\
                 clocksource: 'hpet' wd_now: 5a wd_last: 59 mask: ffffffff\nclocksource: 'tsc' cs_now: 2f cs_last: 2e mask: ff\n";
    let ticks = only(ticks);
    assert_eq!(
        ticks.clocksource.as_ref().unwrap().accuser.as_deref(),
        Some("hpet")
    );
    assert!(ticks.summary[1].contains("no nanoseconds"));
    assert!(
        explain(
            b"clocksource: Switched to clocksource hpet\n",
            Frequency::default()
        )
        .is_err()
    );
}

#[test]
fn it_leaves_a_report_around_it_whole() {
    let marked = marked("tsc", 504_000_000, "hpet", 400_000_000);
    let mut lines: Vec<&str> = SEED.lines().collect();
    lines.insert(3, &marked);
    let reports = all(&lines.join("\n"));
    let kinds: Vec<Kind> = reports.iter().map(|report| report.kind).collect();
    assert_eq!(kinds.len(), 2);
    assert!(
        kinds.contains(&Kind::SoftLockup) && kinds.contains(&Kind::Clocksource),
        "{kinds:?}"
    );
}
