//! What all threads of a device share, and the small things that more than one of them does.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};

use clockshim::Timekeeper;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tracing::{error, info};

use crate::device::link::LinkState;
use crate::device::stats::WorkerMetrics;
use crate::tun::{self, Tun};
use crate::tuning::Tuning;
use crate::udp::{BindError, SendFailure, Sockets};
use crate::workers::combined::CombinedWorker;
use crate::workers::handshake_queue::HandshakeQueue;
use crate::workers::inbound::InboundWorker;
use crate::workers::outbound::OutboundWorker;
use sys::poll::{self, Waker};
use watchdog::detect::thread_monitor::Work;
use watchdog::host::{Host, Monitor};
use watchdog::thread::control_thread;
use watchdog::thread::registry::MonitoredThread;
use wireguard::allowed_ips::AllowedIps;
use wireguard::drop_reason::{DropReason, Drops};
use wireguard::endpoint::Endpoint;
use wireguard::index_table::IndexTable;
use wireguard::key::{PrivateKey, PublicKey};
use wireguard::noise::Identity;
use wireguard::peer::{Peer, PeerRef};
use wireguard::tunnel::{Now, Outbox};

/// Lock order: `settings`, then `peers`, then `routing`, then a peer's tunnel, then the index table.
#[derive(Debug)]
pub struct Shared {
    pub keeper: Arc<Timekeeper>,
    pub tun: Tun,
    pub handshakes: HandshakeQueue,
    pub indices: Arc<IndexTable>,
    pub routing: RwLock<AllowedIps<PeerRef>>,
    pub drops: Drops,
    pub tx_metrics: Vec<Arc<WorkerMetrics>>,
    pub rx_metrics: Vec<Arc<WorkerMetrics>>,
    pub(super) settings: Mutex<Settings>,
    pub(super) peers: RwLock<HashMap<PublicKey, Arc<Peer>>>,
    identity: RwLock<Option<Arc<Identity>>>,
    sockets: RwLock<OpenSockets>,
    mtu: AtomicU32,
    up: AtomicBool,
    /// `errno` of the last refused send; 0: none since it was last looked at.
    send_error: AtomicI32,
    /// What was found wrong with the clocks used so far, one line each.
    clock_verdicts: Mutex<Vec<String>>,
    /// Whoever serves the control socket, signals and timers.
    pub control: Arc<MonitoredThread>,
    pub monitor: Arc<Monitor>,
    stop_waker: Waker,
    rx_wakers: Vec<Waker>,
    /// Workers go on without a pause for as long as packets wait.
    pub never_yield: bool,
    /// Whether a worker carries both ways.
    combined: bool,
    pub tuning: Tuning,
    stopping: watch::Sender<bool>,
    /// The same, for threads that take no lock.
    is_stopping: AtomicBool,
}

/// The sockets in use, and which they are: the first ones, the second, ...
#[derive(Debug, Default)]
struct OpenSockets {
    sockets: Option<Arc<Sockets>>,
    generation: u64,
}

/// What `get` gives back and only `set` changes.
#[derive(Debug, Default)]
pub(super) struct Settings {
    pub private_key: Option<PrivateKey>,
    pub fwmark: u32,
    /// Peers so far, for their order.
    pub peers_added: u64,
}

impl Shared {
    pub(super) fn new(
        keeper: Arc<Timekeeper>,
        tun: Tun,
        handshakes: HandshakeQueue,
        tx_workers: usize,
        rx_workers: usize,
        never_yield: bool,
        tuning: Tuning,
    ) -> io::Result<Self> {
        let metrics = |way: &str, indices: Range<usize>, function| -> Vec<_> {
            let watched = |index| MonitoredThread::new(format!("wg-{way}/{index}"), function);
            indices
                .map(|index| Arc::new(WorkerMetrics::new(watched(index))))
                .collect()
        };
        // The worker of 2019, which does not yield, had a thread of its own.
        let combined = tuning.combined.unwrap_or(!never_yield && processors_are_few());
        let tx_metrics = if combined {
            metrics("txrx", 0..tx_workers, CombinedWorker::FUNCTION)
        } else {
            metrics("tx", 0..tx_workers, OutboundWorker::FUNCTION)
        };
        // A combined worker keeps two accounts. Sockets without a queue, as with a plain interface, have an rx worker.
        let mut rx_metrics: Vec<_> = tx_metrics
            .iter()
            .filter(|_| combined)
            .map(|tx| Arc::new(WorkerMetrics::new(tx.thread.clone())))
            .collect();
        rx_metrics.extend(metrics(
            "rx",
            rx_metrics.len()..rx_workers,
            InboundWorker::FUNCTION,
        ));
        Ok(Self {
            keeper,
            tun,
            handshakes,
            indices: Arc::default(),
            routing: RwLock::new(AllowedIps::default()),
            drops: Drops::default(),
            tx_metrics,
            rx_metrics,
            settings: Mutex::default(),
            peers: RwLock::default(),
            identity: RwLock::default(),
            sockets: RwLock::default(),
            mtu: AtomicU32::new(tun::DEFAULT_MTU),
            up: AtomicBool::new(false),
            send_error: AtomicI32::new(0),
            clock_verdicts: Mutex::default(),
            control: MonitoredThread::new("hpetun-control", control_thread::FUNCTION),
            monitor: Arc::new(Monitor::new()?),
            stop_waker: Waker::new()?,
            rx_wakers: (0..rx_workers).map(|_| Waker::new()).collect::<io::Result<_>>()?,
            never_yield,
            combined,
            tuning,
            stopping: watch::Sender::new(false),
            is_stopping: AtomicBool::new(false),
        })
    }

