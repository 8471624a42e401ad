//! A client of the control socket that every userspace implementation has: what `wg set` would send.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};

use stall_report::status::Status;
use wireguard::key::{PrivateKey, PublicKey};

/// How long an implementation may take for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Everything that one end of the tunnel is told.
pub struct Setup<'a> {
    pub private_key: &'a PrivateKey,
    pub listen_port: u16,
    pub peer: &'a PublicKey,
    pub endpoint: SocketAddr,
    pub allowed: Ipv4Addr,
}

impl Setup<'_> {
    fn lines(&self) -> String {
        format!(
            "set=1\nprivate_key={}\nlisten_port={}\nreplace_peers=true\npublic_key={}\nendpoint={}\n\
             replace_allowed_ips=true\nallowed_ip={}/32\n\n",
            self.private_key.to_hex(),
            self.listen_port,
            self.peer.to_hex(),
            self.endpoint,
            self.allowed
        )
    }
}

pub fn configure(socket: &Path, setup: &Setup<'_>) -> anyhow::Result<()> {
    ask(socket, &setup.lines())
        .map(drop)
        .context("it refused its configuration")
}

/// What `status=1` gives, which is a command of hpetun's own.
pub fn status(socket: &Path) -> anyhow::Result<Status> {
    let answer = ask(socket, "status=1\n\n").context("it gave no status")?;
    let json = answer.iter().find_map(|line| line.strip_prefix("json="));
    let json = json.context("its answer to `status=1` has no line `json=`")?;
    serde_json::from_str(json).context("its status is not what this version of hpetun knows")
}

/// True once something listens on the socket.
pub fn answers(socket: &Path) -> bool {
    UnixStream::connect(socket).is_ok()
}

fn ask(socket: &Path, request: &str) -> anyhow::Result<Vec<String>> {
    let mut stream =
        UnixStream::connect(socket).with_context(|| format!("cannot connect to {}", socket.display()))?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.set_write_timeout(Some(ANSWER_WITHIN))?;
    stream
        .write_all(request.as_bytes())
        .context("cannot write to the control socket")?;
    let mut answer = Vec::new();
    for line in BufReader::new(stream).lines() {
        let line = line.context("cannot read from the control socket")?;
        match line.strip_prefix("errno=") {
            Some("0") => return Ok(answer),
            Some(errno) => match errno.parse::<i32>() {
                Ok(errno) => bail!(std::io::Error::from_raw_os_error(errno.abs())),
                Err(_) => bail!("the control socket answers 'errno={errno}'"),
            },
            None => answer.push(line),
        }
    }
    bail!("the control socket closed without an answer")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    fn served(answer: &'static str, ask: impl FnOnce(&Path)) -> String {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(&stream);
            let mut request = String::new();
            while !request.ends_with("\n\n") {
                reader.read_line(&mut request).unwrap();
            }
            (&stream).write_all(answer.as_bytes()).unwrap();
            request
        });
        ask(&path);
        server.join().unwrap()
    }

    #[test]
    fn configures_as_wg_does() {
        let key = PrivateKey::generate();
        let peer = PrivateKey::generate().public();
        let setup = Setup {
            private_key: &key,
            listen_port: 51820,
            peer: &peer,
            endpoint: "192.0.2.2:51820".parse().unwrap(),
            allowed: [10, 99, 0, 2].into(),
        };
        let request = served("errno=0\n\n", |path| configure(path, &setup).unwrap());
        let expected = format!(
            "set=1\nprivate_key={}\nlisten_port=51820\nreplace_peers=true\npublic_key={}\n\
             endpoint=192.0.2.2:51820\nreplace_allowed_ips=true\nallowed_ip=10.99.0.2/32\n\n",
            key.to_hex(),
            peer.to_hex()
        );
        assert_eq!(request, expected);
    }

    #[test]
    fn refusals_and_silence_are_errors() {
        for (answer, says) in [
            ("errno=-98\n\n", "in use"),
            ("errno=22\n\n", "Invalid argument"),
            ("errno=what\n\n", "errno=what"),
            ("", "closed without an answer"),
            ("errno=0\n\n", "no line `json=`"),
            ("json={\nerrno=0\n\n", "status is not"),
        ] {
            served(answer, |path| {
                let error = format!("{:#}", status(path).unwrap_err());
                assert!(error.contains(says), "{answer:?}: {error}");
            });
        }
    }

    #[test]
    fn status_is_read() {
        served("json={\"interface\":\"x\"}\nerrno=0\n\n", |path| {
            assert!(status(path).is_err(), "fields are missing");
        });
        let whole = serde_json::to_string(&Status {
            mtu: 1420,
            ..Status::default()
        })
        .unwrap();
        let answer = Box::leak(format!("json={whole}\nerrno=0\n\n").into_boxed_str());
        served(answer, |path| assert_eq!(status(path).unwrap().mtu, 1420));
    }
}
