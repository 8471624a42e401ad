//! Numbered datagrams, at a fixed rate or as fast as they go.

use std::io::{self, ErrorKind};
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};

use super::{SOCKET_PATIENCE, time};
use crate::load::{Check, Outcome};

/// Pause of the sender once it is ahead of its rate.
const PACE: Duration = Duration::from_micros(500);

/// A sender further behind its rate than this gives the rest up rather than send one long burst.
const CATCH_UP: Duration = Duration::from_millis(20);

/// What is on its way when the sender stops may still arrive for so long.
const TAIL: Duration = Duration::from_millis(300);

/// Sends datagrams of `size` bytes at `rate` Mbit/s of payload, without one as fast as they go. The sender is connected to the receiver.
pub fn run(
    sender: &UdpSocket,
    receiver: &UdpSocket,
    size: usize,
    rate: Option<u32>,
    length: Duration,
    check: Check<'_>,
) -> anyhow::Result<Outcome> {
    receiver.set_read_timeout(Some(SOCKET_PATIENCE))?;
    sender.set_write_timeout(Some(SOCKET_PATIENCE))?;
    let interval = rate.map_or(Duration::ZERO, |rate| {
        Duration::from_secs_f64(size as f64 * 8.0 / (f64::from(rate) * 1e6))
    });
    let (sent_all, over) = (AtomicBool::new(false), AtomicBool::new(false));
    let (seconds, sent, arrived) = thread::scope(|scope| {
        let receiving = scope.spawn(|| receive(receiver, size, &over));
        let sending = scope.spawn(|| send(sender, size, interval, &sent_all));
        let seconds = time(length, &sent_all, check);
        let sent = sending
            .join()
            .map_err(|_| anyhow!("the sending thread panicked"))?;
        thread::sleep(TAIL);
        over.store(true, Ordering::Relaxed);
        let arrived = receiving
            .join()
            .map_err(|_| anyhow!("the receiving thread panicked"))?;
        anyhow::Ok((
            seconds?,
            sent.context("cannot send the load")?,
            arrived.context("cannot receive the load")?,
        ))
    })?;
    let lost = sent.saturating_sub(arrived.distinct);
    Ok(Outcome {
        bytes: arrived.distinct * size as u64,
        seconds,
        retransmits: None,
        lost_percent: Some(if sent == 0 {
            0.0
        } else {
            100.0 * lost as f64 / sent as f64
        }),
        packets: Some(arrived.distinct),
    })
}

/// Returns how many it sent.
fn send(socket: &UdpSocket, size: usize, interval: Duration, over: &AtomicBool) -> io::Result<u64> {
    let mut datagram = vec![0; size];
    let mut number: u64 = 0;
    let mut due = Instant::now();
    while !over.load(Ordering::Relaxed) {
        let now = Instant::now();
        if now < due {
            thread::sleep(PACE);
            continue;
        }
        due = (due + interval).max(now.checked_sub(CATCH_UP).unwrap_or(now));
        datagram[..8].copy_from_slice(&number.to_be_bytes());
        match socket.send(&datagram) {
            Ok(_) => number += 1,
            Err(error) if passing(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(number)
}

fn receive(socket: &UdpSocket, size: usize, over: &AtomicBool) -> io::Result<Arrivals> {
    let mut datagram = vec![0; size + 1];
    let mut arrivals = Arrivals::default();
    while !over.load(Ordering::Relaxed) {
        match socket.recv(&mut datagram) {
            Ok(length) if length == size => {
                let number = datagram
                    .first_chunk::<8>()
                    .map(|number| u64::from_be_bytes(*number));
                arrivals.note(number.unwrap_or(u64::MAX));
            }
            Ok(_) => {}
            Err(error) if passing(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(arrivals)
}

/// True of errors after which a socket goes on: time-outs, full queues, a report of another datagram's fate.
fn passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    ) || matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::ECONNREFUSED))
}

/// Which datagrams came, each counted once.
#[derive(Debug, Default)]
struct Arrivals {
    distinct: u64,
    seen: Vec<u64>,
}

impl Arrivals {
    /// No run has more datagrams than this; a number beyond is none of ours.
    const MOST: u64 = 1 << 32;

    fn note(&mut self, number: u64) {
        if number >= Self::MOST {
            return;
        }
        let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
        if word >= self.seen.len() {
            self.seen.resize(word + 1, 0);
        }
        if self.seen[word] & bit == 0 {
            self.seen[word] |= bit;
            self.distinct += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (UdpSocket, UdpSocket) {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.connect(receiver.local_addr().unwrap()).unwrap();
        (sender, receiver)
    }

    #[test]
    fn rate_is_kept_and_everything_arrives() {
        let (sender, receiver) = pair();
        let length = Duration::from_millis(500);
        let outcome = run(&sender, &receiver, 1000, Some(8), length, &|| Ok(())).unwrap();
        assert_eq!(outcome.lost_percent, Some(0.0));
        // 8 Mbit/s is 1000 datagrams a second; a busy machine may send fewer, never more.
        let datagrams = outcome.bytes / 1000;
        let most = (outcome.seconds * 1000.0) as u64 + 25;
        assert!(
            (1..=most).contains(&datagrams),
            "{datagrams} in {} s",
            outcome.seconds
        );
    }

    #[test]
    fn without_a_rate_it_does_not_pause() {
        let (sender, receiver) = pair();
        let length = Duration::from_millis(100);
        let outcome = run(&sender, &receiver, 64, None, length, &|| Ok(())).unwrap();
        assert!(outcome.packets > Some(0), "{outcome:?}");
        assert_eq!(outcome.packets.map(|packets| packets * 64), Some(outcome.bytes));
    }

    #[test]
    fn what_goes_elsewhere_is_lost() {
        let (sender, _other) = pair();
        let (_, receiver) = pair();
        let outcome = run(
            &sender,
            &receiver,
            1000,
            Some(8),
            Duration::from_millis(100),
            &|| Ok(()),
        )
        .unwrap();
        assert_eq!((outcome.bytes, outcome.lost_percent), (0, Some(100.0)));
    }

    #[test]
    fn duplicates_and_strangers_do_not_count() {
        let mut arrivals = Arrivals::default();
        for number in [0, 64, 3, 64, 0, u64::MAX, Arrivals::MOST] {
            arrivals.note(number);
        }
        assert_eq!(arrivals.distinct, 3);
    }
}
