//! `struct virtio_net_hdr`: the ten bytes before each packet of a TUN device with `IFF_VNET_HDR`, little-endian after
//! `TUNSETVNETLE` (and by nature on little-endian machines).
//!
//! Source: virtio 1.2, section 5.1.6, and `include/uapi/linux/virtio_net.h`.

/// What the kernel says of a packet, or we to it: which checksum is still to be made, and how to segment it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VnetHeader {
    /// [`Self::NEEDS_CSUM`], [`Self::DATA_VALID`].
    pub flags: u8,
    /// A [`Gso`] with [`Self::GSO_ECN`] perhaps; see [`Self::gso`].
    pub gso_type: u8,
    /// Bytes of all headers. A hint: wrong for some forwarded packets.
    pub hdr_len: u16,
    /// Payload bytes of each segment.
    pub gso_size: u16,
    /// Offset at which the checksum begins: that of the TCP or UDP header.
    pub csum_start: u16,
    /// Offset of the checksum field from `csum_start`. The field holds the sum of the pseudo header.
    pub csum_offset: u16,
}

/// How a superpacket is to be segmented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gso {
    None = 0,
    TcpV4 = 1,
    /// IP fragments of one datagram (UFO): gone from the kernel since 4.14.
    Udp = 3,
    TcpV6 = 4,
    /// Datagrams (USO), IPv4 and IPv6.
    UdpL4 = 5,
}

impl VnetHeader {
    /// Length in bytes.
    pub const LEN: usize = 10;

    pub const NEEDS_CSUM: u8 = 1;
    pub const DATA_VALID: u8 = 2;

    /// Flag in `gso_type`: the TCP header has CWR set.
    pub const GSO_ECN: u8 = 0x80;

    #[inline]
    pub fn decode(bytes: &[u8; Self::LEN]) -> Self {
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        Self {
            flags: bytes[0],
            gso_type: bytes[1],
            hdr_len: u16_at(2),
            gso_size: u16_at(4),
            csum_start: u16_at(6),
            csum_offset: u16_at(8),
        }
    }

    #[inline]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[0] = self.flags;
        bytes[1] = self.gso_type;
        bytes[2..4].copy_from_slice(&self.hdr_len.to_le_bytes());
        bytes[4..6].copy_from_slice(&self.gso_size.to_le_bytes());
        bytes[6..8].copy_from_slice(&self.csum_start.to_le_bytes());
        bytes[8..10].copy_from_slice(&self.csum_offset.to_le_bytes());
        bytes
    }

    /// `gso_type` without its flag. `None` for a type that is not known.
    pub fn gso(&self) -> Option<Gso> {
        match self.gso_type & !Self::GSO_ECN {
            0 => Some(Gso::None),
            1 => Some(Gso::TcpV4),
            3 => Some(Gso::Udp),
            4 => Some(Gso::TcpV6),
            5 => Some(Gso::UdpL4),
            _ => None,
        }
    }

    pub fn needs_checksum(&self) -> bool {
        self.flags & Self::NEEDS_CSUM != 0
    }
}
