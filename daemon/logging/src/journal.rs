//! systemd's journal as a place for log events, by its native protocol (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>).
//!
//! The journal may itself wait for a disk, and whoever logs must not wait with it: what it does not take is counted, and told once it
//! does.

use std::fmt::{self, Write as _};
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use super::stderr::{PATIENCE, PAUSE};
use sys::thread;

const SOCKET: &str = "/run/systemd/journal/socket";
const IDENTIFIER: &str = "hpetun";
/// Before the names of fields that are no standard ones.
const PREFIX: &str = "HPETUN_";
/// Tries to send an entry, for as long as a line waits for standard error. Once all were in vain there is but one, until the journal takes entries again.
const TRIES: u32 = (PATIENCE.as_millis() / PAUSE.as_millis()) as u32;
/// Room for the longest entry; the kernel may give less.
const BUFFER: usize = 1 << 20;

#[derive(Debug)]
pub struct Journal {
    /// Does not block.
    socket: UnixDatagram,
    path: PathBuf,
    clogged: AtomicBool,
    lost: AtomicU64,
}

impl Journal {
    /// # Errors
    /// Where none runs.
    pub fn open() -> io::Result<Self> {
        Self::at(Path::new(SOCKET))
    }

    fn at(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        // A smaller one only loses the longest entries.
        let _ = socket2::SockRef::from(&socket).set_send_buffer_size(BUFFER);
        // The journal discards an empty entry.
        match socket.send_to(&[], path) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(Self {
                socket,
                path: path.to_owned(),
                clogged: AtomicBool::new(false),
                lost: AtomicU64::new(0),
            }),
        }
    }

    fn write(&self, entry: &[u8]) {
        let sent = if !self.clogged.load(Relaxed) {
            self.send(entry, TRIES)
        } else if self.tell_loss() {
            // It has just begun to take entries again.
            self.send(entry, 1)
        } else {
            Sent::NoRoom
        };
        if sent != Sent::Whole {
            self.lost.fetch_add(1, Relaxed);
        }
        if sent == Sent::NoRoom {
            self.clogged.store(true, Relaxed);
        }
    }

    /// False where it does not take this either.
    fn tell_loss(&self) -> bool {
        let lost = self.lost.swap(0, Relaxed);
        let mut is_told = lost == 0;
        if !is_told {
            let mut entry = Entry::new(&Level::WARN, module_path!());
            entry.message = format!("{lost} log lines were lost: the journal did not take them");
            entry.put("HPETUN_LOST", lost.to_string().as_bytes());
            is_told = self.send(&entry.finish(), 1) == Sent::Whole;
        }
        if is_told {
            self.clogged.store(false, Relaxed);
        } else {
            self.lost.fetch_add(lost, Relaxed);
        }
        is_told
    }

    fn send(&self, entry: &[u8], tries: u32) -> Sent {
        for attempt in 1..=tries {
            match self.socket.send_to(entry, &self.path) {
                Ok(_) => return Sent::Whole,
                // It will never take this one.
                Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => return Sent::TooLong,
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Sent::NoRoom,
                Err(_) if attempt < tries => std::thread::sleep(PAUSE),
                Err(_) => {}
            }
        }
        Sent::NoRoom
    }
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    Whole,
    TooLong,
    /// Nor is there a journal, maybe.
    NoRoom,
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let metadata = event.metadata();
        let mut entry = Entry::new(metadata.level(), metadata.target());
        entry.put_place(metadata);
        event.record(&mut entry);
        self.write(&entry.finish());
    }
}

/// One entry in the making.
struct Entry {
    bytes: Vec<u8>,
    message: String,
    /// What comes after the message, so that a person sees it too: ` peer=... endpoint=...`.
    pairs: String,
}

impl Entry {
    fn new(level: &Level, target: &str) -> Self {
        let mut entry = Self {
            bytes: Vec::with_capacity(512),
            message: String::new(),
            pairs: String::new(),
        };
        entry.put("PRIORITY", priority(level).as_bytes());
        entry.put("SYSLOG_IDENTIFIER", IDENTIFIER.as_bytes());
        entry.put("TID", thread::id().to_string().as_bytes());
        entry.put("TARGET", target.as_bytes());
        entry
    }

    fn put_place(&mut self, metadata: &Metadata<'_>) {
        if let (Some(file), Some(line)) = (metadata.file(), metadata.line()) {
            self.put("CODE_FILE", file.as_bytes());
            self.put("CODE_LINE", line.to_string().as_bytes());
        }
    }

    /// With the value's length before it, so that the value may be anything.
    fn put(&mut self, name: &str, value: &[u8]) {
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(b'\n');
        self.bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.push(b'\n');
    }

