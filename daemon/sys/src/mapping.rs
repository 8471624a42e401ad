//! Files mapped for reading.

use std::fs::File;
use std::io;
use std::path::Path;

use memmap2::Mmap;

/// Maps a file that this process runs code of: only what is looked at is read.
pub fn of_running_code(path: &Path) -> io::Result<Mmap> {
    let file = File::open(path)?;
    // SAFETY: whoever changes such a file in place changes the running code as well: it can do no harm that it did not do
    // already. Programs and libraries are replaced by new files, which leaves this one as it is.
    unsafe { Mmap::map(&file) }
}
