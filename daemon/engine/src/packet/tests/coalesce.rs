//! Packets put together.

use proptest::prelude::*;

use super::super::{Coalescer, MAX_SLICES, Offloads, Segmenter, VnetHeader};
use super::{ACK, ALL, CWR, ECE, FIN, PSH, Packet, SYN, any_packet, coalesce};

/// Number of packets in each write; 1 is a packet written as it came.
fn shape(packets: &[Packet]) -> Vec<usize> {
    let bytes: Vec<_> = packets.iter().map(Packet::bytes).collect();
    shape_of_bytes(&bytes)
}

fn shape_of_bytes(packets: &[Vec<u8>]) -> Vec<usize> {
    let written = coalesce(&mut Coalescer::new(ALL), packets);
    written
        .iter()
        .map(|(header, bytes)| apart(*header, bytes).len())
        .collect()
}

fn apart(header: VnetHeader, bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut bytes = bytes.to_vec();
    if header == VnetHeader::default() {
        return vec![bytes];
    }
    let length = bytes.len();
    let mut segmenter = Segmenter::new(header, &mut bytes, length).unwrap();
    std::iter::from_fn(|| {
        segmenter
            .next(|length| length)
            .map(|segment| segment.packet().to_vec())
    })
    .collect()
}

/// A run of TCP segments of 100 bytes.
fn run(count: u32) -> Vec<Packet> {
    (0..count)
        .map(|n| Packet::tcp4(1000 + 100 * n, &[n as u8; 100]))
        .collect()
}

/// The flow and what is to arrive of it, in order. Ids under "don't fragment" are not kept.
fn by_flow(packets: impl IntoIterator<Item = Vec<u8>>) -> Vec<(Vec<u8>, Vec<Vec<u8>>)> {
    let mut flows: Vec<(Vec<u8>, Vec<Vec<u8>>)> = Vec::new();
    for mut packet in packets {
        let v4 = packet[0] >> 4 == 4;
        let (protocol, addresses, l4) = if v4 { (9, 12..20, 20) } else { (6, 8..40, 40) };
        let flow = [
            &packet[protocol..=protocol],
            &packet[addresses],
            &packet[l4..l4 + 4],
        ]
        .concat();
        if v4 && packet[6] & 0x40 != 0 {
            packet[4..6].fill(0);
            packet[10..12].fill(0);
        }
        match flows.iter_mut().find(|(known, _)| *known == flow) {
            Some((_, packets)) => packets.push(packet),
            None => flows.push((flow, vec![packet])),
        }
    }
    flows
}

/// One step of a sender with four flows.
#[derive(Debug, Clone)]
struct Send {
    flow: usize,
    size: usize,
    fill: u8,
    flags: u8,
    skip: u32,
    again: bool,
    corrupt: Option<prop::sample::Index>,
    ack: bool,
}

fn send() -> impl Strategy<Value = Send> {
    let size = prop_oneof![6 => Just(100usize), 1 => Just(60), 1 => 0usize..200];
    let flags = prop_oneof![
        12 => Just(ACK), 2 => Just(ACK | PSH), 1 => Just(ACK | FIN), 1 => Just(SYN), 1 => Just(ACK | ECE), 1 => Just(ACK | CWR)
    ];
    let skip = prop_oneof![12 => Just(0), 1 => 1u32..300];
    let corrupt = prop_oneof![12 => Just(None), 1 => any::<prop::sample::Index>().prop_map(Some)];
    (
        0usize..6,
        size,
        any::<u8>(),
        flags,
        skip,
        prop::bool::weighted(0.05),
        corrupt,
        prop::bool::weighted(0.05),
    )
        .prop_map(|(flow, size, fill, flags, skip, again, corrupt, ack)| Send {
            flow,
            size,
            fill,
            flags,
            skip,
            again,
            corrupt,
            ack,
        })
}

