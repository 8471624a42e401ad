//! Makes wire packets of what the TUN device gives: completes a checksum, cuts a superpacket apart.
//!
//! What all segments have in common is summed once, so that a segment costs one sum over its payload and a few words. No
//! payload is moved: each segment's headers are put before it, over the end of the one before, which is done with.

use super::checksum::Sum;
use super::vnet::{Gso, VnetHeader};
use wireguard::ip::{
    IPV6_HEADER, IpError, PROTOCOL_TCP, PROTOCOL_UDP, inner_length, ipv4_header_length, version,
};

pub(super) const TCP_MIN_HEADER: usize = 20;
pub(super) const UDP_HEADER: usize = 8;

/// Zeros behind a wire packet, at most.
pub const PADDING: usize = 15;

/// TCP's flags that every segment has like the superpacket.
const COMMON_FLAGS: u8 = !(field::FIN | field::PSH | field::CWR);

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
    /// Spare room behind the packet, for padding.
    buffer: &'a mut [u8],
    /// That the packet's IP header declares.
    length: usize,
    /// Bytes that every segment begins with; 0 for a packet that goes as it is.
    headers: usize,
    /// Payload bytes of every segment but perhaps the last.
    size: usize,
    /// Payload of the next segment begins here.
    at: usize,
    index: usize,
    count: usize,
    template: Option<Template>,
    /// What padding has covered of the next payload.
    covered: [u8; PADDING],
    /// Where it belongs, and how much of it there is.
    covered_place: (usize, usize),
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
    /// The packet lies in the first `length` bytes of `buffer`; padding takes [`PADDING`] more, which need not be its own
    /// where nobody pads. Checks that header and packet go together, and changes both packet and padding.
    ///
    /// # Panics
    ///
    /// Where `length` is more than the buffer's.
    pub fn new(header: VnetHeader, buffer: &'a mut [u8], length: usize) -> Result<Self, SegmentError> {
        let length = inner_length(&buffer[..length])?;
        let packet = &mut buffer[..length];
        let protocol = match header.gso().ok_or(SegmentError::Type(header.gso_type))? {
            Gso::None => return Self::single(header, buffer, length),
            Gso::TcpV4 => require(packet, "TCP over IPv4", 4, PROTOCOL_TCP)?,
            Gso::TcpV6 => require(packet, "TCP over IPv6", 6, PROTOCOL_TCP)?,
            Gso::UdpL4 => require(packet, "UDP", version(packet)?, PROTOCOL_UDP)?,
            Gso::Udp => return Err(SegmentError::Type(header.gso_type)),
        };
        Self::superpacket(header, buffer, length, protocol)
    }

    fn single(header: VnetHeader, buffer: &'a mut [u8], length: usize) -> Result<Self, SegmentError> {
        let packet = &mut buffer[..length];
        if header.needs_checksum() {
            let (start, field) = checksum_place(header, packet)?;
            let checksum = Sum::of(&packet[start..]).nonzero_checksum();
            packet[field..field + 2].copy_from_slice(&checksum);
        }
        Ok(Self {
            buffer,
            length,
            headers: 0,
            size: length,
            at: 0,
            index: 0,
            count: 1,
            template: None,
            covered: [0; PADDING],
            covered_place: (length, 0),
        })
    }

    fn superpacket(
        header: VnetHeader,
        buffer: &'a mut [u8],
        length: usize,
        protocol: u8,
    ) -> Result<Self, SegmentError> {
        let packet = &mut buffer[..length];
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
        let count = (length - headers).div_ceil(size).max(1);
        Ok(Self {
            buffer,
            length,
            headers,
            size,
            at: headers,
            index: 0,
            count,
            template: Some(template),
            covered: [0; PADDING],
            covered_place: (length, 0),
        })
    }

    /// Number of wire packets, from the first.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The next wire packet, and as many zeros after it as make it `padded(its length)` bytes long, at most [`PADDING`]
    /// and no more than there is room for. Gives both lengths. `None` when there is none left.
    #[inline]
    pub fn next(&mut self, padded: impl FnOnce(usize) -> usize) -> Option<Segment<'_>> {
        if self.index == self.count {
            return None;
        }
        self.uncover();
        let payload = self.size.min(self.length - self.at);
        // The headers of the first are where they belong; each one's are made from those before it.
        let start = self.at - self.headers;
        let (length, end) = (self.headers + payload, self.at + payload);
        if let Some(template) = &self.template {
            if self.index > 0 {
                let before = start - self.size;
                self.buffer.copy_within(before..before + self.headers, start);
            }
            let (head, body) = self.buffer[start..end].split_at_mut(self.headers);
            template.complete(head, body, self.index, self.size, self.index + 1 == self.count);
        }
        self.at = end;
        self.index += 1;
        let padding = padded(length).saturating_sub(length).min(PADDING);
        let padding = padding.min(self.buffer.len() - end);
        self.cover(end, padding);
        Some(Segment {
            padded: &self.buffer[start..end + padding],
            length,
        })
    }

    /// Writes zeros at `at`, and remembers what they cover of the packet.
    fn cover(&mut self, at: usize, count: usize) {
        let zeros = &mut self.buffer[at..at + count];
        self.covered[..count].copy_from_slice(zeros);
        zeros.fill(0);
        self.covered_place = (at, count);
    }

    fn uncover(&mut self) {
        let (at, count) = self.covered_place;
        self.buffer[at..at + count].copy_from_slice(&self.covered[..count]);
    }
}

/// One wire packet.
#[derive(Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// With zeros behind it.
    pub padded: &'a [u8],
    /// Without them.
    pub length: usize,
}

impl Segment<'_> {
    pub fn packet(&self) -> &[u8] {
        &self.padded[..self.length]
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
            l4[field::TCP_FLAGS] &= COMMON_FLAGS;
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

    /// Fills the varying fields of a segment in. `head` is the template, or the head of the segment before.
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
                let extra = flags & (first_only | last_only);
                l4[field::TCP_FLAGS] = flags & COMMON_FLAGS | extra;
                l4[4..8].copy_from_slice(&sequence.to_be_bytes());
                let sum = sum.plus_u32(sequence).plus_u16(extra.into());
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
