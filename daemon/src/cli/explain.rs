//! `hpetun explain`: what a lockup report shows, for people or as JSON.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

use super::print_line;
use explain::{Frequency, MOST_INPUT, Text, explain};

const AFTER_HELP: &str = "\
Reads soft lockups, hard lockups and RCU stalls of Linux on x86-64, and the stall reports of hpetun itself as text or
JSON; one or several, quoted or not, with time stamps or without.

Examples:
  hpetun explain trace.txt                       a report out of dmesg, a mail or a log
  journalctl -k -b -1 | hpetun explain -         the last boot's
  hpetun explain --hpet-hz 14318180 trace.txt    an older chipset's HPET
  hpetun explain --json hpetun.log | jq '.reports[].judgement.verdict'";

/// Says what a lockup report shows: where RIP is, what the registers hold, which hypotheses stay
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct ExplainArgs {
    /// File with one or more reports; `-` is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Frequency of the HPET in Hz, to turn ticks into time; 24000000 is assumed if not given
    #[arg(long, value_name = "HZ", value_parser = frequency)]
    hpet_hz: Option<u64>,
}

pub fn run(args: &ExplainArgs) -> anyhow::Result<()> {
    let is_stdin = args.file == Path::new("-");
    let name = match is_stdin {
        true => "standard input".to_owned(),
        false => args.file.display().to_string(),
    };
    let input = match is_stdin {
        true => read(io::stdin().lock()),
        false => File::open(&args.file).and_then(read),
    };
    let input = input.with_context(|| format!("cannot read {name}"))?;
    let frequency = args.hpet_hz.map(|hz| Frequency { hz, assumed: false });
    let explained = explain(&input, frequency.unwrap_or_default()).with_context(|| name.clone())?;
    if args.json {
        return print_line(&serde_json::to_string_pretty(&explained)?);
    }
    let colours =
        io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let text = Text {
        explained: &explained,
        source: &name,
        colours,
    };
    print_line(text.to_string().trim_end())
}

/// One byte more than is allowed, so that too much is noticed.
fn read(from: impl Read) -> io::Result<Vec<u8>> {
    let mut input = Vec::new();
    from.take(MOST_INPUT as u64 + 1).read_to_end(&mut input)?;
    Ok(input)
}

/// The HPET's specification asks for 10 MHz at least; its period register holds no less than 1 fs.
fn frequency(text: &str) -> Result<u64, String> {
    let hz: Option<u64> = text.replace('_', "").parse().ok();
    hz.filter(|hz| (1_000_000..=1_000_000_000).contains(hz))
        .ok_or_else(|| {
            "it takes a whole number of Hz from 1000000 to 1000000000, such as 14318180".to_owned()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequencies_are_whole_and_within_reason() {
        assert_eq!(frequency("14318180"), Ok(14_318_180));
        assert_eq!(frequency("24_000_000"), Ok(24_000_000));
        for bad in ["", "0", "24", "24MHz", "1e7", "-1", "1000000001"] {
            assert!(frequency(bad).is_err(), "{bad}");
        }
    }
}