fn stream(sends: Vec<Send>) -> Vec<Vec<u8>> {
    let mut flows = [
        Packet::tcp4(u32::MAX - 700, b""),
        Packet::tcp4(5, b"").with(|p| p.port += 1),
        Packet::tcp4(5, b"").with(|p| (p.df, p.host) = (false, 2)),
        Packet::tcp6(1, b""),
        Packet::udp4(b"").with(|p| p.df = false),
        Packet::udp4(b"").with(|p| (p.v6, p.options) = (true, vec![])),
    ];
    let mut packets = Vec::new();
    for send in sends {
        let packet = &mut flows[send.flow];
        if !send.again {
            packet.sequence = packet
                .sequence
                .wrapping_add(packet.payload.len() as u32 + send.skip);
            packet.id = packet.id.wrapping_add(1 + send.skip as u16);
        }
        packet.payload = vec![send.fill; send.size];
        packet.flags = send.flags;
        packet.ack += u32::from(send.ack);
        let mut bytes = packet.bytes();
        if let Some(at) = send.corrupt {
            // Behind version and lengths: those are another case.
            let l4 = packet.l4();
            let at = l4 + 4 + at.index(bytes.len() - l4 - 4);
            bytes[at] ^= 0x5a;
        }
        packets.push(bytes);
    }
    packets
}

proptest! {
    #[test]
    fn what_was_cut_apart_comes_back_whole(
        packet in any_packet(60_000),
        size in 1000u16..2000,
        push in any::<bool>(),
    ) {
        let packet = packet.with(|p| p.flags |= if push { PSH } else { 0 });
        let (header, bytes) = packet.superpacket(size);
        let segments = apart(header, &bytes);
        let written = coalesce(&mut Coalescer::new(ALL), &segments);
        if segments.len() == 1 {
            prop_assert_eq!(written, [(VnetHeader::default(), packet.bytes())]);
        } else {
            prop_assert_eq!(written, [(header, bytes)]);
        }
    }

    #[test]
    fn each_flow_arrives_whole_and_in_order(
        batches in prop::collection::vec(prop::collection::vec(send(), 1..150), 1..3),
        tcp in prop::bool::weighted(0.9),
        udp in prop::bool::weighted(0.9),
    ) {
        let mut coalescer = Coalescer::new(Offloads { tcp, udp });
        for batch in batches {
            let sent = stream(batch);
            let written = coalesce(&mut coalescer, &sent);
            let merged = written.iter().filter(|(header, _)| *header != VnetHeader::default());
            for (header, bytes) in merged {
                prop_assert!(bytes.len() <= 65_535);
                let offered = if header.gso_type == 5 { udp } else { tcp };
                prop_assert!(offered);
            }
            let arrived = written.iter().flat_map(|(header, bytes)| apart(*header, bytes));
            prop_assert_eq!(by_flow(arrived), by_flow(sent));
        }
    }

    #[test]
    fn a_corrupt_packet_never_merges(
        seed in any_packet(400),
        victim in 0usize..8,
        at in any::<prop::sample::Index>(),
        flip in 1u8..,
    ) {
        let mut packets: Vec<_> = (0..8u32).map(|n| {
            let length = seed.payload.len() as u32;
            let next = |p: &mut Packet| (p.sequence, p.id) = (p.sequence.wrapping_add(n * length), p.id.wrapping_add(n as u16));
            seed.clone().with(next).bytes()
        }).collect();
        let at = at.index(packets[victim].len());
        packets[victim][at] ^= flip;
        let corrupt = packets[victim].clone();
        let written = coalesce(&mut Coalescer::new(ALL), &packets);
        let alone = written.iter().filter(|(header, bytes)| *header == VnetHeader::default() && *bytes == corrupt);
        // What no checksum covers may change and merge: the rest of IPv6's own header then differs from its
        // neighbours', so even this packet stands alone.
        prop_assert_eq!(alone.count(), 1);
    }

    #[test]
    fn no_bytes_make_it_panic_or_lose_a_packet(
        packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..90), 0..20),
        versions in prop::collection::vec(prop::sample::select(vec![0x45u8, 0x46, 0x60, 0x4f, 0x00]), 20),
    ) {
        let mut packets = packets;
        for (packet, version) in packets.iter_mut().zip(versions) {
            let length = packet.len() as u16;
            if packet.len() > 41 {
                packet[0] = version;
                packet[2..4].copy_from_slice(&length.to_be_bytes());
                packet[9] = 6;
            }
        }
        let written = coalesce(&mut Coalescer::new(ALL), &packets);
        let written: Vec<_> = written.into_iter().map(|(_, bytes)| bytes).collect();
        prop_assert_eq!(written, packets);
    }
}

