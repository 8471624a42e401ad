//! The command line of `hpetun lab`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use clockshim::SourceKind;

use super::command_line::{Candidate, CommandLine};
use super::hypotheses::{self, FaultSet, Mode, Wanted};
use stall_report::hypothesis::Hypothesis;

/// Runs two hosts with a tunnel between them on this machine, loads it, and shows what it did
///
/// The hosts are network namespaces joined by a veth pair; they need root, or a kernel that gives unprivileged
/// users namespaces of their own, and are gone when the lab ends. Throughput is what arrived at the receiver.
#[derive(Debug, Clone, clap::Args)]
pub struct LabArgs {
    /// Length of each run of the load [default: 5, with a hypothesis 8]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub seconds: Option<u32>,
    /// Streams of the parallel TCP run
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=128))]
    pub streams: u32,
    /// MTU of the tunnel
    ///
    /// The veth pair's is made large enough that no outer datagram is fragmented: what is measured is the
    /// daemon, not the kernel's reassembly.
    #[arg(long, default_value_t = 1420, value_parser = clap::value_parser!(u32).range(576..=65000))]
    pub mtu: u32,
    /// Clock of the daemons, as `hpetun --clock` takes it [with --fault: hpet-sim]
    #[arg(long, value_name = "NAME")]
    pub clock: Option<String>,
    /// A hypothesis about the stall of 2019, h1 to h10, or a fault of the daemons' simulated clock, such as freeze,at=3s [can be
    /// repeated]
    ///
    /// A hypothesis strikes host a alone, under load, once as the kernel's readers were and once as hpetun's are. The exit
    /// status is 1 where a verdict of the watchdog's is wrong.
    #[arg(long, value_name = "HYPOTHESIS|SPEC", conflicts_with = "daemon")]
    pub fault: Vec<Wanted>,
    /// `all`: every hypothesis, h1 to h10. Without a value it lists the faults that a simulated clock can have, and ends
    #[arg(long, value_name = "all", num_args = 0..=1, hide_possible_values = true)]
    pub faults: Option<Option<FaultSet>>,
    /// What a reader of the simulated clock does that finds its lock held [with a hypothesis: both, side by side]
    #[arg(long, value_enum, value_name = "MODE")]
    pub clock_mode: Option<Mode>,
    /// Segmentation and checksum offload of the daemons' TUN and UDP sockets
    #[arg(long, value_enum, default_value_t = Switch::On)]
    pub offload: Switch,
    /// Tx and rx workers of each daemon, of each as many
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub workers: Option<u32>,
    /// Rate at which a UDP run sends, in Mbit/s; a run for each [can be repeated]
    #[arg(long, value_name = "MBIT", default_values_t = [1200], value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub udp_rate: Vec<u32>,
    /// What makes the load; iperf3 where it is installed if not given
    #[arg(long, value_enum)]
    pub load: Option<LoadTool>,
    /// Another implementation on host b, e.g. 'wireguard-go -f'; the interface's name is appended
    ///
    /// VAR=VALUE before the program sets its environment. It is configured through its control socket.
    #[arg(long, value_name = "COMMAND")]
    pub peer: Option<CommandLine>,
    /// An implementation to measure on both hosts, turn by turn with ours [can be repeated]
    ///
    /// For example --compare 'boringtun=boringtun-cli -f --disable-drop-privileges'.
    #[arg(long, value_name = "NAME=COMMAND")]
    pub compare: Vec<Candidate>,
    /// How often everything is measured; medians are shown [default: 1, with --compare 3]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: Option<u32>,
    /// Writes the figures as JSON; '-' is standard output, which then carries nothing else
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Writes one page of Markdown with every figure of ours and of what it is compared with; '-' as for --json
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
    /// With a hypothesis: writes everything as one page, with the throughput over time
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Keeps what every daemon printed, a file for each, in this directory
    #[arg(long, value_name = "DIRECTORY")]
    pub keep_logs: Option<PathBuf>,
    /// Daemon to measure instead of this very program, e.g. an older build: 'old/hpetun -f'
    #[arg(long, value_name = "COMMAND")]
    pub daemon: Option<CommandLine>,
    /// Set when the lab starts itself again as root of a user namespace
    #[arg(long, hide = true)]
    pub in_user_namespace: bool,
}

impl LabArgs {
    pub fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.compare.is_empty() { 1 } else { 3 })
    }

    /// Length of each run of an ordinary lab.
    pub fn seconds(&self) -> u32 {
        self.seconds.unwrap_or(5)
    }

    /// What to play instead of an ordinary lab; empty for that.
    ///
    /// # Errors
    /// Options that do not go together.
    pub fn hypotheses(&self) -> anyhow::Result<Vec<Hypothesis>> {
        let chosen = hypotheses::hypotheses(&self.fault, self.faults.flatten())?;
        match &self.html {
            _ if !chosen.is_empty() => hypotheses::check(self)?,
            Some(_) => bail!("--html is for hypotheses: give --fault h1 to h10, or --faults all"),
            None => {}
        }
        Ok(chosen)
    }

    /// Faults of the daemons' clocks, of an ordinary lab.
    pub fn clock_faults(&self) -> impl Iterator<Item = &str> {
        self.fault.iter().filter_map(Wanted::fault)
    }

    /// The clock that the daemons of an ordinary lab are to use; none where they choose.
    ///
    /// # Errors
    /// A clock that can have no faults, with faults; or no modes, with a mode.
    pub fn clock(&self) -> anyhow::Result<Option<&str>> {
        let simulated = SourceKind::HpetSim.as_str();
        let option = match self.clock_mode {
            Some(_) => "--clock-mode",
            None => "--fault",
        };
        match self.clock.as_deref() {
            _ if self.clock_mode.is_none() && self.clock_faults().next().is_none() => {
                Ok(self.clock.as_deref())
            }
            None => Ok(Some(simulated)),
            Some(name) if name == simulated => Ok(Some(simulated)),
            Some(name) => bail!(
                "{option} needs --clock {simulated}, which is what it gets without --clock: clock `{name}` is no \
                 simulation and has no faults or modes to order"
            ),
        }
    }

    pub fn json_to_stdout(&self) -> bool {
        self.json.as_deref().is_some_and(is_stdout)
    }

    /// # Errors
    /// Two pages for one standard output.
    pub fn output(&self) -> anyhow::Result<()> {
        match self.json_to_stdout() && self.markdown.as_deref().is_some_and(is_stdout) {
            true => bail!("--json and --markdown cannot both go to standard output: give one of them a file"),
            false => Ok(()),
        }
    }
}

