//! The process itself: fork, session, standard descriptors, descriptors that were handed over at its start.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Mutex;

/// On which side of a [`fork`] this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fork {
    Parent,
    Child,
}

/// Splits the process in two. Refused (`EDEADLK`) while a second thread runs: its locks would stay
/// locked for ever in the child, where the thread is no more.
pub fn fork() -> io::Result<Fork> {
    if fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::from_raw_os_error(libc::EDEADLK));
    }
    // SAFETY: this is the only thread, so the child has the whole of a consistent process.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        _ => Ok(Fork::Parent),
    }
}

/// Makes the process the leader of a new session, without a controlling terminal.
pub fn setsid() -> io::Result<()> {
    // SAFETY: takes no arguments and touches no memory.
    match unsafe { libc::setsid() } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// One of the three standard descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stdio {
    Input = libc::STDIN_FILENO as isize,
    Output = libc::STDOUT_FILENO as isize,
    Error = libc::STDERR_FILENO as isize,
}

/// Makes `stdio` another name of the file behind `file`.
pub fn redirect(stdio: Stdio, file: impl AsFd) -> io::Result<()> {
    // SAFETY: the source is borrowed for the call, and the target is a standard descriptor, which nobody owns.
    match unsafe { libc::dup2(file.as_fd().as_raw_fd(), stdio as RawFd) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Ends the process at once: neither buffers nor exit handlers run, which belong to the other side of a fork.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: never returns, hence nothing can see what it leaves behind.
    unsafe { libc::_exit(status) }
}

/// Takes over descriptor `number`, which whoever started this process left open for it, and keeps it from
/// being inherited further. Call it before anything else is opened.
///
/// `EBADF` where it is not open or is a standard descriptor, `EBUSY` where it was taken before.
pub fn take_inherited(number: RawFd) -> io::Result<OwnedFd> {
    static TAKEN: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());

    if number <= libc::STDERR_FILENO {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    let mut taken = TAKEN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if taken.contains(&number) {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    // SAFETY: F_SETFD takes an integer; a number that is not open gives EBADF.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } == -1 {
        return Err(io::Error::last_os_error());
    }
    taken.push(number);
    // SAFETY: it is open, no other `OwnedFd` was made of it here, and whoever started the process gave it away.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::IntoRawFd;

    use super::*;

    #[test]
    fn fork_is_refused_beside_other_threads() {
        // The test harness runs this on a thread of its own, beside the main one.
        assert_eq!(fork().unwrap_err().raw_os_error(), Some(libc::EDEADLK));
    }

    #[test]
    fn inherited_descriptors_are_taken_once() {
        let (mut reader, writer) = io::pipe().unwrap();
        let number = writer.into_raw_fd();
        let writer = take_inherited(number).unwrap();
        assert_eq!(
            take_inherited(number).unwrap_err().raw_os_error(),
            Some(libc::EBUSY)
        );
        fs::File::from(writer).write_all(b"through").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
    }

    #[test]
    fn closed_and_standard_descriptors_are_refused() {
        for number in [-1, 0, 1, 2, 1 << 20] {
            assert_eq!(
                take_inherited(number).unwrap_err().raw_os_error(),
                Some(libc::EBADF),
                "{number}"
            );
        }
    }
}
