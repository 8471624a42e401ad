//! The socket's file: where it is, who owns it, when it goes away.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

/// Where `wg(8)` looks for the sockets of userspace implementations.
pub const SOCKET_DIRECTORY: &str = "/var/run/wireguard";

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error("{0:?} cannot name an interface: 1 to 15 characters, without '/' and white space")]
    Name(String),
    #[error(
        "the name is taken: another daemon answers at {}; choose another name, or end that daemon first",
        .0.display()
    )]
    Taken(PathBuf),
    #[error("{} is in the way and is no socket; remove it", .0.display())]
    NotASocket(PathBuf),
    #[error("cannot {action} {}: {source} (run as root, or where that directory can be written)", .path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("the file descriptor handed over is no listening Unix socket: {0}")]
    Inherited(io::Error),
}

/// A listening control socket. Its file is removed when this is dropped.
#[derive(Debug)]
pub struct UapiSocket {
    pub(super) listener: UnixListener,
    pub(super) file: SocketFile,
}

impl UapiSocket {
    /// Where clients connect; `None` for an inherited socket without a name.
    pub fn path(&self) -> Option<&Path> {
        self.file.path()
    }
}

/// The file that [`listen`] makes for the interface `name`.
pub fn socket_path(name: &str) -> PathBuf {
    path_in(Path::new(SOCKET_DIRECTORY), name)
}

fn path_in(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.sock"))
}

/// Opens the control socket of the interface `name` where `wg(8)` finds it.
///
/// The socket that a dead daemon left behind is taken over; a live one is [`SocketError::Taken`].
pub fn listen(name: &str) -> Result<UapiSocket, SocketError> {
    listen_in(Path::new(SOCKET_DIRECTORY), name)
}

/// [`listen`] in another directory.
pub fn listen_in(directory: &Path, name: &str) -> Result<UapiSocket, SocketError> {
    let bad = |c: char| c == '/' || c.is_whitespace() || c.is_control();
    if name.is_empty() || name.len() > 15 || name.contains(bad) {
        return Err(SocketError::Name(name.to_owned()));
    }
    let failed = |action, path: &Path| {
        let path = path.to_owned();
        move |source| SocketError::File { action, path, source }
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(failed("create the directory", directory))?;
    let path = path_in(directory, name);
    let listener = match bind(&path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            clear_stale(&path)?;
            bind(&path)
        }
        done => done,
    }
    .map_err(failed("open the control socket", &path))?;
    let metadata = fs::symlink_metadata(&path).map_err(failed("look at the control socket", &path))?;
    Ok(UapiSocket {
        listener,
        file: SocketFile::Ours {
            path,
            inode: (metadata.dev(), metadata.ino()),
        },
    })
}

/// A listening socket that the parent process opened (`WG_UAPI_FD`).
pub fn from_fd(fd: OwnedFd) -> Result<UapiSocket, SocketError> {
    let socket = Socket::from(fd);
    let is_listener = socket.is_listener().map_err(SocketError::Inherited)?;
    let is_unix = socket.domain().map_err(SocketError::Inherited)? == Domain::UNIX;
    if !(is_listener && is_unix) {
        return Err(SocketError::Inherited(io::ErrorKind::InvalidInput.into()));
    }
    socket.set_nonblocking(true).map_err(SocketError::Inherited)?;
    socket.set_cloexec(true).map_err(SocketError::Inherited)?;
    let listener = UnixListener::from(OwnedFd::from(socket));
    let address = listener.local_addr().map_err(SocketError::Inherited)?;
    let file = match address.as_pathname() {
        Some(path) => SocketFile::Inherited {
            path: path.to_owned(),
        },
        None => SocketFile::Nameless,
    };
    Ok(UapiSocket { listener, file })
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    // Linux gives the file the mode that the socket has when it is bound: no moment at which others may connect, and no
    // umask to change for the whole process.
    let socket = fs::File::from(OwnedFd::from(socket));
    socket.set_permissions(fs::Permissions::from_mode(0o600))?;
    let socket = Socket::from(OwnedFd::from(socket));
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    Ok(UnixListener::from(OwnedFd::from(socket)))
}