#[test]
fn a_run_is_one_write() {
    assert_eq!(shape(&run(10)), [10]);
    let udp: Vec<_> = (0..5).map(|n| Packet::udp4(&[n; 300])).collect();
    assert_eq!(shape(&udp), [5]);
}

#[test]
fn a_push_or_a_short_segment_ends_it() {
    let mut packets = run(6);
    packets[2].flags |= PSH;
    assert_eq!(shape(&packets), [3, 3]);
    packets[2].flags = ACK;
    packets[3].payload.truncate(99);
    assert_eq!(shape(&packets), [4, 2]);
    // Longer than the first one begins anew.
    let mut packets = run(3);
    packets[2].payload.push(1);
    assert_eq!(shape(&packets), [2, 1]);
    let mut packets = run(2);
    packets[0].flags |= PSH;
    assert_eq!(shape(&packets), [1, 1]);
}

#[test]
fn order_and_repetition_are_kept() {
    let mut packets = run(4);
    packets.swap(1, 2);
    assert_eq!(shape(&packets), [1, 1, 1, 1]);
    let mut packets = run(4);
    packets.insert(2, packets[1].clone());
    assert_eq!(shape(&packets), [2, 3]);
}

#[test]
fn anything_else_of_the_flow_ends_it() {
    type Change = fn(&mut Packet);
    let changes: [Change; 12] = [
        |p| p.flags |= FIN,
        |p| p.flags |= ECE,
        |p| p.flags |= CWR,
        |p| p.flags |= 0x20,
        |p| p.flags = PSH,
        |p| p.payload.clear(),
        |p| p.ack += 1,
        |p| p.window += 1,
        |p| p.options[2] += 1,
        |p| p.tos = 3,
        |p| p.ttl -= 1,
        |p| p.df = false,
    ];
    for (case, change) in changes.into_iter().enumerate() {
        let mut packets = run(5);
        change(&mut packets[2]);
        let shape = shape(&packets);
        assert_eq!(shape, [2, 1, 2], "case {case}");
    }
    for change in [(|p: &mut Packet| p.port += 1) as Change, |p| p.host += 1] {
        let mut packets = run(5);
        change(&mut packets[2]);
        packets[3].sequence -= 100;
        packets[4].sequence -= 100;
        assert_eq!(shape(&packets), [4, 1]);
    }
}

#[test]
fn ids_count_up_or_stay_the_same_where_fragmentation_is_forbidden() {
    let mut packets = run(4);
    assert_eq!(shape(&packets), [4]);
    packets.iter_mut().for_each(|packet| packet.df = false);
    assert_eq!(shape(&packets), [1, 1, 1, 1]);
    packets
        .iter_mut()
        .enumerate()
        .for_each(|(n, packet)| packet.id += n as u16);
    assert_eq!(shape(&packets), [4]);
    packets.iter_mut().for_each(|packet| packet.df = true);
    assert_eq!(shape(&packets), [4]);
    packets[2].id += 9;
    assert_eq!(shape(&packets), [2, 1, 1]);
}

#[test]
fn flows_merge_side_by_side() {
    let mut packets = Vec::new();
    for n in 0..5 {
        packets.extend((0..3).map(|flow| Packet::tcp4(100 * n, &[1; 100]).with(|p| p.port += flow)));
    }
    assert_eq!(shape(&packets), [5, 5, 5]);
    // More than are followed at once: slower, never wrong.
    let many: Vec<_> = (0..40)
        .map(|flow| Packet::tcp4(0, &[1; 100]).with(|p| p.port += flow))
        .collect();
    assert_eq!(shape(&many), [1; 40]);
}