    /// `shown` is what people see of the value of a field other than the message.
    fn record(&mut self, field: &Field, value: &str, shown: fmt::Arguments<'_>) {
        if field.name() == "message" {
            self.message.push_str(value);
        } else {
            let _ = write!(self.pairs, " {field}={shown}");
            self.put_own(field, value);
        }
    }

    fn put_own(&mut self, field: &Field, value: &str) {
        // What else a name of ours may hold, the journal would not take.
        let letter = |letter: char| {
            if letter.is_ascii_alphanumeric() {
                letter.to_ascii_uppercase()
            } else {
                '_'
            }
        };
        let name: String = PREFIX.chars().chain(field.name().chars().map(letter)).collect();
        self.put(&name, value.as_bytes());
    }

    fn finish(mut self) -> Vec<u8> {
        let message = std::mem::take(&mut self.message) + &self.pairs;
        self.put("MESSAGE", message.as_bytes());
        self.bytes
    }
}

impl Visit for Entry {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record(field, value, format_args!("{value:?}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let value = format!("{value:?}");
        self.record(field, &value, format_args!("{value}"));
    }
}

/// syslog(3): err, warning, notice, info, debug.
fn priority(level: &Level) -> &'static str {
    match *level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "5",
        Level::DEBUG => "6",
        Level::TRACE => "7",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use tracing::subscriber::with_default;
    use tracing::{error, info};
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::registry;

    use super::*;

    /// The fields of the next entry that holds any.
    fn receive(journal: &UnixDatagram) -> BTreeMap<String, String> {
        let mut buffer = vec![0; 1 << 16];
        let length = journal.recv(&mut buffer).unwrap();
        if length == 0 {
            return receive(journal);
        }
        let (mut rest, mut fields) = (&buffer[..length], BTreeMap::new());
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (name, value) = (&rest[..end], &rest[end + 1..]);
            let length = u64::from_le_bytes(value[..8].try_into().unwrap()) as usize;
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            fields.insert(text(name), text(&value[8..8 + length]));
            assert_eq!(value[8 + length], b'\n');
            rest = &value[8 + length + 1..];
        }
        fields
    }

    fn journal() -> (tempfile::TempDir, UnixDatagram, Journal) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let reader = UnixDatagram::bind(&path).unwrap();
        reader.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let journal = Journal::at(&path).unwrap();
        (directory, reader, journal)
    }

    #[test]
    fn an_event_is_an_entry_with_fields_that_also_shows_them_to_people() {
        let (_directory, reader, journal) = journal();
        with_default(registry().with(journal), || {
            let endpoint = "[::1]:51820";
            error!(peer = "xTIB", %endpoint, tries.left = 3, "no answer\nfor {} s", 90);
        });
        let fields = receive(&reader);
        assert_eq!(
            fields["MESSAGE"],
            "no answer\nfor 90 s peer=\"xTIB\" endpoint=[::1]:51820 tries.left=3"
        );
        for (name, value) in [
            ("PRIORITY", "3"),
            ("SYSLOG_IDENTIFIER", "hpetun"),
            ("TARGET", "hpetun_logging::journal::tests"),
            ("HPETUN_PEER", "xTIB"),
            ("HPETUN_ENDPOINT", "[::1]:51820"),
            ("HPETUN_TRIES_LEFT", "3"),
        ] {
            assert_eq!(fields[name], value, "{name}");
        }
        assert!(fields["CODE_FILE"].ends_with("journal.rs"));
        assert_eq!(fields["TID"], thread::id().to_string());
    }

    #[test]
    fn a_journal_that_does_not_read_holds_nobody_up_and_is_told_what_it_missed() {
        let (_directory, reader, journal) = journal();
        with_default(registry().with(journal), || {
            // More than any queue of datagrams and any buffer takes.
            (0..20_000).for_each(|number| info!(number, "a line"));
            let mut last = receive(&reader);
            reader.set_nonblocking(true).unwrap();
            while let Ok(1..) = reader.recv(&mut [0; 4096]) {}
            reader.set_nonblocking(false).unwrap();
            info!("another");
            last.append(&mut receive(&reader));
            assert!(
                last["MESSAGE"].ends_with(" log lines were lost: the journal did not take them"),
                "{last:?}"
            );
            assert!(last["HPETUN_LOST"].parse::<u64>().unwrap() > 1_000, "{last:?}");
            assert_eq!(receive(&reader)["MESSAGE"], "another");
        });
    }

    #[test]
    fn without_a_journal_there_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let error = Journal::at(&directory.path().join("socket")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
