//! One run: two fresh hosts, load between them, and the fault that strikes host a's clock under it.

use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};

use super::mode::Mode;
use super::observed::Observed;
use super::plan::{self, Course, Expectation, Order};
use super::report::RunReport;
use super::throughput;
use super::watch::{Log, Moment};
use crate::builtin;
use crate::command_line::CommandLine;
use crate::daemon::{Daemon, HasStatus, Implementation, Record};
use crate::hosts::{Hosts, Side};
use crate::interrupt::{Interrupt, moment};
use crate::load::{Check, DATAGRAM_OVERHEAD, Protocol, Run};
use crate::measure::MachineTime;
use crate::ping::Ping;
use crate::round::connect;
use crate::transcript::Transcript;
use stall_report::hypothesis::Hypothesis;

use super::judge::Judgement;

/// What the set-up may take, and by how much more it is allowed each time that it took longer.
const LEAD: Duration = Duration::from_millis(2500);
const ATTEMPTS: u32 = 3;

/// Senders of a flood: while one of them does not run, another one fills the ring.
const FLOODS: usize = 2;

/// What is the same in every run.
pub struct Rig {
    /// This program, to be started on both hosts.
    pub program: String,
    /// Of both daemons.
    pub arguments: Vec<String>,
    pub mtu: u32,
    pub streams: u32,
    /// Of load, in each run.
    pub seconds: u32,
    pub keep_logs: Option<PathBuf>,
}

/// The set-up took so long that the fault would strike too early.
#[derive(Debug, thiserror::Error)]
#[error("the hosts were not ready {0} ms after the daemon's start")]
struct TooLate(u128);

impl Rig {
    /// About what a run takes.
    pub fn run_takes(&self) -> Duration {
        Course::new(self.seconds, LEAD).end() + Duration::from_secs(1)
    }

    /// # Errors
    /// The first thing that fails, with what the daemons printed last. Nothing is left running.
    pub fn play(
        &self,
        hypothesis: Hypothesis,
        mode: Mode,
        interrupt: &Interrupt,
    ) -> anyhow::Result<RunReport> {
        let (mut lead, mut replayed) = (LEAD, Vec::new());
        for attempt in 1..=ATTEMPTS {
            let course = Course::new(self.seconds, lead);
            match self.attempt(hypothesis, mode, &course, interrupt) {
                Err(error) if error.is::<TooLate>() && attempt < ATTEMPTS => lead *= 2,
                // A busy machine can hold up the lock's holder by itself. Whatever came then, the fault struck a clock not in use.
                Ok(report) if report.observed.left_early.is_some() && attempt < ATTEMPTS => {
                    replayed.extend(report.observed.left_early);
                }
                Ok(report) => return Ok(RunReport { replayed, ..report }),
                Err(error) => return Err(error.context(format!("{hypothesis}, {mode}"))),
            }
        }
        bail!("{hypothesis}, {mode}: no attempt was made")
    }

    fn attempt(
        &self,
        hypothesis: Hypothesis,
        mode: Mode,
        course: &Course,
        interrupt: &Interrupt,
    ) -> anyhow::Result<RunReport> {
        let order = Order::new(hypothesis, mode, course);
        let (faulty, plain) = (self.faulty(mode, &order), self.implementation(&[]));
        let transcript = Arc::new(Transcript::default());
        let record = |side: Side| Record {
            file: self.log_file(hypothesis, mode, side),
            transcript: (side == Side::A).then(|| transcript.clone()),
        };
        let hosts = Hosts::create(self.mtu)?;
        let b = Daemon::start(&hosts.b, &plain, record(Side::B), interrupt)?;
        let started = Moment::now();
        let a = Daemon::start(&hosts.a, &faulty, record(Side::A), interrupt)?;
        connect(&hosts, &a, &b, self.mtu)?;

        let check = || {
            interrupt.check()?;
            a.check()?;
            b.check()
        };
        let explain = |error: anyhow::Error| match check() {
            Err(cause) => cause,
            Ok(()) => anyhow!("{error:#}\n{}\n{}", a.last_words(), b.last_words()),
        };
        Ping::open(&hosts.a, hosts.b.inner)?
            .first_reply(&check)
            .map_err(explain)?;
        let handshake = latest_handshake(&b)?;

        let begins = Moment::now().since(started);
        if begins > course.lead.as_secs_f64() {
            bail!(TooLate(course.lead.as_millis()));
        }
        let length = course.end() - Duration::from_secs_f64(begins);
        let load = Load {
            hosts: &hosts,
            datagram: self.mtu - DATAGRAM_OVERHEAD,
            streams: self.streams,
            check: &check,
        };
        let (machine, over) = (MachineTime::now(), AtomicBool::new(false));
        let (series, loaded) = thread::scope(|scope| {
            let looks = scope.spawn(|| throughput::watch(&hosts.b, started, &over));
            let loaded = load.run(&order, course, started, length);
            over.store(true, Ordering::Relaxed);
            let looks = looks.join();
            (looks.unwrap_or_else(|panic| resume_unwind(panic)), loaded)
        });
        loaded.map_err(explain)?;
        let steal_percent = MachineTime::now().stolen_since(machine);
        let renewed = latest_handshake(&b)? != handshake;

        moment(); // for the thread that reads the log
        let (lines, left_out) = transcript.take();
        if left_out > 0 {
            bail!("host a's daemon logs more than can be read: {left_out} lines were left out");
        }
        let log = Log::read(lines.iter().map(String::as_str))?;
        let armed = log
            .armed
            .context("host a's daemon did not log which fault it was given")?;
        let struck = armed.after(course.at());
        let shift = struck.since(started);
        let load = [begins - shift, begins + length.as_secs_f64() - shift];
        let observed = Observed::new(&log, &series?.shifted(shift), course, struck, load, renewed);
        if observed.throughput.before == 0.0 {
            bail!("nothing arrived at host b before the fault, so it did not strike under load");
        }
        let expected = Expectation::new(hypothesis, mode, processors());
        Ok(RunReport {
            mode,
            ordered: super::report::Ordered::new(&order, self.streams),
            course: *course,
            judgement: Judgement::new(hypothesis, &expected, &observed),
            expected,
            observed,
            steal_percent,
            replayed: Vec::new(),
        })
    }

