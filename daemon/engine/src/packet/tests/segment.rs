//! Superpackets cut apart.

use proptest::prelude::*;

use super::super::{IpError, PADDING, SegmentError, Segmenter, VnetHeader};
use super::{ACK, CWR, ECE, FIN, PSH, Packet, any_packet, checksums_hold, naive_sum};

/// All wire packets, or why there are none. Each is padded, as for the tunnel, which must not hurt the next.
fn segments(header: VnetHeader, bytes: &[u8]) -> Result<Vec<Vec<u8>>, SegmentError> {
    let mut buffer = [bytes, &[0xee; PADDING]].concat();
    let mut segmenter = Segmenter::new(header, &mut buffer, bytes.len())?;
    let count = segmenter.count();
    let mut segments = Vec::new();
    while let Some(segment) = segmenter.next(|length| length.next_multiple_of(16)) {
        let (packet, padding) = segment.padded.split_at(segment.length);
        assert_eq!(segment.packet(), packet);
        assert_eq!(segment.padded.len(), packet.len().next_multiple_of(16));
        assert!(padding.iter().all(|byte| *byte == 0));
        segments.push(packet.to_vec());
    }
    assert_eq!(segments.len(), count);
    Ok(segments)
}

proptest! {
    #[test]
    fn every_segment_is_the_packet_that_the_sender_meant(
        packet in any_packet(9000),
        size in 1u16..2000,
        flags in prop::sample::select(vec![0, FIN, PSH, FIN | PSH, ECE, CWR, CWR | FIN]),
        hint in any::<u16>(),
    ) {
        let packet = packet.with(|p| p.flags |= flags);
        let (header, bytes) = packet.superpacket(size);
        let header = VnetHeader { hdr_len: hint, gso_type: header.gso_type | if flags & CWR != 0 { 0x80 } else { 0 }, ..header };
        let segments = segments(header, &bytes).unwrap();
        let chunks: Vec<_> = packet.payload.chunks(size.into()).collect();
        prop_assert_eq!(segments.len(), chunks.len());
        for (n, (segment, chunk)) in segments.iter().zip(&chunks).enumerate() {
            prop_assert!(checksums_hold(segment));
            let expected = packet.clone().with(|p| {
                p.payload = chunk.to_vec();
                p.id = p.id.wrapping_add(n as u16);
                p.sequence = p.sequence.wrapping_add((n * usize::from(size)) as u32);
                if n > 0 {
                    p.flags &= !CWR;
                }
                if n + 1 < chunks.len() {
                    p.flags &= !(FIN | PSH);
                }
            });
            prop_assert_eq!(segment, &expected.bytes());
        }
    }

    #[test]
    fn a_lone_packet_gets_its_checksum(packet in any_packet(1500)) {
        let (header, bytes) = packet.superpacket(0);
        let header = VnetHeader { gso_type: 0, ..header };
        prop_assert_eq!(segments(header, &bytes).unwrap(), [packet.bytes()]);
    }

    #[test]
    fn nothing_from_the_kernel_makes_it_panic(
        packet in any_packet(300),
        spoilt in prop::collection::vec((0usize..70, any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
        header in any::<[u8; 10]>(),
        keep in any::<u16>(),
    ) {
        // Right headers with some bytes changed reach further than random ones.
        let (right, mut bytes) = packet.superpacket(50);
        let mut encoded = right.encode();
        for at in 0..10 {
            if keep & 3 << at == 0 {
                encoded[at] = header[at];
            }
        }
        for (at, byte) in spoilt {
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
        }
        if keep & 0x8000 == 0 {
            bytes.truncate(cut.index(bytes.len()));
        }
        let _ = segments(VnetHeader::decode(&encoded), &bytes);
    }

    #[test]
    fn no_random_bytes_make_it_panic(header in any::<[u8; 10]>(), bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = segments(VnetHeader::decode(&header), &bytes);
    }
}

#[test]
fn a_packet_without_flags_goes_as_it_is() {
    let mut bytes = Packet::tcp4(1, b"hello").bytes();
    bytes[36] ^= 0xff;
    assert_eq!(segments(VnetHeader::default(), &bytes).unwrap(), [bytes.clone()]);
    let padded = [bytes.as_slice(), &[0; 5]].concat();
    assert_eq!(segments(VnetHeader::default(), &padded).unwrap(), [bytes]);
}

#[test]
fn padding_is_bounded_and_covers_the_next_payload_for_a_moment_only() {
    let (header, bytes) = Packet::tcp4(1, &[7; 250]).superpacket(100);
    let plain = segments(header, &bytes).unwrap();
    for padding in [0, 1, 15, 1000] {
        // Nothing behind the packet: the last one gets no padding at all.
        let mut buffer = bytes.clone();
        let mut segmenter = Segmenter::new(header, &mut buffer, bytes.len()).unwrap();
        for (n, packet) in plain.iter().enumerate() {
            let segment = segmenter.next(|length| length + padding).unwrap();
            assert_eq!(segment.packet(), packet);
            let expected = if n < 2 { padding.min(PADDING) } else { 0 };
            assert_eq!(segment.padded.len(), packet.len() + expected);
        }
        assert_eq!(segmenter.next(|length| length), None);
    }
}

#[test]
fn headers_without_payload_are_one_segment() {
    let packet = Packet::tcp4(1, b"").with(|p| p.flags = ACK | FIN | CWR);
    let (header, bytes) = packet.superpacket(100);
    assert_eq!(segments(header, &bytes).unwrap(), [packet.bytes()]);
}

#[test]
fn ipv6_extension_headers_are_carried_along() {
    let packet = Packet::tcp6(1, &[9; 250]);
    let (header, plain) = packet.superpacket(100);
    // Eight bytes of destination options between the IPv6 header and TCP.
    let mut bytes = plain.clone();
    bytes.splice(40..40, [6, 0, 1, 4, 0, 0, 0, 0]);
    bytes[6] = 60;
    let length = (bytes.len() - 40) as u16;
    bytes[4..6].copy_from_slice(&length.to_be_bytes());
    let header = VnetHeader {
        csum_start: 48,
        ..header
    };
    let segments_ = segments(header, &bytes).unwrap();
    assert_eq!(segments_.len(), 3);
    for mut segment in segments_ {
        assert_eq!(
            usize::from(u16::from_be_bytes([segment[4], segment[5]])),
            segment.len() - 40
        );
        segment.drain(40..48);
        segment[6] = 6;
        assert!(checksums_hold(&segment));
    }
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let (header, bytes) = Packet::tcp4(1, &[7; 250]).superpacket(100);
    let refuse = |header, bytes: &[u8]| segments(header, bytes).unwrap_err();
    let no_csum = VnetHeader { flags: 0, ..header };
    assert_eq!(refuse(no_csum, &bytes), SegmentError::NoChecksumStart);
    assert_eq!(
        refuse(
            VnetHeader {
                gso_size: 0,
                ..header
            },
            &bytes
        ),
        SegmentError::SegmentSize
    );
    assert_eq!(
        refuse(
            VnetHeader {
                gso_type: 3,
                ..header
            },
            &bytes
        ),
        SegmentError::Type(3)
    );
    assert_eq!(
        refuse(
            VnetHeader {
                gso_type: 9,
                ..header
            },
            &bytes
        ),
        SegmentError::Type(9)
    );
    for gso_type in [4, 5] {
        let refused = refuse(VnetHeader { gso_type, ..header }, &bytes);
        assert!(
            matches!(
                refused,
                SegmentError::Mismatch {
                    version: 4,
                    protocol: 6,
                    ..
                }
            ),
            "{refused}"
        );
    }
    for (start, offset) in [
        (19, 16),
        (21, 16),
        (20, 6),
        (40, 16),
        (302, 16),
        (u16::MAX, u16::MAX),
    ] {
        let refused = refuse(
            VnetHeader {
                csum_start: start,
                csum_offset: offset,
                ..header
            },
            &bytes,
        );
        assert!(matches!(refused, SegmentError::ChecksumPlace { .. }), "{refused}");
    }
    for data_offset in [0x40, 0x00] {
        let mut bytes = bytes.clone();
        bytes[32] = data_offset;
        let refused = refuse(header, &bytes);
        assert!(
            matches!(refused, SegmentError::HeaderLength { length: 302, .. }),
            "{refused}"
        );
    }
    let (header, bytes) = Packet::tcp4(1, b"").superpacket(100);
    let mut longer = bytes.clone();
    longer[32] = 0xf0;
    assert_eq!(
        refuse(header, &longer),
        SegmentError::HeaderLength { end: 80, length: 52 }
    );
    let long = SegmentError::Ip(IpError::DeclaredTooLong {
        declared: 52,
        have: 51,
    });
    assert_eq!(refuse(header, &bytes[..51]), long);
}

#[test]
fn a_zero_checksum_of_udp_is_written_as_ones() {
    // The payload's last word makes the sum come out at 0xffff, whose complement is 0.
    let packet = Packet::udp4(&[0; 2]);
    let rest = !u16::from_be_bytes(packet.bytes()[26..28].try_into().unwrap());
    let packet = Packet::udp4(&(!rest).to_be_bytes());
    assert_eq!(packet.bytes()[26..28], [0xff, 0xff]);
    let (header, bytes) = packet.superpacket(100);
    assert_eq!(segments(header, &bytes).unwrap(), [packet.bytes()]);
    let single = VnetHeader {
        gso_type: 0,
        ..header
    };
    assert_eq!(segments(single, &bytes).unwrap(), [packet.bytes()]);
    assert_eq!(naive_sum(&[0xff, 0xff]), 0xffff);
}