    /// Now, by the packet clock and the wall clock.
    pub fn now(&self) -> Now {
        Now {
            boot: self.keeper.fast(),
            wall: clockshim::wall_clock(),
        }
    }

    // The interface.

    pub fn interface(&self) -> String {
        self.tun
            .current_name()
            .unwrap_or_else(|_| self.tun.name().to_owned())
    }

    pub fn mtu(&self) -> usize {
        self.mtu.load(Ordering::Relaxed) as usize
    }

    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// Down ends every session; up greets the peers that want to be kept alive.
    pub(super) fn set_link(&self, link: LinkState) {
        if self.mtu.swap(link.mtu, Ordering::Relaxed) != link.mtu {
            info!(mtu = link.mtu, "MTU changed");
        }
        if self.up.swap(link.up, Ordering::Relaxed) == link.up {
            return;
        }
        info!(
            interface = self.interface(),
            "interface {}",
            if link.up { "up" } else { "down" }
        );
        let now = self.keeper.fast();
        self.for_each_peer(|peer| {
            if link.up {
                peer.tunnel().wake(now);
            } else {
                let dropped = peer.tunnel().reset();
                self.drops.add(DropReason::InterfaceDown, dropped as u64);
            }
        });
        self.handshakes.tick();
    }

    pub(super) fn offload_name(&self) -> &'static str {
        if self.tun.offload().tcp { "on" } else { "off" }
    }

    // Our key and the peers.

    pub fn identity(&self) -> Option<Arc<Identity>> {
        self.identity.read().clone()
    }

    pub(super) fn set_identity(&self, identity: Option<Arc<Identity>>) {
        *self.identity.write() = identity;
    }

    pub fn peer(&self, key: &PublicKey) -> Option<Arc<Peer>> {
        self.peers.read().get(key).cloned()
    }

    pub fn for_each_peer(&self, mut each: impl FnMut(&Arc<Peer>)) {
        self.peers.read().values().for_each(&mut each);
    }

    // Sockets.

    /// Opens sockets on `port` in place of those that are open, which go once nobody uses them.
    pub(super) fn open_sockets(&self, port: u16, mark: u32) -> Result<(), BindError> {
        let sockets = Sockets::bind(port, mark, self.rx_wakers.len(), self.tuning.udp_buffer)?;
        let sockets = Some(Arc::new(sockets));
        let mut open = self.sockets.write();
        let generation = open.generation + 1;
        *open = OpenSockets { sockets, generation };
        drop(open);
        self.rx_wakers.iter().for_each(Waker::wake);
        // A packet to the new ones must wake the watchdog.
        self.monitor.idle_wakeup.notify();
        Ok(())
    }

    pub fn sockets(&self) -> Arc<Sockets> {
        self.sockets
            .read()
            .sockets
            .clone()
            .expect("opened before any thread starts")
    }

    /// Sends handshake messages and the like to a peer.
    pub fn send_to_peer(&self, peer: &Peer, out: &Outbox) {
        if out.is_empty() {
            return;
        }
        let Some(mut endpoint) = peer.tunnel().endpoint else {
            return self.drops.add(DropReason::TxNoEndpoint, out.len() as u64);
        };
        let before = endpoint;
        self.send_control(&mut endpoint, out);
        if endpoint != before {
            peer.tunnel().resettle(endpoint);
        }
    }

    pub fn send_control(&self, endpoint: &mut Endpoint, out: &[Vec<u8>]) {
        let sockets = self.sockets();
        for message in out {
            if let Err(failure) = sockets.send(0, endpoint, message, None) {
                self.drops.add(DropReason::TxSendError, 1);
                if let SendFailure::Refused(errno) = failure {
                    self.note_send_error(errno);
                }
            }
        }
    }

    pub fn note_send_error(&self, errno: i32) {
        self.send_error.store(errno, Ordering::Relaxed);
    }

    pub fn take_send_error(&self) -> Option<io::Error> {
        let errno = self.send_error.swap(0, Ordering::Relaxed);
        (errno != 0).then(|| io::Error::from_raw_os_error(errno))
    }

    // The clock.

    pub(super) fn note_clock_verdict(&self, verdict: String) {
        self.clock_verdicts.lock().push(verdict);
    }

    pub(super) fn clock_verdicts(&self) -> Vec<String> {
        self.clock_verdicts.lock().clone()
    }

    // The watchdog, which must not wait for anybody.

    /// The threads that carry packets.
    pub fn data_workers(&self) -> Vec<(Arc<MonitoredThread>, Work)> {
        let combined = self.combined;
        let tx = self.tx_metrics.iter().enumerate().map(|(index, tx)| {
            let work = if combined {
                Work::Both(index)
            } else {
                Work::Tx(index)
            };
            (tx.thread.clone(), work)
        });
        let rx = self.rx_metrics.iter().enumerate();
        let rx = rx.skip(if combined { self.tx_metrics.len() } else { 0 });
        tx.chain(rx.map(|(index, rx)| (rx.thread.clone(), Work::Rx(index))))
            .collect()
    }

    /// `None` where somebody changes them just now.
    pub fn sockets_at_hand(&self) -> Option<Arc<Sockets>> {
        self.sockets.try_read()?.sockets.clone()
    }

    // The end.

    pub fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }

    pub(super) fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }

    /// Readable once the device stops, and from then on.
    pub fn stop_waker(&self) -> &Waker {
        &self.stop_waker
    }

    /// Wakes one rx worker, for new sockets or for the end.
    pub fn rx_waker(&self, worker: usize) -> &Waker {
        &self.rx_wakers[worker]
    }

    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        self.stopping.send_replace(true);
        self.stop_waker.wake();
        self.rx_wakers.iter().for_each(Waker::wake);
        self.handshakes.tick();
    }

    /// Somebody deleted the interface: there is nothing left to do.
    pub fn interface_gone(&self) {
        if !self.is_stopping() {
            info!(interface = self.tun.name(), "interface deleted");
            self.stop();
        }
    }

    /// A queue of the interface gave an error to that worker.
    pub fn queue_failed(&self, worker: &str, cause: &io::Error) {
        if cause.raw_os_error() == Some(libc::EBADFD) {
            self.interface_gone();
        } else {
            self.worker_failed(worker, cause);
        }
    }

    pub fn worker_failed(&self, worker: &str, cause: &io::Error) {
        error!(worker, error = %cause, "worker failed; stopping");
        self.stop();
    }
}

