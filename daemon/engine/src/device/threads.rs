//! The threads of a device: which there are, how each starts, and how all end.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tracing::warn;

use super::link_thread::{self, LinkParts, LinkThread};
use super::shutdown::Shutdown;
use super::stats::WorkerMetrics;
use super::watched_device::WatchedDevice;
use super::{Device, StartError, clock_thread};
use crate::tuning::Tuning;
use crate::workers::DataPath;
use crate::workers::combined::CombinedWorker;
use crate::workers::handshake::{self, Handshakes};
use crate::workers::handshake_queue::HandshakeReceiver;
use crate::workers::inbound::InboundWorker;
use crate::workers::outbound::OutboundWorker;
use sys::thread;
use watchdog::detect::thread_monitor::Work;
use watchdog::thread::registry::MonitoredThread;
use watchdog::{self, Watchdog};

/// How long threads may take to end, and the interval at which that is checked.
const JOIN_TIMEOUT: Duration = Duration::from_secs(3);
const JOIN_POLL: Duration = Duration::from_millis(1);

/// Which data workers there are.
#[derive(Debug, Clone, Copy)]
pub struct WorkerPlan {
    /// Workers that read from the interface, one a queue.
    pub tx: usize,
    /// Workers that receive, one a pair of sockets.
    pub rx: usize,
    /// Each worker that reads also receives. Sockets without a queue, as with a plain interface, have an rx worker.
    pub combined: bool,
    /// Workers that read go on without a pause for as long as packets wait.
    pub never_yield: bool,
}

impl WorkerPlan {
    /// Their metrics, tx and rx. A combined worker has an entry in both, with one thread.
    pub fn metrics(&self) -> (Vec<Arc<WorkerMetrics>>, Vec<Arc<WorkerMetrics>>) {
        let metrics = |way: &str, indices: Range<usize>, function| -> Vec<_> {
            let watched = |index| MonitoredThread::new(format!("wg-{way}/{index}"), function);
            indices
                .map(|index| Arc::new(WorkerMetrics::new(watched(index))))
                .collect()
        };
        let tx = if self.combined {
            metrics("txrx", 0..self.tx, CombinedWorker::FUNCTION)
        } else {
            metrics("tx", 0..self.tx, OutboundWorker::FUNCTION)
        };
        let mut rx: Vec<_> = tx
            .iter()
            .filter(|_| self.combined)
            .map(|tx| Arc::new(WorkerMetrics::new(tx.thread.clone())))
            .collect();
        rx.extend(metrics("rx", rx.len()..self.rx, InboundWorker::FUNCTION));
        (tx, rx)
    }

    /// The threads that carry packets.
    fn threads(
        &self,
        tx: &[Arc<WorkerMetrics>],
        rx: &[Arc<WorkerMetrics>],
    ) -> Vec<(Arc<MonitoredThread>, Work)> {
        let work = if self.combined { Work::Both } else { Work::Tx };
        let tx_threads = tx
            .iter()
            .enumerate()
            .map(|(index, tx)| (tx.thread.clone(), work(index)));
        let rx = rx
            .iter()
            .enumerate()
            .skip(if self.combined { tx.len() } else { 0 });
        tx_threads
            .chain(rx.map(|(index, rx)| (rx.thread.clone(), Work::Rx(index))))
            .collect()
    }
}

/// Starts threads, and waits for those that it started.
#[derive(Debug)]
pub struct Threads {
    shutdown: Arc<Shutdown>,
    handles: Mutex<Vec<JoinHandle<()>>>,
}

impl Threads {
    pub fn new(shutdown: Arc<Shutdown>) -> Self {
        Self {
            shutdown,
            handles: Mutex::default(),
        }
    }

    pub fn shutdown(&self) -> &Arc<Shutdown> {
        &self.shutdown
    }

