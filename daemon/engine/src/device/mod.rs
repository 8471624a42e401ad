//! The device: owns the interface, the peers and the workers. Start here; what the workers share is in `shared.rs`,
//! what can be changed while it runs in `control.rs`.

mod clock_readers;
mod clock_thread;
mod control;
pub mod link;
mod link_thread;
mod shared;
pub mod stats;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use clockshim::hpet::Contended;
use clockshim::{Fault, Host, HpetSim, SimConfig, SourceKind, Timekeeper};
use parking_lot::Mutex;
use tracing::{info, warn};

use crate::tun::{Tun, TunError};
use crate::tuning::Tuning;
use crate::workers::combined::CombinedWorker;
use crate::workers::handshake::{self, Handshakes};
use crate::workers::handshake_queue::{self, HandshakeReceiver};
use crate::workers::inbound::InboundWorker;
use crate::workers::outbound::OutboundWorker;
use sys::thread;
use watchdog::detect::thread_monitor::{CONTROL_THRESHOLDS, Work};
use watchdog::thread::control_thread::{self, ControlTasks};
use watchdog::thread::registry::MonitoredThread;
use watchdog::{self, Watchdog};

use clock_readers::ClockReaders;
use link_thread::LinkThread;
pub use shared::Shared;

/// How long threads may take to end, and between two looks whether they have.
const PATIENCE: Duration = Duration::from_secs(3);
const LOOKS_APART: Duration = Duration::from_millis(1);

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

