//! Sealed messages on their way out, packed so that one send takes many: a GSO batch has one destination, and messages of
//! one size but for the last.

use wireguard::endpoint::Endpoint;

use super::MAX_DATAGRAM;
use super::transport::{Family, SendFailure, Transport, transmit};

/// Messages in one GSO batch: what every kernel with UDP_SEGMENT takes.
pub const MAX_SEGMENTS: usize = 64;
/// Room for what one batch of packets can become.
const ARENA_BYTES: usize = 512 << 10;

/// GSO batches that fit in there: each read begins at least one, and ends it at its last message or when it is full.
const MAX_GSO_BATCHES: usize = 512;

#[derive(Debug)]
struct GsoBatch {
    endpoint: Endpoint,
    /// Who it is for: an index of the caller's own.
    tag: usize,
    start: usize,
    len: usize,
    segment: usize,
    count: usize,
}

impl GsoBatch {
    fn takes(&self, endpoint: &Endpoint, len: usize) -> bool {
        // A shorter message ends a GSO batch: it is full as soon as its length is not that many segments any more.
        self.endpoint.is_at(endpoint)
            && len <= self.segment
            && self.len == self.segment * self.count
            && self.count < MAX_SEGMENTS
            && self.len + len <= MAX_DATAGRAM
    }

    /// Whether it may be tried in one piece.
    fn goes_whole(&self) -> bool {
        let from = self.endpoint.ungrouped_from;
        self.count == 1 || from == 0 || self.segment < usize::from(from)
    }
}

/// What became of one GSO batch, for the caller's counters.
#[derive(Debug)]
pub struct Outcome {
    pub tag: usize,
    /// The endpoint as it is now, where sending changed it.
    pub changed: Option<Endpoint>,
    pub lost: u64,
    pub failure: Option<SendFailure>,
}

#[derive(Debug)]
pub struct SendBatch {
    arena: Box<[u8]>,
    used: usize,
    gso_batches: Vec<GsoBatch>,
}

impl Default for SendBatch {
    fn default() -> Self {
        Self {
            arena: vec![0; ARENA_BYTES].into(),
            used: 0,
            gso_batches: Vec::with_capacity(MAX_GSO_BATCHES),
        }
    }
}

impl SendBatch {
    pub fn is_empty(&self) -> bool {
        self.gso_batches.is_empty()
    }

    /// Room for the next message of up to `len` bytes; `None` when what is there must be sent first.
    pub fn room(&mut self, len: usize) -> Option<&mut [u8]> {
        self.arena.get_mut(self.used..self.used + len)
    }

    /// The message that was written into the room is `len` bytes long and goes to `endpoint`.
    pub fn push(&mut self, endpoint: &Endpoint, tag: usize, len: usize) {
        match self.gso_batches.last_mut() {
            Some(batch) if batch.tag == tag && batch.takes(endpoint, len) => {
                batch.len += len;
                batch.count += 1;
            }
            _ => self.gso_batches.push(GsoBatch {
                endpoint: *endpoint,
                tag,
                start: self.used,
                len,
                segment: len,
                count: 1,
            }),
        }
        self.used += len;
    }

    /// Sends all, in order, and tells of those GSO batches that something is to be told of.
    pub fn send(&mut self, sockets: &impl Transport, worker: usize, mut told: impl FnMut(Outcome)) {
        let mut next = 0;
        while let Some(batch) = self.gso_batches.get(next) {
            let gone = self.send_together(sockets, worker, next);
            if gone > 0 {
                next += gone;
                continue;
            }
            let mut endpoint = batch.endpoint;
            let (lost, failure) = send_gso_batch(sockets, worker, &mut endpoint, self.payload(batch), batch);
            let changed = (endpoint != batch.endpoint).then_some(endpoint);
            if lost > 0 || changed.is_some() {
                told(Outcome {
                    tag: batch.tag,
                    changed,
                    lost,
                    failure,
                });
            }
            next += 1;
        }
        self.gso_batches.clear();
        self.used = 0;
    }

    /// Several GSO batches in one call, from that one on: where packets go to many peers, each call is a tenth of what they cost.
    /// Gives how many went.
    fn send_together(&self, sockets: &impl Transport, worker: usize, from: usize) -> usize {
        let family = Family::of(self.gso_batches[from].endpoint.addr);
        let fit = |batch: &&GsoBatch| batch.goes_whole() && Family::of(batch.endpoint.addr) == family;
        let together = self.gso_batches[from..].iter().take_while(fit);
        if together.clone().nth(1).is_none() {
            return 0;
        }
        let transmits = together.map(|batch| {
            let segment = (batch.count > 1).then_some(batch.segment as u16);
            transmit(&batch.endpoint, self.payload(batch), segment)
        });
        sockets.transmit_many(worker, family, transmits)
    }

    fn payload(&self, batch: &GsoBatch) -> &[u8] {
        &self.arena[batch.start..batch.start + batch.len]
    }
}

