//! Checksum, segmentation and coalescing at the packet sizes of a tunnel with MTU 1420.

use std::hint::black_box;

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use hpetun_engine::packet::{Coalescer, Offloads, Segmenter, Sum, VnetHeader, pseudo_header};

fn main() {
    divan::main();
}

const HEADERS: usize = 52;
const SIZE: usize = 1420 - HEADERS;
const SEGMENTS: usize = 46;
/// What a sealed packet has before and behind it in the datagram.
const GAP: usize = 32;

/// A TCP superpacket over IPv4, with timestamps, as iperf3 makes the kernel send it.
fn superpacket() -> (VnetHeader, Vec<u8>) {
    let length = HEADERS + SEGMENTS * SIZE;
    let mut packet: Vec<u8> = (0..length).map(|n| ((n * 7919) >> 3) as u8).collect();
    packet[..10].copy_from_slice(&[0x45, 0, (length >> 8) as u8, length as u8, 0, 1, 0x40, 0, 64, 6]);
    packet[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
    packet[32..34].copy_from_slice(&[0x80, 0x18]);
    let pseudo = pseudo_header(&packet[12..20], 6, (length - 20) as u32).fold();
    packet[36..38].copy_from_slice(&pseudo);
    let header = VnetHeader {
        flags: VnetHeader::NEEDS_CSUM,
        gso_type: 1,
        hdr_len: HEADERS as u16,
        gso_size: SIZE as u16,
        csum_start: 20,
        csum_offset: 16,
    };
    (header, packet)
}

fn wire_packets() -> Vec<Vec<u8>> {
    let (header, mut packet) = superpacket();
    let length = packet.len();
    let mut segmenter = Segmenter::new(header, &mut packet, length).expect("a right superpacket");
    std::iter::from_fn(|| {
        segmenter
            .next(|length| length)
            .map(|segment| segment.packet().to_vec())
    })
    .collect()
}

#[divan::bench(args = [20, 60, 1400, 65_000])]
fn checksum(bencher: Bencher, length: usize) {
    let bytes = vec![0x5a; length];
    bencher
        .counter(BytesCount::new(length))
        .bench_local(|| Sum::of(black_box(&bytes)).fold());
}

/// What the copying alone of a superpacket takes.
#[divan::bench]
fn copy(bencher: Bencher) {
    let (_, packet) = superpacket();
    let mut out = vec![0; SEGMENTS * (1420 + GAP)];
    bencher.counter(ItemsCount::new(SEGMENTS)).bench_local(|| {
        for (segment, place) in packet.chunks(1420).zip(out.chunks_mut(1420 + GAP)) {
            place[16..16 + segment.len()].copy_from_slice(black_box(segment));
        }
    });
}

#[divan::bench]
fn segment(bencher: Bencher) {
    let (header, original) = superpacket();
    let mut packet = original.clone();
    bencher.counter(ItemsCount::new(SEGMENTS)).bench_local(|| {
        // The headers are made a template by every round. That each one's headers take the place of some payload changes
        // no times.
        packet[..HEADERS].copy_from_slice(&original[..HEADERS]);
        let length = packet.len();
        let mut segmenter = Segmenter::new(header, &mut packet, length).expect("a right superpacket");
        while let Some(segment) = segmenter.next(|length| length) {
            black_box(segment.padded);
        }
    });
}

/// `flows` senders take turns.
#[divan::bench(args = [1, 4, 8])]
fn coalesce(bencher: Bencher, flows: usize) {
    let mut arena = Vec::new();
    let mut ranges = Vec::new();
    for packet in wire_packets() {
        for flow in 0..flows {
            let mut packet = packet.clone();
            // The port, and with it the checksum.
            packet[21] += flow as u8;
            packet[36..38].fill(0);
            let pseudo = pseudo_header(&packet[12..20], 6, (packet.len() - 20) as u32);
            let checksum = pseudo.plus(Sum::of(&packet[20..])).checksum();
            packet[36..38].copy_from_slice(&checksum);
            arena.extend([0; GAP]);
            ranges.push(arena.len()..arena.len() + packet.len());
            arena.extend(packet);
        }
    }
    ranges.truncate(SEGMENTS);
    let firsts: Vec<_> = ranges[..flows]
        .iter()
        .map(|range| range.start..range.start + HEADERS)
        .collect();
    let headers: Vec<_> = firsts.iter().map(|range| arena[range.clone()].to_vec()).collect();
    let mut coalescer = Coalescer::new(Offloads { tcp: true, udp: true });
    bencher.counter(ItemsCount::new(SEGMENTS)).bench_local(|| {
        // Each round patches the first packets' headers.
        for (range, header) in firsts.iter().zip(&headers) {
            arena[range.clone()].copy_from_slice(header);
        }
        for range in &ranges {
            coalescer.push(&arena, range.clone());
        }
        let mut writes = 0;
        coalescer.flush(&mut arena, |_, slices| {
            black_box(slices);
            writes += 1;
        });
        assert_eq!(writes, flows);
    });
}
