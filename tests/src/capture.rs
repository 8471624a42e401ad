//! Packets as an interface sees them, superpackets whole; and the kernel's own way to cut them apart.

use std::collections::HashMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::OwnedFd;

use crate::namespace::Namespace;
use crate::sys;

/// Length of a `virtio_net_hdr`.
const HEADER: usize = 10;
const LARGEST: usize = HEADER + (1 << 16);

/// One packet, and what the kernel says beside it: which checksum is missing, how it is to be cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    pub header: [u8; HEADER],
    pub packet: Vec<u8>,
    pub outgoing: bool,
}

impl Captured {
    pub fn is_superpacket(&self) -> bool {
        self.header[1] != 0
    }

    /// `None` for what is no IP packet.
    pub fn destination(&self) -> Option<&[u8]> {
        match self.packet.first()? >> 4 {
            4 => self.packet.get(16..20),
            6 => self.packet.get(24..40),
            _ => None,
        }
    }

    fn ethertype(&self) -> u16 {
        if self.packet.first().is_some_and(|first| first >> 4 == 6) {
            0x86dd
        } else {
            0x0800
        }
    }
}

/// Notes what passes an interface from now on.
#[derive(Debug)]
pub struct Capture(OwnedFd);

impl Capture {
    #[track_caller]
    pub fn start(namespace: &Namespace, interface: &str) -> Self {
        Self(namespace.inside(|| sys::packet_socket(interface).expect("root may capture")))
    }

    /// What passed since the last call, in order. Panics where the capture is not complete.
    #[track_caller]
    pub fn take(&self) -> Vec<Captured> {
        let mut buffer = vec![0; LARGEST];
        let mut packets = Vec::new();
        loop {
            match sys::receive_packet(&self.0, &mut buffer) {
                Ok((length, outgoing)) => {
                    let (header, packet) = buffer[..length]
                        .split_first_chunk()
                        .expect("a packet socket with vnet headers");
                    packets.push(Captured {
                        header: *header,
                        packet: packet.to_vec(),
                        outgoing,
                    });
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("the interface is gone: {error}"),
            }
        }
        let missed = sys::packets_missed(&self.0).expect("a packet socket");
        assert_eq!(missed, 0, "packets are missing from the capture");
        packets
    }

    /// Hands a packet to the interface as if the stack had.
    #[track_caller]
    pub fn inject(&self, namespace: &Namespace, interface: &str, packet: &Captured) {
        let bytes = [&packet.header[..], &packet.packet].concat();
        namespace
            .inside(|| sys::send_packet(&self.0, interface, packet.ethertype(), &bytes))
            .unwrap_or_else(|error| panic!("{error}: {:?}", packet.header));
    }
}

/// A TUN device that takes no superpackets: what goes into it the kernel cuts apart and completes itself.
#[derive(Debug)]
pub struct KernelCut {
    namespace: Namespace,
    device: File,
    capture: Capture,
}

impl KernelCut {
    const NAME: &str = "cut0";

    #[track_caller]
    #[allow(
        clippy::new_without_default,
        reason = "a default that needs root would surprise"
    )]
    pub fn new() -> Self {
        let namespace = Namespace::new();
        // The stack shall not speak here.
        namespace.sysctl("ipv6/conf/default/disable_ipv6", "1");
        let device = namespace
            .inside(|| sys::open_tun(Self::NAME, libc::IFF_TUN | libc::IFF_NO_PI))
            .expect("root may make interfaces");
        let flags = rustix::fs::fcntl_getfl(&device).expect("a descriptor");
        rustix::fs::fcntl_setfl(&device, flags | rustix::fs::OFlags::NONBLOCK).expect("a descriptor");
        namespace.run(&format!(
            "ip link set {} mtu 65521 txqueuelen 70000 up",
            Self::NAME
        ));
        let capture = Capture::start(&namespace, Self::NAME);
        Self {
            namespace,
            device: device.into(),
            capture,
        }
    }

    /// The wire packets that the kernel makes of these, in order.
    #[track_caller]
    pub fn cut(&self, packets: &[Captured]) -> Vec<Vec<u8>> {
        let mut wire = Vec::new();
        let mut buffer = vec![0; LARGEST];
        for packet in packets {
            self.capture.inject(&self.namespace, Self::NAME, packet);
            loop {
                match (&self.device).read(&mut buffer) {
                    Ok(length) => wire.push(buffer[..length].to_vec()),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => panic!("reading the TUN device: {error}"),
                }
            }
        }
        wire
    }
}

/// Wire packets by who talks to whom: IP addresses, protocol, ports. Fragments and all without ports go by their hosts.
pub fn by_flow(packets: Vec<Vec<u8>>) -> HashMap<Vec<u8>, Vec<Vec<u8>>> {
    let mut flows: HashMap<Vec<u8>, Vec<Vec<u8>>> = HashMap::new();
    for packet in packets {
        flows.entry(flow(&packet)).or_default().push(packet);
    }
    flows
}

fn flow(packet: &[u8]) -> Vec<u8> {
    let (addresses, protocol, ports, fragment) = if packet[0] >> 4 == 4 {
        let ports = usize::from(packet[0] & 15) * 4;
        let fragment = packet[6] & 0x3f != 0 || packet[7] != 0;
        (12..20, packet[9], ports, fragment)
    } else {
        (8..40, packet[6], 40, false)
    };
    let mut flow = packet[addresses].to_vec();
    if matches!(protocol, 6 | 17) && !fragment {
        flow.push(protocol);
        flow.extend(&packet[ports..ports + 4]);
    }
    flow
}
