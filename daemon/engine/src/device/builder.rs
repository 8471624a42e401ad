//! How a device starts: clock, interface, sockets and threads, in this order.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use clockshim::hpet::Contended;
use clockshim::{Fault, Host, HpetSim, SimConfig, SourceKind, Timekeeper};
use tracing::info;

use super::Device;
use super::active_sockets::ActiveSockets;
use super::clock_readers::ClockReaders;
use super::interface::Interface;
use super::peer_table::PeerTable;
use super::shutdown::Shutdown;
use super::stats::Stats;
use super::threads::{Threads, WorkerPlan};
use crate::tun::{Tun, TunError};
use crate::tuning::Tuning;
use crate::workers::handshake_queue;
use sys::poll::Waker;
use sys::thread;
use watchdog::detect::thread_monitor::CONTROL_THRESHOLDS;
use watchdog::host::Monitor;
use watchdog::thread::control_thread;
use watchdog::thread::registry::MonitoredThread;

#[derive(Debug)]
pub struct DeviceOptions {
    /// Name of the interface; may hold a `%d` for the first free number.
    pub name: String,
    pub clock: SourceKind,
    /// What goes wrong with the clock; for [`SourceKind::HpetSim`] alone.
    pub faults: Vec<Fault>,
    /// What a reader does that finds the clock's lock held; for clocks that have one alone.
    pub clock_mode: Option<Contended>,
    /// Threads that read the clock beside the workers, as other processors would: to reproduce a stall.
    pub clock_readers: usize,
    /// Superpackets and checksums left to us by the kernel, where it can.
    pub offload: bool,
    /// Workers each way. `None`: half the cores, at least one.
    pub workers: Option<usize>,
    /// Tx workers do not yield while packets wait, as the kernel's did not before 2020: to reproduce a stall.
    pub never_yield: bool,
    pub watchdog: watchdog::Options,
    pub tuning: Tuning,
    /// An interface that is made already.
    pub tun_fd: Option<OwnedFd>,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Tun(#[from] TunError),
    #[error(transparent)]
    Clock(#[from] clockshim::OpenError),
    #[error("faults are for the simulated clock alone: use --clock hpet-sim instead of {0}, or no --fault")]
    FaultOnRealClock(SourceKind),
    #[error("clock {0} has no lock to wait for: --clock-mode is for hpet-sim and hpet-locked")]
    ModeWithoutLock(SourceKind),
    #[error("cannot open UDP sockets: {0}")]
    Sockets(#[from] crate::udp::BindError),
    #[error("may not run on processor {0}; there are {1}")]
    NoSuchCpu(usize, String),
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    #[error("cannot set up {name}: {source}")]
    Setup { name: String, source: io::Error },
}

impl Device {
    /// Makes the interface and starts its threads. It is usable, and may be moved to another network namespace, as soon
    /// as this returns.
    pub fn start(options: DeviceOptions) -> Result<Arc<Self>, StartError> {
        check_cpus(&options.tuning.cpus)?;
        let readers = ClockReaders::of(&options);
        let keeper = Arc::new(open_clock(options.clock, options.clock_mode, options.faults)?);
        if !matches!(options.clock, SourceKind::Tsc | SourceKind::Boottime) {
            // Now rather than in the middle of a stall.
            keeper.open_fallbacks();
        }
        let rx_workers = options.workers.unwrap_or_else(default_workers).max(1);
        let given = options.tun_fd.is_some();
        let tun = match options.tun_fd {
            Some(fd) => Tun::from_fd(fd, options.offload)?,
            None => Tun::create(&options.name, options.offload, rx_workers)?,
        };
        let setup = |source| StartError::Setup {
            name: options.name.clone(),
            source,
        };
        let plan = WorkerPlan {
            // One tx worker a queue; a plain interface has one.
            tx: tun.queues().len(),
            rx: rx_workers,
            // The worker of 2019, which does not yield, had a thread of its own.
            combined: options
                .tuning
                .combined
                .unwrap_or(!options.never_yield && processors_are_few()),
            never_yield: options.never_yield,
        };
        let (tx, rx) = plan.metrics();
        let (handshakes, receiver) = handshake_queue::channel();
        let rx_wakers: Arc<[Waker]> = (0..rx_workers)
            .map(|_| Waker::new())
            .collect::<io::Result<_>>()
            .map_err(setup)?;
        let monitor = Arc::new(Monitor::new().map_err(setup)?);
        let shutdown = Arc::new(Shutdown::new(rx_wakers.clone(), handshakes.clone()).map_err(setup)?);
        let buffer = options.tuning.udp_buffer;
        let device = Arc::new(Self {
            keeper,
            interface: Arc::new(Interface::new(tun)),
            peers: Arc::new(PeerTable::default()),
            sockets: Arc::new(ActiveSockets::open(rx_wakers, monitor.clone(), buffer)?),
            handshakes,
            stats: Arc::new(Stats::new(tx, rx)),
            monitor,
            control: MonitoredThread::new("hpetun-control", control_thread::FUNCTION),
            control_beat: options.watchdog.threshold * CONTROL_THRESHOLDS / 2,
            threads: Threads::new(shutdown.clone()),
            shutdown,
        });
        device.spawn_all(&plan, &options.tuning, receiver, given, options.watchdog)?;
        readers.start(&device.threads, &device.keeper)?;
        info!(
            interface = device.interface.first_name(),
            clock = device.keeper.source_name(),
            offload = device.interface.offload_name(),
            tx_workers = plan.tx,
            rx_workers,
            "interface created"
        );
        Ok(device)
    }
}

fn open_clock(
    kind: SourceKind,
    mode: Option<Contended>,
    faults: Vec<Fault>,
) -> Result<Timekeeper, StartError> {
    if mode.is_some() && !kind.has_lock() {
        return Err(StartError::ModeWithoutLock(kind));
    }
    let contended = mode.unwrap_or_default();
    if faults.is_empty() {
        return Ok(Timekeeper::open_contended(kind, contended)?);
    }
    if kind != SourceKind::HpetSim {
        return Err(StartError::FaultOnRealClock(kind));
    }
    let config = SimConfig {
        faults,
        contended,
        ..SimConfig::default()
    };
    let sim = HpetSim::new(config, Host::System);
    Ok(Timekeeper::simulated(Arc::new(sim)))
}

/// Whether there are so few that two threads a tunnel are in each other's way: with both ends on two processors, one thread each
/// took a seventh off the processor time of TCP and a fifth off a ping.
fn processors_are_few() -> bool {
    std::thread::available_parallelism().is_ok_and(|processors| processors.get() <= 2)
}

/// Better at the start than a worker that runs elsewhere.
fn check_cpus(wanted: &[usize]) -> Result<(), StartError> {
    if wanted.is_empty() {
        return Ok(());
    }
    let allowed = thread::allowed_cpus().map_err(StartError::Thread)?;
    match wanted.iter().find(|cpu| !allowed.contains(cpu)) {
        Some(cpu) => {
            let allowed: Vec<_> = allowed.iter().map(usize::to_string).collect();
            Err(StartError::NoSuchCpu(*cpu, allowed.join(", ")))
        }
        None => Ok(()),
    }
}

fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get() / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_needs_a_lock_and_a_fault_the_simulation() {
        let faithful = Some(Contended::Faithful);
        for kind in [
            SourceKind::Tsc,
            SourceKind::Boottime,
            SourceKind::Coarse,
            SourceKind::Hpet,
        ] {
            let error = open_clock(kind, faithful, Vec::new()).unwrap_err().to_string();
            assert!(
                error.contains("hpet-sim and hpet-locked") && error.contains(kind.as_str()),
                "{error}"
            );
        }
        let torn = || vec!["torn".parse().unwrap()];
        let error = open_clock(SourceKind::HpetLocked, None, torn())
            .unwrap_err()
            .to_string();
        assert!(error.contains("hpet-sim instead of hpet-locked"), "{error}");
        for (mode, expected) in [(faithful, Contended::Faithful), (None, Contended::default())] {
            for faults in [torn(), Vec::new()] {
                let keeper = open_clock(SourceKind::HpetSim, mode, faults).unwrap();
                assert_eq!(keeper.clock_report().lock.unwrap().contended, expected);
            }
        }
    }
}
