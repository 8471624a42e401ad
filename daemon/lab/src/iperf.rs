//! The load made by iperf3.

use std::fs;
use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};
use serde_json::Value;

use super::daemon::own_group;
use super::hosts::Host;
use super::interrupt::moment;
use super::load::{Check, Outcome, Protocol, Run};

const PORT: u16 = 5201;
const LISTENING_WITHIN: Duration = Duration::from_secs(5);

/// How much longer than its run iperf3 may take, for its handshake and its results.
const PATIENCE: Duration = Duration::from_secs(20);

/// Version of the installed iperf3, if there is one.
pub fn version() -> Option<String> {
    let output = Command::new("iperf3")
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.strip_prefix("iperf ")?
        .split_whitespace()
        .next()
        .map(str::to_owned)
}

pub fn run(
    run: &Run,
    from: &Host,
    to: &Host,
    datagram: u32,
    length: Duration,
    check: Check<'_>,
) -> anyhow::Result<Outcome> {
    let failed = || format!("iperf3, run '{}'; `--load builtin` does without it", run.name);
    let server = Process::start(to, &["-s", "-1", "-B", &to.inner.to_string()]).with_context(failed)?;
    server.wait_until_listening(to, check).with_context(failed)?;

    let (target, seconds) = (to.inner.to_string(), length.as_secs().max(1).to_string());
    let mut arguments: Vec<String> = ["-J", "-i", "0", "-c", &target, "-t", &seconds]
        .map(str::to_owned)
        .into();
    match run.protocol {
        Protocol::Tcp => arguments.extend(["-P".to_owned(), run.streams.to_string()]),
        Protocol::Udp { .. } | Protocol::Flood => {
            let unlimited = "0".to_owned();
            let rate = run.protocol.rate().map_or(unlimited, |rate| format!("{rate}M"));
            arguments.extend(["-u", "-b", &rate, "-l", &datagram.to_string()].map(str::to_owned));
        }
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let client = Process::start(from, &arguments).with_context(failed)?;
    let json = client.output(length + PATIENCE, check)?;
    parse(&json, run.protocol).with_context(failed)
}

/// One iperf3, killed when dropped.
struct Process(Child);

impl Process {
    fn start(host: &Host, arguments: &[&str]) -> anyhow::Result<Self> {
        let mut command = Command::new("iperf3");
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        own_group(&mut command);
        host.adopt(&mut command);
        Ok(Self(command.spawn().context("cannot start")?))
    }

    fn wait_until_listening(&self, host: &Host, check: Check<'_>) -> anyhow::Result<()> {
        let since = Instant::now();
        while since.elapsed() < LISTENING_WITHIN {
            check()?;
            let sockets = host.enter(|| Ok(fs::read_to_string("/proc/thread-self/net/tcp")?))?;
            if someone_listens(&sockets, PORT) {
                return Ok(());
            }
            moment();
        }
        bail!("the server does not listen on port {PORT}")
    }

    /// What it prints until it ends.
    fn output(mut self, patience: Duration, check: Check<'_>) -> anyhow::Result<String> {
        let mut stdout = self.0.stdout.take().context("its output was taken")?;
        let reader = thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).map(|_| text)
        });
        let since = Instant::now();
        while self.0.try_wait()?.is_none() {
            check()?;
            ensure!(
                since.elapsed() < patience,
                "iperf3 did not end within {} s",
                patience.as_secs()
            );
            moment();
        }
        let text = reader
            .join()
            .map_err(|_| anyhow!("the thread that reads iperf3's output panicked"))?;
        text.context("cannot read iperf3's output")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Looks for a listening socket in the text of /proc/net/tcp.
fn someone_listens(sockets: &str, port: u16) -> bool {
    const LISTEN: &str = "0A";
    let local = format!(":{port:04X}");
    sockets.lines().any(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        fields.next().is_some_and(|address| address.ends_with(&local)) && fields.nth(1) == Some(LISTEN)
    })
}

