//! The machine's only file system: an archive that the kernel unpacks into memory, in cpio's "newc" format.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::command::try_run;

const DIRECTORY: u32 = 0o040_755;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_777;

/// An archive being made.
#[derive(Debug, Default)]
pub struct Initramfs {
    archive: Vec<u8>,
    names: BTreeSet<String>,
}

impl Initramfs {
    pub fn directory(&mut self, path: &str) {
        self.add(path, DIRECTORY, &[]);
    }

    pub fn symlink(&mut self, path: &str, target: &str) {
        self.add(path, SYMLINK, target.as_bytes());
    }

    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.add(path, REGULAR | mode, content);
    }

    /// A program of this machine as `path`, with the loader and the libraries that it needs where they are here.
    #[track_caller]
    pub fn program(&mut self, path: &str, program: &Path) {
        self.copy(path, program);
        for library in libraries(program) {
            self.copy(&library, Path::new(&library));
        }
    }

    /// The whole archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, &[]);
        self.archive
    }

    #[track_caller]
    fn copy(&mut self, path: &str, from: &Path) {
        let read = || Ok::<_, std::io::Error>((fs::read(from)?, fs::metadata(from)?.permissions().mode()));
        let (content, mode) = read().unwrap_or_else(|error| panic!("{}: {error}", from.display()));
        self.file(path, mode & 0o777, &content);
    }

    /// The first entry of a name counts. The directories above it are made.
    fn add(&mut self, path: &str, mode: u32, content: &[u8]) {
        let name = path.trim_start_matches('/');
        if !self.names.insert(name.to_owned()) {
            return;
        }
        if let Some((above, _)) = name.rsplit_once('/') {
            self.directory(above);
        }
        let inode = self.names.len();
        let (links, size, name_size) = (1, content.len(), name.len() + 1);
        // Owner, group, time, and the four parts of two device numbers are zero, as is the checksum.
        self.archive.extend(
            format!(
                "070701{inode:08x}{mode:08x}{0:08x}{0:08x}{links:08x}{0:08x}{size:08x}\
                 {0:08x}{0:08x}{0:08x}{0:08x}{name_size:08x}{0:08x}{name}\0",
                0
            )
            .bytes(),
        );
        self.pad();
        self.archive.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        let whole = self.archive.len().next_multiple_of(4);
        self.archive.resize(whole, 0);
    }
}

/// Where a command of that name is, also where root's directories are not in `PATH`.
#[track_caller]
pub fn which(command: &str) -> PathBuf {
    let path = env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin:/usr/bin:/bin";
    env::split_paths(&path)
        .map(|directory| directory.join(command))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("there is no {command}: see the list of packages in tests/run"))
}

/// What `ldd` prints the paths of; nothing for a program that is linked statically.
fn libraries(program: &Path) -> Vec<String> {
    let listed = try_run(&format!("ldd {}", program.display()));
    assert!(!listed.stdout.contains("not found"), "{listed}");
    listed
        .stdout
        .lines()
        .flat_map(|line| line.split_whitespace().filter(|word| word.starts_with('/')))
        .filter(|path| Path::new(path).is_file())
        .map(str::to_owned)
        .collect()
}
