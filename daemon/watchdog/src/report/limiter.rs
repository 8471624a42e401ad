//! Keeps reports from filling the log, whatever stalls however often.

use std::time::Duration;

/// Reports in one window at most, wherever it begins.
const MAX_REPORTS: usize = 5;
const WINDOW: Duration = Duration::from_secs(60);

/// All times by the watchdog's clock.
#[derive(Debug, Default)]
pub struct ReportLimiter {
    /// When the last ones were made; the oldest is at `next`.
    made: [Option<Duration>; MAX_REPORTS],
    next: usize,
    /// Since the last one that was made.
    suppressed: u64,
}

impl ReportLimiter {
    /// Whether a report may be made now, and how many were suppressed since the last one that was.
    pub fn allow(&mut self, now: Duration) -> Option<u64> {
        if self.made[self.next].is_some_and(|made| is_recent(made, now)) {
            self.suppressed += 1;
            return None;
        }
        self.made[self.next] = Some(now);
        self.next = (self.next + 1) % MAX_REPORTS;
        Some(std::mem::take(&mut self.suppressed))
    }

    /// A report that was allowed was not made after all. With those of which it was to tell.
    pub fn return_unused(&mut self, with: u64) {
        self.suppressed += with + 1;
    }

    /// How many were suppressed, where no report has come for so long that none will say it.
    pub fn take_suppressed(&mut self, now: Duration) -> Option<u64> {
        let has_closed = !self.made.iter().flatten().any(|made| is_recent(*made, now));
        has_closed.then(|| self.take_suppressed_at_exit())?
    }

    /// The same at the end.
    pub fn take_suppressed_at_exit(&mut self) -> Option<u64> {
        Some(std::mem::take(&mut self.suppressed)).filter(|count| *count > 0)
    }
}

fn is_recent(made: Duration, now: Duration) -> bool {
    now.saturating_sub(made) < WINDOW
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(limiter: &mut ReportLimiter, seconds: impl IntoIterator<Item = u64>) -> Vec<u64> {
        let all = seconds.into_iter();
        all.filter_map(|second| limiter.allow(Duration::from_secs(second)))
            .collect()
    }

    #[test]
    fn five_reports_a_minute_and_the_rest_is_counted() {
        let mut limiter = ReportLimiter::default();
        assert_eq!(allowed(&mut limiter, 0..120), [0, 0, 0, 0, 0, 55, 0, 0, 0, 0]);
    }

    #[test]
    fn no_minute_has_more_wherever_it_begins() {
        let mut limiter = ReportLimiter::default();
        assert_eq!(allowed(&mut limiter, [0, 58, 58, 58, 58]), [0; 5]);
        // Of the first one a minute has passed, of the others two seconds.
        assert_eq!(allowed(&mut limiter, [60, 60, 60]), [0]);
    }

    #[test]
    fn what_no_report_says_is_said_without_one() {
        let mut limiter = ReportLimiter::default();
        allowed(&mut limiter, [0; 8]);
        assert_eq!(limiter.take_suppressed(Duration::from_secs(59)), None);
        assert_eq!(limiter.take_suppressed(Duration::from_secs(60)), Some(3));
        assert_eq!(limiter.take_suppressed(Duration::from_secs(61)), None);
        limiter.return_unused(2);
        assert_eq!(allowed(&mut limiter, [62]), [3]);
        assert_eq!(limiter.take_suppressed_at_exit(), None);
    }
}
