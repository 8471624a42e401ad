//! The real `/dev/hpet`, in a virtual machine that has one: read, compared with the kernel's own time, and stamping
//! the packets of tunnels. What happens inside is in `src/bin/vm_guest.rs`.
//!
//! By hand: `tests/vm/run`; for a shell in that machine: `tests/vm/run shell`.

use std::path::Path;
use std::sync::LazyLock;

use hpetun_tests::vm::{Machine, Run};
use serde_json::Value;

/// How far the rates of the HPET and of the kernel's time may lie apart, in parts per million, beyond what the reading
/// of them explains.
const MOST_DRIFT_PPM: f64 = 5.0;

/// The same in nanoseconds, over a second.
const MOST_DRIFT: u64 = 5_000;

/// How well that must be known, in nanoseconds, for the test to mean something.
const LEAST_PRECISION: u64 = 50_000;

/// How far apart they may be to begin with, in nanoseconds. The timekeeper sets itself by one reading of the kernel's
/// clock, which anything may come between on a machine that is emulated.
const MOST_OFFSET: u64 = 20_000_000;

fn machine(name: &'static str) -> Machine {
    Machine::new(name, Path::new(env!("CARGO_BIN_EXE_vm_guest")))
}

/// One boot for all that needs the usual machine.
static USUAL: LazyLock<Run> =
    LazyLock::new(|| machine("hpet").run(&["kernel-clock", "read-hpet", "clocks", "tunnel", "kernel-peer"]));

#[test]
fn kernel_itself_runs_on_the_hpet() {
    let clock = USUAL.passed("kernel-clock");
    assert!(clock.starts_with("hpet on "), "{clock}");
}

#[test]
fn device_is_read_and_agrees_with_the_kernel() {
    let text = USUAL.passed("read-hpet");
    let report: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let number = |name: &str| {
        report[name]
            .as_u64()
            .unwrap_or_else(|| panic!("no {name} in {report}"))
    };
    assert_eq!(report["source"], "hpet");
    // QEMU's: 100 MHz, 64 bits, made by Intel.
    assert_eq!((number("period_fs"), number("width")), (10_000_000, 64));
    assert_eq!(report["vendor_id"], "8086");
    assert_eq!(number("steps_back"), 0);
    assert!(number("span_ns") >= 1_000_000_000, "{report}");
    assert!(
        number("known_to_ns") <= LEAST_PRECISION,
        "not read well enough: {report}"
    );
    assert!(number("moved_apart_ns") <= MOST_DRIFT, "moved apart: {report}");
    let offset = report["offset_ns"].as_i64().expect("a number").unsigned_abs();
    assert!(offset <= MOST_OFFSET, "apart from the start: {report}");
}

#[test]
fn hpetun_clocks_sees_it() {
    let text = USUAL.passed("clocks");
    let hpet: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(
        (&hpet["in_use"], &hpet["why_not"]),
        (&Value::Bool(true), &Value::Null)
    );
    assert_eq!(
        (&hpet["width"], &hpet["resolution_ns"]),
        (&64.into(), &10.0.into())
    );
    assert_eq!(
        (&hpet["step_back_ns"], &hpet["verdict"]),
        (&0.into(), &Value::Null)
    );
    let number = |name: &str| {
        hpet[name]
            .as_f64()
            .unwrap_or_else(|| panic!("no {name} in {hpet}"))
    };
    assert!(number("read_p50_ns") > 0.0, "{hpet}");
    let uncertainty = number("drift_uncertainty_ppm");
    assert!(uncertainty < 100.0, "not measured well enough: {hpet}");
    assert!(
        number("drift_ppm").abs() <= uncertainty + MOST_DRIFT_PPM,
        "{hpet}"
    );
}

#[test]
fn two_daemons_stamp_by_it() {
    USUAL.passed("tunnel");
}

#[test]
fn kernel_module_is_the_peer() {
    USUAL.passed("kernel-peer");
}

#[test]
fn refusals_say_what_is_wrong() {
    let without_mapping = Machine {
        kernel_options: "clocksource=hpet hpet_mmap=0 tsc=unstable",
        ..machine("no-mmap")
    };
    let refused = without_mapping.run(&["refused"]);
    let text = refused.passed("refused");
    assert!(text.contains("hpet_mmap=1"), "{text}");

    let without_hpet = Machine {
        comparators: None,
        kernel_options: "",
        ..machine("no-hpet")
    };
    let refused = without_hpet.run(&["refused"]);
    let text = refused.passed("refused");
    // The kernel has the device file also then.
    assert!(text.contains("clock `hpet` is not available"), "{text}");
}

#[test]
fn comparators_are_few_and_given_back() {
    let one_left = Machine {
        comparators: Some(3),
        ..machine("one-left")
    };
    let run = one_left.run(&["busy"]);
    let text = run.passed("busy");
    assert!(text.contains("/dev/hpet is busy"), "{text}");
}
