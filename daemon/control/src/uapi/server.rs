//! Serves the control socket: many clients at once, none of which can hold up the daemon or another client.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{AbortHandle, JoinSet, spawn_blocking};

use engine::settings::Control;

use super::session::Session;
use super::socket::{SocketFile, UapiSocket};

/// Clients served at once. One more ends the conversation that was silent longest.
const MAX_CONNECTIONS: usize = 64;

/// Bytes read at once, and so the longest run of lines between two waits.
const READ: usize = 16 * 1024;

/// How often a look is taken whether the socket's file is still there.
const LOOK: Duration = Duration::from_secs(1);

/// Answers commands until the socket's file is removed, which is one of the ways to end a userspace WireGuard daemon.
/// Dropping the future ends every conversation and removes the file.
///
/// Changes are applied on tokio's blocking threads, so that a long list of them delays no timer.
pub async fn serve(socket: UapiSocket, control: Arc<dyn Control>) -> io::Result<()> {
    let UapiSocket { listener, file } = socket;
    let listener = UnixListener::from_std(listener)?;
    let mut connections = Connections::default();
    let mut removed = std::pin::pin!(removed(&file));
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => connections.admit(stream, &control),
                Err(error) => {
                    tracing::warn!(%error, "control socket: cannot accept a connection");
                    // Out of descriptors or memory; without a pause this would spin until some are free.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            () = &mut removed => {
                tracing::info!("the control socket was removed");
                return Ok(());
            }
        }
    }
}

async fn removed(file: &SocketFile) {
    while file.is_there() {
        tokio::time::sleep(LOOK).await;
    }
}

/// The conversations; dropping it ends them.
#[derive(Default)]
struct Connections {
    tasks: JoinSet<()>,
    running: Vec<Connection>,
    /// Counts up with each sign of life of any client, and so orders them without a clock.
    activity: Arc<AtomicU64>,
}

struct Connection {
    task: AbortHandle,
    /// The value of [`Connections::activity`] at this client's last sign of life.
    last_active: Arc<AtomicU64>,
}

impl Connections {
    fn admit(&mut self, stream: UnixStream, control: &Arc<dyn Control>) {
        while self.tasks.try_join_next().is_some() {}
        self.running.retain(|connection| !connection.task.is_finished());
        if self.running.len() >= MAX_CONNECTIONS {
            self.end_most_silent();
        }
        let last_active = Arc::new(AtomicU64::new(self.activity.fetch_add(1, Ordering::Relaxed)));
        let client = Client {
            stream,
            activity: Arc::clone(&self.activity),
            last_active: Arc::clone(&last_active),
        };
        let session = Session::new(Arc::clone(control));
        let task = self.tasks.spawn(async move {
            if let Err(error) = client.converse(session).await {
                tracing::debug!(%error, "control socket: a connection broke");
            }
        });
        self.running.push(Connection { task, last_active });
    }

    fn end_most_silent(&mut self) {
        let silence = |connection: &Connection| connection.last_active.load(Ordering::Relaxed);
        if let Some((most_silent, _)) = self.running.iter().enumerate().min_by_key(|(_, c)| silence(c)) {
            self.running.swap_remove(most_silent).task.abort();
            tracing::debug!("control socket: more than {MAX_CONNECTIONS} clients, ended the most silent one");
        }
    }
}

struct Client {
    stream: UnixStream,
    activity: Arc<AtomicU64>,
    last_active: Arc<AtomicU64>,
}

impl Client {
    async fn converse(mut self, mut session: Session) -> io::Result<()> {
        let mut buffer = vec![0; READ];
        loop {
            let length = self.stream.read(&mut buffer).await?;
            self.is_active();
            if length == 0 {
                let reply = spawn_blocking(move || session.end()).await?;
                return self.stream.write_all(&reply.unwrap_or_default()).await;
            }
            let mut start = 0;
            while start < length {
                let step;
                (session, buffer, step) = spawn_blocking(move || {
                    let step = session.feed(&buffer[start..length]);
                    (session, buffer, step)
                })
                .await?;
                start += step.consumed;
                self.stream.write_all(&step.reply.unwrap_or_default()).await?;
                self.is_active();
            }
        }
    }

