//! ICMP echo through the tunnel, by a raw socket of our own: a bare machine may have no ping.

use std::io::{self, ErrorKind, Read as _};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde::Serialize;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::compare::median;
use super::hosts::Host;
use super::load::Check;

/// As many and as often as `ping -c 200 -i 0.002`.
const COUNT: u16 = 200;
const INTERVAL: Duration = Duration::from_millis(2);

/// A reply later than this is lost.
const REPLY_WITHIN: Duration = Duration::from_secs(1);

/// The first one also has to wait for the handshake, and perhaps for a second try of it after 5 s.
const FIRST_REPLY_WITHIN: Duration = Duration::from_secs(12);

const ECHO_REQUEST: u8 = 8;
const ECHO_REPLY: u8 = 0;

/// Bytes after the ICMP header, as ping has them.
const PAYLOAD: usize = 56;

/// Round-trip times in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Times {
    pub avg: f64,
    pub p50: f64,
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
            if self.once(Duration::from_millis(200))?.is_some() {
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
        let mut times = Vec::with_capacity(COUNT.into());
        for _ in 0..COUNT {
            check()?;
            let since = Instant::now();
            times.extend(self.once(REPLY_WITHIN)?);
            thread::sleep(INTERVAL.saturating_sub(since.elapsed()));
        }
        ensure!(!times.is_empty(), "none of {COUNT} pings was answered");
        Ok(summary(&times, COUNT.into()))
    }

    /// Sends one and waits for the reply to it.
    fn once(&mut self, patience: Duration) -> io::Result<Option<Duration>> {
        self.sequence = self.sequence.wrapping_add(1);
        let since = Instant::now();
        match self.socket.send(&request(self.id, self.sequence)) {
            // A tunnel that is just coming up may have no room or no route yet.
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
        loop {
            let left = patience.saturating_sub(since.elapsed());
            if left.is_zero() {
                return Ok(None);
            }
            self.socket.set_read_timeout(Some(left))?;
            let mut packet = [0; 256];
            let length = match (&self.socket).read(&mut packet) {
                Ok(length) => length,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                    continue;
                }
                Err(error) => return Err(error),
            };
            let elapsed = since.elapsed();
            if answers(&packet[..length], self.id, self.sequence) {
                return Ok(Some(elapsed));
            }
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

/// A raw socket gives the IPv4 header too, and every ICMP message of the host.
fn answers(packet: &[u8], id: u16, sequence: u16) -> bool {
    let header = packet.first().map_or(0, |first| usize::from(first & 15) * 4);
    let Some(message) = packet.get(header..).and_then(|rest| rest.first_chunk::<8>()) else {
        return false;
    };
    message[0] == ECHO_REPLY && message[4..6] == id.to_be_bytes() && message[6..8] == sequence.to_be_bytes()
}

fn summary(times: &[Duration], sent: u32) -> Times {
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    let total: Duration = times.iter().sum();
    let p50 = median(times.iter().copied().map(micros));
    Times {
        avg: micros(total) / times.len() as f64,
        p50,
        min: micros(times.iter().copied().min().unwrap_or_default()),
        max: micros(times.iter().copied().max().unwrap_or_default()),
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
        assert!(answers(&reply(ECHO_REPLY, 7, 9), 7, 9));
        assert!(!answers(&reply(ECHO_REQUEST, 7, 9), 7, 9));
        assert!(!answers(&reply(ECHO_REPLY, 8, 9), 7, 9));
        assert!(!answers(&reply(ECHO_REPLY, 7, 8), 7, 9));
        assert!(!answers(&reply(ECHO_REPLY, 7, 9)[..27], 7, 9), "cut short");
        assert!(!answers(&[], 7, 9));
    }

    #[test]
    fn summary_is_in_microseconds() {
        let times = [100, 150, 350].map(Duration::from_micros);
        let expected = Times {
            avg: 200.0,
            p50: 150.0,
            min: 100.0,
            max: 350.0,
            sent: 4,
            lost: 1,
        };
        assert_eq!(summary(&times, 4), expected);
    }
}
