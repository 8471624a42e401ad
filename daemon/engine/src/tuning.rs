//! What may be tuned in the data path, for machines and loads that differ from those that the defaults were measured on.

use std::ops::RangeInclusive;
use std::time::Duration;

use clockshim::{BootDuration, BootInstant};
use text::quantity::{InvalidValue, size_within, time_within};

/// Bytes that a UDP socket may be given for each of its two buffers.
const UDP_BUFFER: RangeInclusive<u64> = 64 << 10..=1 << 30;
/// More than a millisecond of busy polling is a processor given away.
const BUSY_POLL: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_millis(1);
/// What the scheduler takes as a slice (Linux 6.12).
const SLICE: RangeInclusive<Duration> = Duration::from_micros(100)..=Duration::from_millis(100);
/// The kernel's largest number of processors in one set (`CPU_SETSIZE`).
const MAX_CPUS: usize = 1024;
/// A try to read and a yield take longer than this, whatever the clock says, which may stand still.
const MIN_TRY: BootDuration = BootDuration::from_nanos(200);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tuning {
    /// One thread for both ways instead of one for each. `None`: where there are no more than two processors.
    pub combined: Option<bool>,
    /// How long a worker that has found nothing goes on looking before it waits in the kernel. 0: it waits at once.
    pub busy_poll: BootDuration,
    /// Processors that the data workers are kept on, one each, from the first again when there are more workers: tx 0,
    /// rx 0, tx 1, ... Empty: the scheduler's choice.
    pub cpus: Vec<usize>,
    /// Bytes asked of the kernel for each UDP socket, each way.
    pub udp_buffer: usize,
    /// The data workers' time slice. `None`: the scheduler's own.
    pub slice: Option<BootDuration>,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            combined: None,
            busy_poll: BootDuration::from_micros(0),
            cpus: Vec::new(),
            udp_buffer: 7 << 20,
            slice: None,
        }
    }
}

/// How long to poll, such as `20us`; 0 is off.
///
/// # Errors
/// What is no time, or more than 1 ms.
pub fn busy_poll(text: &str) -> Result<BootDuration, InvalidValue> {
    time_within(text, &BUSY_POLL).map(BootDuration::from)
}

/// A slice, such as `500us`.
///
/// # Errors
/// What is no time, or out of 100 us to 100 ms.
pub fn slice(text: &str) -> Result<BootDuration, InvalidValue> {
    time_within(text, &SLICE).map(BootDuration::from)
}

/// A size of a socket's buffer in bytes, such as `7M`.
///
/// # Errors
/// What is no size, or out of 64 KiB to 1 GiB.
pub fn udp_buffer(text: &str) -> Result<usize, InvalidValue> {
    // The range's end fits into 32 bits.
    size_within(text, &UDP_BUFFER).map(|bytes| bytes as usize)
}

/// Processors by number, such as `0-3,6`, in the order in which they are given.
pub fn cpus(text: &str) -> Result<Vec<usize>, String> {
    let wrong = || format!("`{text}` is no list of processors below {MAX_CPUS}, such as 0-3,6");
    let number = |text: &str| text.parse().ok().filter(|cpu| *cpu < MAX_CPUS).ok_or_else(wrong);
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(wrong());
        }
        for cpu in first..=last {
            if cpus.contains(&cpu) {
                return Err(format!("`{text}` names processor {cpu} twice"));
            }
            cpus.push(cpu);
        }
    }
    Ok(cpus)
}

/// Counts how long a worker looks in vain.
#[derive(Debug)]
pub struct BusyPoll {
    limit: BootDuration,
    tries: u64,
    since: Option<(BootInstant, u64)>,
}

impl BusyPoll {
    pub fn new(limit: BootDuration) -> Self {
        Self {
            limit,
            tries: limit.as_nanos() / MIN_TRY.as_nanos(),
            since: None,
        }
    }

    /// There was something: the next search begins anew.
    #[inline]
    pub fn found(&mut self) {
        self.since = None;
    }

    /// There was nothing. Whether to look once more; the processor was offered to whoever wants it.
    #[inline]
    pub fn again(&mut self, now: impl FnOnce() -> BootInstant) -> bool {
        if self.tries == 0 {
            return false;
        }
        let now = now();
        let (since, tries) = self.since.get_or_insert((now, 0));
        *tries += 1;
        let again = now.saturating_since(*since) < self.limit && *tries <= self.tries;
        if again {
            std::thread::yield_now();
        } else {
            self.since = None;
        }
        again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        assert_eq!(busy_poll("20us"), Ok(BootDuration::from_micros(20)));
        assert_eq!(busy_poll("0us"), Ok(BootDuration::from_micros(0)));
        assert_eq!(slice("100us"), Ok(BootDuration::from_micros(100)));
        assert_eq!(udp_buffer("65536"), Ok(64 << 10));
        assert_eq!(udp_buffer("64K"), Ok(64 << 10));
        assert_eq!(udp_buffer("7M"), Ok(7 << 20));
        assert_eq!(cpus("2,0-1"), Ok(vec![2, 0, 1]));
        assert_eq!(busy_poll("1ms"), Ok(BootDuration::from_micros(1000)));
        assert_eq!(busy_poll("0"), Ok(BootDuration::from_micros(0)));
        assert_eq!(udp_buffer("8MiB"), Ok(8 << 20));
        for wrong in ["", "20", "1001us", "-1us", "20ms"] {
            let error = busy_poll(wrong).unwrap_err().to_string();
            assert!(error.contains("expected 0 to 1ms"), "{error}");
        }
        for wrong in ["99us", "100001us", "1s"] {
            let error = slice(wrong).unwrap_err().to_string();
            assert!(error.contains("expected 100us to 100ms"), "{error}");
        }
        for wrong in ["", "1", "63K", "1025M", "18446744073709551615M", "7MB"] {
            let error = udp_buffer(wrong).unwrap_err().to_string();
            assert!(error.contains("expected 64K to 1G"), "{error}");
        }
        for wrong in ["", "1024", "3-1", "0-", "a", "1,,2", "0-99999999"] {
            assert!(cpus(wrong).unwrap_err().contains("0-3,6"), "{wrong}");
        }
        assert!(cpus("0-2,1").unwrap_err().contains("processor 1 twice"));
    }

    #[test]
    fn a_search_ends_by_the_clock_or_by_its_tries() {
        let at = |us: u64| BootInstant::from_nanos(us * 1000);
        let mut poll = BusyPoll::new(BootDuration::from_micros(20));
        assert!(poll.again(|| at(0)) && poll.again(|| at(19)));
        assert!(!poll.again(|| at(20)));
        assert!(poll.again(|| at(30)), "a new search");
        poll.found();
        assert!(poll.again(|| at(55)) && poll.again(|| at(74)));
        poll.found();
        let tries = (0..1000).take_while(|_| poll.again(|| at(99))).count();
        assert_eq!(tries, 100, "the clock stands still");
        assert!(!BusyPoll::new(BootDuration::from_micros(0)).again(|| unreachable!("no clock is read")));
    }
}