    fn is_active(&self) {
        self.last_active
            .store(self.activity.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::os::unix::net::UnixStream as Blocking;

    use super::super::testing::Recorder;
    use super::super::{client, listen_in, socket_path};
    use super::*;

    /// A served socket in a directory of its own; everything ends when it is dropped.
    struct Served {
        directory: tempfile::TempDir,
        recorder: Arc<Recorder>,
        runtime: tokio::runtime::Runtime,
        task: Option<tokio::task::JoinHandle<io::Result<()>>>,
    }

    impl Served {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let recorder = Arc::new(Recorder::default());
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build();
            let runtime = runtime.unwrap();
            let socket = listen_in(directory.path(), "test").unwrap();
            let task = Some(runtime.spawn(serve(socket, Arc::clone(&recorder) as Arc<dyn Control>)));
            Self {
                directory,
                recorder,
                runtime,
                task,
            }
        }

        fn path(&self) -> std::path::PathBuf {
            self.directory.path().join("test.sock")
        }

        fn connect(&self) -> Blocking {
            let stream = Blocking::connect(self.path()).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            stream
        }
    }

    fn ask(stream: &mut Blocking, command: &str) -> String {
        stream.write_all(command.as_bytes()).unwrap();
        let mut reader = BufReader::new(&*stream);
        let mut answer = String::new();
        while !answer.ends_with("\n\n") {
            assert_ne!(
                reader.read_line(&mut answer).unwrap(),
                0,
                "the connection ended after {answer:?}"
            );
        }
        answer
    }

    #[test]
    fn several_commands_on_one_connection_and_errors_do_not_end_it() {
        let served = Served::new();
        let mut stream = served.connect();
        assert_eq!(ask(&mut stream, "set=1\nlisten_port=7\n\n"), "errno=0\n\n");
        assert_eq!(
            ask(&mut stream, "set=1\nbogus=7\nlisten_port=8\n\n"),
            "errno=-22\n\n"
        );
        assert_eq!(ask(&mut stream, "hello\n\n"), "errno=-71\n\n");
        assert_eq!(ask(&mut stream, "get=1\n\n"), "listen_port=7\nerrno=0\n\n");
    }

    #[test]
    fn a_command_cut_short_by_the_end_of_the_connection_is_answered() {
        let served = Served::new();
        let mut stream = served.connect();
        stream.write_all(b"set=1\nlisten_port=7\nfwmark=1").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "errno=-71\n\n");
        let snapshot = served.recorder.snapshot();
        assert_eq!((snapshot.listen_port, snapshot.fwmark), (7, 0));
    }

    #[test]
    fn idle_connections_do_not_keep_others_out() {
        let served = Served::new();
        let idle: Vec<_> = (0..3 * MAX_CONNECTIONS)
            .map(|_| {
                let mut stream = served.connect();
                // Inside a command, so that they are not even between two.
                stream.write_all(b"set=1\n").unwrap();
                stream
            })
            .collect();
        let mut busy = served.connect();
        assert_eq!(ask(&mut busy, "get=1\n\n"), "errno=0\n\n");
        // The first of them was ended to make room.
        assert!(matches!((&idle[0]).read(&mut [0; 16]), Ok(0) | Err(_)));
        assert_eq!(ask(&mut busy, "get=1\n\n"), "errno=0\n\n");
    }

    #[test]
    fn a_client_that_does_not_read_holds_up_nobody() {
        let served = Served::new();
        let mut deaf = served.connect();
        deaf.set_nonblocking(true).unwrap();
        while deaf.write(&b"get=1\n\n".repeat(1000)).is_ok() {}
        let mut other = served.connect();
        assert_eq!(ask(&mut other, "set=1\nfwmark=9\n\n"), "errno=0\n\n");
    }

    #[test]
    fn status_arrives_through_the_client() {
        let served = Served::new();
        let status = client::status_at(&served.path()).unwrap();
        assert_eq!(status.interface, "recorder");
    }

    #[test]
    fn removing_the_file_ends_the_service_and_so_does_dropping_it() {
        let mut served = Served::new();
        std::fs::remove_file(served.path()).unwrap();
        let task = served.task.take().unwrap();
        served.runtime.block_on(task).unwrap().unwrap();

        let served = Served::new();
        let path = served.path();
        drop(served.connect());
        drop(served.runtime);
        assert!(!path.exists());
    }

    #[test]
    fn a_list_of_130_000_allowed_ips_goes_in_one_command() {
        use std::fmt::Write as _;
        let served = Served::new();
        let mut command = format!(
            "set=1\npublic_key={}\nreplace_allowed_ips=true\n",
            "22".repeat(32)
        );
        for index in 0..130_000_u32 {
            writeln!(
                command,
                "allowed_ip={}/32",
                std::net::Ipv4Addr::from(0x0a00_0000 + index)
            )
            .unwrap();
        }
        command.push('\n');
        assert_eq!(ask(&mut served.connect(), &command), "errno=0\n\n");
        assert_eq!(served.recorder.snapshot().peers[0].allowed_ips.len(), 130_000);
    }

    #[test]
    fn sockets_are_where_wg_looks() {
        assert_eq!(socket_path("wg0").to_str(), Some("/var/run/wireguard/wg0.sock"));
    }
}
