//! Interface names, and how they are told from commands: a typo in a command must not create an interface.

use clap::CommandFactory as _;

use super::Cli;

/// Words that are no command, but that people expect to be one.
const EXPECTED: [&str; 2] = ["list", "clock"];

/// A network interface name that the kernel accepts.
///
/// # Errors
/// Which rule the name breaks.
pub(super) fn interface_name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 15 {
        return Err("an interface name has 1 to 15 bytes".to_owned());
    }
    let is_bad = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    if text == "." || text == ".." || text.contains(is_bad) {
        return Err(
            "an interface name has no '/', no ':' and no white space, and is not '.' or '..'".to_owned(),
        );
    }
    Ok(text.to_owned())
}

/// Why `name` is not taken for an interface: it is a command, or one edit (insert, delete, replace or transpose)
/// away from one. `None` where it is an interface.
pub(super) fn mistaken_command(name: &str) -> Option<String> {
    let command = Cli::command();
    let names = command
        .get_subcommands()
        .map(clap::Command::get_name)
        .chain(["help"]);
    let nearest = names.min_by_key(|command| strsim::osa_distance(command, name))?;
    let escape = format!("(to create an interface of that name: hpetun -- {name})");
    match strsim::osa_distance(nearest, name) {
        0 => Some(format!(
            "`{name}` is a command and takes no options before it {escape}"
        )),
        1 => Some(format!("unknown command; did you mean {nearest}? {escape}")),
        _ if EXPECTED.contains(&name) => Some(format!("unknown command {escape}")),
        _ => None,
    }
}

/// The message for a first word that is followed by others as a command is, and is none.
pub(super) fn unknown_command(word: &str) -> String {
    let command = Cli::command();
    let names: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
    let nearest = names
        .iter()
        .map(|name| (strsim::osa_distance(name, word), name))
        .min();
    match nearest {
        Some((0..=2, name)) => format!("unknown command `{word}`; did you mean {name}?"),
        _ => format!(
            "expected one interface name, or one of the commands {} as the first word",
            names.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_kernel_accepts() {
        for good in ["wg0", "tun%d", "a", "fifteen-letters", "wg.0", "ü", "lab"] {
            assert_eq!(interface_name(good).as_deref(), Ok(good));
        }
        for bad in ["", "sixteen-letters-", ".", "..", "a/b", "a b", "a:b", "a\u{7}"] {
            assert!(interface_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn one_edit_from_a_command_is_a_typo() {
        for (typo, command) in [
            ("stauts", "status"),
            ("statu", "status"),
            ("sttatus", "status"),
            ("stat_s", "status"),
            ("clock", "clocks"),
            ("hlep", "help"),
            ("versoin", "version"),
            ("genkye", "genkey"),
        ] {
            let message = mistaken_command(typo).expect(typo);
            assert_eq!(
                message,
                format!(
                    "unknown command; did you mean {command}? (to create an interface of that name: hpetun -- {typo})"
                )
            );
        }
        assert!(mistaken_command("list").unwrap().starts_with("unknown command ("));
        assert!(mistaken_command("up").unwrap().contains("is a command"));
        for name in ["wg0", "tun0", "vpn", "hpetun0", "office", "wg-lab", "sttauts"] {
            assert_eq!(mistaken_command(name), None, "{name}");
        }
    }
}
