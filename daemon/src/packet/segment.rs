//! Makes wire packets of what the TUN device gives: completes a checksum, cuts a superpacket apart.
//!
//! What all segments have in common is summed once, so that a segment costs one copy, one sum over its payload and a
//! few words.

use super::checksum::Sum;
use super::ip::{
    IPV6_HEADER, IpError, PROTOCOL_TCP, PROTOCOL_UDP, inner_length, ipv4_header_length, version,
};
use super::vnet::{Gso, VnetHeader};

pub(super) const TCP_MIN_HEADER: usize = 20;
pub(super) const UDP_HEADER: usize = 8;

/// Offsets from the start of a TCP or UDP header, and TCP's flags.
pub(super) mod field {
    pub const TCP_SEQUENCE: usize = 4;
    pub const TCP_DATA_OFFSET: usize = 12;
    pub const TCP_FLAGS: usize = 13;
    pub const TCP_CHECKSUM: usize = 16;
    pub const UDP_LENGTH: usize = 4;
    pub const UDP_CHECKSUM: usize = 6;

    pub const FIN: u8 = 0x01;
    pub const PSH: u8 = 0x08;
    pub const ACK: u8 = 0x10;
    pub const CWR: u8 = 0x80;
}

/// Why a packet and its header do not go together. Such a packet is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    #[error(transparent)]
    Ip(#[from] IpError),
    #[error("segmentation type {0:#x} is neither TCP nor UDP datagrams, all that was asked for")]
    Type(u8),
    #[error("segmentation of {wanted}, but the packet is IPv{version} with protocol {protocol}")]
    Mismatch {
        wanted: &'static str,
        version: u8,
        protocol: u8,
    },
    #[error("a superpacket without NEEDS_CSUM: the place of its TCP or UDP header is not known")]
    NoChecksumStart,
    #[error("a superpacket with a segment size of 0")]
    SegmentSize,
    #[error("checksum from {start} at {start}+{offset} of a packet of {length} bytes")]
    ChecksumPlace {
        start: usize,
        offset: usize,
        length: usize,
    },
    #[error("headers end at {end} in a packet of {length} bytes")]
    HeaderLength { end: usize, length: usize },
}

/// One packet from the TUN device on its way to being one or more wire packets.
#[derive(Debug)]
pub struct Segmenter<'a> {
    /// Cut to the length that its IP header declares.
    packet: &'a [u8],
    /// Bytes that every segment begins with; 0 for a packet that goes as it is.
    headers: usize,
    /// Payload bytes of every segment but perhaps the last.
    size: usize,
    /// Payload of the next segment begins here.
    at: usize,
    index: usize,
    count: usize,
    template: Option<Template>,
}

/// What is needed to complete the headers of a segment. The template's own varying fields are zero in the packet.
#[derive(Debug)]
struct Template {
    /// Of the TCP or UDP header.
    start: usize,
    v4: Option<Ipv4Part>,
    l4: L4Part,
    /// Over the pseudo header without its length and over the TCP or UDP header.
    sum: Sum,
}

#[derive(Debug)]
struct Ipv4Part {
    id: u16,
    sum: Sum,
}

#[derive(Debug)]
enum L4Part {
    Tcp { sequence: u32, flags: u8 },
    Udp,
}

impl<'a> Segmenter<'a> {
    /// Checks that header and packet go together. The packet's headers are changed: its checksum is completed, or
    /// they become the template of the segments.
    pub fn new(header: VnetHeader, packet: &'a mut [u8]) -> Result<Self, SegmentError> {
        let length = inner_length(packet)?;
        let packet = &mut packet[..length];
        let protocol = match header.gso().ok_or(SegmentError::Type(header.gso_type))? {
            Gso::None => return Self::single(header, packet),
            Gso::TcpV4 => require(packet, "TCP over IPv4", 4, PROTOCOL_TCP)?,
            Gso::TcpV6 => require(packet, "TCP over IPv6", 6, PROTOCOL_TCP)?,
            Gso::UdpL4 => require(packet, "UDP", version(packet)?, PROTOCOL_UDP)?,
            Gso::Udp => return Err(SegmentError::Type(header.gso_type)),
        };
        Self::superpacket(header, packet, protocol)
    }

