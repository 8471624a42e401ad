//! The descriptor that log lines are written to: standard error, by a description of our own where that can be had. Not to block is
//! a property of the description, and that of standard error belongs to others too: the shell, a process that shares the pipe.

use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::OnceLock;

use nix::sys::stat::{SFlag, fstat};
use socket2::SockRef;

/// A terminal or a pipe, opened anew, and which file it is.
#[derive(Debug)]
struct Own {
    file: File,
    identity: Identity,
}

type Identity = (libc::dev_t, libc::ino_t);

/// Lets `write` have what is standard error now.
pub fn with_stderr<T>(write: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
    static OWN: OnceLock<Option<Own>> = OnceLock::new();
    let stderr = io::stderr();
    let own = OWN.get_or_init(|| Own::of(stderr.as_fd())).as_ref();
    // Somebody may have put another file in its place.
    match own.filter(|own| identity(stderr.as_fd()) == Some(own.identity)) {
        Some(own) => write(own.file.as_fd()),
        None => write(stderr.as_fd()),
    }
}

impl Own {
    /// `None` for other kinds of files, and where this process may not open what it was given open.
    fn of(fd: BorrowedFd<'_>) -> Option<Self> {
        let kind = SFlag::from_bits_truncate(fstat(fd).ok()?.st_mode) & SFlag::S_IFMT;
        if kind != SFlag::S_IFIFO && !fd.is_terminal() {
            return None;
        }
        let file = File::options()
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(format!("/proc/self/fd/{}", fd.as_raw_fd()))
            .ok()?;
        let identity = identity(fd)?;
        Some(Self { file, identity })
    }
}

fn identity(fd: BorrowedFd<'_>) -> Option<Identity> {
    fstat(fd).ok().map(|stat| (stat.st_dev, stat.st_ino))
}

/// Writes what there is room for. Past the lock and the buffer that `std::io::Stderr` has.
///
/// # Errors
/// `WouldBlock` where there is no room; of a pipe or a terminal only if its description does not block.
pub fn write_some(file: &impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    // The journal's end of a service's output is a socket.
    match SockRef::from(file).send_with_flags(bytes, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) {
        Err(error) if error.raw_os_error() == Some(libc::ENOTSOCK) => {
            nix::unistd::write(file.as_fd(), bytes).map_err(io::Error::from)
        }
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    fn fill(file: &impl AsFd) -> io::ErrorKind {
        loop {
            if let Err(error) = write_some(file, &[b'x'; 3000]) {
                return error.kind();
            }
        }
    }

    #[test]
    fn a_pipe_is_written_to_without_blocking_and_stays_as_it_is_for_others() {
        let (_reader, writer) = io::pipe().unwrap();
        let own = Own::of(writer.as_fd()).unwrap();
        assert_eq!(Some(own.identity), identity(writer.as_fd()));
        assert_eq!(fill(&own.file), io::ErrorKind::WouldBlock);
        let flags = nix::fcntl::fcntl(&writer, nix::fcntl::F_GETFL).unwrap();
        assert_eq!(flags & libc::O_NONBLOCK, 0);
    }

    #[test]
    fn a_socket_is_written_to_without_blocking() {
        let (here, _there) = UnixStream::pair().unwrap();
        assert!(Own::of(here.as_fd()).is_none());
        assert_eq!(fill(&here), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_file_is_written_to_as_it_is() {
        let null = File::options().write(true).open("/dev/null").unwrap();
        assert!(Own::of(null.as_fd()).is_none());
        assert_eq!(write_some(&null, b"line\n").unwrap(), 5);
    }
}
