//! The command line: what there is to ask for, and who answers.

mod clocks;
mod explain;
mod keys;
mod names;
mod reproduce_args;
mod run;
mod signals;
mod status;
mod tuning_args;
pub mod up;
mod watchdog_args;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::error::{ContextKind, ErrorKind};
use clap::{CommandFactory as _, Parser, Subcommand};

use logging::{self, Format, Level, LogOptions};
use text::quantity::switch;
use watchdog::thread::control_thread;

const AFTER_HELP: &str = "\
Examples:
  hpetun wg0                         create wg0 in the background; set it up with wg(8)
  hpetun -f wg0                      the same in the foreground
  hpetun up /etc/wireguard/wg0.conf  interface, addresses and routes from a wg-quick file
  hpetun lab                         two hosts in namespaces, a tunnel, and what it carries
  hpetun clocks --plot clocks.svg    what each clock of this machine costs, and whether it is right
  hpetun explain trace.txt           what a soft lockup or another stall report shows
  hpetun genkey | tee key | hpetun pubkey
  WG_QUICK_USERSPACE_IMPLEMENTATION=hpetun wg-quick up wg0

Environment:
  LOG_LEVEL                silent, error, warn, info, debug (or verbose), trace [default: info]
  WG_PROCESS_FOREGROUND=1  like -f
  WG_TUN_FD, WG_UAPI_FD    descriptors of a TUN device and of a listening control socket to take over
  NO_COLOR                 no colours";

/// A userspace, WireGuard-compatible tunnel with a pluggable packet clock
#[derive(Debug, Parser)]
#[command(
    name = "hpetun",
    version,
    after_long_help = AFTER_HELP,
    override_usage = "hpetun [OPTIONS] IFNAME\n       hpetun COMMAND ...",
    arg_required_else_help = true,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    subcommand_value_name = "COMMAND"
)]
pub struct Cli {
    #[command(flatten)]
    run: run::RunArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a tunnel from a wg-quick file, in the foreground
    Up(up::UpArgs),
    /// Load a tunnel between two namespaces and show what it carries
    Lab(Box<lab::LabArgs>),
    /// Show an interface: peers, clock, workers, latency, drops
    Status(status::StatusArgs),
    /// Measure this machine's clocks: cost, rate, steps, and which is wrong
    Clocks(clocks::ClocksArgs),
    /// Say what a kernel lockup report, or one of hpetun's, shows
    Explain(explain::ExplainArgs),
    /// Print a new private key
    Genkey,
    /// Print the public key of the private key on standard input
    Pubkey,
    /// Print a new preshared key
    Genpsk,
    /// Print the version
    Version,
}

impl Cli {
    /// Reads the command line of this process. Help and usage errors end it here.
    pub fn from_command_line() -> Self {
        Self::from_words(std::env::args_os()).unwrap_or_else(|error| error.exit())
    }

    fn from_words<W: Into<OsString>>(words: impl IntoIterator<Item = W>) -> Result<Self, clap::Error> {
        let words = join_switches(words.into_iter().map(Into::into));
        let refuse = |message| Self::command().error(ErrorKind::InvalidSubcommand, message);
        let cli = Self::try_parse_from(&words).map_err(|error| {
            // clap takes the second word for a command that conflicts with the first. More often, the first is a
            // command with a typo.
            let first = words.get(1).map(|word| word.to_string_lossy());
            match first.as_deref() {
                Some(first) if Self::command().find_subcommand(first).is_some() || first == "help" => error,
                Some(first) if error.get(ContextKind::InvalidSubcommand).is_some() => {
                    refuse(names::unknown_command(first))
                }
                Some(first) => names::mistaken_command(first).map_or(error, refuse),
                None => error,
            }
        })?;
        let is_escaped = words.iter().rev().skip(1).any(|word| word == "--");
        match cli.run.interface().and_then(names::mistaken_command) {
            Some(message) if !is_escaped => Err(refuse(message)),
            _ => Ok(cli),
        }
    }