    fn faulty(&self, mode: Mode, order: &Order) -> Implementation {
        let mut options = vec!["--log-format", "json", "--clock", "hpet-sim"];
        options.extend(["--clock-mode", mode.as_str(), "--fault", &order.fault]);
        options.extend(&order.options);
        self.implementation(&options)
    }

    /// At a higher priority than other programs of this machine, where that is allowed: the fault is to stall the workers, and
    /// nothing else. (`nice` goes on where it is not.)
    fn implementation(&self, options: &[&str]) -> Implementation {
        let nice = ["-n", "-10", &self.program].map(str::to_owned);
        let own = options.iter().map(|option| (*option).to_owned());
        Implementation {
            name: "hpetun".to_owned(),
            command: CommandLine {
                // The lab reads the log, whatever level its caller likes.
                environment: vec![("LOG_LEVEL".to_owned(), "info".to_owned())],
                program: "nice".to_owned(),
                arguments: nice
                    .into_iter()
                    .chain(self.arguments.iter().cloned())
                    .chain(own)
                    .collect(),
            },
            has_status: HasStatus::Yes,
        }
    }

    fn log_file(&self, hypothesis: Hypothesis, mode: Mode, side: Side) -> Option<PathBuf> {
        let name = format!("{hypothesis}-{mode}-host-{}.log", side.as_str()).to_lowercase();
        self.keep_logs.as_ref().map(|directory| directory.join(name))
    }
}

/// What keeps host a's tx worker busy.
struct Load<'a> {
    hosts: &'a Hosts,
    datagram: u32,
    streams: u32,
    check: Check<'a>,
}

impl Load<'_> {
    fn run(&self, order: &Order, course: &Course, started: Moment, length: Duration) -> anyhow::Result<()> {
        thread::scope(|scope| {
            let floods: Vec<_> = (0..if order.flood { FLOODS } else { 0 })
                .map(|_| {
                    scope.spawn(|| {
                        let strike = course.at().as_secs_f64();
                        while Moment::now().since(started) < strike {
                            (self.check)()?;
                            moment();
                        }
                        self.send(plan::FLOOD, course.window)
                    })
                })
                .collect();
            let mut results = vec![self.send(order.protocol, length)];
            results.extend(
                floods
                    .into_iter()
                    .map(|flood| flood.join().unwrap_or_else(|panic| resume_unwind(panic))),
            );
            results.into_iter().collect()
        })
    }

    fn send(&self, protocol: Protocol, length: Duration) -> anyhow::Result<()> {
        let run = Run {
            name: protocol.as_str().to_owned(),
            from: Side::A,
            to: Side::B,
            protocol,
            streams: self.streams,
        };
        let [from, to] = self.hosts.both();
        builtin::run(&run, from, to, self.datagram, length, self.check).map(drop)
    }
}

pub fn processors() -> usize {
    thread::available_parallelism().map_or(1, Into::into)
}

/// Of the only peer, in seconds since 1970.
fn latest_handshake(daemon: &Daemon<'_>) -> anyhow::Result<u64> {
    let status = daemon.status()?.context("it has no status")?;
    let peer = status.peers.first().context("its status has no peer")?;
    Ok(peer.latest_handshake)
}
