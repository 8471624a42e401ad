//! Decides whether one packet may be appended to another: the rules of receive offload.

use super::checksum::{Sum, pseudo_header};
use super::segment::{TCP_MIN_HEADER, UDP_HEADER, field};
use wireguard::ip::{
    IPV4_MIN_HEADER, IPV6_HEADER, PROTOCOL_TCP, PROTOCOL_UDP, address_range, inner_length, version,
};

const DONT_FRAGMENT: u8 = 0x40;

/// Who talks to whom. Equal for the packets of one flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Flow {
    pub(super) hosts: Hosts,
    ports: u32,
    protocol: u8,
}

/// The IP version and both addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Hosts {
    addresses: [u64; 4],
    version: u8,
}

impl Hosts {
    /// `None` for what is no IP packet.
    pub(super) fn of(packet: &[u8]) -> Option<Self> {
        let version = version(packet).ok()?;
        let mut addresses = [0; 4];
        for (word, bytes) in addresses
            .iter_mut()
            .zip(packet.get(address_range(version))?.as_chunks::<8>().0)
        {
            *word = u64::from_ne_bytes(*bytes);
        }
        Some(Self { addresses, version })
    }
}

/// A whole TCP segment or UDP datagram without anything that forbids merging, but for its flags and payload.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub(super) flow: Flow,
    /// Offset of the TCP or UDP header.
    pub(super) l4: usize,
    /// Offset of the payload.
    pub(super) payload: usize,
    pub(super) payload_length: usize,
    /// 0 for UDP.
    pub(super) sequence: u32,
    /// 0 for UDP.
    flags: u8,
}

/// What a packet is to the coalescer.
#[derive(Debug)]
pub(super) enum Kind {
    Candidate(Candidate),
    /// Of a known flow, but it stands alone.
    Alone(Flow),
    /// Its flow is not known, only its hosts.
    Opaque(Hosts),
    NotIp,
}

impl Kind {
    pub(super) fn of(packet: &[u8]) -> Self {
        let Some(hosts) = Hosts::of(packet) else {
            return Self::NotIp;
        };
        let plain = match hosts.version {
            // No options; no fragment, neither first nor later.
            4 => packet[0] == 0x45 && packet[6] & !DONT_FRAGMENT == 0 && packet[7] == 0,
            _ => true,
        };
        let (l4, protocol) = if hosts.version == 4 {
            (IPV4_MIN_HEADER, packet[9])
        } else {
            (IPV6_HEADER, packet[6])
        };
        if !plain || inner_length(packet) != Ok(packet.len()) {
            return Self::Opaque(hosts);
        }
        let header = &packet[l4..];
        match protocol {
            PROTOCOL_TCP => Self::tcp(hosts, l4, header),
            PROTOCOL_UDP => Self::udp(hosts, l4, header),
            _ => Self::Opaque(hosts),
        }
    }

    fn tcp(hosts: Hosts, l4: usize, header: &[u8]) -> Self {
        if header.len() < TCP_MIN_HEADER {
            return Self::Opaque(hosts);
        }
        let flow = Flow {
            hosts,
            ports: word(header, 0),
            protocol: PROTOCOL_TCP,
        };
        let flags = header[field::TCP_FLAGS];
        let own = usize::from(header[field::TCP_DATA_OFFSET] >> 4) * 4;
        // Without payload it would vanish in a superpacket, and with it a duplicate acknowledgement.
        if flags & !field::PSH != field::ACK || own < TCP_MIN_HEADER || own >= header.len() {
            return Self::Alone(flow);
        }
        Self::Candidate(Candidate {
            flow,
            l4,
            payload: l4 + own,
            payload_length: header.len() - own,
            sequence: word(header, field::TCP_SEQUENCE),
            flags,
        })
    }

