//! The command line of `hpetun lab`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::bail;
use clap::ValueEnum;
use clockshim::fault::FaultError;
use clockshim::{Fault, SourceKind};

/// Runs two hosts with a tunnel between them on this machine, loads it, and shows what it did
///
/// The hosts are network namespaces joined by a veth pair; they need root, or a kernel that gives unprivileged
/// users namespaces of their own, and are gone when the lab ends. Throughput is what arrived at the receiver.
#[derive(Debug, Clone, clap::Args)]
pub struct LabArgs {
    /// Length of each run of the load
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub seconds: u32,
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
    /// A fault of the daemons' simulated clock, such as freeze,at=3s; see --faults [can be repeated]
    #[arg(long, value_name = "SPEC", value_parser = fault, conflicts_with = "daemon")]
    pub fault: Vec<String>,
    /// Lists the faults that a simulated clock can have, and ends
    #[arg(long)]
    pub faults: bool,
    /// Segmentation and checksum offload of the daemons' TUN and UDP sockets
    #[arg(long, value_enum, default_value_t = Switch::On)]
    pub offload: Switch,
    /// Tx and rx workers of each daemon, of each as many
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub workers: Option<u32>,
    /// Rate at which the UDP run sends, in Mbit/s
    #[arg(long, value_name = "MBIT", default_value_t = 1200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub udp_rate: u32,
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

    /// The clock that the daemons are to use; none where they choose.
    ///
    /// # Errors
    /// A clock that can have no faults, with faults.
    pub fn clock(&self) -> anyhow::Result<Option<&str>> {
        let simulated = SourceKind::HpetSim.as_str();
        match self.clock.as_deref() {
            _ if self.fault.is_empty() => Ok(self.clock.as_deref()),
            None => Ok(Some(simulated)),
            Some(name) if name == simulated => Ok(Some(simulated)),
            Some(name) => bail!(
                "--fault needs --clock {simulated}, which is what it gets without --clock: clock `{name}` is no \
                 simulation and can have no faults to order"
            ),
        }
    }

    pub fn json_to_stdout(&self) -> bool {
        self.json.as_deref() == Some(Path::new("-"))
    }
}

/// Checks a fault; the daemons get it as it was written.
fn fault(text: &str) -> Result<String, FaultError> {
    text.parse::<Fault>().map(|_| text.to_owned())
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

/// A program with its arguments and environment, written as for a shell: words, quotes, `VAR=VALUE` before
/// the program. No shell runs it, so that the daemon is the process that was started and no child of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    pub environment: Vec<(String, String)>,
    pub program: String,
    pub arguments: Vec<String>,
}

impl CommandLine {
    /// The program's file name, for tables and messages.
    pub fn name(&self) -> &str {
        Path::new(&self.program)
            .file_name()
            .and_then(OsStr::to_str)
            .unwrap_or(&self.program)
    }
}

impl FromStr for CommandLine {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = split_words(text)?.into_iter().peekable();
        let mut environment = Vec::new();
        while let Some((name, value)) = words.peek().and_then(|word| word.split_once('=')) {
            if name.is_empty() || name.contains('/') {
                break;
            }
            environment.push((name.to_owned(), value.to_owned()));
            words.next();
        }
        let program = words
            .next()
            .ok_or("a command is needed, e.g. 'wireguard-go -f'")?;
        Ok(Self {
            environment,
            program,
            arguments: words.collect(),
        })
    }
}

fn split_words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for character in text.chars() {
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, _) if character.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    if let Some(open) = quote {
        return Err(format!("the quote {open} is never closed"));
    }
    words.extend(word);
    Ok(words)
}

/// An implementation to compare with: `NAME=COMMAND`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub name: String,
    pub command: CommandLine,
}

impl FromStr for Candidate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, command) = text
            .split_once('=')
            .filter(|(name, _)| !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c == '/'))
            .ok_or("write NAME=COMMAND, e.g. 'wireguard-go=wireguard-go -f'")?;
        Ok(Self {
            name: name.to_owned(),
            command: command.parse()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_have_environment_words_and_quotes() {
        let command: CommandLine = "WG_SUDO=1 A='x y' /opt/my-tun -f --log=a \"b c\" ''"
            .parse()
            .unwrap();
        assert_eq!(
            command.environment,
            [("WG_SUDO".into(), "1".into()), ("A".into(), "x y".into())]
        );
        assert_eq!(command.program, "/opt/my-tun");
        assert_eq!(command.arguments, ["-f", "--log=a", "b c", ""]);
        assert_eq!(command.name(), "my-tun");
        for bad in ["", "  ", "A=1", "x 'y"] {
            assert!(bad.parse::<CommandLine>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn candidates_are_named() {
        let candidate: Candidate = "boring=WG_SUDO=1 boringtun-cli -f".parse().unwrap();
        assert_eq!(candidate.name, "boring");
        assert_eq!(candidate.command.environment.len(), 1);
        assert_eq!(candidate.command.program, "boringtun-cli");
        for bad in ["wireguard-go", "=x", "a/b=x", "wireguard-go -f --a=b", "x="] {
            assert!(bad.parse::<Candidate>().is_err(), "{bad:?}");
        }
    }

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
        assert_eq!(lab.fault, ["freeze,at=3s", "slow,by=2us"]);
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
    }

    #[test]
    fn rounds_depend_on_what_is_asked() {
        assert_eq!(parse("lab").rounds(), 1);
        assert_eq!(parse("lab --compare x=y").rounds(), 3);
        assert_eq!(parse("lab --compare x=y --rounds 2").rounds(), 2);
        assert!(parse("lab --json -").json_to_stdout());
        assert!(!parse("lab --json ./-").json_to_stdout());
    }
}
