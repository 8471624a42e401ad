//! Puts received packets of one flow together again, so that one TUN write hands many of them to the kernel.
//!
//! A merged packet is only as good as its parts: NEEDS_CSUM makes the kernel trust it, so each part's checksums are
//! verified first. What cannot be merged is written as it came, and what came later in the same flow is written later.

use std::io::IoSlice;
use std::ops::Range;

use super::checksum::Sum;
use super::merge::{Candidate, Flow, Hosts, Kind};
use super::segment::field;
use super::vnet::{Gso, VnetHeader};
use wireguard::ip::IPV6_HEADER;

/// Slices in one gather list, and so packets in one superpacket, at most. 64 is also what the kernel's own UDP GRO
/// merges, and what it took to fill 64 KiB down to an MTU of 1088.
pub const MAX_SLICES: usize = 64;

/// Bytes of a superpacket with its headers, at most: what an IPv4 total length can say.
const MAX_LENGTH: usize = 65_535;

/// Flows that can be merged side by side; one more ends the merging of the one begun first. A batch is one datagram
/// queue's worth: seldom more than a few flows, and a linear search through them stays in one or two cache lines a flow.
const MAX_OPEN: usize = 8;

/// What the TUN device takes as a superpacket (`TUNSETOFFLOAD`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offloads {
    /// TCP over IPv4 and IPv6 (`TUN_F_TSO4`, `TUN_F_TSO6`).
    pub tcp: bool,
    /// UDP datagrams (`TUN_F_USO4`, `TUN_F_USO6`).
    pub udp: bool,
}

/// Collects a batch of packets that lie in one arena, then writes it. Reusable: allocates only where a batch is larger
/// than any before and than its capacity.
#[derive(Debug)]
pub struct Coalescer {
    offloads: Offloads,
    /// In the order of their first packets, in which they are written.
    groups: Vec<Group>,
    /// Payloads of packets after the first of a group, chained.
    followers: Vec<Follower>,
    /// Groups that more packets may join, the oldest first.
    open: Vec<Open>,
}

/// One write: a packet and those merged into it.
#[derive(Debug)]
struct Group {
    first: Range<usize>,
    candidate: Option<Candidate>,
    /// Length with all headers.
    length: usize,
    packets: usize,
    /// First and last of the chain of followers; meaningless while `packets` is 1.
    head: usize,
    tail: usize,
    /// The last packet had PSH.
    pushes: bool,
    /// The first packet's checksums are known to be right.
    verified: bool,
}

#[derive(Debug)]
struct Follower {
    payload: Range<usize>,
    next: usize,
}

#[derive(Debug)]
struct Open {
    flow: Flow,
    group: usize,
}

impl Coalescer {
    /// With neither offload every packet is written as it came.
    pub fn new(offloads: Offloads) -> Self {
        Self::with_capacity(offloads, 0)
    }

    /// One that never allocates for batches of up to so many packets.
    pub fn with_capacity(offloads: Offloads, packets: usize) -> Self {
        Self {
            offloads,
            groups: Vec::with_capacity(packets),
            followers: Vec::with_capacity(packets),
            open: Vec::with_capacity(MAX_OPEN),
        }
    }

    /// Adds the packet that lies at `range` of `arena`. Packets are added in the order of their arrival, and the
    /// arena keeps them until [`Self::flush`].
    ///
    /// # Panics
    ///
    /// Where the range is not within the arena, as slices do. No content of a packet makes it panic.
    pub fn push(&mut self, arena: &[u8], range: Range<usize>) {
        let packet = &arena[range.clone()];
        match Kind::of(packet) {
            Kind::Candidate(candidate) if self.merges(&candidate) => {
                self.push_candidate(arena, range, candidate)
            }
            Kind::Candidate(Candidate { flow, .. }) | Kind::Alone(flow) => {
                self.open.retain(|open| open.flow != flow);
                self.push_alone(range);
            }
            Kind::Opaque(hosts) => {
                self.close_between(hosts);
                self.push_alone(range);
            }
            Kind::NotIp => self.push_alone(range),
        }
    }

