//! The interface as the rest of the system sees it: up or down, its MTU, where it lives, whether it is still there.
//!
//! The interface may be moved to another network namespace at any time, while our sockets stay. Its events are heard from
//! here, by the number that its namespace has here; what is asked of it goes through route netlink in its namespace,
//! which a thread enters just for that. Whoever stayed there, or kept a socket there, would keep alive a namespace that
//! everybody else has left, and the interface with it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use crate::tun::Tun;
use crate::udp::MAX_DATAGRAM;
use sys::{link as syscall, thread};
use wireguard::message::{DATA_OVERHEAD, padded_len};

/// The multicast group of link changes (`RTMGRP_LINK`).
const LINK_GROUP: u32 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkState {
    pub up: bool,
    pub mtu: u32,
}

/// Hears of changes to the interface. For one thread, which asks as well.
#[derive(Debug)]
pub struct LinkWatch {
    events: Socket,
    /// The thread's own network namespace.
    home: File,
    /// Inode of the namespace that the interface was last seen in.
    seen_in: u64,
}

impl LinkWatch {
    pub fn open() -> io::Result<Self> {
        let home = File::open("/proc/thread-self/ns/net")?;
        let mut events = Socket::new(NETLINK_ROUTE)?;
        // Without CAP_NET_BROADCAST the events of this namespace are all that is heard.
        let _ = events.set_listen_all_namespaces(true);
        events.bind(&SocketAddr::new(0, LINK_GROUP))?;
        events.set_non_blocking(true)?;
        let seen_in = home.metadata()?.ino();
        Ok(Self {
            events,
            home,
            seen_in,
        })
    }

    pub fn as_fd(&self) -> BorrowedFd<'_> {
        syscall::borrow(&self.events)
    }

    /// Takes in the events so far. What they say is asked anew, so that it does not matter if some were lost.
    pub fn clear(&self) {
        loop {
            match self.events.recv_from_full() {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(_) => return,
            }
        }
    }

    /// Listens to the namespace where the interface is now, and calls `ask` there.
    pub fn visit<T>(&mut self, tun: &Tun, ask: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let there = File::from(tun.network_namespace()?);
        let inode = there.metadata()?.ino();
        if inode == self.home.metadata()?.ino() {
            self.seen_in = inode;
            return ask();
        }
        if inode != self.seen_in {
            number(&there)?;
            self.seen_in = inode;
        }
        thread::enter_network_namespace(there.as_fd())?;
        let answer = ask();
        thread::enter_network_namespace(self.home.as_fd())?;
        answer
    }
}

/// Gives a namespace a number in this one, without which its events are not heard here.
fn number(namespace: &File) -> io::Result<()> {
    let mut message = NsidMessage::default();
    message
        .attributes
        .push(NsidAttribute::Fd(namespace.as_raw_fd() as u32));
    message.attributes.push(NsidAttribute::Id(-1)); // Any.
    acknowledged(RouteNetlinkMessage::NewNsId(message)).or_else(|error| match error.raw_os_error() {
        Some(libc::EEXIST) => Ok(()),
        _ => Err(error),
    })
}

/// Asks for the state of the interface of this name, in the calling thread's namespace.
pub fn state(name: &str) -> io::Result<LinkState> {
    let answer = ask(RouteNetlinkMessage::GetLink(named(name)))?;
    let RouteNetlinkMessage::NewLink(link) = answer else {
        return Err(io::Error::other(
            "route netlink gave another answer than asked for",
        ));
    };
    let mtu = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Mtu(mtu) => Some(*mtu),
        _ => None,
    });
    let up = link.header.flags.contains(LinkFlags::Up);
    Ok(LinkState {
        up,
        mtu: mtu.ok_or_else(|| io::Error::other("the interface has no MTU"))?,
    })
}

pub fn set_mtu(name: &str, mtu: u32) -> io::Result<()> {
    change(name, LinkAttribute::Mtu(mtu))
}

/// Keeps the kernel's superpackets as small as one GSO batch of messages.
pub fn fit_superpackets(name: &str, mtu: u32) -> io::Result<()> {
    change(name, LinkAttribute::GsoMaxSize(superpacket_size(mtu as usize)))
}

/// Bytes of a TCP superpacket (IPv4, with timestamps) that becomes the longest GSO batch that one send takes.
fn superpacket_size(mtu: usize) -> u32 {
    const HEADERS: usize = 20 + 20 + 12;
    let segments = (MAX_DATAGRAM / (padded_len(mtu, mtu) + DATA_OVERHEAD)).clamp(1, crate::udp::MAX_SEGMENTS);
    (segments * (mtu - HEADERS) + HEADERS) as u32
}

fn named(name: &str) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::IfName(name.to_owned()));
    link
}

fn change(name: &str, attribute: LinkAttribute) -> io::Result<()> {
    let mut link = named(name);
    link.attributes.push(attribute);
    acknowledged(RouteNetlinkMessage::SetLink(link))
}

/// One request for a change.
fn acknowledged(request: RouteNetlinkMessage) -> io::Result<()> {
    ask(request)
        .map(|_| ())
        .or_else(|error| match error.raw_os_error() {
            // An acknowledgement is an error of 0.
            Some(0) => Ok(()),
            _ => Err(error),
        })
}

/// One request and its one answer.
fn ask(request: RouteNetlinkMessage) -> io::Result<RouteNetlinkMessage> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut header = NetlinkHeader::default();
    header.flags = match request {
        RouteNetlinkMessage::GetLink(_) => NLM_F_REQUEST,
        _ => NLM_F_REQUEST | NLM_F_ACK,
    };
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer)
        .map_err(|error| io::Error::other(error.to_string()))?;
    match answer.payload {
        NetlinkPayload::InnerMessage(message) => Ok(message),
        NetlinkPayload::Error(error) => Err(io::Error::from_raw_os_error(-error.raw_code())),
        _ => Err(io::Error::other("route netlink gave no answer")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_superpacket_is_one_gso_batch() {
        assert_eq!(superpacket_size(1420), 61_612);
        for mtu in [576, 1280, 1420, 8920, 34_736, 65_000] {
            let size = superpacket_size(mtu) as usize;
            let segments = (size - 52).div_ceil(mtu - 52);
            assert!(
                segments * (padded_len(mtu, mtu) + DATA_OVERHEAD) <= MAX_DATAGRAM || segments == 1,
                "{mtu}"
            );
            assert!(size >= mtu, "{mtu}");
        }
    }
}