    /// Starts a thread that the watchdog knows. Its panic stops the device.
    pub fn spawn(
        &self,
        watched: Arc<MonitoredThread>,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<(), StartError> {
        let stop_on_panic = StopOnPanic(self.shutdown.clone());
        let name = watched.name.clone();
        let run = move || {
            // Dropped last, so that the watchdog still finds what `stop_on_panic` may log.
            let _presence = watched.enter();
            let _stop_on_panic = stop_on_panic;
            run();
        };
        let thread = std::thread::Builder::new()
            .name(name)
            .spawn(run)
            .map_err(StartError::Thread)?;
        self.handles.lock().push(thread);
        Ok(())
    }

    /// Starts a data worker. `place` counts the workers over the processors that they are to be kept on.
    fn spawn_worker(
        &self,
        watched: Arc<MonitoredThread>,
        tuning: &Tuning,
        place: usize,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<(), StartError> {
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

    /// Waits until all have ended, or for [`JOIN_TIMEOUT`].
    pub fn join(&self) {
        let mut threads: Vec<_> = self.handles.lock().drain(..).collect();
        for _ in 0..JOIN_TIMEOUT.as_millis() / JOIN_POLL.as_millis() {
            threads.retain(|thread| !thread.is_finished());
            if threads.is_empty() {
                return;
            }
            std::thread::sleep(JOIN_POLL);
        }
        let names: Vec<_> = threads
            .iter()
            .filter_map(|thread| thread.thread().name())
            .collect();
        warn!(threads = names.join(", "), "these do not end; left behind");
    }
}

impl Device {
    /// Starts every thread. Returns once the interface is set up.
    pub(super) fn spawn_all(
        &self,
        plan: &WorkerPlan,
        tuning: &Tuning,
        receiver: HandshakeReceiver,
        given: bool,
        watchdog: watchdog::Options,
    ) -> Result<(), StartError> {
        let link = MonitoredThread::new("wg-link", LinkThread::FUNCTION);
        self.spawn_link(link.clone(), given)?;
        let clock = MonitoredThread::new("wg-clock", clock_thread::FUNCTION);
        let handshake = MonitoredThread::new("wg-handshake", Handshakes::FUNCTION);
        let data_workers = plan.threads(&self.stats.tx, &self.stats.rx);
        let mut posts = vec![
            (link, Work::Periodic(link_thread::PERIOD)),
            (clock.clone(), Work::Periodic(clock_thread::PERIOD)),
            (handshake.clone(), Work::Handshakes(handshake::PERIOD)),
            (self.control.clone(), Work::Control),
        ];
        posts.extend(data_workers.iter().cloned());
        self.spawn_clock(clock)?;
        let path = self.data_path(plan, tuning);
        let handshakes = Handshakes::new(&path, receiver, handshake.clone());
        self.threads.spawn(handshake, move || handshakes.run())?;
        for (thread, work) in data_workers {
            let path = path.clone();
            match work {
                Work::Tx(index) => self.threads.spawn_worker(thread, tuning, 2 * index, move || {
                    OutboundWorker::new(path, index).run()
                }),
                Work::Rx(index) => self.threads.spawn_worker(thread, tuning, 2 * index + 1, move || {
                    InboundWorker::new(path, index).run()
                }),
                Work::Both(index) => self.threads.spawn_worker(thread, tuning, index, move || {
                    CombinedWorker::new(path, index).run()
                }),
                Work::Periodic(_) | Work::Handshakes(_) | Work::Control => continue,
            }?;
        }
        self.spawn_watchdog(watchdog, posts)
    }

    fn data_path(&self, plan: &WorkerPlan, tuning: &Tuning) -> DataPath {
        DataPath {
            keeper: self.keeper.clone(),
            interface: self.interface.clone(),
            peers: self.peers.clone(),
            sockets: self.sockets.clone(),
            handshakes: self.handshakes.clone(),
            stats: self.stats.clone(),
            shutdown: self.shutdown.clone(),
            monitor: self.monitor.clone(),
            busy_poll: tuning.busy_poll,
            never_yield: plan.never_yield,
        }
    }

    /// Starts the thread that sets the interface up, and waits until it has.
    fn spawn_link(&self, own: Arc<MonitoredThread>, given: bool) -> Result<(), StartError> {
        let parts = LinkParts {
            interface: self.interface.clone(),
            given,
            peers: self.peers.clone(),
            stats: self.stats.clone(),
            keeper: self.keeper.clone(),
            handshakes: self.handshakes.clone(),
            shutdown: self.shutdown.clone(),
        };
        let (link, is_ready) = LinkThread::new(parts, own.clone());
        self.threads.spawn(own, move || link.run())?;
        is_ready
            .recv()
            .unwrap_or_else(|_| Err(io::Error::other("the link thread died")))
            .map_err(|source| StartError::Setup {
                name: self.interface.first_name().to_owned(),
                source,
            })
    }

    fn spawn_clock(&self, own: Arc<MonitoredThread>) -> Result<(), StartError> {
        let (shutdown, stats, keeper) = (self.shutdown.clone(), self.stats.clone(), self.keeper.clone());
        self.threads.spawn(own.clone(), move || {
            clock_thread::run(&shutdown, &stats, keeper, &own.heartbeat)
        })
    }

    fn spawn_watchdog(
        &self,
        options: watchdog::Options,
        posts: Vec<(Arc<MonitoredThread>, Work)>,
    ) -> Result<(), StartError> {
        let host = Arc::new(WatchedDevice {
            interface: self.interface.clone(),
            sockets: self.sockets.clone(),
            handshakes: self.handshakes.clone(),
            shutdown: self.shutdown.clone(),
        });
        let (watchdog, reporter) =
            Watchdog::new(host, self.keeper.clone(), self.monitor.clone(), options, posts);
        let own = MonitoredThread::unmonitored("wg-report", watchdog::report::reporter::Reporter::FUNCTION);
        self.threads.spawn(own, move || reporter.run())?;
        let own = MonitoredThread::unmonitored("wg-watchdog", Watchdog::FUNCTION);
        self.threads.spawn(own, move || watchdog.run())
    }
}

/// Stops the device when its thread panics: no tunnel is better than one that carries nothing and says nothing.
struct StopOnPanic(Arc<Shutdown>);

impl Drop for StopOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let cause = io::Error::other("it panicked: a bug, please report it");
            self.0
                .thread_failed(std::thread::current().name().unwrap_or_default(), &cause);
        }
    }
}
