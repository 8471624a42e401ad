//! iperf3 between two namespaces.

use std::process::{Child, Stdio};

use serde_json::Value;

use crate::command::{end_of, finish};
use crate::namespace::Namespace;
use crate::wait::wait_until;

const PORT: u16 = 5201;

/// What arrived.
#[derive(Debug)]
pub struct Transfer {
    pub bytes: u64,
    pub bits_per_second: f64,
    /// Of UDP; 0 for TCP.
    pub lost_percent: f64,
}

/// Sends `megabytes` over TCP from one namespace to `address` in another.
#[track_caller]
pub fn tcp(from: &Namespace, to: &Namespace, address: &str, megabytes: u32) -> Transfer {
    transfer(from, to, address, &format!("-n {megabytes}M"))
}

/// Sends `megabytes` over UDP at `rate` (as iperf3 has it: `50M`; `0` is no limit).
#[track_caller]
pub fn udp(from: &Namespace, to: &Namespace, address: &str, megabytes: u32, rate: &str) -> Transfer {
    transfer(from, to, address, &format!("-u -n {megabytes}M -b {rate}"))
}

/// One iperf3 run with these client options.
#[track_caller]
pub fn transfer(from: &Namespace, to: &Namespace, address: &str, options: &str) -> Transfer {
    let mut server = Server::start(to, address);
    let output = finish(
        from.command(&format!("iperf3 -J -c {address} -p {PORT} {options}")),
        "",
    );
    let report: Value =
        serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output}"));
    assert!(output.status.success() && report["error"].is_null(), "{output}");
    server.finish();
    let end = &report["end"];
    let sum = if end["sum_received"].is_object() {
        &end["sum_received"]
    } else {
        &end["sum"]
    };
    let number = |name: &str| sum[name].as_f64().unwrap_or(0.0);
    let lost_percent = number("lost_percent");
    Transfer {
        bytes: (number("bytes") * (1.0 - lost_percent / 100.0)) as u64,
        bits_per_second: number("bits_per_second"),
        lost_percent,
    }
}

/// Serves one client.
#[derive(Debug)]
struct Server(Child);

impl Server {
    #[track_caller]
    fn start(namespace: &Namespace, address: &str) -> Self {
        let mut command = namespace.command(&format!("iperf3 -s -1 -B {address} -p {PORT}"));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut server = Self(command.spawn().expect("iperf3 can be started"));
        let pid = server.0.id();
        wait_until("iperf3 to listen", || {
            assert!(
                server.0.try_wait().expect("our child").is_none(),
                "iperf3 cannot serve on {address}"
            );
            listens(pid)
        });
        server
    }

    #[track_caller]
    fn finish(&mut self) {
        let ended = end_of(&mut self.0, crate::wait::LIMIT);
        assert!(ended.is_some(), "the iperf3 server does not end");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether the process has entered its namespace and something listens there on our port.
fn listens(pid: u32) -> bool {
    const LISTEN: &str = "0A";
    let local = format!(":{PORT:04X}");
    let is_iperf3 = std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "iperf3\n");
    is_iperf3
        && ["tcp", "tcp6"].iter().any(|table| {
            let table = std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
            table.lines().any(|line| {
                let fields: Vec<_> = line.split_whitespace().collect();
                fields.len() > 3 && fields[1].ends_with(&local) && fields[3] == LISTEN
            })
        })
}
