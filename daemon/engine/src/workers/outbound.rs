//! The way out: TUN -> stamp -> route -> seal -> UDP. One thread a queue, named `wg-tx/N`.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use clockshim::BootInstant;

use crate::device::stats::WorkerMetrics;
use crate::packet::{self, Segmenter, VnetHeader};
use crate::tun::{self, Queue, TunQueue};
use crate::tuning::BusyPoll;
use crate::udp::{SendBatch, SendFailure, Sockets, Transport};
use crate::workers::DataPath;
use sys::poll;
use watchdog::thread::heartbeat::Stage;
use wireguard::drop_reason::DropReason;
use wireguard::message::{DATA_OVERHEAD, padded_len};
use wireguard::peer::{Peer, PeerRef};

/// Reads in one batch.
const MAX_READS: usize = 64;
/// Batches in a row, less than a millisecond with a clock that is quick to read, after which it goes back to its wait, which then is
/// none. Without it a full queue keeps it for ever, as it kept the kernel's worker before Linux 5.7 (4005f5c3c9d0).
pub const BATCHES_A_TURN: usize = 4;
/// Room for four of the largest, with padding.
const ARENA_BYTES: usize = 4 * (tun::MAX_READ + packet::PADDING);
/// After a read of more than this the batch goes out at once: more is coming, and who waits for it waits too long.
/// It tripled UDP throughput.
const LARGE_READ: usize = 32 << 10;

/// One packet, or superpacket, read from the interface.
#[derive(Debug)]
struct Read {
    packet: Range<usize>,
    header: VnetHeader,
    ingress: BootInstant,
    /// Index into the batch's peers.
    peer: Option<usize>,
    /// Messages that it became.
    sealed: u64,
}

pub struct OutboundWorker<Q = TunQueue, T = Sockets> {
    path: DataPath<Q, T>,
    metrics: Arc<WorkerMetrics>,
    index: usize,
    arena: Box<[u8]>,
    reads: Vec<Read>,
    /// Those that the reads are for.
    peers: Vec<Arc<Peer>>,
    send_batch: SendBatch,
    busy_poll: BusyPoll,
}

impl<Q, T> std::fmt::Debug for OutboundWorker<Q, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.metrics.name())
    }
}

impl OutboundWorker {
    /// What the thread runs, as reports and backtraces name it.
    pub const FUNCTION: &str = concat!(module_path!(), "::OutboundWorker::run");
}

impl<Q: Queue, T: Transport> OutboundWorker<Q, T> {
    pub fn new(path: DataPath<Q, T>, index: usize) -> Self {
        Self {
            metrics: path.stats.tx[index].clone(),
            busy_poll: BusyPoll::new(path.busy_poll),
            path,
            index,
            arena: vec![0; ARENA_BYTES].into(),
            reads: Vec::with_capacity(MAX_READS),
            peers: Vec::with_capacity(MAX_READS),
            send_batch: SendBatch::default(),
        }
    }

    /// Until the device stops or the interface is gone.
    pub fn run(mut self) {
        let path = self.path.clone();
        let queue = path.interface.queue(self.index);
        let name = path.interface.first_name();
        let turn = if path.never_yield {
            usize::MAX
        } else {
            BATCHES_A_TURN
        };
        while !path.shutdown.is_stopping() {
            self.metrics.heartbeat().waits();
            match poll::readable([Some(queue.as_fd()), Some(path.shutdown.descriptor())], -1) {
                Ok([tun, _]) if tun.failed && !tun.readable => return path.shutdown.interface_deleted(name),
                Ok(_) => {}
                Err(error) => return path.shutdown.thread_failed(self.metrics.name(), &error),
            }
            path.monitor.idle_wakeup.notify_busy(self.metrics.heartbeat());
            let mut batches = 0;
            while batches < turn && !path.shutdown.is_stopping() {
                match self.process_queue(queue) {
                    Ok(true) => {
                        self.busy_poll.found();
                        batches += 1;
                    }
                    Ok(false) if self.busy_poll.again(|| path.keeper.fast()) => {
                        self.metrics.heartbeat().yielded();
                    }
                    Ok(false) => break,
                    Err(error) => return path.shutdown.queue_failed(self.metrics.name(), name, &error),
                }
            }
        }
    }

