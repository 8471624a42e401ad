//! A stretch of wire that can be watched and cut: a UDP relay between two daemons.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::namespace::Namespace;
use crate::noise::Noise;

/// Kinds of message, by their first byte.
pub const INITIATION: u8 = 1;
pub const RESPONSE: u8 = 2;
pub const DATA: u8 = 4;

/// Length of a data message without data, which is a keepalive.
pub const KEEPALIVE_LEN: usize = 32;

/// Which way a datagram went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the server that the relay was started for.
    Forth,
    /// To whoever wrote to the relay last.
    Back,
}

#[derive(Debug, Clone)]
pub struct Datagram {
    pub direction: Direction,
    pub bytes: Vec<u8>,
}

impl Datagram {
    pub fn is(&self, direction: Direction, kind: u8) -> bool {
        self.direction == direction && self.bytes.first() == Some(&kind)
    }

    pub fn is_keepalive(&self) -> bool {
        self.bytes.first() == Some(&DATA) && self.bytes.len() == KEEPALIVE_LEN
    }
}

/// What the wire does to data messages, per thousand. Handshakes pass, which have tests of their own.
#[derive(Debug, Clone, Copy, Default)]
pub struct Line {
    pub lost: u64,
    /// Passed on after up to 30 later ones.
    pub late: u64,
    pub twice: u64,
}

impl Line {
    /// The most datagrams that one can be behind.
    const LATENESS: u64 = 30;
}

/// Datagrams that wait for their turn on a bad line.
#[derive(Debug)]
struct Queue {
    line: Line,
    noise: Noise,
    /// How many more are to pass before it, and the datagram.
    late: Vec<(u64, Vec<u8>)>,
}

impl Queue {
    /// What goes out now that this has come.
    fn pass(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        let is_data = bytes.first() == Some(&DATA);
        let dice = self.noise.number() % 1000;
        let Line { lost, late, twice } = self.line;
        if !is_data {
            out.push(bytes.to_vec());
        } else if dice < lost {
            // Nobody will see it.
        } else if dice < lost + late {
            self.late
                .push((1 + self.noise.number() % Line::LATENESS, bytes.to_vec()));
        } else {
            let copies = if dice < lost + late + twice { 2 } else { 1 };
            out.extend(vec![bytes.to_vec(); copies]);
        }
        for (wait, _) in &mut self.late {
            *wait -= 1;
        }
        out.extend(
            self.late
                .extract_if(.., |(wait, _)| *wait == 0)
                .map(|(_, bytes)| bytes),
        );
        out
    }
}

/// Listens on a port of its own at 127.0.0.1; the server sees everything come from another one.
#[derive(Debug)]
pub struct Relay {
    /// What the client has to be told as its peer's endpoint.
    pub endpoint: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    cut: AtomicBool,
    client: Mutex<Option<SocketAddr>>,
    seen: Mutex<Vec<Datagram>>,
}

impl Relay {
    #[track_caller]
    pub fn start(namespace: &Namespace, server: &str) -> Self {
        Self::bad(namespace, server, Line::default())
    }

    /// A relay over a line that is not good, the same for each way.
    #[track_caller]
    pub fn bad(namespace: &Namespace, server: &str, line: Line) -> Self {
        let (near, far) = namespace.inside(|| {
            let near = UdpSocket::bind("127.0.0.1:0").expect("a UDP socket");
            let far = UdpSocket::bind("127.0.0.1:0").expect("a UDP socket");
            far.connect(server).expect("a server's address");
            (near, far)
        });
        for socket in [&near, &far] {
            socket
                .set_read_timeout(Some(Duration::from_millis(20)))
                .expect("a socket option");
        }
        let endpoint = near.local_addr().expect("a bound socket");
        let shared = Arc::new(Shared::default());
        let clone = |socket: &UdpSocket| socket.try_clone().expect("a socket can be duplicated");
        let (near_2, far_2) = (clone(&near), clone(&far));
        let (forth, back) = (shared.clone(), shared.clone());
        let threads = vec![
            thread::spawn(move || forth.carry(Direction::Forth, line, &near, |_, bytes| far.send(bytes))),
            thread::spawn(move || {
                back.carry(Direction::Back, line, &far_2, |client, bytes| match client {
                    Some(client) => near_2.send_to(bytes, client),
                    None => Ok(0),
                })
            }),
        ];
        Self {
            endpoint,
            shared,
            threads,
        }
    }

    /// From now on nothing passes. What comes is still noted.
    pub fn cut(&self) {
        self.shared.cut.store(true, Ordering::Relaxed);
    }

    pub fn mend(&self) {
        self.shared.cut.store(false, Ordering::Relaxed);
    }

    /// Everything that came so far, passed on or not.
    pub fn seen(&self) -> Vec<Datagram> {
        self.shared.seen.lock().expect("no thread panics").clone()
    }

    pub fn forget(&self) {
        self.shared.seen.lock().expect("no thread panics").clear();
    }

    /// How many datagrams of what came so far are such.
    pub fn count(&self, is_such: impl Fn(&Datagram) -> bool) -> usize {
        self.seen().iter().filter(|datagram| is_such(datagram)).count()
    }
}

impl Shared {
    fn carry(
        &self,
        direction: Direction,
        line: Line,
        from: &UdpSocket,
        send: impl Fn(Option<SocketAddr>, &[u8]) -> std::io::Result<usize>,
    ) {
        let mut buffer = vec![0; 1 << 16];
        let mut queue = Queue {
            line,
            noise: Noise::new(direction as u64),
            late: Vec::new(),
        };
        while !self.stop.load(Ordering::Relaxed) {
            // An error is the time limit, or that nobody listens at the other end, which is not ours to judge.
            let Ok((length, sender)) = from.recv_from(&mut buffer) else {
                continue;
            };
            let bytes = &buffer[..length];
            let client = {
                let mut client = self.client.lock().expect("no thread panics");
                if direction == Direction::Forth {
                    *client = Some(sender);
                }
                *client
            };
            let datagram = Datagram {
                direction,
                bytes: bytes.to_vec(),
            };
            self.seen.lock().expect("no thread panics").push(datagram);
            if !self.cut.load(Ordering::Relaxed) {
                for bytes in queue.pass(bytes) {
                    let _ = send(client, &bytes);
                }
            }
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
