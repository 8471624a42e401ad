//! Headers and checksums.

use std::net::IpAddr;

use proptest::prelude::*;

use super::super::{Gso, IpError, Sum, VnetHeader, destination, inner_length, source, version};
use super::{Packet, naive_sum};

proptest! {
    #[test]
    fn sum_is_the_naive_sum_in_any_parts(
        bytes in prop::collection::vec(any::<u8>(), 0..3000),
        cut in any::<prop::sample::Index>(),
        word in any::<u16>(),
    ) {
        let naive = naive_sum(&bytes);
        prop_assert_eq!(Sum::of(&bytes).fold(), naive.to_be_bytes());
        prop_assert_eq!(Sum::of(&bytes).checksum(), (!naive).to_be_bytes());
        let cut = cut.index(bytes.len() + 1) & !1;
        let parts = Sum::of(&bytes[..cut]).plus(Sum::of(&bytes[cut..]));
        prop_assert_eq!(parts.fold(), naive.to_be_bytes());
        let mut longer = word.to_be_bytes().to_vec();
        longer.extend(&bytes);
        prop_assert_eq!(parts.plus_u16(word).fold(), naive_sum(&longer).to_be_bytes());
        let back = parts.plus_u16(word).minus_u16(word).fold();
        prop_assert!(back == parts.fold() || (back == [0xff; 2] && parts.fold() == [0; 2]));
    }

    #[test]
    fn no_bytes_make_the_ip_readers_panic(bytes in prop::collection::vec(any::<u8>(), 0..80), first in 0u8..0x80) {
        let mut bytes = bytes;
        if let Some(byte) = bytes.first_mut() {
            *byte = first;
        }
        let _ = (version(&bytes), source(&bytes), destination(&bytes));
        if let Ok(length) = inner_length(&bytes) {
            prop_assert!(length >= 20 && length <= bytes.len());
        }
    }

    #[test]
    fn vnet_header_round_trips(bytes in any::<[u8; 10]>()) {
        prop_assert_eq!(VnetHeader::decode(&bytes).encode(), bytes);
    }
}

#[test]
fn sum_of_the_greatest_packet_does_not_overflow() {
    assert_eq!(Sum::of(&[0xff; 65_536]).fold(), [0xff; 2]);
    assert!(Sum::of(&[0xff; 65_536]).is_valid());
}

#[test]
fn vnet_header_is_little_endian() {
    let header = VnetHeader::decode(&[1, 0x81, 0x36, 0, 0x64, 5, 0x14, 0, 0x10, 0]);
    assert!(header.needs_checksum());
    assert_eq!(header.gso(), Some(Gso::TcpV4));
    assert_eq!(
        (
            header.hdr_len,
            header.gso_size,
            header.csum_start,
            header.csum_offset
        ),
        (54, 1380, 20, 16)
    );
    assert_eq!(
        VnetHeader {
            gso_type: 2,
            ..header
        }
        .gso(),
        None
    );
}

#[test]
fn addresses_are_read() {
    let v4 = Packet::tcp4(0, b"x").bytes();
    assert_eq!(source(&v4), Ok(IpAddr::from([10, 0, 0, 1])));
    assert_eq!(destination(&v4), Ok(IpAddr::from([10, 0, 0, 200])));
    let v6 = Packet::tcp6(0, b"x").bytes();
    assert_eq!(source(&v6), Ok("fd00::1".parse().unwrap()));
    assert_eq!(destination(&v6), Ok("fd00::c8".parse().unwrap()));
}

#[test]
fn lengths_are_checked() {
    let mut v4 = Packet::tcp4(0, b"payload").bytes();
    let length = v4.len();
    v4.extend([0; 9]);
    assert_eq!(inner_length(&v4), Ok(length));
    v4[2..4].copy_from_slice(&[0, 19]);
    assert_eq!(inner_length(&v4), Err(IpError::DeclaredTooShort { declared: 19 }));
    v4[0] = 0x46;
    v4[3] = 23;
    assert_eq!(inner_length(&v4), Err(IpError::DeclaredTooShort { declared: 23 }));
    v4[0] = 0x44;
    assert_eq!(inner_length(&v4), Err(IpError::HeaderLength(16)));
    let v6 = Packet::tcp6(0, b"payload").bytes();
    let short = &v6[..v6.len() - 1];
    assert_eq!(
        inner_length(short),
        Err(IpError::DeclaredTooLong {
            declared: v6.len(),
            have: short.len()
        })
    );
    assert_eq!(
        inner_length(&v6[..39]),
        Err(IpError::Truncated { have: 39, need: 40 })
    );
    assert_eq!(inner_length(&[]), Err(IpError::Empty));
    assert_eq!(inner_length(&[0x50; 60]), Err(IpError::Version(5)));
}
