//! `hpetun IFNAME`: an interface that `wg(8)` sets up, used like wireguard-go.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::os::fd::{OwnedFd, RawFd};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use clap::{ArgAction, Args};
use clockshim::fault::FaultError;
use clockshim::{Fault, SourceKind};
use tracing::{error, info, warn};

use super::names::interface_name;
use super::reproduce_args::ReproduceArgs;
use super::signals::Signals;
use super::tuning_args::TuningArgs;
use super::watchdog_args::WatchdogArgs;
use super::{control_runtime, error_chain, log_level, start_logging};
use crate::daemonise::{Output, Report, Side, daemonise};
use control::uapi::{self, UapiSocket};
use engine::device::{Device, DeviceOptions};
use engine::tuning::Tuning;
use logging::{self, Format, Level};
use sys::process::{exit_now, take_inherited};
use text::quantity::switch;

/// Exit status after a second SIGINT: 128 and its number, as a shell tells it.
const FORCED: i32 = 130;

#[derive(Debug, Args)]
pub struct RunArgs {
    /// Stay in the foreground
    #[arg(short, long)]
    foreground: bool,
    /// Clock that stamps the packets
    #[arg(long, value_name = "NAME", default_value_t = SourceKind::Boottime)]
    clock: SourceKind,
    /// What goes wrong with `--clock hpet-sim`, such as freeze,at=3s (`hpetun lab --faults` lists them; repeatable)
    #[arg(hide_short_help = true, long = "fault", value_name = "FAULT", value_parser = fault_text)]
    faults: Vec<String>,
    #[command(flatten)]
    reproduce: ReproduceArgs,
    /// Let the kernel hand over and take large segments
    #[arg(
        hide_short_help = true,
        long,
        value_name = "on|off",
        default_value = "on",
        action = ArgAction::Set,
        value_parser = switch
    )]
    offload: bool,
    /// Workers each way [default: half the CPUs]
    #[arg(hide_short_help = true, long, value_name = "N")]
    workers: Option<NonZeroUsize>,
    #[command(flatten)]
    tuning: TuningArgs,
    #[command(flatten)]
    watchdog: WatchdogArgs,
    /// text, json or journald [default: text; in the background journald where it runs]
    #[arg(
        hide_short_help = true,
        long,
        value_enum,
        value_name = "FORMAT",
        hide_possible_values = true
    )]
    log_format: Option<Format>,
    /// Name of the interface to create
    #[arg(hide_short_help = true, required = true, value_name = "IFNAME", value_parser = interface_name)]
    interface: Option<String>,
}

impl RunArgs {
    /// The interface that the command line names; `None` where it has a command instead.
    pub fn interface(&self) -> Option<&str> {
        self.interface.as_deref()
    }
}

/// Carries packets until a signal or the end of the interface; in the background, until it is ready.
pub fn run(args: RunArgs) -> anyhow::Result<ExitCode> {
    let environment = Environment::read(|name| std::env::var_os(name))?;
    let foreground = args.foreground || environment.foreground;
    let format = args.log_format;
    let start = Start::new(args, &environment)?;
    if foreground {
        start_logging(format.unwrap_or_default())?;
        return start.carry(|| ()).map(|()| ExitCode::SUCCESS);
    }
    let output = background_output();
    let mut report = match daemonise(output)? {
        Side::Caller => return Ok(ExitCode::SUCCESS),
        Side::Daemon(report) => Some(report),
    };
    let carried = start_logging(format.unwrap_or_else(|| background_format(output)))
        .and_then(|()| start.carry(|| report.take().map_or((), Report::ready)));
    let Err(error) = carried else {
        return Ok(ExitCode::SUCCESS);
    };
    match report {
        Some(report) => report.failed(&error_chain(&error)),
        None => error!("{}", error_chain(&error)),
    }
    Ok(ExitCode::FAILURE)
}

/// A fault as it was written, once it is known to be one: the log announces it in the user's own words.
fn fault_text(text: &str) -> Result<String, FaultError> {
    text.parse::<Fault>().map(|_| text.to_owned())
}

/// wireguard-go's rule: who asks for a level wants to see the log.
fn background_output() -> Output {
    let asked = std::env::var_os("LOG_LEVEL").is_some_and(|text| !text.is_empty());
    match log_level() {
        Ok(Level::Silent) => Output::Null,
        _ if asked => Output::Kept,
        _ => Output::Null,
    }
}

fn background_format(output: Output) -> Format {
    if output == Output::Null && logging::journal_is_there() {
        Format::Journald
    } else {
        Format::Text
    }
}

/// The variables that wireguard-go has too.
#[derive(Debug, Default, PartialEq, Eq)]
struct Environment {
    foreground: bool,
    tun_fd: Option<RawFd>,
    uapi_fd: Option<RawFd>,
}