pub fn is_stdout(file: &Path) -> bool {
    file == Path::new("-")
}

/// This program's own file, to be started as a daemon.
pub fn program() -> anyhow::Result<String> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let program = program.into_os_string().into_string().ok();
    program.context("this program's path is not UTF-8")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    On,
    Off,
}

impl Switch {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LoadTool {
    Iperf3,
    Builtin,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn try_parse(line: &str) -> Result<LabArgs, clap::Error> {
        #[derive(clap::Parser)]
        struct Cli {
            #[command(flatten)]
            lab: LabArgs,
        }
        <Cli as clap::Parser>::try_parse_from(line.split(' ')).map(|cli| cli.lab)
    }

    fn parse(line: &str) -> LabArgs {
        try_parse(line).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    #[test]
    fn faults_are_for_the_simulated_clock() {
        let lab = parse("lab --fault freeze,at=3s --fault slow,by=2us");
        assert_eq!(
            lab.clock_faults().collect::<Vec<_>>(),
            ["freeze,at=3s", "slow,by=2us"]
        );
        assert!(lab.hypotheses().unwrap().is_empty());
        assert_eq!(lab.clock().unwrap(), Some("hpet-sim"));
        assert_eq!(
            parse("lab --clock hpet-sim --fault torn").clock().unwrap(),
            Some("hpet-sim")
        );
        assert_eq!(parse("lab --clock tsc").clock().unwrap(), Some("tsc"));
        assert_eq!(parse("lab").clock().unwrap(), None);
        let error = parse("lab --clock tsc --fault torn").clock().unwrap_err();
        assert!(error.to_string().contains("needs --clock hpet-sim"), "{error}");
        let error = try_parse("lab --fault melt").unwrap_err().to_string();
        assert!(error.contains("use one of slow, freeze"), "{error}");
        assert!(try_parse("lab --daemon x --fault torn").is_err());
        assert_eq!(
            parse("lab --clock-mode faithful").clock().unwrap(),
            Some("hpet-sim")
        );
        let error = parse("lab --clock tsc --clock-mode bounded").clock().unwrap_err();
        assert!(error.to_string().contains("--clock-mode needs"), "{error}");
    }

    #[test]
    fn faults_without_a_value_lists_and_with_all_plays_all() {
        assert_eq!(parse("lab --faults").faults, Some(None));
        assert_eq!(parse("lab").faults, None);
        let all = parse("lab --faults all --html x.html");
        assert_eq!(all.hypotheses().unwrap(), Hypothesis::INJECTED);
        assert!(try_parse("lab --faults some").is_err());
        let lab = parse("lab --fault h3 --fault H1 --seconds 4");
        assert_eq!(lab.hypotheses().unwrap(), [Hypothesis::H1, Hypothesis::H3]);
    }

    #[test]
    fn hypotheses_are_played_alone() {
        for (line, says) in [
            ("lab --fault h1 --fault torn", "--fault torn"),
            ("lab --fault h1 --rounds 2", "--rounds"),
            ("lab --fault h1 --compare x=y", "--compare"),
            ("lab --faults all --daemon x", "--daemon"),
            ("lab --fault h1 --load builtin", "--load"),
            ("lab --fault h1 --markdown x.md", "--markdown"),
            ("lab --fault h1 --clock tsc", "--clock hpet-sim"),
            ("lab --fault h1 --seconds 3", "at least 4 s"),
            ("lab --html x.html", "--html is for hypotheses"),
            ("lab --html x.html --fault torn", "--html is for hypotheses"),
        ] {
            let error = parse(line).hypotheses().expect_err(line).to_string();
            assert!(error.contains(says), "{line}: {error}");
        }
    }

    #[test]
    fn rounds_depend_on_what_is_asked() {
        assert_eq!(parse("lab").rounds(), 1);
        assert_eq!(parse("lab --compare x=y").rounds(), 3);
        assert_eq!(parse("lab --compare x=y --rounds 2").rounds(), 2);
        assert!(parse("lab --json -").json_to_stdout());
        assert!(!parse("lab --json ./-").json_to_stdout());
    }

    #[test]
    fn standard_output_takes_one_page() {
        for line in ["lab --json - --markdown x", "lab --json x --markdown -", "lab"] {
            parse(line).output().unwrap();
        }
        let error = parse("lab --json - --markdown -").output().unwrap_err();
        assert!(error.to_string().contains("cannot both"), "{error}");
    }

    #[test]
    fn rates_add_up() {
        assert_eq!(parse("lab").udp_rate, [1200]);
        assert_eq!(parse("lab --udp-rate 300 --udp-rate 2000").udp_rate, [300, 2000]);
        assert!(try_parse("lab --udp-rate 0").is_err());
    }
}