#[derive(Debug)]
pub struct Device {
    shared: Arc<Shared>,
    /// The longest time between two beats of the control threads.
    beat: Duration,
    threads: Mutex<Vec<JoinHandle<()>>>,
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
        let workers = options.workers.unwrap_or_else(default_workers).max(1);
        let given = options.tun_fd.is_some();
        let tun = match options.tun_fd {
            Some(fd) => Tun::from_fd(fd, options.offload)?,
            None => Tun::create(&options.name, options.offload, workers)?,
        };
        // One tx worker a queue; a plain interface has one.
        let tx_workers = tun.queues();
        let (handshakes, receiver) = handshake_queue::channel();
        let shared = Shared::new(
            keeper,
            tun,
            handshakes,
            tx_workers,
            workers,
            options.never_yield,
            options.tuning,
        )
        .map_err(|source| StartError::Setup {
            name: options.name.clone(),
            source,
        })?;
        shared.open_sockets(0, 0)?;
        let device = Arc::new(Self {
            shared: Arc::new(shared),
            beat: options.watchdog.threshold * CONTROL_THRESHOLDS / 2,
            threads: Mutex::default(),
        });
        device.spawn_all(receiver, given, options.watchdog)?;
        readers.start(&device)?;
        info!(
            interface = device.shared.tun.name(),
            clock = device.shared.keeper.source_name(),
            offload = device.shared.offload_name(),
            tx_workers,
            rx_workers = workers,
            "interface created"
        );
        Ok(device)
    }

    fn spawn_all(
        &self,
        receiver: HandshakeReceiver,
        given: bool,
        watchdog: watchdog::Options,
    ) -> Result<(), StartError> {
        let shared = &self.shared;
        let link = MonitoredThread::new("wg-link", LinkThread::FUNCTION);
        let (link_thread, is_ready) = LinkThread::new(shared.clone(), link.clone(), given);
        self.spawn(link.clone(), move || link_thread.run())?;
        let is_ready = is_ready.recv();
        is_ready
            .unwrap_or_else(|_| Err(io::Error::other("the link thread died")))
            .map_err(|source| StartError::Setup {
                name: shared.tun.name().to_owned(),
                source,
            })?;
        let clock = MonitoredThread::new("wg-clock", clock_thread::FUNCTION);
        let handshake_thread = MonitoredThread::new("wg-handshake", Handshakes::FUNCTION);
        let (device, keeper, own) = (shared.clone(), shared.keeper.clone(), clock.clone());
        let mut posts = vec![
            (link.clone(), Work::Periodic(link_thread::PERIOD)),
            (clock.clone(), Work::Periodic(clock_thread::PERIOD)),
            (handshake_thread.clone(), Work::Handshakes(handshake::PERIOD)),
            (shared.control.clone(), Work::Control),
        ];
        posts.extend(shared.data_workers());
        self.spawn(clock, move || clock_thread::run(&device, keeper, &own.heartbeat))?;
        let handshakes = Handshakes::new(shared.clone(), receiver, handshake_thread.clone());
        self.spawn(handshake_thread, move || handshakes.run())?;
        for (thread, work) in shared.data_workers() {
            let device = shared.clone();
            match work {
                Work::Tx(index) => self.spawn_worker(thread, 2 * index, move || {
                    OutboundWorker::new(device, index).run()
                }),
                Work::Rx(index) => self.spawn_worker(thread, 2 * index + 1, move || {
                    InboundWorker::new(device, index).run()
                }),
                Work::Both(index) => {
                    self.spawn_worker(thread, index, move || CombinedWorker::new(device, index).run())
                }
                Work::Periodic(_) | Work::Handshakes(_) | Work::Control => continue,
            }?;
        }
        let (dog, scribe) = Watchdog::new(
            shared.clone(),
            shared.keeper.clone(),
            shared.monitor.clone(),
            watchdog,
            posts,
        );
        let own = MonitoredThread::unmonitored("wg-report", watchdog::report::reporter::Reporter::FUNCTION);
        self.spawn(own, move || scribe.run())?;
        let own = MonitoredThread::unmonitored("wg-watchdog", Watchdog::FUNCTION);
        self.spawn(own, move || dog.run())
    }

    /// Starts a data worker: the one in that place among those that are to be kept on processors.
    fn spawn_worker(
        &self,
        watched: Arc<MonitoredThread>,
        place: usize,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<(), StartError> {
        let tuning = &self.shared.tuning;
        let cpu = (!tuning.cpus.is_empty()).then(|| tuning.cpus[place % tuning.cpus.len()]);
        let slice = tuning.slice;
        self.spawn(watched, move || {
            if let Some(cpu) = cpu
                && let Err(error) = thread::pin_to(cpu)
            {
                warn!(cpu, %error, "cannot keep a worker on its processor");
            }
            if let Some(slice) = slice
                && let Err(error) = thread::set_slice(slice.as_nanos())
            {
                warn!(%error, "cannot set a worker's time slice");
            }
            run();
        })
    }

    fn spawn(
        &self,
        watched: Arc<MonitoredThread>,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<(), StartError> {
        let alarm = PanicAlarm(self.shared.clone());
        let name = watched.name.clone();
        let run = move || {
            // Goes last, so that the watchdog still finds what the alarm may tell it.
            let _presence = watched.enter();
            let _alarm = alarm;
            run();
        };
        let thread = std::thread::Builder::new()
            .name(name)
            .spawn(run)
            .map_err(StartError::Thread)?;
        self.threads.lock().push(thread);
        Ok(())
    }

    /// Beats for the threads that serve the control socket, signals and timers, and has every thread's state logged at
    /// SIGUSR1, for as long as the result lives. To be called on their runtime.
    ///
    /// # Errors
    /// Where the signal cannot be listened to.
    pub fn attend_control(&self) -> io::Result<ControlTasks> {
        control_thread::start(&self.shared.monitor, self.shared.control.clone(), self.beat)
    }

    /// Name of the interface, in the namespace where it is now.
    pub fn interface(&self) -> String {
        self.shared.interface()
    }

    /// Ends the workers and waits for them, though not for ever: one that hangs must not keep the process from its end.
    /// The interface goes with the last reference to the device.
    pub fn stop(&self) {
        self.shared.stop();
        let mut threads: Vec<_> = self.threads.lock().drain(..).collect();
        for _ in 0..PATIENCE.as_millis() / LOOKS_APART.as_millis() {
            threads.retain(|thread| !thread.is_finished());
            if threads.is_empty() {
                return;
            }
            std::thread::sleep(LOOKS_APART);
        }
        let names: Vec<_> = threads
            .iter()
            .filter_map(|thread| thread.thread().name())
            .collect();
        warn!(threads = names.join(", "), "these do not end; left behind");
    }

    /// Resolves when the interface was deleted, a worker failed, or [`Device::stop`] was called.
    pub async fn stopped(&self) {
        let mut stopping = self.shared.stopping();
        // An error means that the device is gone altogether.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.stop();
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

/// Stops the device when its thread panics: better no tunnel than one that is deaf and says nothing.
struct PanicAlarm(Arc<Shared>);

impl Drop for PanicAlarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let cause = io::Error::other("it panicked: a bug, please report it");
            self.0
                .worker_failed(std::thread::current().name().unwrap_or_default(), &cause);
        }
    }
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
