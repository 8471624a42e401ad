//! A cgroup with a quota of processor time, of either version, for processes that a test starts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::daemon::interface_name;
use crate::wait::{LIMIT, poll};

/// Goes when it is dropped, which must be after the processes in it.
#[derive(Debug)]
pub struct Cgroup {
    directory: PathBuf,
    is_v1: bool,
}

impl Cgroup {
    #[track_caller]
    #[allow(clippy::new_without_default, reason = "it does more than a default value")]
    pub fn new() -> Self {
        let v1 = Path::new("/sys/fs/cgroup/cpu");
        let is_v1 = v1.exists();
        let root = if is_v1 { v1 } else { Path::new("/sys/fs/cgroup") };
        if !is_v1 {
            fs::write(root.join("cgroup.subtree_control"), "+cpu").expect("the controller `cpu`");
        }
        let directory = root.join(interface_name());
        fs::create_dir(&directory).expect("root may make a cgroup");
        let this = Self { directory, is_v1 };
        // Where real-time threads are scheduled by groups, one without this may have none.
        if this.directory.join("cpu.rt_runtime_us").exists() {
            this.write("cpu.rt_runtime_us", "50000");
        }
        this
    }

    /// From now on its processes may run for so long in each period, all together; `None`: for as long as they like.
    #[track_caller]
    pub fn limit(&self, quota_us: Option<u32>, period_us: u32) {
        if self.is_v1 {
            self.write("cpu.cfs_period_us", &period_us.to_string());
            self.write(
                "cpu.cfs_quota_us",
                &quota_us.map_or("-1".to_owned(), |quota| quota.to_string()),
            );
        } else {
            let quota = quota_us.map_or("max".to_owned(), |quota| quota.to_string());
            self.write("cpu.max", &format!("{quota} {period_us}"));
        }
    }

    /// A command that begins in it, before the words of the program are added: it sees all file systems, which `ip netns exec` hides.
    pub fn command(&self, namespace: &str) -> Command {
        let mut command = Command::new("nsenter");
        let procs = self.directory.join("cgroup.procs");
        let script = format!("echo $$ > {} && exec \"$@\"", procs.display());
        command.arg(format!("--net=/run/netns/{namespace}"));
        command.args(["sh", "-c", &script, "sh"]);
        command
    }

    #[track_caller]
    fn write(&self, file: &str, text: &str) {
        fs::write(self.directory.join(file), text).unwrap_or_else(|error| panic!("{file}: {text}: {error}"));
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Its processes were killed, and take a moment to be gone. Never panics: a test may be failing already.
        let is_gone = poll(LIMIT, || fs::remove_dir(&self.directory).ok());
        if is_gone.is_none() {
            eprintln!("{} could not be removed", self.directory.display());
        }
    }
}