    fn udp(hosts: Hosts, l4: usize, header: &[u8]) -> Self {
        if header.len() < UDP_HEADER {
            return Self::Opaque(hosts);
        }
        let flow = Flow {
            hosts,
            ports: word(header, 0),
            protocol: PROTOCOL_UDP,
        };
        let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
        // A superpacket has a checksum: a datagram sent without would gain one.
        let unchecked = header[field::UDP_CHECKSUM..UDP_HEADER] == [0, 0];
        if length != header.len() || length == UDP_HEADER || unchecked {
            return Self::Alone(flow);
        }
        let payload_length = header.len() - UDP_HEADER;
        Self::Candidate(Candidate {
            flow,
            l4,
            payload: l4 + UDP_HEADER,
            payload_length,
            sequence: 0,
            flags: 0,
        })
    }
}

impl Candidate {
    pub(super) fn is_tcp(&self) -> bool {
        self.flow.protocol == PROTOCOL_TCP
    }

    pub(super) fn is_ipv4(&self) -> bool {
        self.flow.hosts.version == 4
    }

    /// True where nothing may follow in the same superpacket.
    pub(super) fn pushes(&self) -> bool {
        self.flags & field::PSH != 0
    }

    /// Offset of the checksum field from the TCP or UDP header.
    pub(super) fn checksum_offset(&self) -> usize {
        if self.is_tcp() {
            field::TCP_CHECKSUM
        } else {
            field::UDP_CHECKSUM
        }
    }

    /// The sum of the pseudo header that `packet` would have with `length` bytes from its TCP or UDP header on.
    pub(super) fn pseudo_header(&self, packet: &[u8], length: usize) -> Sum {
        let addresses = &packet[address_range(self.flow.hosts.version)];
        pseudo_header(addresses, self.flow.protocol, length as u32)
    }

    /// Checks the IPv4 header's checksum and that of TCP or UDP.
    pub(super) fn verify(&self, packet: &[u8]) -> bool {
        let (ip, l4) = packet.split_at(self.l4);
        (!self.is_ipv4() || Sum::of(ip).is_valid())
            && self.pseudo_header(packet, l4.len()).plus(Sum::of(l4)).is_valid()
    }

    /// True where all header fields that a superpacket has but once are the same in `first` and in `other`, the
    /// `nth` packet after it. Both are candidates of one flow, `self` and `its` say where their headers lie.
    pub(super) fn agrees(&self, first: &[u8], its: &Self, other: &[u8], nth: usize) -> bool {
        self.payload == its.payload
            && if self.is_ipv4() {
                ipv4_agrees(first, other, nth)
            } else {
                ipv6_agrees(first, other)
            }
            && (!self.is_tcp() || tcp_agrees(&first[self.l4..self.payload], &other[self.l4..self.payload]))
    }
}

/// Type of service, flags and time to live. The id counts up by one a packet, which segmentation restores. Where
/// fragmentation is forbidden it has no meaning (RFC 6864), and senders that always write the same one are merged too.
/// The kernel's own GRO has the same rule.
fn ipv4_agrees(first: &[u8], other: &[u8], nth: usize) -> bool {
    let id = |packet: &[u8]| u16::from_be_bytes([packet[4], packet[5]]);
    first[1] == other[1]
        && first[6] == other[6]
        && first[8] == other[8]
        && (id(other) == id(first).wrapping_add(nth as u16)
            || first[6] == DONT_FRAGMENT && id(other) == id(first))
}

/// Traffic class, flow label and hop limit.
fn ipv6_agrees(first: &[u8], other: &[u8]) -> bool {
    first[..4] == other[..4] && first[7] == other[7]
}

/// Acknowledgement, header length with the reserved bits, window, urgent pointer, options.
fn tcp_agrees(first: &[u8], other: &[u8]) -> bool {
    first[8..field::TCP_FLAGS] == other[8..field::TCP_FLAGS]
        && first[14..16] == other[14..16]
        && first[18..] == other[18..]
}

fn word(header: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}
