//! What the kernel knows of a TCP connection.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::net::TcpStream;
use std::os::fd::AsRawFd as _;

/// Segments that this end has sent again since the connection began.
///
/// # Errors
/// That of `getsockopt(2)`.
pub fn total_retransmits(stream: &TcpStream) -> io::Result<u32> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, and `info` has that many.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a struct of integers, zeroed where the kernel wrote nothing.
    Ok(unsafe { info.assume_init() }.tcpi_total_retrans)
}
