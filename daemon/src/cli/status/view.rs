//! A status for people.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use stall_report::status::{LatencyStatus, PeerStatus, Status, WorkerStatus};
use text::units::{Ago, Grouped, Iec, Micros, Plural, Span};

#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    pub colours: bool,
}

impl Style {
    fn paint(self, code: &str, text: &str) -> String {
        if self.colours {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    fn interface(self, text: &str) -> String {
        self.paint("1;32", text)
    }

    fn peer(self, text: &str) -> String {
        self.paint("1;33", text)
    }

    fn label(self, text: &str) -> String {
        self.paint("1", text)
    }

    fn alarm(self, text: &str) -> String {
        self.paint("1;31", text)
    }
}

/// A status as people read it, laid out like `wg show`.
pub(super) struct View<'a> {
    pub status: &'a Status,
    /// Wall clock, since 1970.
    pub now: Duration,
    pub style: Style,
}

impl fmt::Display for View<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.interface(f)?;
        workers(f, self.style, &self.status.workers)?;
        latency(f, self.style, &self.status.latency_us)?;
        drops(f, self.style, &self.status.drops)?;
        watchdog(f, self.style, self.status)?;
        self.status.peers.iter().try_for_each(|peer| self.peer(f, peer))
    }
}

impl View<'_> {
    fn interface(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Status {
            interface,
            pid,
            version,
            mtu,
            offload,
            clock,
            ..
        } = self.status;
        let title = self.style.interface(&format!("interface: {interface}"));
        writeln!(f, "{title}  (hpetun {version}, pid {pid})")?;
        self.line(
            f,
            "public key",
            self.status.public_key.as_deref().unwrap_or("(none)"),
        )?;
        self.line(f, "listening port", self.status.listen_port)?;
        if self.status.fwmark != 0 {
            self.line(f, "fwmark", format_args!("{:#x}", self.status.fwmark))?;
        }
        let state = if self.status.up { "up" } else { "down" };
        self.line(f, "link", format_args!("{state}, MTU {mtu}, offload {offload}"))?;
        self.line(
            f,
            "clock",
            format_args!("{}, {} packets stamped", clock.name, Grouped(clock.stamps)),
        )?;
        for verdict in &clock.verdicts {
            self.line(f, "arbiter", verdict)?;
        }
        Ok(())
    }

    fn peer(&self, f: &mut fmt::Formatter<'_>, peer: &PeerStatus) -> fmt::Result {
        writeln!(f, "\n{}", self.style.peer(&format!("peer: {}", peer.public_key)))?;
        if let Some(endpoint) = &peer.endpoint {
            self.line(f, "endpoint", endpoint)?;
        }
        let allowed_ips = match &peer.allowed_ips[..] {
            [] => "(none)".to_owned(),
            nets => nets.join(", "),
        };
        self.line(f, "allowed ips", allowed_ips)?;
        if peer.latest_handshake != 0 {
            self.line(f, "latest handshake", Ago::new(peer.latest_handshake, self.now))?;
        }
        if peer.rx_bytes != 0 || peer.tx_bytes != 0 {
            let (rx, tx) = (Iec(peer.rx_bytes), Iec(peer.tx_bytes));
            self.line(f, "transfer", format_args!("{rx} received, {tx} sent"))?;
        }
        if peer.persistent_keepalive != 0 {
            let every = Span(peer.persistent_keepalive.into());
            self.line(f, "persistent keepalive", format_args!("every {every}"))?;
        }
        if peer.staged != 0 {
            self.line(f, "waiting for a handshake", Plural(peer.staged as u64, "packet"))?;
        }
        Ok(())
    }

    fn line(&self, f: &mut fmt::Formatter<'_>, label: &str, value: impl fmt::Display) -> fmt::Result {
        writeln!(f, "  {} {value}", self.style.label(&format!("{label}:")))
    }
}

