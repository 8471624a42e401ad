//! Feeds systemd's watchdog: only while no thread is stalled, so that systemd starts anew what does not recover.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

#[derive(Debug)]
pub struct SystemdWatchdog {
    /// `None` where systemd does not wait for it.
    systemd: Option<Systemd>,
    next: Duration,
}

#[derive(Debug)]
struct Systemd {
    /// Does not block: a systemd that does not read must not hold the watchdog up.
    socket: UnixDatagram,
    address: SocketAddr,
    /// Half of what systemd waits.
    interval: Duration,
}

impl SystemdWatchdog {
    /// As the unit's `WatchdogSec=` says.
    pub fn from_environment() -> Self {
        Self {
            systemd: Systemd::from_environment(),
            next: Duration::ZERO,
        }
    }

    /// When it is to be fed next, if all is well; `None` where nobody waits for it.
    pub fn due(&self) -> Option<Duration> {
        self.systemd.as_ref().map(|_| self.next)
    }

    /// By the watchdog's clock.
    pub fn notify(&mut self, now: Duration, is_healthy: bool) {
        let Some(systemd) = &self.systemd else { return };
        if is_healthy && now >= self.next {
            self.next = now + systemd.interval;
            // A full queue is no loss: what waits there says the same.
            let _ = systemd.socket.send_to_addr(b"WATCHDOG=1", &systemd.address);
        }
    }
}

impl Systemd {
    fn from_environment() -> Option<Self> {
        let interval = sd_notify::watchdog_enabled()? / 2;
        let name = std::env::var_os("NOTIFY_SOCKET")?;
        let address = match name.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(&name),
        };
        let socket = UnixDatagram::unbound().ok()?;
        socket.set_nonblocking(true).ok()?;
        Some(Self {
            socket,
            address: address.ok()?,
            interval,
        })
    }
}
