//! A TUN interface of the kernel, with superpackets where it has them, else one packet a call.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::{Offload, Queue, Tun};
use crate::packet::{MAX_SLICES, VnetHeader};
use sys::tun as syscall;

const DEVICE: &str = "/dev/net/tun";

#[derive(Debug, thiserror::Error)]
pub enum TunError {
    #[error(
        "there is no {DEVICE}: load the module `tun`, or make the node with `mkdir -p /dev/net; mknod {DEVICE} c 10 200`"
    )]
    NoDevice,
    #[error("may not open {DEVICE}: run as root, or with CAP_NET_ADMIN and access to the device")]
    MayNotOpen,
    #[error(
        "may not make interfaces: run as root, or give the binary CAP_NET_ADMIN (`setcap cap_net_admin+ep`)"
    )]
    MayNotCreate,
    #[error(
        "the interface {0} is there already and in use; choose another name, or delete it with `ip link del {0}`"
    )]
    NameTaken(String),
    #[error("`{0}` is no interface name: 1 to 15 bytes without spaces or slashes")]
    BadName(String),
    #[error("the descriptor in WG_TUN_FD is no TUN interface: {0}")]
    BadDescriptor(io::Error),
    #[error("cannot make the interface {name}: {source}")]
    Other { name: String, source: io::Error },
}

/// One queue of the interface. The last one closed deletes it.
#[derive(Debug)]
pub struct TunQueue {
    fd: Descriptor,
    vnet: bool,
}

#[derive(Debug)]
enum Descriptor {
    /// Opened by us, with a vnet header, or given to us.
    Own(OwnedFd),
    Plain(PlainIface),
}

struct PlainIface(tun_tap::Iface);

impl std::fmt::Debug for PlainIface {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.name())
    }
}

impl Tun {
    /// Makes the interface. `name` may hold a `%d` for the first free number. `queues` is what we would like: a plain
    /// interface has one.
    pub fn create(name: &str, offload: bool, queues: usize) -> Result<Self, TunError> {
        check_name(name)?;
        if offload {
            match Self::create_offloaded(name, queues) {
                // A kernel without vnet headers: one packet a call, then.
                Err(TunError::Other { source, .. }) if source.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
                result => return result,
            }
        }
        Self::create_plain(name)
    }

    fn create_offloaded(name: &str, queues: usize) -> Result<Self, TunError> {
        let base = syscall::IFF_TUN | syscall::IFF_NO_PI | syscall::IFF_VNET_HDR;
        let wanted = if queues > 1 {
            base | syscall::IFF_MULTI_QUEUE
        } else {
            base
        };
        let first = open_device()?;
        let (name, flags) = match syscall::attach(first.as_fd(), name, wanted) {
            Ok(name) => (name, wanted),
            // A persistent interface made with the other kind of queues, or a kernel without several.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                let other = wanted ^ syscall::IFF_MULTI_QUEUE;
                (
                    syscall::attach(first.as_fd(), name, other)
                        .map_err(|error| creation_error(name, error))?,
                    other,
                )
            }
            Err(error) => return Err(creation_error(name, error)),
        };
        let mut all = vec![first];
        if flags & syscall::IFF_MULTI_QUEUE != 0 {
            for _ in 1..queues {
                let next = open_device()?;
                syscall::attach(next.as_fd(), &name, flags).map_err(|error| creation_error(&name, error))?;
                all.push(next);
            }
        }
        let mut offload = Offload {
            vnet: true,
            ..Offload::default()
        };
        for fd in &all {
            offload = prepare(fd.as_fd(), true).map_err(|source| TunError::Other {
                name: name.clone(),
                source,
            })?;
        }
        let queues = all
            .into_iter()
            .map(|fd| TunQueue {
                fd: Descriptor::Own(fd),
                vnet: true,
            })
            .collect();
        Ok(Self::new(name, offload, queues))
    }

    fn create_plain(name: &str) -> Result<Self, TunError> {
        // Before tun-tap, whose errors do not tell a missing device from a missing right.
        drop(open_device()?);
        let iface = tun_tap::Iface::without_packet_info(name, tun_tap::Mode::Tun)
            .map_err(|error| creation_error(name, error))?;
        syscall::set_nonblocking(syscall::borrow(&iface)).map_err(|source| TunError::Other {
            name: name.to_owned(),
            source,
        })?;
        let name = iface.name().to_owned();
        let queue = TunQueue {
            fd: Descriptor::Plain(PlainIface(iface)),
            vnet: false,
        };
        Ok(Self::new(name, Offload::default(), vec![queue]))
    }

    /// Takes an interface that somebody else made (`WG_TUN_FD`). Whether it has vnet headers is read from it.
    pub fn from_fd(fd: OwnedFd, offload: bool) -> Result<Self, TunError> {
        let (name, flags) = syscall::attached(fd.as_fd()).map_err(TunError::BadDescriptor)?;
        let vnet = flags & syscall::IFF_VNET_HDR != 0;
        if flags & syscall::IFF_TUN == 0 || flags & syscall::IFF_NO_PI == 0 {
            let source = io::Error::other("it must be made with IFF_TUN and IFF_NO_PI");
            return Err(TunError::BadDescriptor(source));
        }
        let taken = if vnet {
            prepare(fd.as_fd(), offload).map_err(TunError::BadDescriptor)?
        } else {
            syscall::set_nonblocking(fd.as_fd()).map_err(TunError::BadDescriptor)?;
            Offload::default()
        };
        let queue = TunQueue {
            fd: Descriptor::Own(fd),
            vnet,
        };
        Ok(Self::new(name, taken, vec![queue]))
    }

    /// Name as it is now, in the namespace where it is now. `EBADFD` once it is deleted.
    pub fn current_name(&self) -> io::Result<String> {
        syscall::attached(self.queue(0).as_fd()).map(|(name, _)| name)
    }

    /// The namespace where it is now. `EBADFD` once it is deleted.
    pub fn network_namespace(&self) -> io::Result<OwnedFd> {
        syscall::network_namespace(self.queue(0).as_fd())
    }
}

