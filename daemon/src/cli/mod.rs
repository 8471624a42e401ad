//! The command line: what there is to ask for, and who answers.

mod clocks;
mod explain;
mod keys;
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

/// A userspace, WireGuard-compatible tunnel that stamps every packet through a pluggable clock.
#[derive(Debug, Parser)]
#[command(
    name = "hpetun",
    version,
    after_help = AFTER_HELP,
    override_usage = "hpetun [OPTIONS] IFNAME\n       hpetun COMMAND ...",
    arg_required_else_help = true,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    subcommand_value_name = "COMMAND",
    disable_help_subcommand = true
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
    /// Measure the clocks of this machine: cost, rate, steps, and which is wrong
    Clocks(clocks::ClocksArgs),
    /// Say what a kernel lockup report, or one of hpetun's, shows
    Explain(explain::ExplainArgs),
    /// Print a new private key
    Genkey,
    /// Print the public key of the private key on standard input
    Pubkey,
    /// Print a new preshared key
    Genpsk,
}

impl Cli {
    /// Reads the command line of this process. Help and usage errors end it here.
    pub fn from_command_line() -> Self {
        Self::from_words(std::env::args_os()).unwrap_or_else(|error| error.exit())
    }

    fn from_words<W: Into<OsString> + Clone>(
        words: impl IntoIterator<Item = W>,
    ) -> Result<Self, clap::Error> {
        Self::try_parse_from(words).map_err(|error| {
            // clap takes the second word for a command that conflicts with the first. More often, the first is a
            // command with a slip of the pen.
            if error.get(ContextKind::InvalidSubcommand).is_none() {
                return error;
            }
            let command = Self::command();
            let names: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
            let text = format!(
                "expected one interface name, or one of the commands {} as the first word",
                names.join(", ")
            );
            Self::command().error(ErrorKind::ArgumentConflict, text)
        })
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
        }
    }
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

/// A network interface name as the kernel takes it, and none of our commands.
pub fn interface_name(text: &str) -> Result<String, String> {
    let is_command = Cli::command()
        .get_subcommands()
        .any(|command| command.get_name() == text);
    if is_command {
        return Err(format!(
            "`{text}` is a command of hpetun; give the interface another name"
        ));
    }
    if text.is_empty() || text.len() > 15 {
        return Err("an interface name has 1 to 15 bytes".to_owned());
    }
    let is_bad = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    if text == "." || text == ".." || text.contains(is_bad) {
        return Err(
            "an interface name has no '/', no ':' and no white space, and is not '.' or '..'".to_owned(),
        );
    }
    Ok(text.to_owned())
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
        assert_eq!(error_kind("hpetun -f up"), ErrorKind::ValueValidation);
        assert_eq!(error_kind("hpetun wg0 up"), ErrorKind::ArgumentConflict);
        assert_eq!(error_kind("hpetun --workers 0 wg0"), ErrorKind::ValueValidation);
    }

    #[test]
    fn a_command_without_its_argument_says_which() {
        let error = parse("hpetun up").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::MissingRequiredArgument);
        assert!(error.to_string().contains("FILE"), "{error}");
        let error = parse("hpetun -- up").unwrap_err().to_string();
        assert!(error.contains("`up` is a command of hpetun"), "{error}");
    }

    #[test]
    fn a_misspelt_command_says_which_there_are() {
        let error = parse("hpetun stauts wg0").unwrap_err().to_string();
        assert!(error.contains("status, clocks, explain, genkey"), "{error}");
    }

    #[test]
    fn interface_names() {
        for good in ["wg0", "tun%d", "a", "fifteen-letters", "wg.0", "ü"] {
            assert_eq!(interface_name(good).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "sixteen-letters-",
            ".",
            "..",
            "a/b",
            "a b",
            "a:b",
            "a\u{7}",
            "lab",
            "genkey",
        ] {
            assert!(interface_name(bad).is_err(), "{bad:?}");
        }
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
