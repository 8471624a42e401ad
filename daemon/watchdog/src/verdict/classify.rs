//! Tells what kind of stall it is, from the figures that the report prints.

use stall_report::report::{Class, Figures};

/// Who had the processor for less than this share of the time did not get on because it did not run.
const BARELY_RAN: f64 = 10.0;

/// Who ran for so many seconds without a yield did so by itself: a turn of a worker that yields is a few milliseconds long.
const LONGEST_TURN: f64 = 0.02;

/// The figures are those of a thread that has not yielded, or has not got on though it has work.
pub fn classify(figures: &Figures) -> Class {
    let ran = figures.user_percent + figures.system_percent;
    let waited = figures.waiting_percent;
    let slept = 100.0 - ran - waited;
    match figures.state {
        None | Some('Z' | 'X') => Class::Exited,
        Some('T' | 't') => Class::Stopped,
        // It may have run up to a moment ago, or sleep for a moment: the larger part of the time counts.
        Some('S' | 'D') if slept > ran && slept > waited => Class::Blocked,
        _ if slept > 50.0 && ran < BARELY_RAN && waited < BARELY_RAN => Class::Blocked,
        _ if ran < BARELY_RAN => Class::Starved,
        // It gets on as fast as it is let, and would have yielded by now had it been let more.
        _ if figures.packets_lately > 0 && ran < waited && ran / 100.0 * figures.seconds < LONGEST_TURN => {
            Class::Starved
        }
        _ if figures.packets_lately > 0 => Class::Hogging,
        _ => Class::Spinning,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(state: Option<char>, ran: f64, waited: f64, packets_lately: u64) -> Class {
        classify(&Figures {
            state,
            user_percent: ran,
            waiting_percent: waited,
            packets: 500,
            packets_lately,
            ..Figures::default()
        })
    }

    #[test]
    fn each_class_has_its_figures() {
        assert_eq!(class(Some('R'), 99.0, 1.0, 0), Class::Spinning);
        assert_eq!(class(Some('R'), 99.0, 1.0, 31_000), Class::Hogging);
        assert_eq!(class(Some('R'), 2.0, 97.0, 0), Class::Starved);
        assert_eq!(class(Some('S'), 0.0, 0.0, 0), Class::Blocked);
        assert_eq!(class(Some('D'), 1.0, 0.0, 0), Class::Blocked);
        assert_eq!(class(Some('t'), 0.0, 0.0, 0), Class::Stopped);
        assert_eq!(class(Some('T'), 0.0, 0.0, 0), Class::Stopped);
        assert_eq!(class(None, 0.0, 0.0, 0), Class::Exited);
    }

    #[test]
    fn a_spinner_that_shares_its_processor_still_spins() {
        assert_eq!(class(Some('R'), 33.0, 67.0, 0), Class::Spinning);
        assert_eq!(class(Some('R'), 33.0, 67.0, 10), Class::Starved);
        assert_eq!(class(Some('R'), 60.0, 40.0, 10), Class::Hogging);
        let shared = |seconds| {
            classify(&Figures {
                state: Some('R'),
                seconds,
                user_percent: 33.0,
                waiting_percent: 67.0,
                packets_lately: 10,
                ..Figures::default()
            })
        };
        assert_eq!([shared(0.05), shared(0.1)], [Class::Starved, Class::Hogging]);
    }

    #[test]
    fn who_was_woken_just_now_was_blocked_all_the_same() {
        assert_eq!(class(Some('R'), 1.0, 0.5, 0), Class::Blocked);
    }

    #[test]
    fn who_sleeps_now_but_waited_for_a_processor_mostly_was_starved() {
        assert_eq!(class(Some('S'), 1.0, 56.0, 0), Class::Starved);
        assert_eq!(class(Some('S'), 1.0, 40.0, 0), Class::Blocked);
    }
}
