//! Superpackets made by hand, with the `virtio_net_hdr` that the kernel would put before them.

use hpetun_tests::capture::Captured;
use hpetun_tests::noise::Noise;

const ACK: u8 = 0x10;
/// Every mix of flags on a segment with data: FIN, PSH, URG, ECE, CWR.
pub const FLAGS: [u8; 7] = [
    ACK,
    ACK | 0x08,
    ACK | 0x01,
    ACK | 0x09,
    ACK | 0x20,
    ACK | 0x40,
    ACK | 0x80 | 0x08,
];

const TCP: u8 = 6;
const UDP: u8 = 17;
const IPV6_DESTINATION_OPTIONS: u8 = 60;

/// From host a of a pair to host b.
#[derive(Debug)]
pub struct Superpacket {
    v6: bool,
    protocol: u8,
    /// IPv6 extension headers.
    extension: Vec<u8>,
    /// TCP or UDP header, checksum left out.
    l4: Vec<u8>,
    payload: Vec<u8>,
    size: u16,
    id: u16,
    tos: u8,
    dont_fragment: bool,
}

impl Superpacket {
    /// Its sequence number and id wrap now and then, its options are of any length.
    pub fn tcp(v6: bool, flags: u8, size: u16, payload: usize, noise: &mut Noise) -> Self {
        let options = noise.number() as usize % 11 * 4;
        let mut l4 = noise.bytes(20);
        if noise.number().is_multiple_of(2) {
            l4[4..7].fill(0xff);
        }
        l4[12] = ((20 + options) as u8 / 4) << 4;
        l4[13] = flags;
        l4[16..18].fill(0);
        // No-operation, so that the receiving stack finds nothing to complain of.
        l4.extend(std::iter::repeat_n(1, options));
        Self::new(v6, TCP, l4, size, payload, noise)
    }

    pub fn udp(v6: bool, size: u16, payload: usize, noise: &mut Noise) -> Self {
        let mut l4 = noise.bytes(8);
        l4[4..6].copy_from_slice(&((8 + payload) as u16).to_be_bytes());
        l4[6..8].fill(0);
        Self::new(v6, UDP, l4, size, payload, noise)
    }

    fn new(v6: bool, protocol: u8, l4: Vec<u8>, size: u16, payload: usize, noise: &mut Noise) -> Self {
        let number = noise.number();
        Self {
            v6,
            protocol,
            extension: Vec::new(),
            l4,
            payload: noise.bytes(payload),
            size,
            id: if number.is_multiple_of(2) {
                0xfffe
            } else {
                number as u16
            },
            tos: (number >> 16) as u8 & 0xfc,
            dont_fragment: number & 4 == 0,
        }
    }

    /// Eight bytes of padding between the IPv6 header and the next.
    pub fn with_destination_options(mut self) -> Self {
        self.extension = vec![self.protocol, 0, 1, 4, 0, 0, 0, 0];
        self
    }

    pub fn finish(self) -> Captured {
        let mut l4 = self.l4;
        let length = l4.len() + self.payload.len();
        let mut packet = Vec::new();
        if self.v6 {
            let next = if self.extension.is_empty() {
                self.protocol
            } else {
                IPV6_DESTINATION_OPTIONS
            };
            packet.extend([0x60 | self.tos >> 4, self.tos << 4, 0xab, 0xcd]);
            packet.extend(((self.extension.len() + length) as u16).to_be_bytes());
            packet.extend([next, 64]);
            for last in [1, 2] {
                packet.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
            }
        } else {
            packet.extend([0x45, self.tos]);
            packet.extend(((20 + length) as u16).to_be_bytes());
            packet.extend(self.id.to_be_bytes());
            packet.extend([
                if self.dont_fragment { 0x40 } else { 0 },
                0,
                64,
                self.protocol,
                0,
                0,
            ]);
            packet.extend([192, 168, 241, 1, 192, 168, 241, 2]);
            let checksum = !sum(&packet);
            packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        }
        let mut pseudo = packet[if self.v6 { 8..40 } else { 12..20 }].to_vec();
        pseudo.extend([0, self.protocol]);
        pseudo.extend((length as u16).to_be_bytes());
        packet.extend(&self.extension);
        let start = packet.len();
        let offset = if self.protocol == TCP { 16 } else { 6 };
        l4[offset..offset + 2].copy_from_slice(&sum(&pseudo).to_be_bytes());
        packet.extend(&l4);
        let headers = packet.len();
        packet.extend(&self.payload);
        let segmented = self.payload.len() > usize::from(self.size);
        let kind = match (self.protocol, self.v6) {
            _ if !segmented => 0,
            (TCP, false) => 1,
            (TCP, true) => 4,
            _ => 5,
        };
        let mut header = [0; 10];
        header[..2].copy_from_slice(&[1, kind]);
        let (hint, size) = if segmented {
            (headers as u16, self.size)
        } else {
            (0, 0)
        };
        for (at, value) in [(2, hint), (4, size), (6, start as u16), (8, offset as u16)] {
            header[at..at + 2].copy_from_slice(&value.to_le_bytes());
        }
        Captured {
            header,
            packet,
            outgoing: true,
        }
    }
}

fn sum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
        .sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