    /// Does what was asked for. An error is for [`error_chain`].
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            None => run::run(self.run),
            Some(Command::Up(args)) => run_up(args),
            Some(Command::Lab(args)) => lab::run(*args),
            Some(Command::Status(args)) => status::run(&args).map(|()| ExitCode::SUCCESS),
            Some(Command::Clocks(args)) => clocks::run(&args).map(|()| ExitCode::SUCCESS),
            Some(Command::Explain(args)) => explain::run(&args).map(|()| ExitCode::SUCCESS),
            Some(Command::Genkey) => keys::genkey().map(|()| ExitCode::SUCCESS),
            Some(Command::Pubkey) => keys::pubkey().map(|()| ExitCode::SUCCESS),
            Some(Command::Genpsk) => keys::genpsk().map(|()| ExitCode::SUCCESS),
            Some(Command::Version) => {
                print_line(Self::command().render_version().trim_end()).map(|()| ExitCode::SUCCESS)
            }
        }
    }
}

/// `--combined yes` as `--combined=yes`: to clap, the word after an optional value may be the interface.
fn join_switches(words: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut joined: Vec<OsString> = Vec::new();
    let mut is_escaped = false;
    for word in words {
        is_escaped |= word == "--";
        match joined.last_mut() {
            Some(last)
                if !is_escaped
                    && (last == "--combined" || last == "--watchdog-real-time")
                    && word.to_str().is_some_and(|word| switch(word).is_ok()) =>
            {
                last.push("=");
                last.push(word);
            }
            _ => joined.push(word),
        }
    }
    joined
}

/// Starts with the level of the environment; the file's `[Log]` section may change it.
fn run_up(args: up::UpArgs) -> anyhow::Result<ExitCode> {
    start_logging(Format::default())?;
    let runtime = control_runtime()?;
    let result = runtime.block_on(up::run(args));
    runtime.shutdown_background();
    result.map(|()| ExitCode::SUCCESS)
}

/// Starts logging at the level of `LOG_LEVEL`. One that is not known is warned of and means the default:
/// the variable is everybody's, and no reason to be without a tunnel.
fn start_logging(format: Format) -> anyhow::Result<()> {
    let asked = log_level();
    let level = asked.as_ref().copied().unwrap_or_default();
    logging::configure(LogOptions { level, format }).context("cannot start logging")?;
    if let Err(error) = asked {
        tracing::warn!("LOG_LEVEL: {error}; using {level}");
    }
    Ok(())
}

/// The level that `LOG_LEVEL` asks for.
fn log_level() -> Result<Level, logging::LogError> {
    match std::env::var_os("LOG_LEVEL") {
        Some(text) if !text.is_empty() => text.to_string_lossy().parse(),
        _ => Ok(Level::default()),
    }
}

/// Runs everything that is not on the way of a packet.
fn control_runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("hpetun-control")
        .on_thread_start(control_thread::thread_started)
        .on_thread_stop(control_thread::thread_stopped)
        .enable_all()
        .build()
        .context("cannot start the control threads")
}

/// The error and its causes on one line, without those that the error before them has quoted already.
pub fn error_chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    let mut last = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text.push_str(&cause);
        } else if !last.contains(&cause) {
            let _ = write!(text, ": {cause}");
        }
        last = cause;
    }
    text
}

