//! The `hpetun` command: arguments in, exit code out (0 done, 1 failed, 2 wrong usage).

use std::process::ExitCode;

use hpetun::cli::{Cli, error_chain};

fn main() -> ExitCode {
    match Cli::from_command_line().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("hpetun: error: {}", error_chain(&error));
            ExitCode::FAILURE
        }
    }
}
