//! The thread `wg-link`: follows the interface through namespaces and tells the device of changes.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use tracing::{debug, warn};

use super::Shared;
use crate::link::{self, LinkState, LinkWatch};
use std::os::fd::AsFd;

use crate::sys::poll;
use crate::tun;

#[derive(Debug)]
pub(super) struct LinkThread {
    device: Arc<Shared>,
    /// MTU for which the size of superpackets was last set.
    fitted: u32,
}

impl LinkThread {
    /// Sets the interface up and returns when that is done. One that was `given` to us keeps its MTU.
    pub(super) fn start(device: Arc<Shared>, given: bool) -> io::Result<JoinHandle<()>> {
        let (ready, is_ready) = std::sync::mpsc::channel();
        let mut this = Self { device, fitted: 0 };
        let thread = std::thread::Builder::new()
            .name("wg-link".to_owned())
            .spawn(move || {
                let watch = match this.prepare(given) {
                    Ok(watch) => watch,
                    Err(error) => {
                        let _ = ready.send(Err(error));
                        return;
                    }
                };
                let _ = ready.send(Ok(()));
                this.run(watch);
            })?;
        is_ready
            .recv()
            .unwrap_or_else(|_| Err(io::Error::other("the link thread died")))?;
        Ok(thread)
    }

    fn prepare(&mut self, given: bool) -> io::Result<LinkWatch> {
        let mut watch = LinkWatch::open()?;
        if !given {
            link::set_mtu(self.device.tun.name(), tun::DEFAULT_MTU)?;
        }
        self.look(&mut watch)?;
        Ok(watch)
    }

    fn run(mut self, mut watch: LinkWatch) {
        while !self.device.is_stopping() {
            let fds = [Some(watch.as_fd()), Some(self.device.stop_waker().as_fd())];
            if let Err(error) = poll::readable(fds, -1) {
                return self.device.worker_failed("wg-link", &error);
            }
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
    }
}

fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EBADFD)
}

fn may_not(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES))
}