/// Removes the file at `path` if it is a socket on which nobody listens.
fn clear_stale(path: &Path) -> Result<(), SocketError> {
    let failed = |action| {
        move |source| SocketError::File {
            action,
            path: path.to_owned(),
            source,
        }
    };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("look at")(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(SocketError::NotASocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("ask who listens at")(error)),
        Ok(_) => return Err(SocketError::Taken(path.to_owned())),
    }
    tracing::info!(path = %path.display(), "took over the control socket of a daemon that is gone");
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove")(error)),
        _ => Ok(()),
    }
}

/// The name of a listening socket, removed on drop.
#[derive(Debug)]
pub(super) enum SocketFile {
    /// Known by device and inode, so that a successor's file of the same name is left alone.
    Ours {
        path: PathBuf,
        inode: (u64, u64),
    },
    Inherited {
        path: PathBuf,
    },
    Nameless,
}

impl SocketFile {
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Self::Ours { path, .. } | Self::Inherited { path } => Some(path),
            Self::Nameless => None,
        }
    }

    /// True until somebody removes or replaces the file.
    pub(super) fn is_there(&self) -> bool {
        match self {
            Self::Ours { path, inode } => {
                fs::symlink_metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == *inode)
            }
            Self::Inherited { path } => fs::symlink_metadata(path).is_ok(),
            Self::Nameless => true,
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_there()
            && let Some(path) = self.path()
            && let Err(error) = fs::remove_file(path)
        {
            tracing::warn!(path = %path.display(), %error, "cannot remove the control socket");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn only_the_owner_may_connect_and_the_file_goes_with_the_socket() {
        let parent = directory();
        let directory = parent.path().join("wireguard");
        let socket = listen_in(&directory, "wg0").unwrap();
        let path = directory.join("wg0.sock");
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&directory), mode(&path)), (0o700, 0o600));
        assert_eq!(socket.path(), Some(path.as_path()));
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn a_live_socket_is_taken_and_a_dead_one_is_not() {
        let directory = directory();
        let alive = listen_in(directory.path(), "wg0").unwrap();
        let error = listen_in(directory.path(), "wg0").unwrap_err();
        assert!(matches!(&error, SocketError::Taken(_)), "{error}");
        assert!(error.to_string().contains("name is taken"), "{error}");
        // A daemon that was killed closes its socket and leaves the file.
        let UapiSocket { listener, file } = alive;
        std::mem::forget(file);
        drop(listener);
        assert!(directory.path().join("wg0.sock").exists());
        let again = listen_in(directory.path(), "wg0").unwrap();
        UnixStream::connect(again.path().unwrap()).unwrap();
    }

    #[test]
    fn the_socket_of_a_successor_is_left_alone() {
        let directory = directory();
        let first = listen_in(directory.path(), "wg0").unwrap();
        fs::remove_file(first.path().unwrap()).unwrap();
        let second = listen_in(directory.path(), "wg0").unwrap();
        assert!(!first.file.is_there());
        drop(first);
        assert!(second.file.is_there());
    }

    #[test]
    fn what_is_no_socket_is_not_removed() {
        let directory = directory();
        let path = directory.path().join("wg0.sock");
        fs::write(&path, "precious").unwrap();
        let error = listen_in(directory.path(), "wg0").unwrap_err();
        assert!(matches!(error, SocketError::NotASocket(_)), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn names_stay_inside_the_directory() {
        let directory = directory();
        for bad in ["", "../wg0", "a/b", "a b", "sixteen-letters!", "a\n"] {
            let error = listen_in(directory.path(), bad).unwrap_err();
            assert!(matches!(error, SocketError::Name(_)), "{bad:?}: {error}");
        }
    }

    #[test]
    fn an_inherited_socket_works_and_another_descriptor_is_refused() {
        let directory = directory();
        let path = directory.path().join("inherited.sock");
        let inherited = from_fd(OwnedFd::from(UnixListener::bind(&path).unwrap())).unwrap();
        assert_eq!(inherited.path(), Some(path.as_path()));
        drop(inherited);
        assert!(!path.exists());

        let (stream, _other) = UnixStream::pair().unwrap();
        assert!(matches!(from_fd(stream.into()), Err(SocketError::Inherited(_))));
        let file = fs::File::open("/dev/null").unwrap();
        assert!(matches!(from_fd(file.into()), Err(SocketError::Inherited(_))));
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(matches!(from_fd(tcp.into()), Err(SocketError::Inherited(_))));
    }
}
