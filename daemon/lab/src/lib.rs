//! `hpetun lab`: two hosts, a tunnel between them, load on it, and figures at the end.
//!
//! It is a benchmark of processes from outside, so it reads the operating system's clock and not clockshim's.
#![allow(
    clippy::disallowed_methods,
    reason = "the lab measures daemons from outside; it carries no packets"
)]

mod args;
mod builtin;
mod command_line;
mod compare;
mod daemon;
mod faults;
mod figures;
#[cfg(test)]
mod fixture;
mod hosts;
mod hypotheses;
mod interrupt;
mod iperf;
mod load;
mod markdown;
mod measure;
mod network;
mod ping;
mod privilege;
mod progress;
mod report;
mod round;
mod table;
mod transcript;
mod uapi;

use std::fs;
use std::io::{Write as _, stdout};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;

pub use args::LabArgs;
use args::program;
use command_line::CommandLine;
use compare::compare;
use daemon::{HasStatus, Implementation};
use interrupt::Interrupt;
use load::Tool;
use markdown::Page;
use privilege::Privilege;
use progress::Progress;
use report::{Report, Settings};
use round::{Pair, Plan, Round};
use table::Table;

use text::print_line;

/// What a shell reports of a program that Ctrl-C ended.
const INTERRUPTED: u8 = 128 + libc::SIGINT as u8;

/// Runs the lab to its end and prints what it found.
///
/// To be called from the main thread: what the lab starts dies with the thread that started it.
///
/// # Errors
/// Whatever keeps it from measuring, with what to do about it. No process and no namespace outlives the call.
pub fn run(args: LabArgs) -> anyhow::Result<ExitCode> {
    if args.faults == Some(None) {
        print_line(&faults::list())?;
        return Ok(ExitCode::SUCCESS);
    }
    args.clock()?;
    args.output()?;
    let hypotheses = args.hypotheses()?;
    let interrupt = Interrupt::watch().context("cannot watch for signals")?;
    if let Privilege::Delegated(code) = privilege::obtain(args.in_user_namespace, &interrupt)? {
        return Ok(code);
    }
    let result = if hypotheses.is_empty() {
        measure(&args, &interrupt)
            .and_then(|report| deliver(&report, &args))
            .map(|()| ExitCode::SUCCESS)
    } else {
        hypotheses::run(&args, &hypotheses, &interrupt)
    };
    if interrupt.check().is_err() {
        eprintln!("interrupted; hosts, daemons and load are gone");
        return Ok(ExitCode::from(INTERRUPTED));
    }
    result
}

fn measure(args: &LabArgs, interrupt: &Interrupt) -> anyhow::Result<Report> {
    let plan = plan(args)?;
    let pairs = pairs(args)?;
    let round_takes = Progress::SETUP + Progress::PING + plan.length * (plan.runs.len() as u32 + 1);
    let progress = Progress::new(round_takes * plan.rounds * pairs.len() as u32);
    let mut results: Vec<Vec<Round>> = pairs.iter().map(|_| Vec::new()).collect();
    for number in 1..=plan.rounds {
        for (pair, results) in pairs.iter().zip(&mut results) {
            results.push(pair.play(&plan, number, &progress, interrupt)?);
        }
    }
    drop(progress);

    let (ours, others) = (&results[0], &results[1..]);
    let compared = args
        .compare
        .iter()
        .zip(others)
        .map(|(other, rounds)| compare(&other.name, ours, rounds));
    let steal_percent = others
        .iter()
        .flatten()
        .map(|round| round.steal_percent)
        .fold(0.0, f64::max);
    let settings = settings(args, steal_percent);
    let tool = (plan.tool.as_str(), plan.tool.version());
    let names = [pairs[0].a.name.as_str(), pairs[0].b.name.as_str()];
    Ok(Report::new(settings, tool, names, ours, compared.collect()))
}

fn plan(args: &LabArgs) -> anyhow::Result<Plan> {
    if let Some(directory) = &args.keep_logs {
        fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    }
    Ok(Plan {
        runs: load::plan(args.streams, &args.udp_rate),
        tool: Tool::choose(args.load)?,
        mtu: args.mtu,
        length: Duration::from_secs(args.seconds().into()),
        rounds: args.rounds(),
        keep_logs: args.keep_logs.clone(),
    })
}

/// Ours first, then everything to compare with.
fn pairs(args: &LabArgs) -> anyhow::Result<Vec<Pair>> {
    let other = |name: &str, command: &CommandLine, has_status| Implementation {
        name: name.to_owned(),
        command: command.clone(),
        has_status,
    };
    let a = match &args.daemon {
        Some(command) => other(command.name(), command, HasStatus::Perhaps),
        None => this_program(args)?,
    };
    let b = match &args.peer {
        Some(command) => other(command.name(), command, HasStatus::No),
        None => a.clone(),
    };
    let ours = Pair {
        name: a.name.clone(),
        a,
        b,
    };
    let others = args.compare.iter().map(|candidate| {
        let implementation = other(&candidate.name, &candidate.command, HasStatus::No);
        Pair {
            name: candidate.name.clone(),
            a: implementation.clone(),
            b: implementation,
        }
    });
    Ok(std::iter::once(ours).chain(others).collect())
}

fn this_program(args: &LabArgs) -> anyhow::Result<Implementation> {
    let mut arguments = vec![
        "-f".to_owned(),
        "--offload".to_owned(),
        args.offload.as_str().to_owned(),
    ];
    if let Some(clock) = args.clock()? {
        arguments.extend(["--clock".to_owned(), clock.to_owned()]);
    }
    if let Some(mode) = args.clock_mode {
        arguments.extend(["--clock-mode".to_owned(), mode.to_string()]);
    }
    for fault in args.clock_faults() {
        arguments.extend(["--fault".to_owned(), fault.to_owned()]);
    }
    if let Some(workers) = args.workers {
        arguments.extend(["--workers".to_owned(), workers.to_string()]);
    }
    let command = CommandLine {
        environment: Vec::new(),
        program: program()?,
        arguments,
    };
    Ok(Implementation {
        name: "hpetun".to_owned(),
        command,
        has_status: HasStatus::Yes,
    })
}

fn settings(args: &LabArgs, steal_percent: f64) -> Settings {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Settings {
        version: env!("CARGO_PKG_VERSION"),
        kernel: kernel.trim().to_owned(),
        cpus: std::thread::available_parallelism().map_or(1, Into::into),
        user_namespace: args.in_user_namespace,
        seconds: args.seconds(),
        rounds: args.rounds(),
        mtu: args.mtu,
        offload: args.offload.as_str(),
        udp_rate: args.udp_rate[0],
        udp_rates: args.udp_rate.clone(),
        steal_percent,
    }
}

/// Files are written first: a reader of standard output that goes away takes nothing else with it.
fn deliver(report: &Report, args: &LabArgs) -> anyhow::Result<()> {
    let mut to_stdout = None;
    if let Some(file) = &args.json {
        let text = serde_json::to_string_pretty(report)? + "\n";
        to_stdout = to_stdout.or(write_to(file, text)?);
    }
    if let Some(file) = &args.markdown {
        to_stdout = to_stdout.or(write_to(file, Page(report).to_string())?);
    }
    let text = to_stdout.unwrap_or_else(|| Table(report).to_string());
    stdout()
        .lock()
        .write_all(text.as_bytes())
        .context("cannot write to standard output")
}

/// Gives the text back if it is for standard output.
fn write_to(file: &Path, text: String) -> anyhow::Result<Option<String>> {
    if args::is_stdout(file) {
        return Ok(Some(text));
    }
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(None)
}
