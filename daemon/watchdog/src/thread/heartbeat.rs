//! A thread's heartbeat: what it tells the watchdog of itself. No clock is read, and nothing is shared but this line.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

/// Written by one thread, read by the watchdog. A beat is a relaxed load and store: one or two nanoseconds.
///
/// Two cache lines wide, since processors fetch lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Heartbeat {
    packets: AtomicU64,
    yields: AtomicU64,
    stage: AtomicU8,
}

/// What a thread is doing. An outbound worker goes through `Read`, `Stamp`, `Route`, `Seal`, `Send`, an inbound one through `Read`,
/// `Stamp`, `Open`, `Route`, `Write`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// It waits for work, in the kernel.
    #[default]
    Idle,
    /// It reads from the interface or from a socket.
    Read,
    /// It reads the packet clock.
    Stamp,
    /// It looks up peers by allowed IPs.
    Route,
    /// It encrypts.
    Seal,
    /// It decrypts.
    Open,
    /// It sends to a socket.
    Send,
    /// It writes to the interface.
    Write,
    /// Something other than packets.
    Work,
}

impl Stage {
    const ALL: [Self; 9] = [
        Self::Idle,
        Self::Read,
        Self::Stamp,
        Self::Route,
        Self::Seal,
        Self::Open,
        Self::Send,
        Self::Write,
        Self::Work,
    ];

    /// As reports name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Read => "read",
            Self::Stamp => "stamp",
            Self::Route => "route",
            Self::Seal => "seal",
            Self::Open => "open",
            Self::Send => "send",
            Self::Write => "write",
            Self::Work => "work",
        }
    }
}

/// What the watchdog saw of a heartbeat at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HeartbeatSnapshot {
    pub packets: u64,
    pub yields: u64,
    pub stage: Stage,
}

impl Heartbeat {
    /// It is at that stage now.
    #[inline]
    pub fn enter(&self, stage: Stage) {
        self.stage.store(stage as u8, Relaxed);
    }

    /// So many packets more went through its hands. Single writer, so a load and a store do for an addition.
    #[inline]
    pub fn packets(&self, packets: u64) {
        self.packets.store(self.packets.load(Relaxed) + packets, Relaxed);
    }

    /// It gives up the processor if anybody wants it, and looks whether it is to stop.
    #[inline]
    pub fn yielded(&self) {
        self.yields.store(self.yields.load(Relaxed) + 1, Relaxed);
    }

    /// It is about to wait for work.
    #[inline]
    pub fn waits(&self) {
        self.yielded();
        self.enter(Stage::Idle);
    }

    pub fn snapshot(&self) -> HeartbeatSnapshot {
        let stage = self.stage.load(Relaxed);
        HeartbeatSnapshot {
            packets: self.packets.load(Relaxed),
            yields: self.yields.load(Relaxed),
            stage: Stage::ALL.get(usize::from(stage)).copied().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stage_is_seen_as_itself() {
        let heartbeat = Heartbeat::default();
        for stage in Stage::ALL {
            heartbeat.enter(stage);
            assert_eq!(heartbeat.snapshot().stage, stage);
        }
        let names = Stage::ALL.map(Stage::as_str);
        assert_eq!(
            names,
            [
                "idle", "read", "stamp", "route", "seal", "open", "send", "write", "work"
            ]
        );
    }

    #[test]
    fn beats_are_seen() {
        let heartbeat = Heartbeat::default();
        assert_eq!(heartbeat.snapshot(), HeartbeatSnapshot::default());
        heartbeat.enter(Stage::Seal);
        heartbeat.packets(45);
        heartbeat.packets(3);
        heartbeat.yielded();
        let busy = HeartbeatSnapshot {
            packets: 48,
            yields: 1,
            stage: Stage::Seal,
        };
        assert_eq!(heartbeat.snapshot(), busy);
        heartbeat.waits();
        assert_eq!(
            (heartbeat.snapshot().yields, heartbeat.snapshot().stage),
            (2, Stage::Idle)
        );
    }
}
