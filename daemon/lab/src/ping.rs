//! ICMP echo through the tunnel, by a raw socket of our own: a bare machine may have no ping.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read as _};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde::Serialize;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::compare::median;
use super::hosts::Host;
use super::load::Check;
use sys::poll::readable_within;

/// As many and as often as `ping -c 200 -i 0.002`.
const COUNT: u32 = 200;
const INTERVAL: Duration = Duration::from_millis(2);

/// A reply later than this is lost.
const REPLY_WITHIN: Duration = Duration::from_secs(1);

/// The first one also has to wait for the handshake, and perhaps for a second try of it after 5 s.
const FIRST_REPLY_WITHIN: Duration = Duration::from_secs(12);

const ECHO_REQUEST: u8 = 8;
const ECHO_REPLY: u8 = 0;

/// Bytes after the ICMP header, as ping has them.
const PAYLOAD: usize = 56;

/// Round-trip times in microseconds; NaN where no reply came.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Times {
    pub avg: f64,
    pub p50: f64,
    pub p99: f64,
    pub min: f64,
    pub max: f64,
    pub sent: u32,
    pub lost: u32,
}

/// An open raw socket in one host that talks to another.
pub struct Ping {
    socket: Socket,
    id: u16,
    sequence: u16,
}

impl Ping {
    pub fn open(from: &Host, to: Ipv4Addr) -> anyhow::Result<Self> {
        let socket = from.enter(|| Ok(Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?));
        let socket = socket.context("cannot open a raw ICMP socket")?;
        socket.connect(&SockAddr::from(SocketAddrV4::new(to, 0)))?;
        socket.set_read_timeout(Some(REPLY_WITHIN))?;
        Ok(Self {
            socket,
            id: rand::random(),
            sequence: 0,
        })
    }

    /// Waits for the tunnel to carry something.
    ///
    /// # Errors
    /// When no reply comes within 12 s, or with the error of `check`.
    pub fn first_reply(&mut self, check: Check<'_>) -> anyhow::Result<()> {
        let since = Instant::now();
        while since.elapsed() < FIRST_REPLY_WITHIN {
            check()?;
            if self.once(Duration::from_millis(200))? {
                return Ok(());
            }
        }
        anyhow::bail!(
            "no ping was answered through the tunnel within {} s",
            FIRST_REPLY_WITHIN.as_secs()
        )
    }

    /// # Errors
    /// When nothing is answered at all, or with the error of `check`.
    pub fn measure(&mut self, check: Check<'_>) -> anyhow::Result<Times> {
        check()?;
        let times = self.series(|sent| sent < COUNT)?;
        check()?;
        ensure!(times.lost < times.sent, "none of {COUNT} pings was answered");
        Ok(times)
    }

    /// Sends for as long as `more`, given how many were sent, says so, and then waits for what is on its way.
    ///
    /// A slow reply does not hold up the next request: else a pause of the tunnel would count once, however long it is.
    pub fn series(&mut self, more: impl Fn(u32) -> bool) -> io::Result<Times> {
        let mut waiting: VecDeque<(u16, Instant)> = VecDeque::new();
        let mut times = Vec::new();
        let (mut sent, mut due) = (0, Instant::now());
        loop {
            let (now, sending) = (Instant::now(), more(sent));
            if sending && now >= due {
                let sequence = self.send()?;
                waiting.push_back((sequence, now));
                sent += 1;
                due = now.max(due + INTERVAL);
            }
            while waiting
                .front()
                .is_some_and(|(_, since)| now - *since >= REPLY_WITHIN)
            {
                waiting.pop_front();
            }
            let until = match waiting.front() {
                _ if sending => due,
                Some((_, since)) => *since + REPLY_WITHIN,
                None => return Ok(summary(&mut times, sent)),
            };
            let Some((sequence, arrived)) = self.reply(until)? else {
                continue;
            };
            if let Some(index) = waiting.iter().position(|(number, _)| *number == sequence) {
                times.extend(waiting.remove(index).map(|(_, since)| arrived - since));
            }
        }
    }

    /// Sends one and waits for the reply to it.
    fn once(&mut self, patience: Duration) -> io::Result<bool> {
        let until = Instant::now() + patience;
        let sequence = self.send()?;
        loop {
            match self.reply(until)? {
                Some((number, _)) if number == sequence => return Ok(true),
                _ if Instant::now() >= until => return Ok(false),
                _ => {}
            }
        }
    }

