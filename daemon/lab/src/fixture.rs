//! Made-up figures for the tests of reports and tables.

use std::collections::BTreeMap;

use super::compare::compare;
use super::load::{Outcome, Protocol, plan};
use super::ping::Times;
use super::report::{Report, Settings};
use super::round::{Round, RunFigures, UnderLoad};
use stall_report::status::{ClockStatus, LatencyStatus, Quantiles, Status};

/// TCP in both directions at these rates and this many CPU seconds a GiB.
pub fn round(gbit_s: &[f64; 2], cpu_s_per_gib: f64) -> Round {
    round_at(&[1200], gbit_s, cpu_s_per_gib)
}

/// The same with UDP at these rates, all of which deliver 1 Gbit/s.
pub fn round_at(udp_rates: &[u32], gbit_s: &[f64; 2], cpu_s_per_gib: f64) -> Round {
    let tcp = [gbit_s[0], gbit_s[1], 5.0];
    let rates = tcp
        .into_iter()
        .chain(udp_rates.iter().map(|_| 1.0))
        .chain([0.02048]);
    let runs = plan(4, udp_rates).into_iter().zip(rates).map(|(run, rate)| {
        let bytes = (rate * 1e9 / 8.0 * 5.0) as u64;
        let udp = run.protocol != Protocol::Tcp;
        let payload = if run.protocol == Protocol::Flood { 64 } else { 1372 };
        let outcome = Outcome {
            bytes,
            seconds: 5.0,
            retransmits: (!udp).then_some(12),
            lost_percent: udp.then_some(3.25),
            packets: udp.then_some(bytes / payload),
        };
        RunFigures {
            cpu_seconds: outcome.gib() * cpu_s_per_gib,
            run,
            outcome,
        }
    });
    Round {
        ping: Times {
            avg: 180.4,
            p50: 170.0,
            p99: 390.0,
            min: 120.0,
            max: 400.0,
            sent: 200,
            lost: 0,
        },
        runs: runs.collect(),
        under_load: UnderLoad {
            ping: Times {
                avg: 800.4,
                p50: 700.0,
                p99: 2400.0,
                min: 150.0,
                max: 5000.0,
                sent: 2350,
                lost: 0,
            },
            gbit_s: 3.5,
        },
        idle_memory: [5 << 20, 4 << 20],
        peak_memory: [8 << 20, 12 << 20],
        statuses: [Some(status(1)), Some(status(2))],
        clock_verdicts: vec![format!("a: clock hpet-sim is wrong: {}", "why ".repeat(30))],
        steal_percent: 2.5,
    }
}

fn status(factor: u32) -> Status {
    let times = |p50: f64| Quantiles {
        p50: p50 * f64::from(factor),
        p99: 2.0 * p50 * f64::from(factor),
        p999: 4.0 * p50 * f64::from(factor),
        max: 9.0 * p50 * f64::from(factor),
        count: 1000 * u64::from(factor),
    };
    let mut drops = BTreeMap::from([("no_peer".to_owned(), u64::from(factor))]);
    if factor == 1 {
        drops.insert("replay".to_owned(), 1);
    }
    Status {
        clock: ClockStatus {
            name: "tsc".to_owned(),
            stamps: 1000 * u64::from(factor),
            verdicts: Vec::new(),
        },
        latency_us: LatencyStatus {
            tx: times(5.0),
            rx: times(4.0),
        },
        drops,
        stalls: (factor == 2)
            .then(|| "wg-tx/0 stuck for 3 s".to_owned())
            .into_iter()
            .collect(),
        ..Status::default()
    }
}

pub fn report(rounds: &[Round]) -> Report {
    let lab = Settings {
        version: "0.1.0",
        kernel: "6.18.44".to_owned(),
        cpus: 2,
        user_namespace: false,
        seconds: 5,
        rounds: rounds.len() as u32,
        mtu: 1420,
        offload: "on",
        udp_rate: 1200,
        udp_rates: vec![1200],
        steal_percent: 0.0,
    };
    let theirs: Vec<Round> = rounds.iter().map(|_| round(&[2.0, 1.0], 6.0)).collect();
    let compared = compare("wireguard-go", rounds, &theirs);
    Report::new(
        lab,
        ("iperf3", "3.12"),
        ["hpetun", "hpetun"],
        rounds,
        vec![compared],
    )
}
