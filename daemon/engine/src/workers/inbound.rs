//! The way in: UDP -> stamp -> open -> check source -> TUN. One thread a pair of sockets, named `wg-rx/N`; the kernel
//! gives one sender's datagrams to one worker, so that they keep their order.

use std::io;
use std::net::IpAddr;
use std::ops::Range;
use std::os::fd::AsFd as _;
use std::sync::Arc;

use clockshim::BootInstant;

use crate::device::stats::WorkerMetrics;
use crate::packet::{self, Coalescer, Offloads};
use crate::tun::{Queue, TunQueue};
use crate::tuning::BusyPoll;
use crate::udp::{Family, Sockets, Transport};
use crate::workers::handshake_queue::InboundHandshake;
use crate::workers::outbound::BATCHES_A_TURN;
use crate::workers::{self, DataPath};
use sys::poll;
use sys::udp::Received;
use watchdog::thread::heartbeat::Stage;
use wireguard::drop_reason::DropReason;
use wireguard::endpoint::Endpoint;
use wireguard::message::{self, DATA_OVERHEAD, Kind};
use wireguard::noise::Opened;
use wireguard::peer::{Peer, PeerRef};

/// Largest UDP datagram, and so the largest that GRO puts together.
const MAX_RECEIVE: usize = 65_535;
/// Calls to receive in one batch.
const MAX_RECEIVES: usize = 64;
/// Room for two of the largest, and for as much once it is opened.
const ARENA_BYTES: usize = 2 * (MAX_RECEIVE + 1);
/// Data messages that fit in there. Room for as many is set aside at the start: a page of it is taken when it is used.
const MAX_DATAGRAMS: usize = ARENA_BYTES / DATA_OVERHEAD;
/// After so much in one call the batch goes on at once, as in `tx_worker.rs`.
const LARGE_RECEIVE: usize = 32 << 10;
/// Pause after an error that a receive should not give, so that it cannot make the worker spin.
const ERROR_PAUSE_MS: i32 = 10;

/// One data message, and what came out of it.
#[derive(Debug)]
struct Datagram {
    range: Range<usize>,
    receiver_index: u32,
    /// Which of the batch's calls brought it.
    receive: usize,
}

#[derive(Debug)]
struct Packet {
    range: Range<usize>,
    source: IpAddr,
    peer: usize,
    ingress: BootInstant,
}

pub struct InboundWorker<Q = TunQueue, T = Sockets> {
    path: DataPath<Q, T>,
    metrics: Arc<WorkerMetrics>,
    index: usize,
    /// Family of sockets that goes first.
    family: Family,
    arena: Box<[u8]>,
    receives: Vec<(Received, BootInstant)>,
    datagrams: Vec<Datagram>,
    opened: Box<[u8]>,
    peers: Vec<Arc<Peer>>,
    packets: Vec<Packet>,
    coalescer: Coalescer,
    busy_poll: BusyPoll,
}

impl<Q, T> std::fmt::Debug for InboundWorker<Q, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.metrics.name())
    }
}

impl InboundWorker {
    /// What the thread runs, as reports and backtraces name it.
    pub const FUNCTION: &str = concat!(module_path!(), "::InboundWorker::run");
}

impl<Q: Queue, T: Transport> InboundWorker<Q, T> {
    pub fn new(path: DataPath<Q, T>, index: usize) -> Self {
        let offload = path.interface.offload();
        let offloads = Offloads {
            tcp: offload.tcp,
            udp: offload.udp,
        };
        Self {
            metrics: path.stats.rx[index].clone(),
            busy_poll: BusyPoll::new(path.busy_poll),
            path,
            index,
            family: Family::V4,
            arena: vec![0; ARENA_BYTES].into(),
            receives: Vec::with_capacity(MAX_RECEIVES),
            datagrams: Vec::with_capacity(MAX_DATAGRAMS),
            opened: vec![0; ARENA_BYTES].into(),
            peers: Vec::with_capacity(MAX_DATAGRAMS),
            packets: Vec::with_capacity(MAX_DATAGRAMS),
            coalescer: Coalescer::with_capacity(offloads, MAX_DATAGRAMS),
        }
    }

