//! Packets built and checked without any of the code under test.

mod coalesce;
mod fields;
mod segment;

use std::io::IoSlice;

use proptest::prelude::*;

use super::{Coalescer, Offloads, VnetHeader};

const ALL: Offloads = Offloads { tcp: true, udp: true };

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const ECE: u8 = 0x40;
const CWR: u8 = 0x80;

/// A TCP or UDP packet by its fields.
#[derive(Debug, Clone, PartialEq)]
struct Packet {
    v6: bool,
    tcp: bool,
    /// Last byte of the source address.
    host: u8,
    port: u16,
    tos: u8,
    ttl: u8,
    id: u16,
    df: bool,
    sequence: u32,
    ack: u32,
    window: u16,
    flags: u8,
    /// Words of TCP options.
    options: Vec<u32>,
    payload: Vec<u8>,
}

impl Packet {
    fn tcp4(sequence: u32, payload: &[u8]) -> Self {
        Self {
            v6: false,
            tcp: true,
            host: 1,
            port: 5201,
            tos: 0,
            ttl: 64,
            id: 7,
            df: true,
            sequence,
            ack: 99,
            window: 512,
            flags: ACK,
            options: vec![0x0101_080a, 1, 2],
            payload: payload.to_vec(),
        }
    }

    fn tcp6(sequence: u32, payload: &[u8]) -> Self {
        Self {
            v6: true,
            ..Self::tcp4(sequence, payload)
        }
    }

    fn udp4(payload: &[u8]) -> Self {
        Self {
            tcp: false,
            ..Self::tcp4(0, payload)
        }
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn l4(&self) -> usize {
        if self.v6 { 40 } else { 20 }
    }

    fn headers(&self) -> usize {
        self.l4() + if self.tcp { 20 + 4 * self.options.len() } else { 8 }
    }

    /// Offset of the checksum in the TCP or UDP header.
    fn checksum_offset(&self) -> usize {
        if self.tcp { 16 } else { 6 }
    }

    /// All bytes, the checksum field of TCP or UDP zero.
    fn unchecked(&self) -> Vec<u8> {
        let length = self.headers() + self.payload.len();
        let protocol = if self.tcp { 6 } else { 17 };
        let mut bytes = Vec::with_capacity(length);
        if self.v6 {
            bytes.extend([0x60 | self.tos >> 4, self.tos << 4, 0x12, 0x34]);
            bytes.extend(((length - 40) as u16).to_be_bytes());
            bytes.extend([protocol, self.ttl]);
            for last in [self.host, 200] {
                bytes.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
            }
        } else {
            bytes.extend([0x45, self.tos]);
            bytes.extend((length as u16).to_be_bytes());
            bytes.extend(self.id.to_be_bytes());
            bytes.extend([if self.df { 0x40 } else { 0 }, 0, self.ttl, protocol, 0, 0]);
            bytes.extend([10, 0, 0, self.host, 10, 0, 0, 200]);
            let checksum = !naive_sum(&bytes);
            bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
        }
        bytes.extend(self.port.to_be_bytes());
        bytes.extend([0x1f, 0x90]);
        if self.tcp {
            bytes.extend(self.sequence.to_be_bytes());
            bytes.extend(self.ack.to_be_bytes());
            bytes.extend([(5 + self.options.len() as u8) << 4, self.flags]);
            bytes.extend(self.window.to_be_bytes());
            bytes.extend([0; 4]);
            self.options
                .iter()
                .for_each(|word| bytes.extend(word.to_be_bytes()));
        } else {
            bytes.extend(((8 + self.payload.len()) as u16).to_be_bytes());
            bytes.extend([0; 2]);
        }
        bytes.extend(&self.payload);
        bytes
    }

    /// As it travels: all checksums right.
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.unchecked();
        let mut checksum = !naive_l4_sum(&bytes, self.l4());
        if !self.tcp && checksum == 0 {
            checksum = 0xffff;
        }
        let field = self.l4() + self.checksum_offset();
        bytes[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }

    /// As a TUN device gives or takes it with `size` bytes a segment.
    fn superpacket(&self, size: u16) -> (VnetHeader, Vec<u8>) {
        let mut bytes = self.unchecked();
        let field = self.l4() + self.checksum_offset();
        let pseudo = naive_sum(&pseudo(&bytes, self.l4()));
        bytes[field..field + 2].copy_from_slice(&pseudo.to_be_bytes());
        let gso_type = match (self.tcp, self.v6) {
            (true, false) => 1,
            (true, true) => 4,
            (false, _) => 5,
        };
        let header = VnetHeader {
            flags: 1,
            gso_type,
            hdr_len: self.headers() as u16,
            gso_size: size,
            csum_start: self.l4() as u16,
            csum_offset: self.checksum_offset() as u16,
        };
        (header, bytes)
    }
}

/// RFC 1071, word by word.
fn naive_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        if sum > 0xffff {
            sum -= 0xffff;
        }
    }
    sum as u16
}

