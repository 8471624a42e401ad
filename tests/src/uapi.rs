//! The control socket, spoken to byte by byte.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);

pub fn socket_path(interface: &str) -> PathBuf {
    format!("/var/run/wireguard/{interface}.sock").into()
}

/// One connection.
#[derive(Debug)]
pub struct Connection(BufReader<UnixStream>);

impl Connection {
    pub fn open(interface: &str) -> std::io::Result<Self> {
        let stream = UnixStream::connect(socket_path(interface))?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Sends the text as it is.
    #[track_caller]
    pub fn send(&mut self, text: impl AsRef<[u8]>) {
        self.0
            .get_mut()
            .write_all(text.as_ref())
            .expect("the daemon reads what it is sent");
    }

    /// No more will be sent.
    pub fn finish_sending(&mut self) {
        self.0
            .get_mut()
            .shutdown(std::net::Shutdown::Write)
            .expect("an open socket can be half closed");
    }

    /// One answer, up to its empty line, which is left out. Ends short where the daemon hangs up.
    #[track_caller]
    pub fn answer(&mut self) -> String {
        let mut text = String::new();
        loop {
            let mut line = String::new();
            let read = self.0.read_line(&mut line).expect("the daemon answers in time");
            if read == 0 || line == "\n" {
                return text;
            }
            text += &line;
        }
    }

    /// One command and its answer. The text is without the empty line that ends it.
    #[track_caller]
    pub fn ask(&mut self, text: &str) -> String {
        self.send(format!("{text}\n"));
        self.answer()
    }

    /// What else comes until the daemon hangs up.
    #[track_caller]
    pub fn rest(&mut self) -> String {
        let mut text = String::new();
        self.0
            .read_to_string(&mut text)
            .expect("the daemon hangs up in time");
        text
    }
}

/// One command on a connection of its own, and its answer.
#[track_caller]
pub fn ask(interface: &str, text: &str) -> String {
    Connection::open(interface)
        .expect("the control socket is there")
        .ask(text)
}

/// Everything that the daemon tells of itself; `None` while it does not answer.
pub fn get(interface: &str) -> Option<String> {
    let mut connection = Connection::open(interface).ok()?;
    connection.0.get_mut().write_all(b"get=1\n\n").ok()?;
    let mut text = String::new();
    loop {
        let mut line = String::new();
        match connection.0.read_line(&mut line) {
            Ok(0) | Err(_) => return None,
            Ok(_) if line == "\n" => return text.ends_with("errno=0\n").then_some(text),
            Ok(_) => text += &line,
        }
    }
}

/// Sends `chunk` up to `times` times, until the daemon has had enough of it.
pub fn send_until_refused(connection: &mut Connection, chunk: &[u8], times: usize) {
    for _ in 0..times {
        if connection.0.get_mut().write_all(chunk).is_err() {
            return;
        }
    }
}