    /// Until the device stops.
    pub fn run(mut self) {
        let path = self.path.clone();
        while !path.shutdown.is_stopping() {
            // The port may have been changed: take the sockets anew each time.
            let sockets = path.sockets.get();
            let [v4, v6] = sockets.descriptors(self.index);
            self.metrics.heartbeat().waits();
            let waker = path.sockets.rx_waker(self.index);
            match poll::readable([v4, v6, Some(waker.as_fd())], -1) {
                Ok([_, _, woken]) if woken.readable => waker.clear(),
                Ok(_) => {}
                Err(error) => return path.shutdown.thread_failed(self.metrics.name(), &error),
            }
            path.monitor.idle_wakeup.notify_busy(self.metrics.heartbeat());
            let mut batches = 0;
            while batches < BATCHES_A_TURN {
                if self.process_sockets(&sockets) {
                    self.busy_poll.found();
                    batches += 1;
                } else if self.busy_poll.again(|| path.keeper.fast()) {
                    self.metrics.heartbeat().yielded();
                } else {
                    break;
                }
                if path.shutdown.is_stopping() {
                    return;
                }
                if !Arc::ptr_eq(&sockets, &path.sockets.get()) {
                    break; // Else a flood to the old port would keep us from the new one.
                }
            }
        }
    }

    /// One batch, if the sockets have something.
    pub fn process_sockets(&mut self, sockets: &T) -> bool {
        let is_some = self.receive_batch(sockets) > 0;
        if is_some {
            self.process_batch();
        }
        is_some
    }

    /// Takes what the sockets have, without waiting. Gives the number of calls that brought something.
    fn receive_batch(&mut self, sockets: &T) -> usize {
        self.metrics.heartbeat().enter(Stage::Read);
        self.receives.clear();
        self.datagrams.clear();
        let mut used = 0;
        // In turn, so that a flood in one family does not keep the other waiting.
        self.family = self.family.other();
        for family in [self.family, self.family.other()] {
            while self.receives.len() < MAX_RECEIVES && self.arena.len() - used >= MAX_RECEIVE {
                let received =
                    match sockets.receive(self.index, family, &mut self.arena[used..used + MAX_RECEIVE]) {
                        Ok(received) => received,
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                        Err(error) => {
                            if self.needs_backoff(&error) {
                                break;
                            }
                            continue;
                        }
                    };
                self.metrics.heartbeat().enter(Stage::Stamp);
                let stamp = self.path.keeper.fast();
                self.metrics.heartbeat().enter(Stage::Read);
                self.classify(&received, used);
                self.receives.push((received, stamp));
                used += received.len;
                if received.len > LARGE_RECEIVE {
                    return self.receives.len();
                }
            }
        }
        self.receives.len()
    }

    /// No receive error ends the worker: most are about one datagram or one peer. True where it may repeat at once.
    fn needs_backoff(&self, error: &io::Error) -> bool {
        match error.raw_os_error() {
            Some(
                libc::EINTR | libc::ECONNREFUSED | libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EMSGSIZE,
            ) => false,
            _ => {
                let _ = poll::readable([Some(self.path.shutdown.descriptor())], ERROR_PAUSE_MS);
                true
            }
        }
    }

    /// Cuts what one call brought into datagrams: data stays here, handshakes go to their thread.
    fn classify(&mut self, received: &Received, start: usize) {
        let receive = self.receives.len();
        let end = start + received.len;
        let mut at = start;
        // An empty datagram is no message: it is counted once.
        loop {
            let range = at..end.min(at + received.segment);
            let datagram = &self.arena[range.clone()];
            match Kind::of(datagram) {
                Some(Kind::Data) => self.datagrams.push(Datagram {
                    receiver_index: message::receiver_index(datagram, Kind::Data),
                    range: range.clone(),
                    receive,
                }),
                Some(kind) => {
                    let inbound = InboundHandshake {
                        message: datagram.into(),
                        kind,
                        from: received.from,
                        local: received.local,
                    };
                    if !self.path.handshakes.push(inbound) {
                        self.path.stats.drops.add(DropReason::HandshakeQueueFull, 1);
                    }
                }
                None => self.path.stats.drops.add(DropReason::Malformed, 1),
            }
            at = range.end;
            if at >= end {
                return;
            }
        }
    }

    fn process_batch(&mut self) {
        self.packets.clear();
        self.peers.clear();
        let mut opened = 0;
        let mut from = 0;
        while from < self.datagrams.len() {
            let first = &self.datagrams[from];
            let to = from
                + self.datagrams[from..]
                    .iter()
                    .take_while(|next| {
                        next.receiver_index == first.receiver_index && next.receive == first.receive
                    })
                    .count();
            match self.path.peers.by_index(first.receiver_index) {
                Some(peer) => self.open(from..to, peer, &mut opened),
                None => self
                    .path
                    .stats
                    .drops
                    .add(DropReason::UnknownIndex, (to - from) as u64),
            }
            from = to;
        }
        self.check_sources();
        self.write();
        self.account();
    }

