//! Standard output of a command.

use std::io::{self, Write as _};

/// Prints `text` and a line feed to standard output. A closed pipe (`| head`) is no error.
///
/// # Errors
/// Where standard output cannot be written, with a message that says so.
pub fn print_line(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(io::Error::new(
            error.kind(),
            format!("cannot write to standard output: {error}"),
        )),
        _ => Ok(()),
    }
}