    /// Writes all that was pushed, through `write`: the header, and the packet as a list of slices to be gathered. `arena`
    /// is the one of the pushes; headers in it are changed. The coalescer is then empty.
    pub fn flush(&mut self, arena: &mut [u8], mut write: impl FnMut(VnetHeader, &[IoSlice<'_>])) {
        for group in &self.groups {
            match &group.candidate {
                Some(candidate) if group.packets > 1 => {
                    let header = group.finish(candidate, &mut arena[group.first.clone()]);
                    let mut slices = [IoSlice::new(&[]); MAX_SLICES];
                    slices[0] = IoSlice::new(&arena[group.first.clone()]);
                    let mut at = group.head;
                    for slice in &mut slices[1..group.packets] {
                        let follower = &self.followers[at];
                        *slice = IoSlice::new(&arena[follower.payload.clone()]);
                        at = follower.next;
                    }
                    write(header, &slices[..group.packets]);
                }
                // No flags: the kernel verifies the packet itself, also where we have. It would ignore DATA_VALID
                // from a TUN device, and NEEDS_CSUM would have us vouch for what mostly nobody has checked.
                _ => write(
                    VnetHeader::default(),
                    &[IoSlice::new(&arena[group.first.clone()])],
                ),
            }
        }
        self.groups.clear();
        self.followers.clear();
        self.open.clear();
    }

    /// True where nothing waits to be written.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    fn merges(&self, candidate: &Candidate) -> bool {
        if candidate.is_tcp() {
            self.offloads.tcp
        } else {
            self.offloads.udp
        }
    }

    fn push_candidate(&mut self, arena: &[u8], range: Range<usize>, candidate: Candidate) {
        let packet = &arena[range.clone()];
        let open = self.open.iter().position(|open| open.flow == candidate.flow);
        let Some(open) = open else {
            return self.begin(range, candidate);
        };
        let group = &mut self.groups[self.open[open].group];
        if !group.joins(arena, packet, &candidate) {
            self.open.remove(open);
            return self.begin(range, candidate);
        }
        // Checksums only now: a packet that stays alone is verified by the kernel, once.
        group.verified = group.verified || group.verify_first(arena);
        if !group.verified {
            self.open.remove(open);
            return self.begin(range, candidate);
        }
        if !candidate.verify(packet) {
            self.open.remove(open);
            return self.push_alone(range);
        }
        let payload = range.start + candidate.payload..range.end;
        let follower = self.followers.len();
        if group.packets == 1 {
            group.head = follower;
        } else {
            self.followers[group.tail].next = follower;
        }
        group.tail = follower;
        self.followers.push(Follower {
            payload,
            next: follower,
        });
        group.packets += 1;
        group.length += candidate.payload_length;
        group.pushes = candidate.pushes();
        if group.is_full(candidate.payload_length) {
            self.open.remove(open);
        }
    }

    /// Begins a group that others may join, unless its first packet says that nothing follows.
    fn begin(&mut self, range: Range<usize>, candidate: Candidate) {
        if !candidate.pushes() {
            if self.open.len() == MAX_OPEN {
                self.open.remove(0);
            }
            self.open.push(Open {
                flow: candidate.flow,
                group: self.groups.len(),
            });
        }
        self.groups.push(Group::new(range, Some(candidate)));
    }

    fn push_alone(&mut self, range: Range<usize>) {
        self.groups.push(Group::new(range, None));
    }

    /// Ends every merging that a packet between these hosts might belong to.
    fn close_between(&mut self, hosts: Hosts) {
        self.open.retain(|open| open.flow.hosts != hosts);
    }
}

impl Group {
    fn new(first: Range<usize>, candidate: Option<Candidate>) -> Self {
        Self {
            length: first.len(),
            first,
            candidate,
            packets: 1,
            head: 0,
            tail: 0,
            pushes: false,
            verified: false,
        }
    }

    /// True where `packet` continues this group, whose flow it belongs to, checksums apart.
    fn joins(&self, arena: &[u8], packet: &[u8], candidate: &Candidate) -> bool {
        let Some(first) = &self.candidate else {
            return false;
        };
        let merged = (self.length - first.payload) as u32;
        candidate.payload_length <= first.payload_length
            && self.length + candidate.payload_length <= MAX_LENGTH
            && (!first.is_tcp() || candidate.sequence == first.sequence.wrapping_add(merged))
            && first.agrees(&arena[self.first.clone()], candidate, packet, self.packets)
    }

    fn verify_first(&self, arena: &[u8]) -> bool {
        self.candidate
            .is_some_and(|first| first.verify(&arena[self.first.clone()]))
    }

    /// True where nothing may follow a last payload of `last` bytes.
    fn is_full(&self, last: usize) -> bool {
        let shorter = self.candidate.is_none_or(|first| last < first.payload_length);
        self.pushes || shorter || self.packets == MAX_SLICES
    }

    /// Makes the first packet's headers those of the superpacket.
    fn finish(&self, candidate: &Candidate, first: &mut [u8]) -> VnetHeader {
        let l4_length = self.length - candidate.l4;
        let (ip, l4) = first.split_at_mut(candidate.l4);
        if candidate.is_ipv4() {
            ip[2..4].copy_from_slice(&(self.length as u16).to_be_bytes());
            ip[10..12].fill(0);
            let checksum = Sum::of(ip).checksum();
            ip[10..12].copy_from_slice(&checksum);
        } else {
            ip[4..6].copy_from_slice(&((self.length - IPV6_HEADER) as u16).to_be_bytes());
        }
        if !candidate.is_tcp() {
            l4[field::UDP_LENGTH..field::UDP_LENGTH + 2].copy_from_slice(&(l4_length as u16).to_be_bytes());
        } else if self.pushes {
            l4[field::TCP_FLAGS] |= field::PSH;
        }
        let pseudo = candidate.pseudo_header(first, l4_length).fold();
        let offset = candidate.checksum_offset();
        first[candidate.l4 + offset..candidate.l4 + offset + 2].copy_from_slice(&pseudo);
        let gso = match (candidate.is_tcp(), candidate.is_ipv4()) {
            (true, true) => Gso::TcpV4,
            (true, false) => Gso::TcpV6,
            (false, _) => Gso::UdpL4,
        };
        VnetHeader {
            flags: VnetHeader::NEEDS_CSUM,
            gso_type: gso as u8,
            hdr_len: candidate.payload as u16,
            gso_size: candidate.payload_length as u16,
            csum_start: candidate.l4 as u16,
            csum_offset: offset as u16,
        }
    }
}
