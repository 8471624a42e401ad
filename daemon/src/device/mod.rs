//! The device: owns the interface, the peers and the workers. Start here; what the workers share is in `shared.rs`,
//! what can be changed while it runs in `control.rs`.

mod clock_thread;
mod control;
mod link_thread;
mod shared;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;

use clockshim::{Fault, Host, HpetSim, SimConfig, SourceKind, Timekeeper};
use parking_lot::Mutex;
use tracing::info;

use crate::handshake::{self, Handshakes};
use crate::rx_worker::RxWorker;
use crate::tun::{Tun, TunError};
use crate::tx_worker::TxWorker;
use crate::watchdog::roster::Watched;

pub use shared::Shared;

#[derive(Debug)]
pub struct DeviceOptions {
    /// Name of the interface; may hold a `%d` for the first free number.
    pub name: String,
    pub clock: SourceKind,
    /// What goes wrong with the clock; for [`SourceKind::HpetSim`] alone.
    pub faults: Vec<Fault>,
    /// Superpackets and checksums left to us by the kernel, where it can.
    pub offload: bool,
    /// Workers each way. `None`: half the cores, at least one.
    pub workers: Option<usize>,
    /// Tx workers do not yield while packets wait, as the kernel's did not before 2020: to reproduce a stall.
    pub never_yield: bool,
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
    #[error("cannot open UDP sockets: {0}")]
    Sockets(#[from] crate::udp::BindError),
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    #[error("cannot set up {name}: {source}")]
    Setup { name: String, source: io::Error },
}

#[derive(Debug)]
pub struct Device {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Device {
    /// Makes the interface and starts its threads. It is usable, and may be moved to another network namespace, as soon
    /// as this returns.
    pub fn start(options: DeviceOptions) -> Result<Arc<Self>, StartError> {
        let keeper = Arc::new(open_clock(options.clock, options.faults)?);
        let workers = options.workers.unwrap_or_else(default_workers).max(1);
        let given = options.tun_fd.is_some();
        let tun = match options.tun_fd {
            Some(fd) => Tun::from_fd(fd, options.offload)?,
            None => Tun::create(&options.name, options.offload, workers)?,
        };
        // One tx worker a queue; a plain interface has one.
        let tx_workers = tun.queues();
        let (desk, tray) = handshake::queue();
        let shared =
            Shared::new(keeper, tun, desk, tx_workers, workers, options.never_yield).map_err(|source| {
                StartError::Setup {
                    name: options.name.clone(),
                    source,
                }
            })?;
        shared.open_sockets(0, 0)?;
        let device = Arc::new(Self {
            shared: Arc::new(shared),
            threads: Mutex::default(),
        });
        device.spawn_all(tray, workers, given)?;
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

    fn spawn_all(&self, tray: handshake::Tray, rx_workers: usize, given: bool) -> Result<(), StartError> {
        let shared = &self.shared;
        let link =
            link_thread::LinkThread::start(shared.clone(), given).map_err(|source| StartError::Setup {
                name: shared.tun.name().to_owned(),
                source,
            })?;
        self.threads.lock().push(link);
        let clock = Watched::new("wg-clock", "hpetun::device::clock_thread::run");
        let (device, keeper, own) = (shared.clone(), shared.keeper.clone(), clock.clone());
        self.spawn(clock, move || clock_thread::run(&device, keeper, &own.heart))?;
        let desk = Watched::new("wg-handshake", "hpetun::handshake::run");
        let handshakes = Handshakes::new(shared.clone(), tray, desk.clone());
        self.spawn(desk, move || handshakes.run())?;
        for index in 0..shared.tun.queues() {
            let worker = TxWorker::new(shared.clone(), index);
            self.spawn(shared.tx_metrics[index].thread.clone(), move || worker.run())?;
        }
        for index in 0..rx_workers {
            let worker = RxWorker::new(shared.clone(), index);
            self.spawn(shared.rx_metrics[index].thread.clone(), move || worker.run())?;
        }
        Ok(())
    }

    fn spawn(&self, watched: Arc<Watched>, run: impl FnOnce() + Send + 'static) -> Result<(), StartError> {
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

    /// Name of the interface, in the namespace where it is now.
    pub fn interface(&self) -> String {
        self.shared.interface()
    }

    /// Ends the workers and waits for them. The interface goes with the last reference to the device.
    pub fn stop(&self) {
        self.shared.stop();
        for thread in self.threads.lock().drain(..) {
            let _ = thread.join();
        }
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

fn open_clock(kind: SourceKind, faults: Vec<Fault>) -> Result<Timekeeper, StartError> {
    if faults.is_empty() {
        return Ok(Timekeeper::open(kind)?);
    }
    if kind != SourceKind::HpetSim {
        return Err(StartError::FaultOnRealClock(kind));
    }
    let sim = HpetSim::new(
        SimConfig {
            faults,
            ..SimConfig::default()
        },
        Host::System,
    );
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

fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get() / 2)
}
