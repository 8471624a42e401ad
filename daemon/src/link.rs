//! The interface as the rest of the system sees it: up or down, its MTU, where it lives, whether it is still there.
//!
//! The interface may be moved to another network namespace at any time, while our sockets stay. So the watcher has a
//! thread of its own, which follows it there; all that it asks goes through route netlink in that namespace.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use crate::message::{DATA_OVERHEAD, padded_len};
use crate::sys::{link as sys, thread};
use crate::tun::Tun;
use crate::udp::MAX_DATAGRAM;

/// The multicast group of link changes (`RTMGRP_LINK`).
const LINK_GROUP: u32 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkState {
    pub up: bool,
    pub mtu: u32,
}

/// Hears of changes to the interface.
#[derive(Debug)]
pub struct LinkWatch {
    events: Socket,
    /// Inode of the network namespace that it listens in.
    namespace: u64,
}

impl LinkWatch {
    /// Listens where the interface is. The calling thread moves there for good.
    pub fn follow(tun: &Tun) -> io::Result<Self> {
        let namespace = File::from(tun.network_namespace()?);
        let inode = namespace.metadata()?.ino();
        if inode != File::open("/proc/thread-self/ns/net")?.metadata()?.ino() {
            thread::enter_network_namespace(namespace.as_fd())?;
        }
        let mut events = Socket::new(NETLINK_ROUTE)?;
        events.bind(&SocketAddr::new(0, LINK_GROUP))?;
        events.set_non_blocking(true)?;
        Ok(Self {
            events,
            namespace: inode,
        })
    }

    pub fn as_fd(&self) -> BorrowedFd<'_> {
        sys::borrow(&self.events)
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

    /// Whether the interface is still in the namespace that it was followed to.
    pub fn is_here(&self, tun: &Tun) -> io::Result<bool> {
        Ok(File::from(tun.network_namespace()?).metadata()?.ino() == self.namespace)
    }
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

/// Keeps the kernel's superpackets as small as one train of messages.
pub fn fit_superpackets(name: &str, mtu: u32) -> io::Result<()> {
    change(name, LinkAttribute::GsoMaxSize(superpacket_size(mtu as usize)))
}

/// Bytes of a TCP superpacket (IPv4, with timestamps) that becomes the longest train that one send takes.
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
    ask(RouteNetlinkMessage::SetLink(link))
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
    fn a_superpacket_is_one_train() {
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
