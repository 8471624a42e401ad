//! One command, run to its end or to its time limit.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::wait::poll;

/// No command of a scenario takes longer, not even iperf3 on a loaded machine.
const LIMIT: Duration = Duration::from_secs(120);

/// How a command ended, and what it printed.
#[derive(Debug)]
pub struct Output {
    pub command: String,
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// Standard output of a command that must succeed.
    #[track_caller]
    pub fn success(self) -> String {
        assert!(self.status.success(), "{self}");
        self.stdout
    }

    /// Standard error of a command that must fail, by an exit code and not by a signal.
    #[track_caller]
    pub fn failure(self) -> String {
        assert!(
            self.status.code().is_some_and(|code| code != 0),
            "should have failed: {self}"
        );
        self.stderr
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "`{}`: {}\n{}{}",
            self.command, self.status, self.stdout, self.stderr
        )
    }
}

/// Runs a command line, split at white space; it must succeed. Returns its standard output.
#[track_caller]
pub fn run(line: &str) -> String {
    try_run(line).success()
}

/// Runs a command line, split at white space, whatever comes out.
#[track_caller]
pub fn try_run(line: &str) -> Output {
    finish(command(line), "")
}

pub(crate) fn command(line: &str) -> Command {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().expect("a command line is never empty"));
    command.args(words);
    command
}

/// Runs `command` with `input` on its standard input. Its output goes through files, not pipes: a daemon that it
/// leaves behind may hold on to them for as long as it likes.
#[track_caller]
pub fn finish(mut command: Command, input: &str) -> Output {
    let shown = shown(&command);
    let mut stdin = tempfile::tempfile().expect("temporary file");
    stdin
        .write_all(input.as_bytes())
        .and_then(|()| stdin.rewind())
        .expect("temporary file");
    let stdout = tempfile::tempfile().expect("temporary file");
    let stderr = tempfile::tempfile().expect("temporary file");
    command.stdin(stdin).stdout(same(&stdout)).stderr(same(&stderr));
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("`{shown}`: {error}"));
    let status = end_of(&mut child, LIMIT);
    if status.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let (stdout, stderr) = (text(stdout), text(stderr));
    let status = status.unwrap_or_else(|| panic!("`{shown}` did not end within {LIMIT:?}\n{stdout}{stderr}"));
    Output {
        command: shown,
        status,
        stdout,
        stderr,
    }
}

/// `None` where the child still runs at the limit.
pub fn end_of(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    poll(limit, || {
        child.try_wait().expect("a child of ours can be waited for")
    })
}

fn shown(command: &Command) -> String {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect();
    words.join(" ")
}

fn same(file: &File) -> Stdio {
    file.try_clone().expect("a file can be duplicated").into()
}

fn text(mut file: File) -> String {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))
        .and_then(|_| file.read_to_end(&mut bytes))
        .expect("temporary file");
    String::from_utf8_lossy(&bytes).into_owned()
}
