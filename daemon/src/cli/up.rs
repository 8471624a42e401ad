//! `hpetun up FILE`: a tunnel from a wg-quick file, with its addresses and routes, for as long as this runs.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use clap::{ArgAction, Args};
use clockshim::fault::FaultError;
use clockshim::{Fault, SourceKind};
use tokio::signal::unix::Signal;
use tracing::{error, info, warn};

use super::log_level;
use super::signals::Signals;
use super::tuning_args::TuningArgs;
use super::watchdog_args::WatchdogArgs;
use control::config::{self, Clock, Config, Log};
use control::reconcile::Setup;
use control::uapi;
use engine::device::{Device, DeviceOptions};
use engine::settings::Control;
use logging::{self, LogOptions};
use sys::process::exit_now;
use text::quantity::switch;

/// Exit status after a second SIGINT: 128 and its number, as a shell tells it.
const FORCED: i32 = 130;

#[derive(Debug, Args)]
pub struct UpArgs {
    /// Configuration in the format of wg-quick, called after the interface: wg0.conf. SIGHUP reads it again
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Clock that stamps the packets: boottime, coarse or tsc; goes before the file's [Clock]
    #[arg(long, value_name = "NAME")]
    clock: Option<SourceKind>,
    /// Let the kernel hand over and take large segments
    #[arg(long, value_name = "on|off", default_value = "on", action = ArgAction::Set, value_parser = switch)]
    offload: bool,
    /// Workers each way; goes before the file's [Workers] Count [default: half the CPUs]
    #[arg(long, value_name = "N")]
    workers: Option<NonZeroUsize>,
    #[command(flatten)]
    tuning: TuningArgs,
    #[command(flatten)]
    watchdog: WatchdogArgs,
}

/// Carries packets until a signal or the end of the interface, and leaves nothing behind.
pub async fn run(args: UpArgs) -> anyhow::Result<()> {
    let mut signals = Signals::install().context("cannot listen to signals")?;
    let interface = config::interface_name(&args.file)?;
    let config = read(&args.file).await?;
    configure_log(config.log)?;
    let endpoints = tokio::select! {
        endpoints = config::resolve(&config) => endpoints?,
        reason = signals.end() => {
            info!(%interface, %reason, "stopping before the endpoints were found");
            return Ok(());
        }
    };
    let device = Device::start(DeviceOptions {
        name: interface,
        clock: args.clock.or(config.clock.source).unwrap_or(SourceKind::Boottime),
        faults: announced(&config.clock.faults)?,
        offload: args.offload,
        workers: args.workers.or(config.workers.count).map(NonZeroUsize::get),
        clock_mode: config.clock.mode,
        clock_readers: 0,
        never_yield: false,
        watchdog: args.watchdog.over(config.watchdog),
        tuning: args.tuning.over(config.workers.tuning.clone()),
        tun_fd: None,
    })?;
    let result = carry(&args.file, &device, config, endpoints, &mut signals).await;
    device.stop();
    tokio::select! {
        () = device.stopped() => result,
        () = signals.interrupted() => {
            warn!("interrupted again; not waiting for the workers");
            exit_now(FORCED)
        }
    }
}

/// The faults, of which the log tells in the user's own words that they will come.
fn announced(faults: &[String]) -> Result<Vec<Fault>, FaultError> {
    for fault in faults {
        warn!(%fault, "the clock will go wrong, as asked for");
    }
    faults.iter().map(|fault| fault.parse()).collect()
}

/// From a device that has started to one that is to be stopped.
async fn carry(
    file: &Path,
    device: &Arc<Device>,
    config: Config,
    endpoints: config::Endpoints,
    signals: &mut Signals,
) -> anyhow::Result<()> {
    let interface = device.interface();
    let socket = uapi::listen(&interface)?;
    let _attendance = device.attend_control().context("cannot listen to SIGUSR1")?;
    let mut setup = Setup::new(Arc::clone(device) as Arc<dyn Control>, &interface).await?;
    // Dropped at every way out, and the socket's file with it.
    let mut service = tokio::task::JoinSet::new();
    service.spawn(uapi::serve(socket, Arc::clone(device) as Arc<dyn Control>));
    let result = {
        let Signals {
            terminate,
            interrupt,
            hangup,
        } = signals;
        let ended = async {
            tokio::select! {
                () = device.stopped() => Ok("the interface is gone"),
                _ = terminate.recv() => Ok("SIGTERM"),
                _ = interrupt.recv() => Ok("SIGINT"),
                served = service.join_next() => match served {
                    Some(Ok(Err(error))) => Err(anyhow!(error).context("cannot serve the control socket")),
                    Some(Err(error)) => Err(anyhow!(error).context("the control socket's task failed")),
                    Some(Ok(Ok(()))) | None => Ok("the control socket was removed"),
                },
            }
        };
        tokio::select! {
            ended = ended => ended,
            failed = keep(file, &mut setup, config, endpoints, hangup) => Err(failed),
        }
    };
    if let Ok(reason) = &result {
        info!(%interface, %reason, "stopping");
    }
    service.shutdown().await;
    setup.undo().await;
    result.map(drop)
}

