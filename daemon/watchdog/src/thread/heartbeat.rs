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

/// What a thread is at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// It waits for work, in the kernel.
    #[default]
    Idle,
    Read,
    Stamp,
    Route,
    /// It seals, or opens.
    Seal,
    /// It sends, or writes to the interface.
    Send,
    /// Something other than packets.
    Work,
}

impl Stage {
    const ALL: [Self; 7] = [
        Self::Idle,
        Self::Read,
        Self::Stamp,
        Self::Route,
        Self::Seal,
        Self::Send,
        Self::Work,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Read => "read",
            Self::Stamp => "stamp",
            Self::Route => "route",
            Self::Seal => "seal",
            Self::Send => "send",
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
            stage: Stage::ALL
                .into_iter()
                .find(|known| *known as u8 == stage)
                .unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(
            Stage::ALL
                .iter()
                .enumerate()
                .all(|(i, stage)| *stage as usize == i)
        );
    }
}
