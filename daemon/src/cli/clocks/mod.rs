//! `hpetun clocks`: every clock of this machine measured, as a table, as JSON and as a picture.

#[cfg(test)]
mod fixture;
mod plot;
mod table;

use std::fs;
use std::io::{IsTerminal as _, stderr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use clockshim::{SourceKind, Survey};

use super::print_line;
use text::quantity::{InvalidValue, seconds_within};

/// Measures every clock of this machine and lets the arbiter judge one of them
///
/// Takes the given time, and some 0.2 s for each clock in which every core reads it.
#[derive(Debug, Args)]
pub struct ClocksArgs {
    /// Print JSON, with the distributions of the read costs
    #[arg(long)]
    json: bool,
    /// Clock that counts as the one in use, which the arbiter judges
    #[arg(long, value_name = "NAME", default_value_t = SourceKind::Boottime)]
    clock: SourceKind,
    /// How long rates are compared, such as 3, 500ms or 2m; longer is more exact
    #[arg(long, value_name = "S", default_value = "3", value_parser = span)]
    seconds: Duration,
    /// Draw how the costs of a read are spread, as SVG
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

pub fn run(args: &ClocksArgs) -> anyhow::Result<()> {
    if stderr().is_terminal() {
        eprintln!("measuring for {} s and a little ...", args.seconds.as_secs_f64());
    }
    let survey = Survey::take(args.clock, args.seconds);
    if let Some(file) = &args.plot {
        fs::write(file, plot::svg(&survey)).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if args.json {
        print_line(&serde_json::to_string_pretty(&survey)?)
    } else {
        print_line(table::Table(&survey).to_string().trim_end())
    }
}

fn span(text: &str) -> Result<Duration, InvalidValue> {
    seconds_within(text, &(Duration::from_millis(500)..=Duration::from_secs(3600)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_numbers_within_reason() {
        assert_eq!(span("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(span("2m"), Ok(Duration::from_secs(120)));
        for bad in ["0.4", "3601", "-1", "nan", "2h", ""] {
            assert!(span(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn json_is_the_whole_survey() {
        let survey = fixture::survey();
        let text = serde_json::to_string_pretty(&survey).unwrap();
        let again: Survey = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string_pretty(&again).unwrap(), text);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        for path in [
            "/cores",
            "/sources/0/figures/read_ns/distribution/0/count",
            "/sources/0/figures/drift_uncertainty_ppm",
            "/sources/2/why_not",
            "/arbiter/opinion/agreed/1",
        ] {
            assert!(json.pointer(path).is_some_and(|value| !value.is_null()), "{path}");
        }
    }
}
