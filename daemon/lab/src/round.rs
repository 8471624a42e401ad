//! One round: two fresh hosts, a daemon on each, ping, every run of the load, and what the daemons say of it.

use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Serialize;

use super::daemon::{Daemon, Implementation, Record};
use super::hosts::{Host, Hosts, Side};
use super::interrupt::Interrupt;
use super::load::{Check, Outcome, Protocol, Run, Tool, under_ping};
use super::measure::MachineTime;
use super::ping::{Ping, Times};
use super::progress::Progress;
use super::uapi::Setup;
use stall_report::status::Status;
use wireguard::key::PrivateKey;

const PORT: u16 = 51820;

/// Ping under load waits so long for the load to get going.
const LOAD_GROWS: Duration = Duration::from_millis(300);

/// What is the same in every round.
pub struct Plan {
    pub runs: Vec<Run>,
    pub tool: Tool,
    pub mtu: u32,
    pub length: Duration,
    pub rounds: u32,
    pub keep_logs: Option<PathBuf>,
}

/// Implementations of host a and b.
pub struct Pair {
    /// As in tables and names of files.
    pub name: String,
    pub a: Implementation,
    pub b: Implementation,
}

/// What one round found.
pub struct Round {
    pub ping: Times,
    pub runs: Vec<RunFigures>,
    pub under_load: UnderLoad,
    /// Of host a's and b's daemon, in bytes, after the handshake and the idle ping, before any load.
    pub idle_memory: [u64; 2],
    /// The same at the end.
    pub peak_memory: [u64; 2],
    /// Of host a and b, where the implementation has one.
    pub statuses: [Option<Status>; 2],
    /// What their arbiters found wrong, as they logged it.
    pub clock_verdicts: Vec<String>,
    /// Per cent of the machine's time that its hypervisor took away during the load.
    pub steal_percent: f64,
}

#[derive(Debug, Clone)]
pub struct RunFigures {
    pub run: Run,
    pub outcome: Outcome,
    /// CPU time of both daemons.
    pub cpu_seconds: f64,
}

/// Ping while a single TCP stream fills the tunnel in the direction of the requests.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct UnderLoad {
    #[serde(flatten)]
    pub ping: Times,
    /// Of that stream.
    pub gbit_s: f64,
}

impl Pair {
    /// # Errors
    /// The first thing that fails, with what the daemons printed last. Nothing is left running.
    pub fn play(
        &self,
        plan: &Plan,
        number: u32,
        progress: &Progress,
        interrupt: &Interrupt,
    ) -> anyhow::Result<Round> {
        let step = |what: &str| match plan.rounds {
            1 => progress.step(&format!("{}: {what}", self.name)),
            rounds => progress.step(&format!("{}, round {number} of {rounds}: {what}", self.name)),
        };
        step("two hosts and their tunnel");
        let hosts = Hosts::create(plan.mtu)?;
        let log = |side: Side| {
            let file = format!("{}-round-{number}-host-{}.log", self.name, side.as_str());
            Record {
                file: plan.keep_logs.as_ref().map(|directory| directory.join(file)),
                transcript: None,
            }
        };
        let a = Daemon::start(&hosts.a, &self.a, log(Side::A), interrupt)?;
        let b = Daemon::start(&hosts.b, &self.b, log(Side::B), interrupt)?;
        connect(&hosts, &a, &b, plan.mtu)?;
        progress.done(Progress::SETUP);

        let check = || {
            interrupt.check()?;
            a.check()?;
            b.check()
        };
        let explain = |error: anyhow::Error| match check() {
            Err(cause) => cause,
            Ok(()) => anyhow::anyhow!(
                [format!("{error:#}"), a.last_words(), b.last_words()]
                    .into_iter()
                    .filter(|part| !part.is_empty())
                    .collect::<Vec<_>>()
                    .join("\n")
            ),
        };

        step("ping");
        let mut ping = Ping::open(&hosts.a, hosts.b.inner)?;
        ping.first_reply(&check).map_err(explain)?;
        let idle = ping.measure(&check).map_err(explain)?;
        let idle_memory = [a.resident_memory(), b.resident_memory()];
        progress.done(Progress::PING);

        let machine = MachineTime::now();
        let mut runs = Vec::new();
        for run in &plan.runs {
            step(&run.label());
            let ends = [run.from, run.to].map(|side| hosts.side(side));
            let before = a.cpu_seconds() + b.cpu_seconds();
            let outcome = plan
                .tool
                .run(run, ends, plan.mtu, plan.length, &check)
                .map_err(explain)?;
            let cpu_seconds = a.cpu_seconds() + b.cpu_seconds() - before;
            runs.push(RunFigures {
                run: run.clone(),
                outcome,
                cpu_seconds,
            });
            progress.done(plan.length);
        }
        step("ping under load");
        let under_load = ping_under_load(&mut ping, &hosts, plan, &check).map_err(explain)?;
        progress.done(plan.length);
        check()?;
        Ok(Round {
            ping: idle,
            runs,
            under_load,
            idle_memory,
            peak_memory: [a.peak_memory(), b.peak_memory()],
            statuses: [a.status()?, b.status()?],
            clock_verdicts: [a.clock_verdicts(), b.clock_verdicts()].concat(),
            steal_percent: MachineTime::now().stolen_since(machine),
        })
    }
}

