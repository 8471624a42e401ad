//! A device: an interface, its peers, its sockets and the threads between them. [`builder`] starts it, [`threads`] has its
//! threads, `control` what can be changed while it runs.

pub mod active_sockets;
pub mod builder;
mod clock_readers;
mod clock_thread;
mod control;
pub mod interface;
pub mod link;
mod link_thread;
pub mod peer_table;
pub mod shutdown;
pub mod stats;
pub mod threads;
mod watched_device;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use clockshim::Timekeeper;

use crate::workers::handshake_queue::HandshakeQueue;
use active_sockets::ActiveSockets;
pub use builder::{DeviceOptions, StartError};
use interface::Interface;
use peer_table::PeerTable;
use shutdown::Shutdown;
use stats::Stats;
use threads::Threads;
use watchdog::host::Monitor;
use watchdog::thread::control_thread::{self, ControlTasks};
use watchdog::thread::registry::MonitoredThread;

/// Owns every part. Each thread holds those parts that it needs.
#[derive(Debug)]
pub struct Device {
    keeper: Arc<Timekeeper>,
    interface: Arc<Interface>,
    peers: Arc<PeerTable>,
    sockets: Arc<ActiveSockets>,
    handshakes: HandshakeQueue,
    stats: Arc<Stats>,
    monitor: Arc<Monitor>,
    shutdown: Arc<Shutdown>,
    threads: Threads,
    /// The threads that serve the control socket, signals and timers.
    control: Arc<MonitoredThread>,
    /// The longest time between two beats of the control threads.
    control_beat: Duration,
}

impl Device {
    /// Beats for the threads that serve the control socket, signals and timers, and has every thread's state logged at
    /// SIGUSR1, for as long as the result lives. To be called on their runtime.
    ///
    /// # Errors
    /// Where the signal cannot be listened to.
    pub fn attend_control(&self) -> io::Result<ControlTasks> {
        control_thread::start(&self.monitor, self.control.clone(), self.control_beat)
    }

    /// Name of the interface, in the namespace where it is now.
    pub fn interface(&self) -> String {
        self.interface.name()
    }

    /// Ends the threads and waits for them, up to a limit: one that hangs must not keep the process from its end.
    /// The interface is deleted with the last reference to the device.
    pub fn stop(&self) {
        self.shutdown.stop();
        self.threads.join();
    }

    /// Resolves when the interface was deleted, a worker failed, or [`Device::stop`] was called.
    pub async fn stopped(&self) {
        let mut stopping = self.shutdown.subscribe();
        // An error means that the device no longer exists.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.stop();
    }
}
