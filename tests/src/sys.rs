//! The only unsafe code of the harness: TUN descriptors, raw packets, socket options, seccomp.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Creates (or attaches to) a TUN interface with these `IFF_*` flags in the namespace of the calling thread.
pub fn open_tun(interface: &str, flags: i32) -> io::Result<OwnedFd> {
    let device: File = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    // SAFETY: `ifreq` is plain data, for which all zeroes are a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (slot, byte) in request.ifr_name[..libc::IFNAMSIZ - 1]
        .iter_mut()
        .zip(interface.bytes())
    {
        *slot = byte as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = flags as i16;
    // SAFETY: the descriptor is open, and TUNSETIFF reads and writes one `ifreq`, which lives through the call.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &mut request) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(device.into())
    }
}

/// Sends `packet` out of an interface of the calling thread's namespace as it is, well-formed or not.
pub fn inject(interface: &str, ethertype: u16, packet: &[u8]) -> io::Result<()> {
    // SAFETY: no pointers; the descriptor is owned by nobody else.
    let socket = unsafe {
        let raw = libc::socket(libc::AF_PACKET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(raw)
    };
    send_packet(&socket, interface, ethertype, packet)
}

/// A packet socket on an interface of the calling thread's namespace. Every packet that it gives or takes begins with
/// a `virtio_net_hdr` of ten bytes, so that superpackets stay whole.
pub fn packet_socket(interface: &str) -> io::Result<OwnedFd> {
    /// `ETH_P_ALL`, in network order.
    const ALL: u16 = 3u16.to_be();
    // SAFETY: no pointers; the descriptor is owned by nobody else.
    let socket = unsafe {
        let raw = libc::socket(
            libc::AF_PACKET,
            libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
            0,
        );
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(raw)
    };
    set_option(&socket, libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1)?;
    set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 256 << 20)?;
    let address = packet_address(interface, ALL)?;
    // SAFETY: the address lives through the call, and the length is its own.
    let bound = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if bound < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(socket)
}

/// The next packet with its `virtio_net_hdr`: its length, and whether it goes out. `WouldBlock` where none is there.
pub fn receive_packet(socket: &impl AsRawFd, buffer: &mut [u8]) -> io::Result<(usize, bool)> {
    // SAFETY: `sockaddr_ll` is plain data, for which all zeroes are a value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    let mut address_len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: buffer and address live through the call, and the lengths are theirs.
    let length = unsafe {
        libc::recvfrom(
            socket.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            0,
            (&raw mut address).cast(),
            &raw mut address_len,
        )
    };
    if length < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((length as usize, address.sll_pkttype == libc::PACKET_OUTGOING))
}

/// Sends a packet, its `virtio_net_hdr` before it, out of the interface as it is.
pub fn send_packet(socket: &impl AsRawFd, interface: &str, ethertype: u16, packet: &[u8]) -> io::Result<()> {
    let address = packet_address(interface, ethertype.to_be())?;
    // SAFETY: packet and address live through the call, and both lengths are theirs.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            packet.as_ptr().cast(),
            packet.len(),
            0,
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Packets that a packet socket had no room for since this was last asked.
pub fn packets_missed(socket: &impl AsRawFd) -> io::Result<u32> {
    let mut statistics = libc::tpacket_stats {
        tp_packets: 0,
        tp_drops: 0,
    };
    let mut length = size_of::<libc::tpacket_stats>() as libc::socklen_t;
    // SAFETY: the kernel writes one `tpacket_stats`, which lives through the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut statistics).cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(statistics.tp_drops)
}

fn packet_address(interface: &str, protocol_be: u16) -> io::Result<libc::sockaddr_ll> {
    let name = std::ffi::CString::new(interface)?;
    // SAFETY: the name ends in a zero byte and lives through the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `sockaddr_ll` is plain data, for which all zeroes are a value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol_be;
    address.sll_ifindex = index as i32;
    Ok(address)
}

/// Lets the kernel cut what is sent on this UDP socket into datagrams of `size` bytes.
pub fn set_udp_segment(socket: &impl AsRawFd, size: u16) -> io::Result<()> {
    set_option(socket, libc::SOL_UDP, libc::UDP_SEGMENT, i32::from(size))
}

/// Sends datagrams without a checksum, as IPv4 allows.
pub fn set_no_checksum(socket: &impl AsRawFd) -> io::Result<()> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_NO_CHECK, 1)
}

