//! Feeds systemd's watchdog: only while no thread is stalled, so that systemd starts anew what does not recover.

use std::time::Duration;

use sd_notify::NotifyState;

#[derive(Debug)]
pub struct Feeder {
    /// Half of what systemd waits; `None` where it does not.
    interval: Option<Duration>,
    next: Duration,
}

impl Feeder {
    /// As the unit's `WatchdogSec=` says.
    pub fn of_this_unit() -> Self {
        Self {
            interval: sd_notify::watchdog_enabled().map(|limit| limit / 2),
            next: Duration::ZERO,
        }
    }

    /// By the watchdog's clock.
    pub fn feed(&mut self, now: Duration, all_is_well: bool) {
        let Some(interval) = self.interval else { return };
        if all_is_well && now >= self.next {
            self.next = now + interval;
            // Without systemd's socket there is nobody to be fed.
            let _ = sd_notify::notify(&[NotifyState::Watchdog]);
        }
    }
}
