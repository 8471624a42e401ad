//! Debian's kernel: its package unpacked, not installed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{finish, run};

/// The smaller of Debian's two kernels for this architecture. It has HPET, WireGuard and everything else built in or
/// as a module that the larger one has for a machine of QEMU's.
const METAPACKAGE: &str = "linux-image-cloud-amd64";

/// An unpacked kernel package.
#[derive(Debug)]
pub struct Kernel {
    pub image: PathBuf,
    /// Files by name of the module.
    modules: BTreeMap<String, PathBuf>,
}

/// A module, ready for `insmod`.
#[derive(Debug)]
pub struct Module {
    pub name: String,
    pub bytes: Vec<u8>,
}

impl Kernel {
    /// The one in `cache`, or else what apt knows as the newest, which is then kept there. Delete it to get a newer one.
    #[track_caller]
    pub fn fetch(cache: &Path) -> Self {
        let root = cache.join("kernel");
        if !root.is_dir() {
            download(cache, &root);
        }
        let mut files = Vec::new();
        walk(&root, &mut files);
        let find = |prefix: &str| files.iter().find(|file| file_name(file).starts_with(prefix));
        let image = find("vmlinuz-").unwrap_or_else(|| panic!("no kernel below {}", root.display()));
        Self {
            image: image.clone(),
            modules: files
                .iter()
                .filter_map(|file| {
                    let name = file_name(file);
                    let name = name.strip_suffix(".xz").unwrap_or(name);
                    Some((normal(name.strip_suffix(".ko")?), file.clone()))
                })
                .collect(),
        }
    }

    /// These modules and all that they depend on, in the order in which they can be loaded.
    ///
    /// The package has no `modules.dep`, which is made when it is installed; each module names what it needs itself.
    #[track_caller]
    pub fn modules(&self, names: &[&str]) -> Vec<Module> {
        let (mut seen, mut ordered) = (BTreeSet::new(), Vec::new());
        for name in names {
            self.visit(&normal(name), &mut seen, &mut ordered);
        }
        ordered
    }

    fn visit(&self, name: &str, seen: &mut BTreeSet<String>, ordered: &mut Vec<Module>) {
        if !seen.insert(name.to_owned()) {
            return;
        }
        let file = self.modules.get(name);
        let file = file.unwrap_or_else(|| panic!("{} has no module {name}", self.image.display()));
        let bytes = if file.extension().is_some_and(|extension| extension == "xz") {
            let mut xz = Command::new("xz");
            let output = xz.arg("-dc").arg(file).output().expect("xz can be started");
            assert!(output.status.success(), "{xz:?}: {}", output.status);
            output.stdout
        } else {
            fs::read(file).expect("a file of the package")
        };
        for needed in depends(&bytes) {
            self.visit(&needed, seen, ordered);
        }
        ordered.push(Module {
            name: name.to_owned(),
            bytes,
        });
    }
}

#[track_caller]
fn download(cache: &Path, root: &Path) {
    let listed = run(&format!("apt-cache depends --important {METAPACKAGE}"));
    let package = listed
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: "))
        .unwrap_or_else(|| panic!("apt knows no {METAPACKAGE}: run `apt-get update`\n{listed}"));
    // Put in its place by its name only when it is whole.
    let directory = tempfile::tempdir_in(cache).expect("a directory in the target directory");
    let mut get = Command::new("apt-get");
    get.args(["-q", "download", package]).current_dir(&directory);
    finish(get, "").success();
    let archive = fs::read_dir(&directory)
        .expect("our directory")
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .expect("apt-get leaves the package in the working directory");
    let unpacked = directory.path().join("kernel");
    let mut unpack = Command::new("dpkg-deb");
    unpack.arg("-x").arg(&archive).arg(&unpacked);
    finish(unpack, "").success();
    fs::rename(&unpacked, root).expect("a rename within the target directory");
}

/// What the `.modinfo` section of a module says that it needs.
fn depends(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(start) = module.windows(KEY.len()).position(|window| window == KEY) else {
        return Vec::new();
    };
    let value = module[start + KEY.len()..].split(|&byte| byte == 0).next();
    String::from_utf8_lossy(value.unwrap_or_default())
        .split(',')
        .filter(|name| !name.is_empty())
        .map(normal)
        .collect()
}

/// Modules call themselves and one another by `-` and `_` alike.
fn normal(name: &str) -> String {
    name.replace('-', "_")
}

fn file_name(path: &Path) -> &str {
    path.file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
}

fn walk(directory: &Path, files: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    for entry in entries.flatten() {
        let kind = entry.file_type().expect("the kind of a directory entry");
        if kind.is_dir() {
            walk(&entry.path(), files);
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
}
