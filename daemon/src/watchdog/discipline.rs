//! Keeps reports from filling the log, whatever stalls however often.

use std::time::Duration;

/// Reports in one window at most.
const MOST: u32 = 5;
const WINDOW: Duration = Duration::from_secs(60);

/// All times by the watchdog's clock.
#[derive(Debug, Default)]
pub struct Discipline {
    opened: Option<Duration>,
    made: u32,
    suppressed: u64,
}

impl Discipline {
    /// Whether a report may be made now, and how many were suppressed since the last one that was.
    pub fn allow(&mut self, now: Duration) -> Option<u64> {
        if self
            .opened
            .is_none_or(|opened| now.saturating_sub(opened) >= WINDOW)
        {
            self.opened = Some(now);
            self.made = 0;
        }
        if self.made == MOST {
            self.suppressed += 1;
            return None;
        }
        self.made += 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_reports_a_minute_and_the_rest_is_counted() {
        let mut discipline = Discipline::default();
        let reports = (0..120).map(|second| discipline.allow(Duration::from_secs(second)));
        let reports: Vec<_> = reports.flatten().collect();
        assert_eq!(reports, [0, 0, 0, 0, 0, 55, 0, 0, 0, 0]);
    }
}
