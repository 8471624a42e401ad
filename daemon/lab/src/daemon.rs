//! Starts an implementation on a host, waits until it can be configured, watches it and ends it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead as _, BufReader, PipeReader, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use nix::unistd::Pid;
use parking_lot::Mutex;

use super::command_line::CommandLine;
use super::hosts::Host;
use super::interrupt::{Interrupt, moment};
use super::transcript::Transcript;
use super::{measure, uapi};
use stall_report::status::Status;

/// How long an implementation may take from its start until its control socket answers.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// What is kept of an implementation's output to show in an error.
const LAST_LINES: usize = 15;
const SHOWN_OF_A_LINE: usize = 2000;

/// A line longer than this counts as several. A stall report with all its backtraces is one line where logs are JSON.
const LONGEST_LINE: u64 = 1 << 20;

/// What runs on a host.
#[derive(Debug, Clone)]
pub struct Implementation {
    pub name: String,
    pub command: CommandLine,
    /// Whether it knows the control socket's `status=1`.
    pub has_status: HasStatus,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HasStatus {
    Yes,
    /// Another build, perhaps of another program: asked, but not blamed.
    Perhaps,
    No,
}

/// Where what an implementation prints goes, besides the few lines that are kept for errors.
#[derive(Debug, Clone, Default)]
pub struct Record {
    pub file: Option<PathBuf>,
    pub transcript: Option<Arc<Transcript>>,
}

pub struct Daemon<'a> {
    host: &'a Host,
    implementation: &'a Implementation,
    child: Mutex<Child>,
    /// Whatever it consists of once it is ready, also where it went to the background.
    processes: Vec<Pid>,
    output: Arc<Mutex<VecDeque<String>>>,
}