impl Environment {
    fn read(variable: impl Fn(&str) -> Option<OsString>) -> anyhow::Result<Self> {
        let descriptor = |name: &str| {
            let Some(text) = variable(name).filter(|text| !text.is_empty()) else {
                return Ok(None);
            };
            let number = text
                .to_str()
                .and_then(|text| text.parse().ok())
                .filter(|number: &RawFd| *number >= 0);
            number.map(Some).with_context(|| {
                format!("{name} is {text:?}; it takes the number of an open descriptor, such as 3")
            })
        };
        Ok(Self {
            foreground: variable("WG_PROCESS_FOREGROUND").is_some_and(|text| text == "1"),
            tun_fd: descriptor("WG_TUN_FD")?,
            uapi_fd: descriptor("WG_UAPI_FD")?,
        })
    }
}

/// All that it takes to start.
struct Start {
    device: DeviceOptions,
    uapi_fd: Option<OwnedFd>,
    /// As they were written.
    faults: Vec<String>,
}

impl Start {
    fn new(args: RunArgs, environment: &Environment) -> anyhow::Result<Self> {
        let take = |name, number: Option<RawFd>| {
            number
                .map(|fd| {
                    take_inherited(fd).with_context(|| format!("{name}: cannot take over descriptor {fd}"))
                })
                .transpose()
        };
        let faults = args
            .faults
            .iter()
            .map(|text| text.parse())
            .collect::<Result<_, FaultError>>()?;
        Ok(Self {
            device: DeviceOptions {
                name: args.interface.context("no interface name")?,
                clock: args.clock,
                faults,
                offload: args.offload,
                workers: args.workers.map(NonZeroUsize::get),
                clock_mode: args.reproduce.mode(),
                clock_readers: args.reproduce.clock_readers.into(),
                never_yield: args.reproduce.never_yield,
                watchdog: args.watchdog.over(watchdog::Options::default()),
                tuning: args.tuning.over(Tuning::default()),
                tun_fd: take("WG_TUN_FD", environment.tun_fd)?,
            },
            uapi_fd: take("WG_UAPI_FD", environment.uapi_fd)?,
            faults: args.faults,
        })
    }

    /// Starts, calls `ready` once the control socket answers, and returns after a clean end.
    fn carry(self, ready: impl FnOnce()) -> anyhow::Result<()> {
        for fault in &self.faults {
            warn!(%fault, "the clock will go wrong, as asked for");
        }
        let runtime = control_runtime()?;
        let result = runtime.block_on(async {
            let signals = Signals::install().context("cannot listen to signals")?;
            let device = Device::start(self.device)?;
            let socket = match self.uapi_fd {
                Some(fd) => uapi::from_fd(fd),
                None => uapi::listen(&device.interface()),
            };
            match socket {
                Ok(socket) => supervise(&device, socket, signals, ready).await,
                Err(error) => {
                    device.stop();
                    device.stopped().await;
                    Err(error.into())
                }
            }
        });
        runtime.shutdown_background();
        result
    }
}

/// Serves the control socket until something ends the device, then takes both down.
async fn supervise(
    device: &Arc<Device>,
    socket: UapiSocket,
    mut signals: Signals,
    ready: impl FnOnce(),
) -> anyhow::Result<()> {
    let interface = device.interface();
    let mut control = tokio::spawn(uapi::serve(socket, device.clone()));
    let _attendance = device.attend_control().context("cannot listen to SIGUSR1")?;
    info!(%interface, version = %env!("CARGO_PKG_VERSION"), pid = std::process::id(), "ready");
    ready();
    // Nobody to tell where systemd did not start us.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);

    let result = tokio::select! {
        () = device.stopped() => Ok("the interface is gone"),
        name = signals.end() => Ok(name),
        ended = &mut control => match ended {
            Ok(Ok(())) => Ok("the control socket was removed"),
            Ok(Err(error)) => Err(anyhow!(error).context("cannot serve the control socket")),
            Err(error) => Err(anyhow!(error).context("the control socket's task failed")),
        },
    };
    if let Ok(reason) = &result {
        info!(%interface, %reason, "stopping");
    }
    // The socket goes first: whoever finds one may expect an answer.
    control.abort();
    if !control.is_finished() {
        let _ = control.await;
    }
    device.stop();
    tokio::select! {
        () = device.stopped() => result.map(drop),
        () = signals.interrupted() => {
            warn!(%interface, "interrupted again; not waiting for the workers");
            exit_now(FORCED)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> anyhow::Result<Environment> {
        Environment::read(|name| {
            variables
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn variables_of_wireguard_go() {
        assert_eq!(environment(&[]).unwrap(), Environment::default());
        assert_eq!(
            environment(&[
                ("WG_TUN_FD", "3"),
                ("WG_UAPI_FD", "4"),
                ("WG_PROCESS_FOREGROUND", "1")
            ])
            .unwrap(),
            Environment {
                foreground: true,
                tun_fd: Some(3),
                uapi_fd: Some(4)
            }
        );
        // Only "1" counts, and an empty variable is none.
        assert_eq!(
            environment(&[("WG_TUN_FD", ""), ("WG_PROCESS_FOREGROUND", "0")]).unwrap(),
            Environment::default()
        );
    }

    #[test]
    fn bad_descriptor_numbers_are_named() {
        for bad in ["three", "-1", "3 ", "99999999999"] {
            let error = environment(&[("WG_UAPI_FD", bad)]).unwrap_err().to_string();
            assert!(error.contains("WG_UAPI_FD") && error.contains(bad), "{error}");
        }
    }
}