fn workers(f: &mut fmt::Formatter<'_>, style: Style, workers: &[WorkerStatus]) -> fmt::Result {
    if workers.is_empty() {
        return Ok(());
    }
    let head = format!(
        "{:<10} {:>9} {:>17} {:>14} {:>8} {:>14}",
        "worker", "thread", "packets", "batches", "a batch", "waits"
    );
    writeln!(f, "\n  {}", style.label(&head))?;
    for WorkerStatus {
        name,
        tid,
        packets,
        batches,
        yields,
    } in workers
    {
        let a_batch = match batches {
            0 => "-".to_owned(),
            _ => format!("{:.1}", *packets as f64 / *batches as f64),
        };
        let (packets, batches, yields) = (
            Grouped(*packets).to_string(),
            Grouped(*batches).to_string(),
            Grouped(*yields).to_string(),
        );
        writeln!(
            f,
            "  {name:<10} {tid:>9} {packets:>17} {batches:>14} {a_batch:>8} {yields:>14}"
        )?;
    }
    Ok(())
}

fn latency(f: &mut fmt::Formatter<'_>, style: Style, latency: &LatencyStatus) -> fmt::Result {
    let ways = [("tx", &latency.tx), ("rx", &latency.rx)]
        .into_iter()
        .filter(|(_, way)| way.count != 0);
    let head = format!(
        "{:<10} {:>9} {:>9} {:>9} {:>9}",
        "in here", "p50", "p99", "p99.9", "max"
    );
    for (index, (name, way)) in ways.enumerate() {
        if index == 0 {
            writeln!(f, "\n  {}", style.label(&head))?;
        }
        let [p50, p99, p999, max] = [way.p50, way.p99, way.p999, way.max].map(|us| Micros(us).to_string());
        writeln!(f, "  {name:<10} {p50:>9} {p99:>9} {p999:>9} {max:>9}")?;
    }
    Ok(())
}

/// Nothing where there is nothing to tell.
fn watchdog(f: &mut fmt::Formatter<'_>, style: Style, status: &Status) -> fmt::Result {
    let seen = &status.watchdog;
    for stall in &status.stalls {
        writeln!(f, "  {} {stall}", style.alarm("stall:"))?;
    }
    if !seen.stalls.is_empty() {
        let classes: Vec<_> = seen
            .stalls
            .iter()
            .map(|(class, count)| format!("{class} {}", Grouped(*count)))
            .collect();
        writeln!(
            f,
            "  {} {}; {} suppressed; {} over, the longest after {} ms",
            style.label("stalls:"),
            classes.join(", "),
            Plural(seen.suppressed, "report"),
            Grouped(seen.stall_ms.count),
            seen.stall_ms.max
        )?;
    }
    if seen.rescues > 0 {
        let rescues = Plural(seen.rescues, "time");
        writeln!(
            f,
            "  {} {rescues}, from a clock that held its readers up",
            style.label("rescued:")
        )?;
    }
    Ok(())
}