/// Brings the file into force, and once more at each SIGHUP. Returns only if the first time fails.
async fn keep(
    file: &Path,
    setup: &mut Setup,
    config: Config,
    endpoints: config::Endpoints,
    hangup: &mut Signal,
) -> anyhow::Error {
    let mut clock = config.clock.clone();
    let peers = config.peers.len();
    if let Err(error) = setup.change_to(config, endpoints).await {
        return error.into();
    }
    info!(file = %file.display(), peers, version = %env!("CARGO_PKG_VERSION"), pid = std::process::id(), "ready");
    // Nobody to tell where systemd did not start us.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    // `None` once there can be no further signal, which does not happen while the runtime lives.
    while hangup.recv().await.is_some() {
        match reload(file, setup, &mut clock).await {
            Ok(peers) => info!(file = %file.display(), peers, "read the file again"),
            Err(error) => error!("cannot reload: {}", super::error_chain(&error)),
        }
    }
    std::future::pending().await
}

/// Reads the file again and changes what it says differently. A file with an error changes nothing.
async fn reload(file: &Path, setup: &mut Setup, clock: &mut Clock) -> anyhow::Result<usize> {
    let config = read(file).await?;
    let endpoints = config::resolve(&config).await?;
    configure_log(config.log)?;
    if config.clock != *clock {
        warn!("another [Clock] comes into force at the next start");
        *clock = config.clock.clone();
    }
    let peers = config.peers.len();
    setup.change_to(config, endpoints).await?;
    Ok(peers)
}

async fn read(file: &Path) -> anyhow::Result<Config> {
    let path = file.to_owned();
    // A file of 100,000 allowed IPs takes longer than the timers on this thread should wait.
    let loaded = tokio::task::spawn_blocking(move || config::load(&path)).await??;
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
    Ok(loaded.config)
}

/// What the file says about the log goes before the environment.
fn configure_log(log: Log) -> anyhow::Result<()> {
    let level = log.level.or_else(|| log_level().ok()).unwrap_or_default();
    let format = log.format.unwrap_or_default();
    logging::configure(LogOptions { level, format }).context("cannot log as [Log] says")
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::netlink::testing::{in_namespace, ip};
    use control::uapi::testing::Recorder;

    const INTERFACE: &str = "[Interface]\nPrivateKey = yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=\n";
    const PEER: &str = "[Peer]\nPublicKey = xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\n";

    #[test]
    fn a_file_that_is_wrong_changes_nothing_and_one_that_is_right_only_what_it_says() {
        in_namespace(
            "cli::up::tests::a_file_that_is_wrong_changes_nothing_and_one_that_is_right_only_what_it_says",
            || async {
                let directory = tempfile::tempdir().unwrap();
                let file = directory.path().join("hpd0.conf");
                let write = |text: &str| std::fs::write(&file, text).unwrap();
                let recorder = Arc::new(Recorder::default());
                let mut setup = Setup::new(Arc::clone(&recorder) as Arc<dyn Control>, "hpd0")
                    .await
                    .unwrap();
                let mut clock = Clock::default();
                write(&format!(
                    "{INTERFACE}Address = 10.0.0.1/24\n{PEER}AllowedIPs = 10.1.0.0/16\n"
                ));
                assert_eq!(reload(&file, &mut setup, &mut clock).await.unwrap(), 1);
                let routes = ip("route");
                assert!(routes.contains("10.1.0.0/16 dev hpd0"), "{routes}");
                recorder.take_changes();

                write(&format!(
                    "{INTERFACE}Address = 10.9.0.1/24\n{PEER}AllowedIPs = 10.2.0.0/33\n"
                ));
                let error = reload(&file, &mut setup, &mut clock)
                    .await
                    .unwrap_err()
                    .to_string();
                assert!(error.contains("hpd0.conf:6: AllowedIPs"), "{error}");
                std::fs::remove_file(&file).unwrap();
                assert!(reload(&file, &mut setup, &mut clock).await.is_err());
                assert_eq!((ip("route"), recorder.take_changes()), (routes.clone(), vec![]));

                write(&format!(
                    "{INTERFACE}Address = 10.0.0.1/24\nMTU = 1300\n{PEER}AllowedIPs = 10.1.0.0/16\n"
                ));
                reload(&file, &mut setup, &mut clock).await.unwrap();
                assert!(ip("link show hpd0").contains("mtu 1300"));
                assert_eq!((ip("route"), recorder.take_changes()), (routes, vec![]));
            },
        );
    }
}
