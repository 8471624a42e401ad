//! Asks a running daemon for its status.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use stall_report::status::Status;

/// A daemon that says nothing for so long is stuck; its status is then better asked of its log.
const PATIENCE: Duration = Duration::from_secs(5);

/// More than any status has; a bound for what is read from the other side.
const MAX_ANSWER: u64 = 256 << 20;

/// Why there is no status.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("no daemon has the interface: {} is not there; start one with `hpetun up` or `hpetun NAME`", .0.display())]
    NoSocket(PathBuf),
    #[error("nobody listens at {}: its daemon is gone; start it again", .0.display())]
    Dead(PathBuf),
    #[error("no permission to connect to {}; run as the daemon's user, which is root as a rule", .0.display())]
    Denied(PathBuf),
    #[error("the daemon at {} did not answer in {} s", .0.display(), PATIENCE.as_secs())]
    Silent(PathBuf),
    #[error("the connection to {} broke: {source}", .path.display())]
    Broken { path: PathBuf, source: io::Error },
    #[error("the daemon at {} has no status to give: it is no hpetun, or of another version; try `wg show`", .0.display())]
    Foreign(PathBuf),
}

/// The status of the daemon that has the interface `name`. Blocks for some seconds at most.
pub fn status(name: &str) -> Result<Status, ClientError> {
    status_at(&super::socket_path(name))
}

/// [`status`] by the path of the control socket.
pub fn status_at(path: &Path) -> Result<Status, ClientError> {
    let answer = ask(path).map_err(|source| {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => ClientError::NoSocket(path),
            io::ErrorKind::ConnectionRefused => ClientError::Dead(path),
            io::ErrorKind::PermissionDenied => ClientError::Denied(path),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ClientError::Silent(path),
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => ClientError::Foreign(path),
            _ => ClientError::Broken { path, source },
        }
    })?;
    let mut lines = answer.lines();
    let json = lines.next().and_then(|line| line.strip_prefix("json="));
    match (json.map(serde_json::from_str), lines.next()) {
        (Some(Ok(status)), Some("errno=0")) => Ok(status),
        _ => Err(ClientError::Foreign(path.to_owned())),
    }
}

fn ask(path: &Path) -> io::Result<String> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(b"status=1\n\n")?;
    // One command is all there will be, so the answer ends where the connection does.
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER).read_to_string(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn errors_say_what_is_wrong_with_the_daemon() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("wg0.sock");
        assert!(matches!(status_at(&path), Err(ClientError::NoSocket(_))));
        let listener = UnixListener::bind(&path).unwrap();
        let answering = std::thread::spawn(move || {
            // wireguard-go ends the connection at a command that it does not know.
            drop(listener.accept().unwrap());
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"errno=-22\n\n").unwrap();
        });
        for _ in 0..2 {
            let error = status_at(&path).unwrap_err();
            assert!(matches!(error, ClientError::Foreign(_)), "{error}");
        }
        answering.join().unwrap();
        assert!(matches!(status_at(&path), Err(ClientError::Dead(_))));
    }
}