impl Host for Shared {
    fn interface(&self) -> String {
        self.tun.name().to_owned()
    }

    fn is_stopping(&self) -> bool {
        Self::is_stopping(self)
    }

    fn stop_descriptor(&self) -> BorrowedFd<'_> {
        self.stop_waker.as_fd()
    }

    fn has_work(&self, work: Work) -> bool {
        match work {
            Work::Both(worker) => self.has_work(Work::Tx(worker)) || self.has_work(Work::Rx(worker)),
            Work::Tx(worker) => is_any_readable([Some(self.tun.queue(worker).as_fd()), None]),
            Work::Rx(worker) => {
                let sockets = self.sockets_at_hand();
                sockets.is_some_and(|sockets| is_any_readable(sockets.of_worker(worker)))
            }
            Work::Handshakes(_) => self.handshakes.has_work(),
            Work::Periodic(_) | Work::Control => false,
        }
    }

    fn packet_descriptor_generation(&self) -> Option<u64> {
        Some(self.sockets.try_read()?.generation)
    }

    fn packet_descriptors(
        &self,
        each: &mut dyn FnMut(BorrowedFd<'_>) -> io::Result<()>,
    ) -> Option<io::Result<u64>> {
        let open = self.sockets.try_read()?;
        let sockets = open.sockets.as_ref()?;
        let queues = (0..self.tun.queues()).map(|queue| self.tun.queue(queue).as_fd());
        let sockets =
            (0..sockets.workers()).flat_map(|worker| sockets.of_worker(worker).into_iter().flatten());
        Some(queues.chain(sockets).try_for_each(each).map(|()| open.generation))
    }

    fn thread_failed(&self, thread: &str, cause: &io::Error) {
        self.worker_failed(thread, cause);
    }
}

/// So few that two threads a tunnel are in each other's way: both ends on two processors, one thread each took a seventh off
/// the processor time of TCP and a fifth off a ping.
fn processors_are_few() -> bool {
    std::thread::available_parallelism().is_ok_and(|processors| processors.get() <= 2)
}

fn is_any_readable(fds: [Option<BorrowedFd<'_>>; 2]) -> bool {
    poll::readable(fds, 0).is_ok_and(|found| found.iter().any(|one| one.readable))
}