    /// One batch, if the interface has something.
    pub fn process_queue(&mut self, queue: &Q) -> io::Result<bool> {
        let is_some = self.read_batch(queue)? > 0;
        if is_some {
            self.process_batch();
        }
        Ok(is_some)
    }

    /// Takes what the interface has, without waiting. Gives the number of reads.
    fn read_batch(&mut self, queue: &Q) -> io::Result<usize> {
        self.metrics.heartbeat().enter(Stage::Read);
        self.reads.clear();
        let mut used = 0;
        while self.reads.len() < MAX_READS && self.arena.len() - used >= tun::MAX_READ + packet::PADDING {
            let len = match queue.read_packet(&mut self.arena[used..]) {
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // The kernel has dropped a superpacket for which a vnet header has no words.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    self.path.stats.drops.add(DropReason::TxMalformed, 1);
                    break;
                }
                Err(error) => return Err(error),
            };
            self.metrics.heartbeat().enter(Stage::Stamp);
            let ingress = self.path.keeper.fast();
            self.metrics.heartbeat().enter(Stage::Read);
            let (header, start) = if queue.has_vnet_header() {
                let Some((header, _)) = self.arena[used..used + len].split_first_chunk() else {
                    self.path.stats.drops.add(DropReason::TxMalformed, 1);
                    continue;
                };
                (VnetHeader::decode(header), used + VnetHeader::LEN)
            } else {
                (VnetHeader::default(), used)
            };
            self.reads.push(Read {
                packet: start..used + len,
                header,
                ingress,
                peer: None,
                sealed: 0,
            });
            used += len + packet::PADDING;
            if len > LARGE_READ {
                break;
            }
        }
        Ok(self.reads.len())
    }

    fn process_batch(&mut self) {
        self.route();
        if self.peers.len() > 1 {
            // What goes to one peer goes in one GSO batch, and keeps its order; the order among peers does not matter.
            self.reads
                .sort_unstable_by_key(|read| (read.peer, read.packet.start));
        }
        let mut from = 0;
        while from < self.reads.len() {
            let to = self.run_of_one_peer(from);
            if let Some(peer) = self.reads[from].peer {
                self.seal(from..to, peer);
            }
            from = to;
        }
        self.send();
        self.account();
    }

    /// Finds each packet's peer by its destination.
    fn route(&mut self) {
        self.metrics.heartbeat().enter(Stage::Route);
        self.peers.clear();
        let routing = self.path.peers.allowed_ips();
        let mut last = None;
        for read in &mut self.reads {
            let Ok(destination) = packet::destination(&self.arena[read.packet.clone()]) else {
                self.path.stats.drops.add(DropReason::TxMalformed, 1);
                continue;
            };
            // Mostly a batch is for one: it is looked for once.
            read.peer = match last {
                Some((before, peer)) if before == destination => peer,
                _ => routing
                    .get(destination)
                    .map(|PeerRef(peer)| index_of(&mut self.peers, peer)),
            };
            last = Some((destination, read.peer));
            if read.peer.is_none() {
                self.path.stats.drops.add(DropReason::TxNoPeer, 1);
            }
        }
    }

    /// The end of the reads from `from` on that have the same peer.
    fn run_of_one_peer(&self, from: usize) -> usize {
        let peer = self.reads[from].peer;
        let run = self.reads[from..].iter().take_while(|read| read.peer == peer);
        from + run.count()
    }

    /// Seals a run of reads under one lock.
    fn seal(&mut self, run: Range<usize>, peer: usize) {
        let (path, heartbeat, peer) = (&self.path, self.metrics.heartbeat(), &self.peers[peer]);
        let mtu = path.interface.mtu();
        heartbeat.enter(Stage::Seal);
        let mut tunnel = peer.tunnel();
        let Some(endpoint) = tunnel.endpoint else {
            return path.stats.drops.add(DropReason::TxNoEndpoint, run.len() as u64);
        };
        let (tag, mut sealed, mut attend) = (run.start, 0, false);
        for read in &mut self.reads[run] {
            if tunnel.is_own_message(&self.arena[read.packet.clone()]) {
                path.stats.drops.add(DropReason::TxLoop, 1);
                continue;
            }
            let buffer = &mut self.arena[read.packet.start..read.packet.end + packet::PADDING];
            let Ok(mut segments) = Segmenter::new(read.header, buffer, read.packet.len()) else {
                path.stats.drops.add(DropReason::TxMalformed, 1);
                continue;
            };
            while let Some(segment) = segments.next(|len| padded_len(len, mtu)) {
                // Every packet has a stamp of its own, by which the age of its key is judged.
                heartbeat.enter(Stage::Stamp);
                let stamp = path.keeper.fast();
                heartbeat.enter(Stage::Seal);
                let size = segment.padded.len() + DATA_OVERHEAD;
                if self.send_batch.room(size).is_none() {
                    // A superpacket of very small segments: send what there is, lock or no lock.
                    let sockets = path.sockets.get();
                    self.send_batch.send(&*sockets, self.index, |outcome| {
                        path.stats.drops.add(DropReason::TxSendError, outcome.lost);
                    });
                }
                let Some(room) = self.send_batch.room(size) else {
                    break;
                };
                match tunnel.seal(stamp, segment.padded, room) {
                    Some(message) => {
                        self.send_batch.push(&endpoint, tag, message);
                        read.sealed += 1;
                        heartbeat.packets(1);
                    }
                    None => {
                        let overflow = tunnel.stage(segment.packet());
                        path.stats
                            .drops
                            .add(DropReason::TxStagedOverflow, overflow as u64);
                        attend = true;
                    }
                }
            }
            sealed += read.sealed;
        }
        if sealed > 0 {
            heartbeat.enter(Stage::Stamp);
            attend |= tunnel.data_sent(path.keeper.fast());
        }
        drop(tunnel);
        if attend {
            path.handshakes.request_service(peer);
        }
    }

    fn send(&mut self) {
        if self.send_batch.is_empty() {
            return;
        }
        self.metrics.heartbeat().enter(Stage::Send);
        let sockets = self.path.sockets.get();
        let (path, reads, peers) = (&self.path, &self.reads, &self.peers);
        self.send_batch.send(&*sockets, self.index, |outcome| {
            if let (Some(endpoint), Some(peer)) = (outcome.changed, reads[outcome.tag].peer) {
                peers[peer].tunnel().resettle(endpoint);
            }
            if outcome.lost > 0 {
                let busy = outcome.failure == Some(SendFailure::Busy);
                let reason = if busy {
                    DropReason::TxBusy
                } else {
                    DropReason::TxSendError
                };
                path.stats.drops.add(reason, outcome.lost);
                if let Some(SendFailure::Refused(errno)) = outcome.failure {
                    path.sockets.note_send_error(errno);
                }
            }
        });
    }

    fn account(&mut self) {
        self.metrics.heartbeat().enter(Stage::Stamp);
        let egress = self.path.keeper.fast();
        let mut residence = self.metrics.residence();
        for read in self.reads.iter().filter(|read| read.sealed > 0) {
            residence.record(egress.saturating_since(read.ingress), read.sealed);
        }
        drop(residence);
        self.metrics.batch();
    }
}

/// Where the peer stands among those of the batch; it is added where it is new.
fn index_of(peers: &mut Vec<Arc<Peer>>, peer: &Arc<Peer>) -> usize {
    let known = peers.iter().position(|known| Arc::ptr_eq(known, peer));
    known.unwrap_or_else(|| {
        peers.push(peer.clone());
        peers.len() - 1
    })
}