    /// Returns the sequence number of what it sent, or of what could not be sent and will have no reply.
    fn send(&mut self) -> io::Result<u16> {
        self.sequence = self.sequence.wrapping_add(1);
        match self.socket.send(&request(self.id, self.sequence)) {
            // A tunnel that is just coming up may have no route yet, one under load no room.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable
                ) => {}
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ENOBUFS | libc::ENOKEY | libc::EDESTADDRREQ)
                ) => {}
            other => drop(other?),
        }
        Ok(self.sequence)
    }

    /// Waits for a reply to any of ours: its sequence number and when it came. `None` when there is none by `until`, or perhaps sooner.
    fn reply(&self, until: Instant) -> io::Result<Option<(u16, Instant)>> {
        let left = until.saturating_duration_since(Instant::now());
        // Finer than the socket's own limit, which the kernel rounds to its ticks.
        let [ready] = readable_within([Some(self.socket.as_fd())], Some(left))?;
        if !ready.readable && !ready.failed {
            return Ok(None);
        }
        let mut packet = [0; 256];
        match (&self.socket).read(&mut packet) {
            Ok(length) => {
                let now = Instant::now();
                Ok(answered(&packet[..length], self.id).map(|sequence| (sequence, now)))
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn request(id: u16, sequence: u16) -> [u8; 8 + PAYLOAD] {
    let mut message = [0; 8 + PAYLOAD];
    message[0] = ECHO_REQUEST;
    message[4..6].copy_from_slice(&id.to_be_bytes());
    message[6..8].copy_from_slice(&sequence.to_be_bytes());
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// The Internet checksum (RFC 1071) of an even number of bytes.
fn checksum(message: &[u8]) -> u16 {
    let words = message
        .chunks_exact(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

/// The sequence number of a reply to a request with this identifier. A raw socket gives the IPv4 header too, and
/// every ICMP message of the host.
fn answered(packet: &[u8], id: u16) -> Option<u16> {
    let header = packet.first().map_or(0, |first| usize::from(first & 15) * 4);
    let message = packet.get(header..)?.first_chunk::<8>()?;
    let ours = message[0] == ECHO_REPLY && message[4..6] == id.to_be_bytes();
    ours.then(|| u16::from_be_bytes([message[6], message[7]]))
}

fn summary(times: &mut [Duration], sent: u32) -> Times {
    times.sort_unstable();
    let micros = |time: &Duration| time.as_secs_f64() * 1e6;
    let total: Duration = times.iter().sum();
    let or_nan = |time: Option<&Duration>| time.map_or(f64::NAN, micros);
    // By nearest rank: the least that is not exceeded by so many of a hundred.
    let percentile = |percent: usize| or_nan(times.get((times.len() * percent).div_ceil(100).max(1) - 1));
    Times {
        avg: micros(&total) / times.len() as f64,
        p50: median(times.iter().map(micros)),
        p99: percentile(99),
        min: or_nan(times.first()),
        max: or_nan(times.last()),
        sent,
        lost: sent - times.len() as u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_a_valid_checksum() {
        let message = request(0xfffe, 0xabcd);
        assert_eq!(checksum(&message), 0);
        assert_eq!(message[..2], [8, 0]);
    }

    #[test]
    fn only_our_reply_counts() {
        let reply = |kind: u8, id: u16, sequence: u16| {
            let mut message = request(id, sequence);
            message[0] = kind;
            [&[0x45; 20][..], &message].concat()
        };
        assert_eq!(answered(&reply(ECHO_REPLY, 7, 0x0102), 7), Some(0x0102));
        assert_eq!(answered(&reply(ECHO_REQUEST, 7, 9), 7), None);
        assert_eq!(answered(&reply(ECHO_REPLY, 8, 9), 7), None);
        assert_eq!(answered(&reply(ECHO_REPLY, 7, 9)[..27], 7), None, "cut short");
        assert_eq!(answered(&[], 7), None);
    }

    #[test]
    fn summary_is_in_microseconds() {
        let mut times = [350, 100, 150].map(Duration::from_micros);
        let expected = Times {
            avg: 200.0,
            p50: 150.0,
            p99: 350.0,
            min: 100.0,
            max: 350.0,
            sent: 4,
            lost: 1,
        };
        assert_eq!(summary(&mut times, 4), expected);
    }

    #[test]
    fn one_in_a_hundred_may_be_above_the_99th_percentile() {
        let mut times: Vec<Duration> = (1..=200).map(Duration::from_micros).collect();
        assert_eq!(summary(&mut times, 200).p99, 198.0);
    }

    #[test]
    fn without_a_reply_there_is_no_time() {
        let times = summary(&mut [], 5);
        assert_eq!((times.sent, times.lost), (5, 5));
        for time in [times.avg, times.p50, times.p99, times.min, times.max] {
            assert!(time.is_nan(), "{times:?}");
        }
    }
}