    fn single(header: VnetHeader, packet: &'a mut [u8]) -> Result<Self, SegmentError> {
        if header.needs_checksum() {
            let (start, field) = checksum_place(header, packet)?;
            let checksum = Sum::of(&packet[start..]).nonzero_checksum();
            packet[field..field + 2].copy_from_slice(&checksum);
        }
        let size = packet.len();
        Ok(Self {
            packet,
            headers: 0,
            size,
            at: 0,
            index: 0,
            count: 1,
            template: None,
        })
    }

    fn superpacket(header: VnetHeader, packet: &'a mut [u8], protocol: u8) -> Result<Self, SegmentError> {
        if !header.needs_checksum() {
            return Err(SegmentError::NoChecksumStart);
        }
        let size = usize::from(header.gso_size);
        if size == 0 {
            return Err(SegmentError::SegmentSize);
        }
        let (start, field) = checksum_place(header, packet)?;
        let headers = headers_end(packet, start, field - start, protocol)?;
        let template = Template::take(packet, start, headers, protocol);
        let count = (packet.len() - headers).div_ceil(size).max(1);
        Ok(Self {
            packet,
            headers,
            size,
            at: headers,
            index: 0,
            count,
            template: Some(template),
        })
    }

    /// Number of wire packets, from the first.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Number of wire packets still to be written.
    pub fn remaining(&self) -> usize {
        self.count - self.index
    }

    /// Length of every wire packet but the last, which may be shorter, in bytes with all headers.
    pub fn segment_size(&self) -> usize {
        (self.headers + self.size).min(self.packet.len())
    }

    /// Writes the next wire packet to the start of `out` and gives its length. `None` when all are written, or while
    /// `out` is shorter than the packet; [`Self::segment_size`] bytes are always enough.
    #[inline]
    pub fn next(&mut self, out: &mut [u8]) -> Option<usize> {
        if self.index == self.count {
            return None;
        }
        let payload = &self.packet[self.at..self.packet.len().min(self.at + self.size)];
        let length = self.headers + payload.len();
        let out = out.get_mut(..length)?;
        let (head, body) = out.split_at_mut(self.headers);
        head.copy_from_slice(&self.packet[..self.headers]);
        body.copy_from_slice(payload);
        if let Some(template) = &self.template {
            template.complete(head, body, self.index, self.size, self.index + 1 == self.count);
        }
        self.at += payload.len();
        self.index += 1;
        Some(length)
    }
}

/// Checks version and protocol. Behind IPv6 extension headers the protocol cannot be seen: the kernel is believed.
fn require(packet: &[u8], wanted: &'static str, want: u8, expected: u8) -> Result<u8, SegmentError> {
    let version = version(packet)?;
    let protocol = if version == 4 { packet[9] } else { packet[6] };
    let hidden = version == 6 && protocol != PROTOCOL_TCP && protocol != PROTOCOL_UDP;
    if version == want && (protocol == expected || hidden) {
        Ok(expected)
    } else {
        Err(SegmentError::Mismatch {
            wanted,
            version,
            protocol,
        })
    }
}

/// Where the checksum begins and where it is written: inside the packet, behind the IP header.
fn checksum_place(header: VnetHeader, packet: &[u8]) -> Result<(usize, usize), SegmentError> {
    let (start, offset) = (usize::from(header.csum_start), usize::from(header.csum_offset));
    let ip_header = if version(packet)? == 4 {
        ipv4_header_length(packet)?
    } else {
        IPV6_HEADER
    };
    if start < ip_header || start + offset + 2 > packet.len() {
        return Err(SegmentError::ChecksumPlace {
            start,
            offset,
            length: packet.len(),
        });
    }
    Ok((start, start + offset))
}

