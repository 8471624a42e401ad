//! `hpetun status`: what `wg show` tells, and what only hpetun knows, for people or as JSON.

mod view;

use std::io::{self, IsTerminal as _};
use std::path::Path;

use anyhow::anyhow;
use clap::Args;

use super::names::interface_name;
use super::print_line;
use control::uapi::SOCKET_DIRECTORY;
use control::uapi::client::{self, ClientError};
use view::{Style, View};

#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Interface to show
    #[arg(value_name = "IFNAME", value_parser = interface_name)]
    interface: String,
    /// Print JSON, for scripts
    #[arg(long)]
    json: bool,
}

pub fn run(args: &StatusArgs) -> anyhow::Result<()> {
    let name = &args.interface;
    let status = client::status(name).map_err(|error| match error {
        ClientError::NoSocket(_) => anyhow!(not_there(name, &interfaces(Path::new(SOCKET_DIRECTORY)))),
        error => error.into(),
    })?;
    if args.json {
        return print_line(&serde_json::to_string_pretty(&status)?);
    }
    let style = Style {
        colours: io::stdout().is_terminal() && no_color_is_unset(),
    };
    print_line(
        View {
            status: &status,
            now: clockshim::wall_clock(),
            style,
        }
        .to_string()
        .trim_end(),
    )
}

fn no_color_is_unset() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Names of the interfaces with a control socket in `directory`, sorted.
fn interfaces(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".sock")?.to_owned()))
        .collect();
    names.sort();
    names
}

fn not_there(name: &str, others: &[String]) -> String {
    let others = match others {
        [] => format!("{SOCKET_DIRECTORY} has no control socket at all (reading it may need root)"),
        others => format!("there is {}", others.join(", ")),
    };
    format!("no interface {name} with a control socket; {others}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_interface_names_those_that_are_there() {
        let directory = tempfile::tempdir().unwrap();
        for file in ["wg1.sock", "a.sock", "notes.txt"] {
            std::fs::write(directory.path().join(file), "").unwrap();
        }
        let names = interfaces(directory.path());
        assert_eq!(names, ["a", "wg1"]);
        assert_eq!(
            not_there("wg0", &names),
            "no interface wg0 with a control socket; there is a, wg1"
        );
        assert_eq!(interfaces(Path::new("/nonexistent")), [""; 0]);
        assert!(not_there("wg0", &[]).contains("no control socket at all"));
    }
}
