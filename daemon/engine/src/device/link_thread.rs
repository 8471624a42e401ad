//! The thread `wg-link`: follows the interface through namespaces, and passes its MTU and state on.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use clockshim::Timekeeper;
use tracing::{debug, info, warn};

use super::interface::Interface;
use super::peer_table::PeerTable;
use super::shutdown::Shutdown;
use super::stats::Stats;
use crate::device::link::{self, LinkState, LinkWatch};
use crate::tun;
use crate::workers::handshake_queue::HandshakeQueue;
use sys::poll;
use watchdog::thread::heartbeat::Stage;
use watchdog::thread::registry::MonitoredThread;
use wireguard::drop_reason::DropReason;

/// It wakes at this interval even when nothing happens, so that the watchdog notices when it does not.
pub(super) const PERIOD: Duration = Duration::from_secs(1);

/// What it reads and what it tells of changes.
#[derive(Debug)]
pub(super) struct LinkParts {
    pub interface: Arc<Interface>,
    /// The interface is not ours: it keeps its MTU.
    pub given: bool,
    pub peers: Arc<PeerTable>,
    pub stats: Arc<Stats>,
    pub keeper: Arc<Timekeeper>,
    pub handshakes: HandshakeQueue,
    pub shutdown: Arc<Shutdown>,
}

#[derive(Debug)]
pub(super) struct LinkThread {
    parts: LinkParts,
    own: Arc<MonitoredThread>,
    ready: Sender<io::Result<()>>,
    /// MTU for which the size of superpackets was last set.
    fitted: u32,
}

impl LinkThread {
    /// What the thread runs, as reports and backtraces name it.
    pub const FUNCTION: &str = concat!(module_path!(), "::LinkThread::run");

    /// What it receives tells that the interface is set up, or why not.
    pub(super) fn new(parts: LinkParts, own: Arc<MonitoredThread>) -> (Self, Receiver<io::Result<()>>) {
        let (ready, is_ready) = channel();
        let this = Self {
            parts,
            own,
            ready,
            fitted: 0,
        };
        (this, is_ready)
    }

    /// Sets the interface up, then follows it until the device stops.
    pub(super) fn run(mut self) {
        match self.prepare() {
            Ok(watch) => {
                // An error means that the start was given up, and then the device stops.
                let _ = self.ready.send(Ok(()));
                self.follow(watch);
            }
            Err(error) => drop(self.ready.send(Err(error))),
        }
    }

    fn prepare(&mut self) -> io::Result<LinkWatch> {
        let mut watch = LinkWatch::open()?;
        if !self.parts.given {
            link::set_mtu(self.parts.interface.first_name(), tun::DEFAULT_MTU)?;
        }
        self.refresh(&mut watch)?;
        Ok(watch)
    }

    fn follow(&mut self, mut watch: LinkWatch) {
        while !self.parts.shutdown.is_stopping() {
            self.own.heartbeat.waits();
            let fds = [Some(watch.as_fd()), Some(self.parts.shutdown.descriptor())];
            match poll::readable_within(fds, Some(PERIOD)) {
                Ok([changed, _]) if changed == poll::Ready::default() => continue,
                Ok(_) => {}
                Err(error) => return self.parts.shutdown.thread_failed("wg-link", &error),
            }
            self.own.heartbeat.enter(Stage::Work);
            watch.clear();
            match self.refresh(&mut watch) {
                Ok(()) => {}
                Err(error) if is_gone(&error) => {
                    let name = self.parts.interface.first_name();
                    return self.parts.shutdown.interface_deleted(name);
                }
                Err(error) if may_not(&error) => return self.lose_sight(&error),
                // Renamed or moved between two calls: the next event tells.
                Err(error) => debug!(%error, "cannot read the interface's state"),
            }
        }
    }

    /// Reads the state, passes it on, and sets the size of superpackets to what one send takes.
    fn refresh(&mut self, watch: &mut LinkWatch) -> io::Result<()> {
        let interface = self.parts.interface.clone();
        let tun = interface.tun();
        let state = watch.visit(tun, || {
            let name = tun.current_name()?;
            let state = link::state(&name)?;
            if tun.offload().tcp && state.mtu != self.fitted {
                self.fitted = state.mtu;
                // Without it a superpacket may take two sends instead of one.
                if let Err(error) = link::fit_superpackets(&name, state.mtu) {
                    debug!(%error, "cannot set the interface's gso_max_size");
                }
            }
            Ok(state)
        })?;
        self.set_link(state);
        Ok(())
    }

    /// Down ends every session; up sends a keepalive to the peers that are to be kept alive.
    fn set_link(&self, link: LinkState) {
        let parts = &self.parts;
        let Some(up) = parts.interface.set_link(link) else {
            return;
        };
        info!(
            interface = parts.interface.name(),
            "interface {}",
            if up { "up" } else { "down" }
        );
        if up {
            parts.peers.interface_up(parts.keeper.fast());
        } else {
            let dropped = parts.peers.interface_down();
            parts.stats.drops.add(DropReason::InterfaceDown, dropped);
        }
        parts.handshakes.tick();
    }

    /// Without the right to enter the namespace, the interface counts as up and keeps the MTU last seen.
    fn lose_sight(&self, error: &io::Error) {
        warn!(
            %error,
            "the interface was moved to a network namespace that may not be entered (it needs CAP_SYS_ADMIN): changes of its MTU and state go unseen"
        );
        self.set_link(LinkState {
            up: true,
            mtu: self.parts.interface.mtu() as u32,
        });
        // It has nothing left to do, but it goes on beating.
        while !self.parts.shutdown.is_stopping() {
            self.own.heartbeat.waits();
            let _ = poll::readable_within([Some(self.parts.shutdown.descriptor())], Some(PERIOD));
        }
    }
}

fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EBADFD)
}

fn may_not(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES))
}