/// Where the payload begins, computed from the packet: `hdr_len` cannot be relied upon.
fn headers_end(packet: &[u8], start: usize, offset: usize, protocol: u8) -> Result<usize, SegmentError> {
    let length = packet.len();
    // Only IPv6 extension headers may lie between the IP header and the checksum's start.
    let extended = packet[0] >> 4 == 6 && packet[6] != protocol;
    let at_header = if packet[0] >> 4 == 4 {
        start == ipv4_header_length(packet)?
    } else {
        start == IPV6_HEADER
    };
    let (own, place) = match protocol {
        PROTOCOL_TCP => (TCP_MIN_HEADER, field::TCP_CHECKSUM),
        _ => (UDP_HEADER, field::UDP_CHECKSUM),
    };
    if at_header == extended || offset != place {
        return Err(SegmentError::ChecksumPlace {
            start,
            offset,
            length,
        });
    }
    let mut end = start + own;
    if protocol == PROTOCOL_TCP && end <= length {
        end = start + usize::from(packet[start + field::TCP_DATA_OFFSET] >> 4) * 4;
    }
    if end < start + own || end > length {
        return Err(SegmentError::HeaderLength { end, length });
    }
    Ok(end)
}

impl Template {
    /// Takes the varying fields out of the headers, leaving zeros, and sums the rest.
    fn take(packet: &mut [u8], start: usize, headers: usize, protocol: u8) -> Self {
        let l4_length = packet.len() - start;
        let (ip, l4) = packet[..headers].split_at_mut(start);
        let v4 = (ip[0] >> 4 == 4).then(|| {
            ip[2..4].fill(0);
            let id = u16::from_be_bytes(take(ip, 4));
            ip[10..12].fill(0);
            Ipv4Part { id, sum: Sum::of(ip) }
        });
        let (checksum, l4_part) = if protocol == PROTOCOL_TCP {
            let sequence = u32::from_be_bytes(take(l4, field::TCP_SEQUENCE));
            let flags = l4[field::TCP_FLAGS];
            l4[field::TCP_FLAGS] &= !(field::FIN | field::PSH | field::CWR);
            (field::TCP_CHECKSUM, L4Part::Tcp { sequence, flags })
        } else {
            l4[field::UDP_LENGTH..field::UDP_LENGTH + 2].fill(0);
            (field::UDP_CHECKSUM, L4Part::Udp)
        };
        // The pseudo header's sum comes from the field and not from the addresses: under a routing header it is the
        // final destination that counts, and the kernel knows it.
        let pseudo = u16::from_be_bytes(take(l4, checksum));
        let sum = Sum::of(l4).plus_u16(pseudo).minus_u16(l4_length as u16);
        Self {
            start,
            v4,
            l4: l4_part,
            sum,
        }
    }

    /// Fills the varying fields of a segment in. `head` is a copy of the template.
    #[inline]
    fn complete(&self, head: &mut [u8], body: &[u8], index: usize, size: usize, last: bool) {
        let length = head.len() + body.len();
        let (ip, l4) = head.split_at_mut(self.start);
        if let Some(v4) = &self.v4 {
            let id = v4.id.wrapping_add(index as u16);
            let total = length as u16;
            ip[2..4].copy_from_slice(&total.to_be_bytes());
            ip[4..6].copy_from_slice(&id.to_be_bytes());
            ip[10..12].copy_from_slice(&v4.sum.plus_u16(total).plus_u16(id).checksum());
        } else {
            ip[4..6].copy_from_slice(&((length - IPV6_HEADER) as u16).to_be_bytes());
        }
        let l4_length = (length - self.start) as u16;
        let sum = self.sum.plus(Sum::of(body)).plus_u16(l4_length);
        match self.l4 {
            L4Part::Tcp { sequence, flags } => {
                let sequence = sequence.wrapping_add((index * size) as u32);
                // Congestion is answered once; the end and the push belong to the last byte.
                let first_only = if index == 0 { field::CWR } else { 0 };
                let last_only = if last { field::FIN | field::PSH } else { 0 };
                let flags = flags & (first_only | last_only);
                l4[field::TCP_FLAGS] |= flags;
                l4[4..8].copy_from_slice(&sequence.to_be_bytes());
                let sum = sum.plus_u32(sequence).plus_u16(flags.into());
                l4[16..18].copy_from_slice(&sum.checksum());
            }
            L4Part::Udp => {
                l4[4..6].copy_from_slice(&l4_length.to_be_bytes());
                l4[6..8].copy_from_slice(&sum.plus_u16(l4_length).nonzero_checksum());
            }
        }
    }
}

/// Reads a field and leaves zeros.
fn take<const N: usize>(header: &mut [u8], at: usize) -> [u8; N] {
    let mut value = [0; N];
    value.copy_from_slice(&header[at..at + N]);
    header[at..at + N].fill(0);
    value
}