fn drops(f: &mut fmt::Formatter<'_>, style: Style, drops: &BTreeMap<String, u64>) -> fmt::Result {
    if drops.is_empty() {
        return Ok(());
    }
    let reasons: Vec<String> = drops
        .iter()
        .map(|(reason, count)| format!("{reason} {}", Grouped(*count)))
        .collect();
    writeln!(f, "\n  {} {}", style.label("dropped:"), reasons.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use stall_report::status::{ClockStatus, Quantiles, WatchdogStatus};

    const NOW: Duration = Duration::from_secs(1_700_000_000);

    fn view(status: &Status, colours: bool) -> String {
        View {
            status,
            now: NOW,
            style: Style { colours },
        }
        .to_string()
    }

    fn busy() -> Status {
        Status {
            interface: "wg0".into(),
            pid: 4711,
            version: "0.1.0".into(),
            public_key: Some("hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=".into()),
            listen_port: 51820,
            fwmark: 0xca6c,
            mtu: 1420,
            up: true,
            offload: "on".into(),
            clock: ClockStatus {
                name: "tsc".into(),
                stamps: 1_234_567,
                verdicts: vec!["clock hpet is wrong".into()],
            },
            workers: vec![WorkerStatus {
                name: "wg-tx/0".into(),
                tid: 4712,
                packets: 1_000_000,
                batches: 40_000,
                yields: 12_345,
            }],
            latency_us: LatencyStatus {
                tx: Quantiles {
                    p50: 17.26,
                    p99: 120.4,
                    p999: 2_100.0,
                    max: 1.25e6,
                    count: 1_000_000,
                },
                rx: Quantiles::default(),
            },
            drops: BTreeMap::from([("no_route".into(), 1_200), ("bad_source".into(), 3)]),
            peers: vec![PeerStatus {
                public_key: "3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=".into(),
                endpoint: Some("192.0.2.1:51820".into()),
                allowed_ips: vec!["10.0.0.2/32".into(), "fd00::2/128".into()],
                latest_handshake: NOW.as_secs() - 63,
                rx_bytes: 3 << 29,
                tx_bytes: 1023,
                persistent_keepalive: 25,
                staged: 1,
            }],
            stalls: vec![],
            watchdog: WatchdogStatus {
                stalls: BTreeMap::from([("spinning".into(), 2)]),
                suppressed: 7,
                rescues: 1,
                stall_ms: Quantiles {
                    max: 23_412.0,
                    count: 2,
                    ..Quantiles::default()
                },
                ..WatchdogStatus::default()
            },
        }
    }

    #[test]
    fn a_busy_interface() {
        let text = view(&busy(), false);
        for line in [
            "interface: wg0  (hpetun 0.1.0, pid 4711)",
            "  fwmark: 0xca6c",
            "  link: up, MTU 1420, offload on",
            "  clock: tsc, 1,234,567 packets stamped",
            "  wg-tx/0         4712         1,000,000         40,000     25.0         12,345",
            "  tx            17.3us     120us    2.10ms     1.25s",
            "  dropped: bad_source 3, no_route 1,200",
            "  stalls: spinning 2; 7 reports suppressed; 2 over, the longest after 23412 ms",
            "  rescued: 1 time, from a clock that held its readers up",
            "peer: 3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=",
            "  latest handshake: 1 minute, 3 seconds ago",
            "  transfer: 1.50 GiB received, 1023 B sent",
            "  persistent keepalive: every 25 seconds",
            "  waiting for a handshake: 1 packet",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line:?} in\n{text}");
        }
        assert!(!text.contains("\n  rx "), "no packet was received:\n{text}");
        assert!(!text.contains('\x1b'), "{text}");
    }

    #[test]
    fn colours_add_nothing_but_escapes() {
        let coloured = view(&busy(), true);
        assert!(
            coloured.starts_with("\x1b[1;32minterface: wg0\x1b[0m"),
            "{coloured:?}"
        );
        let mut plain = coloured;
        for escape in ["\x1b[1;32m", "\x1b[1;33m", "\x1b[1;31m", "\x1b[1m", "\x1b[0m"] {
            plain = plain.replace(escape, "");
        }
        assert_eq!(plain, view(&busy(), false));
    }

    #[test]
    fn an_interface_that_was_just_made() {
        let status = Status {
            interface: "wg0".into(),
            peers: vec![PeerStatus::default()],
            ..Status::default()
        };
        let text = view(&status, false);
        assert!(
            text.contains("  public key: (none)\n") && text.contains("  allowed ips: (none)\n"),
            "{text}"
        );
        for absent in [
            "fwmark",
            "worker",
            "p99",
            "dropped",
            "handshake",
            "transfer",
            "keepalive",
            "1970",
        ] {
            assert!(!text.contains(absent), "{absent} in\n{text}");
        }
    }
}
