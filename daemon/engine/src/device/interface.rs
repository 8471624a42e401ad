//! The interface: its queues, and its MTU and state as the thread `wg-link` last read them.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use tracing::info;

use crate::device::link::LinkState;
use crate::tun::{self, Offload, Tun, TunQueue};

#[derive(Debug)]
pub struct Interface<Q = TunQueue> {
    tun: Tun<Q>,
    mtu: AtomicU32,
    up: AtomicBool,
}

impl<Q> Interface<Q> {
    /// Down, with the default MTU, until [`Self::set_link`] says otherwise.
    pub fn new(tun: Tun<Q>) -> Self {
        Self {
            tun,
            mtu: AtomicU32::new(tun::DEFAULT_MTU),
            up: AtomicBool::new(false),
        }
    }

    /// Bytes of an IP packet, at most.
    #[inline]
    pub fn mtu(&self) -> usize {
        self.mtu.load(Ordering::Relaxed) as usize
    }

    #[inline]
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// The queue of a worker.
    #[inline]
    pub fn queue(&self, worker: usize) -> &Q {
        self.tun.queue(worker)
    }

    /// All queues.
    pub fn queues(&self) -> &[Q] {
        self.tun.queues()
    }

    pub fn offload(&self) -> Offload {
        self.tun.offload()
    }

    pub fn offload_name(&self) -> &'static str {
        if self.offload().tcp { "on" } else { "off" }
    }

    /// Its name when it was made; it may have been renamed since.
    pub fn first_name(&self) -> &str {
        self.tun.name()
    }

    /// Stores what was read of the interface. `Some` where it went up (true) or down (false).
    pub fn set_link(&self, link: LinkState) -> Option<bool> {
        if self.mtu.swap(link.mtu, Ordering::Relaxed) != link.mtu {
            info!(mtu = link.mtu, "MTU changed");
        }
        (self.up.swap(link.up, Ordering::Relaxed) != link.up).then_some(link.up)
    }
}

impl Interface {
    pub fn tun(&self) -> &Tun {
        &self.tun
    }

    /// Its name now, in the namespace where it is now.
    pub fn name(&self) -> String {
        self.tun
            .current_name()
            .unwrap_or_else(|_| self.tun.name().to_owned())
    }
}
