//! Real forks, hence without the test harness, whose threads would be lost in the child.

use std::fs;
use std::path::Path;
use std::process::exit;

use hpetun::daemonise::{DaemoniseError, Output, Report, Side, daemonise};

fn main() {
    let dir = tempfile::tempdir().expect("temporary directory");
    caller_returns_after_the_daemon_is_ready(&dir.path().join("ready"));
    daemon_stands_alone(&dir.path().join("alone"));
    caller_gets_the_error_text();
    caller_learns_of_a_silent_death();
    output_is_kept_where_asked(&dir.path().join("kept"));
    println!("daemonise: 5 passed");
}

/// Runs `child` as the daemon and gives what the caller was told.
fn as_daemon(output: Output, child: impl FnOnce(Report)) -> Result<(), DaemoniseError> {
    match daemonise(output) {
        Ok(Side::Daemon(report)) => {
            child(report);
            exit(0)
        }
        Ok(Side::Caller) => Ok(()),
        Err(error) => Err(error),
    }
}

fn caller_returns_after_the_daemon_is_ready(witness: &Path) {
    as_daemon(Output::Null, |report| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        fs::write(witness, "was here").unwrap();
        report.ready();
    })
    .unwrap();
    assert_eq!(fs::read_to_string(witness).unwrap(), "was here");
}

fn daemon_stands_alone(witness: &Path) {
    let own = stat_fields();
    as_daemon(Output::Null, |report| {
        let names = [0, 1, 2].map(|fd| fs::read_link(format!("/proc/self/fd/{fd}")).unwrap());
        let cwd = std::env::current_dir().unwrap();
        let (pid, session) = stat_fields();
        fs::write(
            witness,
            format!(
                "{} {pid} {session} {}",
                cwd.display(),
                names.map(|name| name.display().to_string()).join(" ")
            ),
        )
        .unwrap();
        report.ready();
    })
    .unwrap();
    let seen = fs::read_to_string(witness).unwrap();
    let [cwd, pid, session, stdio @ ..] = &seen.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{seen}");
    };
    assert_eq!(*cwd, "/");
    assert_ne!(pid, session, "leads its session");
    assert_ne!(*session, own.1, "still in the caller's session");
    assert_eq!(stdio, ["/dev/null"; 3]);
}

/// Process and session id.
fn stat_fields() -> (String, String) {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let pid = stat.split(' ').next().unwrap().to_owned();
    let after_name = stat.rsplit_once(") ").unwrap().1;
    (pid, after_name.split(' ').nth(3).unwrap().to_owned())
}

fn caller_gets_the_error_text() {
    match as_daemon(Output::Null, |report| report.failed("no such luck: ENOLUCK")) {
        Err(DaemoniseError::Failed(text)) => assert_eq!(text, "no such luck: ENOLUCK"),
        other => panic!("{other:?}"),
    }
}

fn caller_learns_of_a_silent_death() {
    let told = as_daemon(Output::Null, drop);
    assert!(matches!(told, Err(DaemoniseError::Died)), "{told:?}");
}

fn output_is_kept_where_asked(witness: &Path) {
    let own = fs::read_link("/proc/self/fd/2").unwrap();
    as_daemon(Output::Kept, |report| {
        let stderr = fs::read_link("/proc/self/fd/2").unwrap();
        fs::write(witness, stderr.display().to_string()).unwrap();
        report.ready();
    })
    .unwrap();
    assert_eq!(fs::read_to_string(witness).unwrap(), own.display().to_string());
}