fn send_gso_batch(
    sockets: &impl Transport,
    worker: usize,
    endpoint: &mut Endpoint,
    payload: &[u8],
    batch: &GsoBatch,
) -> (u64, Option<SendFailure>) {
    if batch.count > 1 && batch.goes_whole() {
        let size = batch.segment as u16;
        match sockets.send(worker, endpoint, payload, Some(size)) {
            Ok(()) => return (0, None),
            Err(SendFailure::GsoRefused) => endpoint.ungrouped_from = size,
            Err(failure) => return (batch.count as u64, Some(failure)),
        }
    }
    // What fails is lost alone; the rest goes on.
    let (mut lost, mut last_failure) = (0, None);
    for message in payload.chunks(batch.segment) {
        if let Err(failure) = sockets.send(worker, endpoint, message, None) {
            lost += 1;
            last_failure = Some(failure);
        }
    }
    if endpoint.local != batch.endpoint.local {
        // It was the source that was refused, not the GSO batch.
        endpoint.ungrouped_from = batch.endpoint.ungrouped_from;
    }
    (lost, last_failure)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::udp::Sockets;

    fn endpoint(port: u16) -> Endpoint {
        Endpoint::new(([127, 0, 0, 1], port).into(), None)
    }

    fn batches(messages: &[(u16, usize)]) -> Vec<(usize, usize)> {
        let mut send_batch = SendBatch::default();
        for &(port, len) in messages {
            send_batch.room(len).unwrap();
            send_batch.push(&endpoint(port), 0, len);
        }
        send_batch
            .gso_batches
            .iter()
            .map(|batch| (batch.count, batch.len))
            .collect()
    }

    #[test]
    fn a_gso_batch_ends_with_a_short_message_a_longer_one_or_another_destination() {
        assert_eq!(
            batches(&[(1, 100), (1, 100), (1, 60), (1, 60)]),
            [(3, 260), (1, 60)]
        );
        assert_eq!(batches(&[(1, 60), (1, 100)]), [(1, 60), (1, 100)]);
        assert_eq!(batches(&[(1, 60), (2, 60), (1, 60)]), [(1, 60), (1, 60), (1, 60)]);
    }

    #[test]
    fn a_gso_batch_stays_within_what_the_kernel_takes() {
        assert_eq!(batches(&[(1, 1452); 50]), [(45, 45 * 1452), (5, 5 * 1452)]);
        assert_eq!(batches(&[(1, 64); 100]), [(64, 64 * 64), (36, 36 * 64)]);
    }

    #[test]
    fn a_gso_batch_from_an_address_that_is_gone_arrives_and_gso_batches_go_on() {
        let (sender, receiver) = (
            Sockets::bind(0, 0, 1, 1 << 20).unwrap(),
            Sockets::bind(0, 0, 1, 1 << 20).unwrap(),
        );
        let mut send_batch = SendBatch::default();
        let from_nowhere = Endpoint {
            local: Some([192, 0, 2, 77].into()),
            ..endpoint(receiver.port())
        };
        for _ in 0..3 {
            send_batch.room(100).unwrap();
            send_batch.push(&from_nowhere, 0, 100);
        }
        let mut outcomes = Vec::new();
        send_batch.send(&sender, 0, |outcome| {
            outcomes.push((outcome.lost, outcome.changed))
        });
        assert_eq!(outcomes, [(0, Some(endpoint(receiver.port())))]);
    }

    #[test]
    fn gso_batches_to_many_go_together_and_one_that_is_refused_is_lost_alone() {
        use sys::{poll, udp as syscall};
        const PEERS: usize = 40;
        let sender = Sockets::bind(0, 0, 1, 1 << 20).unwrap();
        let receivers: Vec<_> = (0..PEERS)
            .map(|_| Sockets::bind(0, 0, 1, 1 << 20).unwrap())
            .collect();
        let mut send_batch = SendBatch::default();
        for (tag, receiver) in receivers.iter().enumerate() {
            let to = match tag {
                7 => endpoint(0),
                20..=22 => Endpoint::new((std::net::Ipv6Addr::LOCALHOST, receiver.port()).into(), None),
                _ => endpoint(receiver.port()),
            };
            // Every third is a GSO batch.
            for _ in 0..1 + tag % 3 {
                send_batch.room(100).unwrap()[..100].fill(tag as u8);
                send_batch.push(&to, tag, 100);
            }
        }
        let mut lost = Vec::new();
        send_batch.send(&sender, 0, |outcome| lost.push((outcome.tag, outcome.lost)));
        assert_eq!(lost, [(7, 2)]);
        let mut buffer = vec![0; 65536];
        for (tag, receiver) in receivers.iter().enumerate().filter(|(tag, _)| *tag != 7) {
            let fd = receiver.descriptors(0)[usize::from((20..=22).contains(&tag))].unwrap();
            let mut len = 0;
            while len < 100 * (1 + tag % 3) {
                poll::readable([Some(fd)], 5000).unwrap();
                let received = syscall::receive(fd, &mut buffer).unwrap();
                assert_eq!((received.segment, buffer[0]), (100, tag as u8));
                len += received.len;
            }
            assert!(syscall::receive(fd, &mut buffer).is_err(), "{tag}: nothing twice");
        }
    }

    #[test]
    fn gso_batches_arrive_as_their_messages() {
        use sys::{poll, udp as syscall};
        let (sender, receiver) = (
            Sockets::bind(0, 0, 1, 1 << 20).unwrap(),
            Sockets::bind(0, 0, 1, 1 << 20).unwrap(),
        );
        let mut send_batch = SendBatch::default();
        for len in [1000, 1000, 1000, 10] {
            send_batch.room(len).unwrap()[..len].fill(len as u8);
            send_batch.push(&endpoint(receiver.port()), 0, len);
        }
        send_batch.send(&sender, 0, |outcome| panic!("{outcome:?}"));
        let fd = receiver.descriptors(0)[0].unwrap();
        let mut got = Vec::new();
        let mut buffer = vec![0; 65536];
        while got.len() < 4 {
            poll::readable([Some(fd)], 5000).unwrap();
            let received = syscall::receive(fd, &mut buffer).unwrap();
            got.extend(buffer[..received.len].chunks(received.segment).map(<[u8]>::len));
        }
        assert_eq!(got, [1000, 1000, 1000, 10]);
    }
}