#[test]
fn fragments_and_options_never_merge_and_are_not_overtaken() {
    let spoil = |change: fn(&mut Vec<u8>)| {
        let mut packets: Vec<_> = run(5).iter().map(Packet::bytes).collect();
        change(&mut packets[2]);
        packets[2][10..12].fill(0);
        let header = usize::from(packets[2][0] & 15) * 4;
        let checksum = !super::naive_sum(&packets[2][..header]);
        packets[2][10..12].copy_from_slice(&checksum.to_be_bytes());
        shape_of_bytes(&packets)
    };
    // More fragments, a later fragment, the reserved bit.
    assert_eq!(spoil(|p| p[6] = 0x20), [2, 1, 2]);
    assert_eq!(spoil(|p| p[7] = 1), [2, 1, 2]);
    assert_eq!(spoil(|p| p[6] = 0x80), [2, 1, 2]);
    let with_options = |p: &mut Vec<u8>| {
        p.splice(20..20, [1, 1, 1, 0]);
        p[0] = 0x46;
        p[3] += 4;
    };
    assert_eq!(spoil(with_options), [2, 1, 2]);
    // Padding behind the packet.
    assert_eq!(spoil(|p| p.push(0)), [2, 1, 2]);
    let extended = |n: u32| {
        let mut bytes = Packet::tcp6(100 * n, &[1; 100]).bytes();
        bytes.splice(40..40, [6, 0, 1, 4, 0, 0, 0, 0]);
        bytes[5] += 8;
        bytes[6] = 60;
        bytes
    };
    assert_eq!(shape_of_bytes(&[extended(0), extended(1)]), [1, 1]);
}

#[test]
fn datagrams_without_a_checksum_stay_without() {
    let mut packets = vec![Packet::udp4(&[5; 50]).bytes(); 3];
    packets[1][26..28].fill(0);
    assert_eq!(shape_of_bytes(&packets), [1, 1, 1]);
    packets.iter_mut().for_each(|packet| packet[26..28].fill(0));
    assert_eq!(shape_of_bytes(&packets), [1, 1, 1]);
    assert_eq!(shape(&[Packet::udp4(b""), Packet::udp4(b"")]), [1, 1]);
}

#[test]
fn a_bad_first_packet_does_not_take_the_others_with_it() {
    let mut packets: Vec<_> = run(4).iter().map(Packet::bytes).collect();
    packets[0][60] ^= 1;
    assert_eq!(shape_of_bytes(&packets), [1, 3]);
    // The IPv4 header's own checksum.
    let mut packets: Vec<_> = run(4).iter().map(Packet::bytes).collect();
    packets[0][10] ^= 1;
    assert_eq!(shape_of_bytes(&packets), [1, 3]);
}

#[test]
fn a_superpacket_has_an_end() {
    let long: Vec<_> = (0..50).map(|n| Packet::tcp4(1400 * n, &[1; 1400])).collect();
    assert_eq!(shape(&long), [46, 4]);
    assert_eq!(shape(&run(70)), [MAX_SLICES, 6]);
}

#[test]
fn without_offload_packets_go_as_they_came() {
    let packets: Vec<_> = run(3).iter().map(Packet::bytes).collect();
    let datagrams = vec![Packet::udp4(&[5; 50]).bytes(); 2];
    let all = [packets, datagrams].concat();
    let plain: Vec<_> = all
        .iter()
        .map(|bytes| (VnetHeader::default(), bytes.clone()))
        .collect();
    assert_eq!(coalesce(&mut Coalescer::new(Offloads::default()), &all), plain);
    let written = coalesce(
        &mut Coalescer::new(Offloads {
            tcp: true,
            udp: false,
        }),
        &all,
    );
    assert_eq!(written.len(), 3);
}