/// The pseudo header of a packet without extension headers.
fn pseudo(packet: &[u8], l4: usize) -> Vec<u8> {
    let v4 = packet[0] >> 4 == 4;
    let mut bytes = if v4 {
        packet[12..20].to_vec()
    } else {
        packet[8..40].to_vec()
    };
    bytes.extend([0, if v4 { packet[9] } else { packet[6] }]);
    bytes.extend(((packet.len() - l4) as u16).to_be_bytes());
    bytes
}

fn naive_l4_sum(packet: &[u8], l4: usize) -> u16 {
    let mut bytes = pseudo(packet, l4);
    bytes.extend(&packet[l4..]);
    naive_sum(&bytes)
}

/// True where every checksum of a packet without options or extension headers is right.
fn checksums_hold(packet: &[u8]) -> bool {
    let v4 = packet[0] >> 4 == 4;
    let l4 = if v4 { 20 } else { 40 };
    (!v4 || naive_sum(&packet[..20]) == 0xffff) && naive_l4_sum(packet, l4) == 0xffff
}

/// Pushes packets as one batch and gathers what is written.
fn coalesce(coalescer: &mut Coalescer, packets: &[Vec<u8>]) -> Vec<(VnetHeader, Vec<u8>)> {
    // Not from 0, and with gaps: as sealed packets leave their payloads behind.
    let mut arena = vec![0xee; 32];
    let mut ranges = Vec::new();
    for packet in packets {
        ranges.push(arena.len()..arena.len() + packet.len());
        arena.extend(packet);
        arena.extend([0xee; 48]);
    }
    for range in ranges {
        coalescer.push(&arena, range);
    }
    let mut written = Vec::new();
    coalescer.flush(&mut arena, |header, slices: &[IoSlice<'_>]| {
        written.push((header, slices.iter().flat_map(|slice| slice.to_vec()).collect()));
    });
    assert!(coalescer.is_empty());
    written
}

fn any_packet(max_payload: usize) -> impl Strategy<Value = Packet> {
    let headers = (
        any::<bool>(),
        any::<bool>(),
        any::<u8>(),
        any::<u16>(),
        any::<u32>(),
    );
    let options = prop::collection::vec(any::<u32>(), 0..=10);
    let payload = prop::collection::vec(any::<u8>(), 1..max_payload);
    (
        headers,
        any::<(u8, u8, u16, bool)>(),
        any::<(u32, u16)>(),
        options,
        payload,
    )
        .prop_map(
            |((v6, tcp, host, port, sequence), (tos, ttl, id, df), (ack, window), options, payload)| Packet {
                v6,
                tcp,
                host,
                port,
                tos,
                ttl,
                id,
                df,
                sequence,
                ack,
                window,
                flags: ACK,
                options: if tcp { options } else { Vec::new() },
                payload,
            },
        )
}