impl Queue for TunQueue {
    #[inline]
    fn read_packet(&self, buffer: &mut [u8]) -> io::Result<usize> {
        syscall::read(self.as_fd(), buffer)
    }

    #[inline]
    fn write_packet(&self, header: &VnetHeader, parts: &[IoSlice<'_>]) -> io::Result<()> {
        if !self.vnet {
            return syscall::write(self.as_fd(), parts).map(|_| ());
        }
        let header = header.encode();
        let mut all = [IoSlice::new(&[]); MAX_SLICES + 1];
        all[0] = IoSlice::new(&header);
        all[1..=parts.len()].copy_from_slice(parts);
        syscall::write(self.as_fd(), &all[..=parts.len()]).map(|_| ())
    }

    #[inline]
    fn has_vnet_header(&self) -> bool {
        self.vnet
    }
}

impl AsFd for TunQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.fd {
            Descriptor::Own(fd) => fd.as_fd(),
            Descriptor::Plain(iface) => syscall::borrow(&iface.0),
        }
    }
}

fn check_name(name: &str) -> Result<(), TunError> {
    let valid = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'/' | b':');
    if name.is_empty() || name.len() > 15 || matches!(name, "." | "..") || !name.bytes().all(valid) {
        return Err(TunError::BadName(name.to_owned()));
    }
    Ok(())
}

fn open_device() -> Result<OwnedFd, TunError> {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(DEVICE);
    file.map(OwnedFd::from)
        .map_err(|error| match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => TunError::NoDevice,
            Some(libc::EACCES | libc::EPERM) => TunError::MayNotOpen,
            _ => TunError::Other {
                name: DEVICE.to_owned(),
                source: error,
            },
        })
}

fn creation_error(name: &str, source: io::Error) -> TunError {
    match source.raw_os_error() {
        Some(libc::EPERM) => TunError::MayNotCreate,
        // EINVAL: an interface of that name which is no TUN.
        Some(libc::EBUSY | libc::EEXIST | libc::EINVAL) => TunError::NameTaken(name.to_owned()),
        _ => TunError::Other {
            name: name.to_owned(),
            source,
        },
    }
}

/// Asks for superpackets of as many kinds as the kernel has.
fn prepare(fd: BorrowedFd<'_>, superpackets: bool) -> io::Result<Offload> {
    syscall::set_vnet_header(fd, VnetHeader::LEN as i32)?;
    syscall::set_nonblocking(fd)?;
    let tcp = syscall::TUN_F_CSUM | syscall::TUN_F_TSO4 | syscall::TUN_F_TSO6;
    let none = Offload {
        vnet: true,
        ..Offload::default()
    };
    if !superpackets {
        syscall::set_offload(fd, 0)?;
        return Ok(none);
    }
    if syscall::set_offload(fd, tcp | syscall::TUN_F_USO4 | syscall::TUN_F_USO6).is_ok() {
        return Ok(Offload {
            tcp: true,
            udp: true,
            ..none
        });
    }
    if syscall::set_offload(fd, tcp).is_ok() {
        return Ok(Offload { tcp: true, ..none });
    }
    Ok(none)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_interface_can_have_are_refused() {
        for bad in ["", ".", "..", "a b", "a/b", "0123456789abcdef", "wg\n"] {
            assert!(matches!(check_name(bad), Err(TunError::BadName(_))), "{bad:?}");
        }
        for good in ["wg0", "wg%d", "0123456789abcde"] {
            check_name(good).unwrap();
        }
    }
}