fn set_option(socket: &impl AsRawFd, level: i32, option: i32, value: i32) -> io::Result<()> {
    // SAFETY: the descriptor is open, and the option is read from an `i32` that lives through the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Makes the command run as on a kernel without IPv6: there are no such sockets for it nor for what it starts.
pub fn without_ipv6(command: &mut Command) {
    // The filter sees a `seccomp_data`: the system call's number at 0, its first argument at 16, lower half first.
    const NUMBER: u32 = 0;
    const FIRST_ARGUMENT: u32 = if cfg!(target_endian = "little") { 16 } else { 20 };
    let load = |offset| filter(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, offset);
    let skip_unless =
        |skip, value: i64| filter(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, skip, value as u32);
    let end = |verdict| filter(libc::BPF_RET | libc::BPF_K, 0, verdict);
    let program = [
        load(NUMBER),
        skip_unless(3, libc::SYS_socket),
        load(FIRST_ARGUMENT),
        skip_unless(1, i64::from(libc::AF_INET6)),
        end(libc::SECCOMP_RET_ERRNO | libc::EAFNOSUPPORT as u32),
        end(libc::SECCOMP_RET_ALLOW),
    ];
    let install = move || {
        let header = libc::sock_fprog {
            len: program.len() as u16,
            filter: program.as_ptr().cast_mut(),
        };
        // SAFETY: the kernel only reads the filter, which lives through the call.
        let installed = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const header) == 0
        };
        if installed {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    };
    // SAFETY: between fork and exec it makes two system calls and allocates nothing.
    unsafe { command.pre_exec(install) };
}

/// One instruction; `skip` is how many of the next ones to pass over where a comparison fails.
fn filter(code: u32, skip: u8, operand: u32) -> libc::sock_filter {
    libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: skip,
        k: operand,
    }
}

/// Stops one thread of another process, as a debugger does, until it is dropped. To be made and dropped on one thread.
#[derive(Debug)]
pub struct Traced(libc::pid_t);

impl Traced {
    pub fn stop(tid: u32) -> io::Result<Self> {
        let tid = tid as libc::pid_t;
        let none = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: both requests take no pointers to memory of ours; waitpid accepts null for a status nobody wants.
        unsafe {
            check(libc::ptrace(libc::PTRACE_SEIZE, tid, none, none) as i32)?;
            let traced = Self(tid);
            check(libc::ptrace(libc::PTRACE_INTERRUPT, tid, none, none) as i32)?;
            check(libc::waitpid(tid, std::ptr::null_mut(), libc::__WALL))?;
            Ok(traced)
        }
    }

    /// Has it end by itself, without a word to anybody: in place of the system call that it waits in, it makes another, exit(2).
    pub fn end(self) -> io::Result<()> {
        /// Length of the instruction `syscall`, which it goes back to.
        const SYSCALL: u64 = 2;
        let none = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: registers are integers, for which zero is valid; the kernel reads and writes one whole struct of them.
        unsafe {
            let mut registers: libc::user_regs_struct = std::mem::zeroed();
            check(libc::ptrace(libc::PTRACE_GETREGS, self.0, none, &raw mut registers) as i32)?;
            registers.rip -= SYSCALL;
            registers.rax = libc::SYS_exit as u64;
            // So that the kernel does not make the old one again.
            registers.orig_rax = u64::MAX;
            registers.rdi = 0;
            check(libc::ptrace(libc::PTRACE_SETREGS, self.0, none, &raw const registers) as i32)
        }
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        let none = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: takes no pointers to memory of ours.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, self.0, none, none) };
    }
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
