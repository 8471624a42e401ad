//! A made-up survey for the tests of table and plot.

use clockshim::Survey;
use clockshim::arbiter::{ArbiterStatus, Opinion};
use clockshim::survey::{Bucket, Cost, Figures, KernelChoice, SourceReport};

fn cost(p50: f64, p99: f64) -> Cost {
    let distribution = [(p50, 900), (p50 * 1.3, 80), (p99, 20)];
    Cost {
        p50,
        p99,
        reads_a_sample: 8,
        distribution: distribution.map(|(ns, count)| Bucket { ns, count }).into(),
    }
}

fn there(name: &str, rating: u32, figures: Figures) -> SourceReport {
    SourceReport {
        name: name.to_owned(),
        in_use: name == "tsc",
        rating: Some(rating),
        why_not: None,
        figures: Some(figures),
    }
}

pub fn survey() -> Survey {
    let tsc = Figures {
        resolution_ns: 0.4766,
        width: 64,
        wrap_s: None,
        counts_sleep: None,
        read_ns: cost(8.53, 10.2),
        contended_ns: cost(8.61, 23.4),
        step_back_ns: 0,
        drift_ppm: 0.0421,
        drift_uncertainty_ppm: 0.0131,
    };
    let coarse = Figures {
        resolution_ns: 4e6,
        counts_sleep: Some(false),
        drift_ppm: -12.6,
        drift_uncertainty_ppm: 8.2,
        ..tsc.clone()
    };
    let sim = Figures {
        resolution_ns: 41.666,
        width: 32,
        wrap_s: Some(178.956),
        counts_sleep: Some(true),
        read_ns: cost(1_201.0, 1_350.0),
        contended_ns: cost(2_412.0, 1_234_567.0),
        step_back_ns: 41_666,
        drift_ppm: 499.96,
        drift_uncertainty_ppm: 0.03,
    };
    let gone = SourceReport {
        name: "hpet".to_owned(),
        in_use: false,
        rating: None,
        why_not: Some(
            "there is no /dev/hpet <here> & now; use hpet-sim for a simulated one, ".to_owned()
                + &"word ".repeat(20),
        ),
        figures: None,
    };
    let witnesses = ["tsc", "monotonic-raw", "boottime"].map(str::to_owned);
    Survey {
        cores: 2,
        kernel: KernelChoice {
            current: Some("tsc".to_owned()),
            available: ["tsc", "hpet", "acpi_pm"].map(str::to_owned).into(),
        },
        sources: vec![
            there("tsc", 350, tsc),
            there("coarse", 90, coarse),
            gone,
            there("hpet-sim", 20, sim),
        ],
        arbiter: Some(ArbiterStatus {
            using: "tsc".to_owned(),
            put_away: Vec::new(),
            last_round: None,
            thrown_away: 0,
            opinion: Some(Opinion {
                agreed: witnesses[..2].to_vec(),
                ppm: vec![0.02, -0.03, 812.5],
                ongoing: false,
                accused: None,
                undecided: false,
                independent: 2,
            }),
            hardware: ["tsc", "hpet", "hpet"].map(str::to_owned).into(),
            witnesses: witnesses.into(),
        }),
        verdict: None,
    }
}