/// Prints to standard output. A closed pipe (`| head`) is no error.
fn print_line(text: &str) -> anyhow::Result<()> {
    Ok(text::print_line(text)?)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::from_words(line.split_whitespace())
    }

    fn error_kind(line: &str) -> ErrorKind {
        parse(line).expect_err(line).kind()
    }

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn commands_and_interfaces_are_told_apart() {
        assert!(parse("hpetun wg0").unwrap().command.is_none());
        assert!(parse("hpetun -f wg0").unwrap().command.is_none());
        assert!(matches!(
            parse("hpetun status wg0 --json").unwrap().command,
            Some(Command::Status(_))
        ));
        assert!(matches!(
            parse("hpetun genkey").unwrap().command,
            Some(Command::Genkey)
        ));
        assert_eq!(
            error_kind("hpetun"),
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        );
        assert_eq!(error_kind("hpetun -f"), ErrorKind::MissingRequiredArgument);
        assert_eq!(error_kind("hpetun -f up"), ErrorKind::InvalidSubcommand);
        assert_eq!(error_kind("hpetun wg0 up"), ErrorKind::InvalidSubcommand);
        assert_eq!(error_kind("hpetun --workers 0 wg0"), ErrorKind::ValueValidation);
    }

    #[test]
    fn a_command_without_its_argument_says_which() {
        let error = parse("hpetun up").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::MissingRequiredArgument);
        assert!(error.to_string().contains("FILE"), "{error}");
    }

    #[test]
    fn a_typo_in_a_command_creates_no_interface() {
        for line in [
            "hpetun stauts",
            "hpetun -f stauts",
            "hpetun stauts wg0",
            "hpetun lba --json x",
        ] {
            let error = parse(line).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
            assert!(error.to_string().contains("unknown command"), "{line}: {error}");
        }
        let error = parse("hpetun stauts").unwrap_err().to_string();
        assert!(
            error.contains("did you mean status? (to create an interface of that name: hpetun -- stauts)"),
            "{error}"
        );
        let error = parse("hpetun wg0 up").unwrap_err().to_string();
        assert!(error.contains("status, clocks, explain, genkey"), "{error}");
    }

    #[test]
    fn two_dashes_make_any_name_an_interface() {
        for line in [
            "hpetun -- stauts",
            "hpetun -f -- up",
            "hpetun -- help",
            "hpetun -- list",
        ] {
            let cli = parse(line).expect(line);
            assert_eq!(cli.run.interface(), line.split_whitespace().next_back(), "{line}");
            assert!(cli.command.is_none(), "{line}");
        }
        assert!(parse("hpetun stauts --").is_err());
    }

    #[test]
    fn switches_take_their_value_with_or_without_an_equals_sign() {
        for (line, options) in [
            ("--combined yes wg0", "combined: Some(true)"),
            ("--combined=off wg0", "combined: Some(false)"),
            ("--combined wg0", "combined: Some(true)"),
            ("wg0 --watchdog-real-time no", "watchdog_real_time: Some(false)"),
            ("--offload false wg0", "offload: false"),
        ] {
            let cli = parse(&format!("hpetun {line}")).expect(line);
            assert_eq!(cli.run.interface(), Some("wg0"), "{line}");
            assert!(format!("{cli:?}").contains(options), "{line}: {cli:?}");
        }
        let cli = parse("hpetun --combined -- on").unwrap();
        assert_eq!(cli.run.interface(), Some("on"));
        let error = parse("hpetun --busy-poll 2ms wg0").unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(
            error
                .to_string()
                .contains("invalid time `2ms`: expected 0 to 1ms"),
            "{error}"
        );
        assert!(parse("hpetun --busy-poll 1ms wg0").is_ok());
    }

    #[test]
    fn help_and_version_are_commands() {
        assert_eq!(error_kind("hpetun help"), ErrorKind::DisplayHelp);
        let help = parse("hpetun help lab").unwrap_err();
        assert_eq!(help.kind(), ErrorKind::DisplayHelp);
        assert!(help.to_string().contains("--udp-rate"), "{help}");
        assert!(matches!(
            parse("hpetun version").unwrap().command,
            Some(Command::Version)
        ));
    }

    #[test]
    fn short_help_fits_a_screen() {
        let mut command = Cli::command().term_width(80);
        let short = command.render_help().to_string();
        let long = command.render_long_help().to_string();
        assert!(short.lines().count() < 24, "{short}");
        assert!(short.lines().all(|line| line.chars().count() <= 80), "{short}");
        assert!(
            long.contains("--watchdog-threshold") && !short.contains("--watchdog-threshold"),
            "{long}"
        );
    }

    #[test]
    fn causes_are_said_once() {
        let os = io::Error::from_raw_os_error(libc::EACCES);
        let error = anyhow::Error::new(os)
            .context("cannot open /dev/net/tun")
            .context("wg0");
        assert_eq!(
            error_chain(&error),
            "wg0: cannot open /dev/net/tun: Permission denied (os error 13)"
        );
        let os = io::Error::from_raw_os_error(libc::EACCES);
        let quoting = engine::settings::ControlError::Socket { port: 7, source: os };
        assert_eq!(
            error_chain(&quoting.into()),
            "cannot open UDP port 7: Permission denied (os error 13)"
        );
    }
}
