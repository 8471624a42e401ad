//! `hpetun lab --fault h2`: each way in which the clock of 2019 may have stalled its readers, played under load, in the kernel's mode and in
//! hpetun's own.
//!
//! `plan.rs` orders and expects, `run.rs` plays, `watch.rs` and `throughput.rs` see, `judge.rs` compares. What the daemon's watchdog finds it finds by itself: it
//! is never told which hypothesis it is about.

mod facts;
#[cfg(test)]
mod fixture;
mod html;
mod judge;
mod mode;
mod observe;
mod observed;
mod plan;
mod plot;
mod report;
mod run;
mod table;
mod throughput;
mod wanted;
mod watch;

use std::fs;
use std::io::{Write as _, stdout};
use std::process::ExitCode;

use anyhow::{Context as _, bail};

pub use mode::Mode;
pub use wanted::{FaultSet, Wanted, hypotheses};

use super::LabArgs;
use super::args::program;
use super::interrupt::Interrupt;
use super::progress::Progress;
use report::{HypothesisReport, Report, Settings};
use run::{Rig, processors};
use stall_report::hypothesis::Hypothesis;
use table::Table;

/// Of load in each run, where nothing else is asked for.
const SECONDS: u32 = 8;
/// Below this there is no time for an arbiter to find anything during the fault.
const LEAST_SECONDS: u32 = 4;

/// Plays them all, shows what came of it, and tells whether every verdict was right.
///
/// # Errors
/// Whatever keeps it from playing one. No process and no namespace outlives the call.
pub fn run(args: &LabArgs, hypotheses: &[Hypothesis], interrupt: &Interrupt) -> anyhow::Result<ExitCode> {
    let rig = rig(args)?;
    let modes: Vec<Mode> = args.clock_mode.map_or(Mode::BOTH.to_vec(), |mode| vec![mode]);
    let runs = (hypotheses.len() * modes.len()) as u32;
    let progress = Progress::new(rig.run_takes() * runs);
    let mut reports = Vec::new();
    for &hypothesis in hypotheses {
        let mut runs = Vec::new();
        for &mode in &modes {
            progress.step(&format!("{hypothesis}, {mode}: {}", hypothesis.summary()));
            runs.push(rig.play(hypothesis, mode, interrupt)?);
            progress.done(rig.run_takes());
        }
        reports.push(HypothesisReport {
            hypothesis,
            summary: hypothesis.summary(),
            runs,
        });
    }
    drop(progress);
    let report = Report::new(settings(args, rig.seconds), reports);
    deliver(&report, args)?;
    Ok(if report.right {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Refuses what makes no sense beside a hypothesis, before anything is started.
pub fn check(args: &LabArgs) -> anyhow::Result<()> {
    let given = [
        ("--daemon", args.daemon.is_some()),
        ("--peer", args.peer.is_some()),
        ("--compare", !args.compare.is_empty()),
        ("--rounds", args.rounds.is_some()),
        ("--load", args.load.is_some()),
        ("--markdown", args.markdown.is_some()),
    ];
    if let Some((option, _)) = given.iter().find(|(_, given)| *given) {
        bail!(
            "{option} cannot stand beside a hypothesis: each is played once, by this program, with a load of its own"
        );
    }
    if args.clock.as_deref().is_some_and(|clock| clock != "hpet-sim") {
        bail!("a hypothesis is about --clock hpet-sim, which it gets without --clock");
    }
    if args.seconds.is_some_and(|seconds| seconds < LEAST_SECONDS) {
        bail!(
            "--seconds: a hypothesis needs at least {LEAST_SECONDS} s of load, before, during and after the fault"
        );
    }
    Ok(())
}

fn rig(args: &LabArgs) -> anyhow::Result<Rig> {
    if let Some(directory) = &args.keep_logs {
        fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    }
    let mut arguments = vec![
        "-f".to_owned(),
        "--offload".to_owned(),
        args.offload.as_str().to_owned(),
    ];
    if let Some(workers) = args.workers {
        arguments.extend(["--workers".to_owned(), workers.to_string()]);
    }
    Ok(Rig {
        program: program()?,
        arguments,
        mtu: args.mtu,
        streams: args.streams,
        seconds: args.seconds.unwrap_or(SECONDS),
        keep_logs: args.keep_logs.clone(),
    })
}

fn settings(args: &LabArgs, seconds: u32) -> Settings {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Settings {
        version: env!("CARGO_PKG_VERSION"),
        kernel: kernel.trim().to_owned(),
        cpus: processors(),
        user_namespace: args.in_user_namespace,
        seconds,
        mtu: args.mtu,
        offload: args.offload.as_str(),
    }
}

/// The page is written first: a reader of standard output that goes away takes nothing else with it.
fn deliver(report: &Report, args: &LabArgs) -> anyhow::Result<()> {
    if let Some(file) = &args.html {
        fs::write(file, html::page(report)).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let json = || serde_json::to_string_pretty(report).map(|text| text + "\n");
    if let Some(file) = args.json.as_ref().filter(|_| !args.json_to_stdout()) {
        fs::write(file, json()?).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let text = if args.json_to_stdout() {
        json()?
    } else {
        Table(report).to_string()
    };
    stdout()
        .lock()
        .write_all(text.as_bytes())
        .context("cannot write to standard output")
}