/// Reads what `iperf3 -J` prints at its end.
pub fn parse(json: &str, protocol: Protocol) -> anyhow::Result<Outcome> {
    let report: Value = serde_json::from_str(json).context("its output is not JSON")?;
    if let Some(error) = report["error"].as_str() {
        bail!("{error}");
    }
    let end = &report["end"];
    let number = |object: &str, field: &str| {
        end[object][field]
            .as_f64()
            .with_context(|| format!("its output has no end.{object}.{field}"))
    };
    let outcome = match protocol {
        Protocol::Tcp => Outcome {
            bytes: number("sum_received", "bytes")? as u64,
            seconds: number("sum_received", "seconds")?,
            // Absent where the sender's kernel does not tell.
            retransmits: end["sum_sent"]["retransmits"].as_u64(),
            lost_percent: None,
            packets: None,
        },
        // `sum.bytes` is what was sent, in versions without `sum_received` too.
        Protocol::Udp { .. } | Protocol::Flood => {
            let (packets, lost) = (number("sum", "packets")?, number("sum", "lost_packets")?);
            let share = if packets > 0.0 { 1.0 - lost / packets } else { 0.0 };
            Outcome {
                bytes: (number("sum", "bytes")? * share).max(0.0) as u64,
                seconds: number("sum", "seconds")?,
                retransmits: None,
                lost_percent: Some(100.0 * (1.0 - share)),
                packets: Some((packets - lost).max(0.0) as u64),
            }
        }
    };
    ensure!(outcome.seconds > 0.0, "it ran for no time");
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UDP: Protocol = Protocol::Udp { rate: 100 };

    #[test]
    fn tcp_counts_what_arrived() {
        let json = r#"{"start":{},"intervals":[],"end":{
            "sum_sent":{"seconds":1.00105,"bytes":2377646080,"retransmits":7,"sender":true},
            "sum_received":{"seconds":1.25,"bytes":1250000000,"sender":true}}}"#;
        let outcome = parse(json, Protocol::Tcp).unwrap();
        assert_eq!(outcome.gbit_s(), 8.0);
        assert_eq!(outcome.retransmits, Some(7));
        assert_eq!(outcome.lost_percent, None);
        let silent = json.replace(r#""retransmits":7,"#, "");
        assert_eq!(parse(&silent, Protocol::Tcp).unwrap().retransmits, None);
    }

    #[test]
    fn udp_counts_what_arrived() {
        let json = r#"{"end":{"sum":{"seconds":2.0,"bytes":1000000,"lost_packets":250,"packets":1000}}}"#;
        let outcome = parse(json, UDP).unwrap();
        assert_eq!(outcome.bytes, 750_000);
        assert_eq!(outcome.lost_percent, Some(25.0));
        assert_eq!(outcome.packets_s(), Some(375.0));
        let none = json.replace("1000}", "0}").replace("250", "0");
        assert_eq!(parse(&none, UDP).unwrap().lost_percent, Some(100.0));
    }

    #[test]
    fn failures_are_told() {
        for (json, says) in [
            ("", "not JSON"),
            (
                r#"{"error":"unable to connect to server: Connection refused"}"#,
                "Connection refused",
            ),
            (r#"{"end":{}}"#, "end.sum_received.bytes"),
            (r#"{"end":{"sum_received":{"bytes":1,"seconds":0}}}"#, "no time"),
        ] {
            let error = format!("{:#}", parse(json, Protocol::Tcp).unwrap_err());
            assert!(error.contains(says), "{json}: {error}");
        }
    }

    #[test]
    fn listeners_are_found() {
        let sockets = "  sl  local_address rem_address   st tx_queue\n   \
             0: 0200630A:1451 00000000:0000 0A 00000000:00000000 00:00000000 0 0 1234 1\n   \
             1: 0200630A:1452 0100630A:1451 01 00000000:00000000 00:00000000 0 0 1235 1\n";
        assert!(someone_listens(sockets, 5201));
        assert!(!someone_listens(sockets, 5202), "connected, not listening");
        assert!(!someone_listens(sockets, 80));
    }
}