/// The load is made by this thread: what it starts dies with the thread that started it.
fn ping_under_load(
    ping: &mut Ping,
    hosts: &Hosts,
    plan: &Plan,
    check: Check<'_>,
) -> anyhow::Result<UnderLoad> {
    let run = under_ping();
    let ends = [run.from, run.to].map(|side| hosts.side(side));
    let (since, failed) = (Instant::now(), AtomicBool::new(false));
    thread::scope(|scope| {
        let pinging = scope.spawn(|| {
            thread::sleep(LOAD_GROWS);
            ping.series(|_| since.elapsed() < plan.length && !failed.load(Ordering::Relaxed))
        });
        let outcome = plan.tool.run(&run, ends, plan.mtu, plan.length, check);
        failed.store(outcome.is_err(), Ordering::Relaxed);
        let times = pinging.join().unwrap_or_else(|panic| resume_unwind(panic));
        let outcome = outcome?;
        Ok(UnderLoad {
            ping: times?,
            gbit_s: outcome.gbit_s(),
        })
    })
}

/// Makes the two daemons each other's peer and brings the tunnel up.
pub(super) fn connect(hosts: &Hosts, a: &Daemon<'_>, b: &Daemon<'_>, mtu: u32) -> anyhow::Result<()> {
    let (key_a, key_b) = (PrivateKey::generate(), PrivateKey::generate());
    let ends = [(a, &key_a, &key_b, &hosts.b), (b, &key_b, &key_a, &hosts.a)];
    for (daemon, private_key, peer_key, peer) in ends {
        daemon.configure(&Setup {
            private_key,
            listen_port: PORT,
            peer: &peer_key.public(),
            endpoint: SocketAddr::from((peer.outer, PORT)),
            allowed: peer.inner,
        })?;
    }
    for (daemon, host) in [a, b].into_iter().zip(hosts.both()) {
        let up = |host: &Host| host.bring_up_tunnel(mtu);
        up(host)
            .with_context(|| format!("the tunnel of {} on host {}", daemon.name(), host.side.as_str()))?;
    }
    Ok(())
}

impl RunFigures {
    /// CPU seconds of both daemons for each GiB that arrived; `None` where nothing did, and of a flood, which is
    /// not about bytes.
    pub fn cpu_s_per_gib(&self) -> Option<f64> {
        let gib = self.outcome.gib();
        (gib > 0.0 && self.run.protocol != Protocol::Flood).then(|| self.cpu_seconds / gib)
    }
}