    /// Opens a run of data messages of one session under one lock.
    fn open(&mut self, run: Range<usize>, peer: Arc<Peer>, used: &mut usize) {
        let (path, heartbeat) = (&self.path, self.metrics.heartbeat());
        heartbeat.enter(Stage::Open);
        let (received, ingress) = self.receives[self.datagrams[run.start].receive];
        let (mut authentic, mut confirmed, mut payload) = (false, false, false);
        let mut tunnel = peer.tunnel();
        for datagram in &self.datagrams[run] {
            let message = &self.arena[datagram.range.clone()];
            // Opened packets are shorter than their messages, so there is always room for all of a batch's.
            let room = &mut self.opened[*used..*used + message.len()];
            // All that came in one call came at the same time: its stamp is theirs, by which the key's age is judged.
            let received = match tunnel.open(ingress, message, room) {
                Ok(received) => received,
                Err(reason) => {
                    path.stats.drops.add(reason, 1);
                    continue;
                }
            };
            authentic = true;
            confirmed |= received.confirmed;
            match received.opened {
                Opened::Keepalive => {}
                Opened::NotIp => path.stats.drops.add(DropReason::RxMalformed, 1),
                Opened::Packet { len, source } => {
                    payload = true;
                    if packet::inner_length(&room[..len]).is_ok_and(|inner| inner == len) {
                        let peer = self.peers.len();
                        self.packets.push(Packet {
                            range: *used..*used + len,
                            source,
                            peer,
                            ingress,
                        });
                        *used += message.len() - DATA_OVERHEAD;
                        heartbeat.packets(1);
                    } else {
                        path.stats.drops.add(DropReason::RxMalformed, 1);
                    }
                }
            }
        }
        if authentic {
            tunnel.roam(Endpoint::new(received.from, received.local));
            heartbeat.enter(Stage::Stamp);
            let attend = tunnel.data_received(workers::now(&path.keeper), confirmed, payload);
            drop(tunnel);
            if attend {
                path.handshakes.request_service(&peer);
            }
        } else {
            drop(tunnel);
        }
        self.peers.push(peer);
    }

    /// Keeps the packets whose source routes back to the very peer that sent them, over all peers' allowed IPs.
    fn check_sources(&mut self) {
        self.metrics.heartbeat().enter(Stage::Route);
        if !self.path.interface.is_up() {
            self.path
                .stats
                .drops
                .add(DropReason::InterfaceDown, self.packets.len() as u64);
            return self.packets.clear();
        }
        let routing = self.path.peers.allowed_ips();
        let mut last: Option<(IpAddr, usize, bool)> = None;
        let peers = &self.peers;
        let mut spoofed = 0;
        self.packets.retain(|packet| {
            let honest = match last {
                Some((source, peer, honest)) if source == packet.source && peer == packet.peer => honest,
                _ => routing
                    .get(packet.source)
                    .is_some_and(|PeerRef(owner)| Arc::ptr_eq(owner, &peers[packet.peer])),
            };
            last = Some((packet.source, packet.peer, honest));
            spoofed += u64::from(!honest);
            honest
        });
        if spoofed > 0 {
            self.path.stats.drops.add(DropReason::RxSpoofedSource, spoofed);
        }
    }

    /// Puts segments together again and gives them to the interface.
    fn write(&mut self) {
        self.metrics.heartbeat().enter(Stage::Write);
        let queue = self.path.interface.queue(self.index);
        for packet in &self.packets {
            self.coalescer.push(&self.opened, packet.range.clone());
        }
        let mut failed = 0;
        self.coalescer.flush(&mut self.opened, |header, parts| {
            if queue.write_packet(&header, parts).is_err() {
                failed += parts.len() as u64;
            }
        });
        if failed > 0 {
            self.path.stats.drops.add(DropReason::RxTunError, failed);
        }
    }

    fn account(&mut self) {
        self.metrics.heartbeat().enter(Stage::Stamp);
        let egress = self.path.keeper.fast();
        let mut residence = self.metrics.residence();
        // What came in one call has one stamp.
        for run in self.packets.chunk_by(|a, b| a.ingress == b.ingress) {
            residence.record(egress.saturating_since(run[0].ingress), run.len() as u64);
        }
        drop(residence);
        self.metrics.batch();
    }
}
