//! The thread `wg-link`: follows the interface through namespaces and tells the device of changes.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use tracing::{debug, warn};

use super::Shared;
use crate::device::link::{self, LinkState, LinkWatch};
use crate::tun;
use sys::poll;
use watchdog::thread::heartbeat::Stage;
use watchdog::thread::registry::MonitoredThread;

/// It wakes so often though nothing happens, to be missed where it does not.
pub(super) const PERIOD: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct LinkThread {
    device: Arc<Shared>,
    own: Arc<MonitoredThread>,
    /// The interface is not ours: it keeps its MTU.
    given: bool,
    ready: Sender<io::Result<()>>,
    /// MTU for which the size of superpackets was last set.
    fitted: u32,
}

impl LinkThread {
    /// What the thread runs, as reports and backtraces name it.
    pub const FUNCTION: &str = concat!(module_path!(), "::LinkThread::run");

    /// What it receives tells that the interface is set up, or why not.
    pub(super) fn new(
        device: Arc<Shared>,
        own: Arc<MonitoredThread>,
        given: bool,
    ) -> (Self, Receiver<io::Result<()>>) {
        let (ready, is_ready) = channel();
        let this = Self {
            device,
            own,
            given,
            ready,
            fitted: 0,
        };
        (this, is_ready)
    }

    /// Sets the interface up, then follows it until the device stops.
    pub(super) fn run(mut self) {
        match self.prepare() {
            Ok(watch) => {
                // Nobody may care any more, which shows in the device's stopping.
                let _ = self.ready.send(Ok(()));
                self.follow(watch);
            }
            Err(error) => drop(self.ready.send(Err(error))),
        }
    }

    fn prepare(&mut self) -> io::Result<LinkWatch> {
        let mut watch = LinkWatch::open()?;
        if !self.given {
            link::set_mtu(self.device.tun.name(), tun::DEFAULT_MTU)?;
        }
        self.look(&mut watch)?;
        Ok(watch)
    }

    fn follow(&mut self, mut watch: LinkWatch) {
        while !self.device.is_stopping() {
            self.own.heartbeat.waits();
            let fds = [Some(watch.as_fd()), Some(self.device.stop_waker().as_fd())];
            match poll::readable_within(fds, Some(PERIOD)) {
                Ok([changed, _]) if changed == poll::Ready::default() => continue,
                Ok(_) => {}
                Err(error) => return self.device.worker_failed("wg-link", &error),
            }
            self.own.heartbeat.enter(Stage::Work);
            watch.clear();
            match self.look(&mut watch) {
                Ok(()) => {}
                Err(error) if is_gone(&error) => return self.device.interface_gone(),
                Err(error) if may_not(&error) => return self.lose_sight(&error),
                // Renamed or moved between two calls: the next event tells.
                Err(error) => debug!(%error, "cannot read the interface's state"),
            }
        }
    }

    /// Reads the state, tells the device, and sets the size of superpackets to what one send takes.
    fn look(&mut self, watch: &mut LinkWatch) -> io::Result<()> {
        let device = self.device.clone();
        let state = watch.visit(&device.tun, || {
            let name = device.tun.current_name()?;
            let state = link::state(&name)?;
            if device.tun.offload().tcp && state.mtu != self.fitted {
                self.fitted = state.mtu;
                // Without it a superpacket may take two sends instead of one.
                if let Err(error) = link::fit_superpackets(&name, state.mtu) {
                    debug!(%error, "cannot set the interface's gso_max_size");
                }
            }
            Ok(state)
        })?;
        self.device.set_link(state);
        Ok(())
    }

    /// Without the right to enter the namespace, the interface counts as up and keeps the MTU last seen.
    fn lose_sight(&self, error: &io::Error) {
        warn!(
            %error,
            "the interface was moved to a network namespace that may not be entered (it needs CAP_SYS_ADMIN): changes of its MTU and state go unseen"
        );
        self.device.set_link(LinkState {
            up: true,
            mtu: self.device.mtu() as u32,
        });
        // There is nothing left for it to do, but it is not one that died.
        while !self.device.is_stopping() {
            self.own.heartbeat.waits();
            let _ = poll::readable_within([Some(self.device.stop_waker().as_fd())], Some(PERIOD));
        }
    }
}

fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EBADFD)
}

fn may_not(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES))
}