impl<'a> Daemon<'a> {
    /// Returns once the control socket answers.
    pub fn start(
        host: &'a Host,
        implementation: &'a Implementation,
        record: Record,
        interrupt: &Interrupt,
    ) -> anyhow::Result<Self> {
        let CommandLine {
            environment,
            program,
            arguments,
        } = &implementation.command;
        let (reader, writer) = std::io::pipe().context("cannot create a pipe")?;
        let mut command = Command::new(program_path(program));
        command
            .args(arguments)
            .arg(host.interface)
            .envs(environment.iter().map(|(k, v)| (k, v)));
        command
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer);
        own_group(&mut command);
        host.adopt(&mut command);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start '{program}'"))?;
        drop(command); // and with it our ends of the pipe
        let output = read_output(reader, record)?;
        let mut daemon = Self {
            host,
            implementation,
            child: Mutex::new(child),
            processes: Vec::new(),
            output,
        };
        daemon
            .wait_until_ready(interrupt)
            .map_err(|error| daemon.explain(error))?;
        daemon.processes = host.processes();
        Ok(daemon)
    }

    fn wait_until_ready(&mut self, interrupt: &Interrupt) -> anyhow::Result<()> {
        let socket = self.host.control_socket();
        let since = Instant::now();
        while since.elapsed() < READY_WITHIN {
            interrupt.check()?;
            if self.host.enter(|| Ok(uapi::answers(&socket)))? {
                return Ok(());
            }
            match self.child.get_mut().try_wait()? {
                Some(status) if !status.success() => bail!("it ended at once ({status})"),
                _ => moment(),
            }
        }
        bail!(
            "{} did not appear within {} s",
            socket.display(),
            READY_WITHIN.as_secs()
        )
    }

    pub fn name(&self) -> &str {
        &self.implementation.name
    }

    pub fn configure(&self, setup: &uapi::Setup<'_>) -> anyhow::Result<()> {
        let socket = self.host.control_socket();
        self.host
            .enter(|| uapi::configure(&socket, setup))
            .map_err(|error| self.explain(error))
    }

    pub fn status(&self) -> anyhow::Result<Option<Status>> {
        let socket = self.host.control_socket();
        let ask = || self.host.enter(|| uapi::status(&socket));
        match self.implementation.has_status {
            HasStatus::Yes => ask().map(Some).map_err(|error| self.explain(error)),
            HasStatus::Perhaps => Ok(ask().ok()),
            HasStatus::No => Ok(None),
        }
    }

    /// # Errors
    /// Once the daemon has ended, with the last lines that it printed.
    pub fn check(&self) -> anyhow::Result<()> {
        if self
            .processes
            .iter()
            .any(|pid| measure::cpu_seconds(*pid).is_some())
        {
            return Ok(());
        }
        let status = self.child.lock().try_wait().ok().flatten();
        let status = status.map_or(String::new(), |status| format!(" ({status})"));
        Err(self.explain(anyhow!("it ended while the lab ran{status}")))
    }

    /// CPU time that it has used so far, in seconds.
    pub fn cpu_seconds(&self) -> f64 {
        self.processes
            .iter()
            .filter_map(|pid| measure::cpu_seconds(*pid))
            .sum()
    }

    /// What it has resident in memory now, in bytes.
    pub fn resident_memory(&self) -> u64 {
        self.processes
            .iter()
            .filter_map(|pid| measure::resident_memory(*pid))
            .sum()
    }

    /// Peak of its resident memory, in bytes.
    pub fn peak_memory(&self) -> u64 {
        self.processes
            .iter()
            .filter_map(|pid| measure::peak_memory(*pid))
            .sum()
    }

    /// Says in an error which daemon it is about and what that printed last.
    fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        let error = error.context(format!("{} on host {}", self.name(), self.host.side.as_str()));
        match self.last_words() {
            words if words.is_empty() => error,
            words => anyhow!("{error:#}\n{words}"),
        }
    }

    /// What its arbiter said of its clocks, in the lines of its log.
    pub fn clock_verdicts(&self) -> Vec<String> {
        moment(); // for the thread that reads it
        let side = self.host.side.as_str();
        let output = self.output.lock();
        let verdicts = output.iter().filter(|line| is_clock_verdict(line));
        verdicts.map(|line| format!("{side}: {line}")).collect()
    }

    /// The end of what it printed, ready to be shown, or nothing.
    pub fn last_words(&self) -> String {
        moment(); // for the thread that reads it
        let output = self.output.lock();
        if output.is_empty() {
            return String::new();
        }
        let heading = format!(
            "last output of {} on host {}:",
            self.name(),
            self.host.side.as_str()
        );
        output.iter().fold(heading, |text, line| text + "\n  | " + line)
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        self.host.clear();
        let child = self.child.get_mut();
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Keeps the terminal's Ctrl-C from a child: the lab ends it, in order.
pub fn own_group(command: &mut Command) {
    use std::os::unix::process::CommandExt as _;
    command.process_group(0);
}

/// A program named by a relative path is looked for where the lab was started, not at the host's root.
fn program_path(program: &str) -> PathBuf {
    let path = PathBuf::from(program);
    match program.contains('/') {
        true => std::path::absolute(&path).unwrap_or(path),
        false => path,
    }
}

/// Whether it is a log line of the arbiter, which finds one of the clocks wrong or too slow.
fn is_clock_verdict(line: &str) -> bool {
    line.contains("clock") && (line.contains("wrong") || line.contains("too slow"))
}

fn read_output(reader: PipeReader, record: Record) -> anyhow::Result<Arc<Mutex<VecDeque<String>>>> {
    let create =
        |path: &PathBuf| File::create(path).with_context(|| format!("cannot create {}", path.display()));
    let mut file = record.file.as_ref().map(create).transpose()?;
    let output = Arc::new(Mutex::new(VecDeque::new()));
    let lines = output.clone();
    thread::Builder::new().name("lab-output".into()).spawn(move || {
        let mut reader = BufReader::new(reader);
        let mut line = Vec::new();
        while reader
            .by_ref()
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut line)
            .is_ok_and(|length| length > 0)
        {
            if let Some(file) = &mut file {
                let _ = file.write_all(&line);
            }
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end();
            if let Some(transcript) = &record.transcript {
                transcript.record(text);
            }
            keep_last(&mut lines.lock(), text);
            line.clear();
        }
    })?;
    Ok(output)
}

/// Verdicts on clocks are kept for as long as there is another line to throw away.
fn keep_last(lines: &mut VecDeque<String>, line: &str) {
    if lines.len() == LAST_LINES {
        let spare = lines.iter().position(|line| !is_clock_verdict(line));
        lines.remove(spare.unwrap_or(0));
    }
    lines.push_back(line.chars().take(SHOWN_OF_A_LINE).collect());
}
