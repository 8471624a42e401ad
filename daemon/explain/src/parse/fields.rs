//! The lines inside of a report: registers, code bytes, tasks and versions.

use crate::trace::{CodeBytes, Registers, Section, Task};

/// `text` after `key` and white space. The key begins the line, or comes after a space.
pub fn value<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let mut from = 0;
    while let Some(found) = line[from..].find(key) {
        let at = from + found;
        if at == 0 || line.as_bytes()[at - 1] == b' ' {
            return Some(line[at + key.len()..].trim_start());
        }
        from = at + key.len();
    }
    None
}

/// Takes the registers out of `line`, with their values. `pending` is a name whose value a mail program has put on the
/// next line. True where there was one at all.
pub fn registers(line: &str, pending: &mut Option<String>, into: &mut Registers) -> bool {
    let mut found = false;
    for word in line.split_whitespace() {
        if let Some(name) = pending.take()
            && let Some(number) = register_value(word)
        {
            found |= into.set(&name, number);
            continue;
        }
        let Some((name, glued)) = word.split_once(':') else {
            continue;
        };
        let is_name = (2..=8).contains(&name.len())
            && name
                .bytes()
                .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
        if !is_name {
            continue;
        }
        if glued.is_empty() {
            *pending = Some(name.to_owned());
        } else if let Some(number) = register_value(glued) {
            found |= into.set(name, number);
        }
    }
    found
}

/// `0018:ffffb8d382533e18` and `0000000000000000(0000)` are numbers too; `n/a` is none.
fn register_value(word: &str) -> Option<u64> {
    let word = word.split_once(':').map_or(word, |(_, number)| number);
    hex(word.split_once('(').map_or(word, |(number, _)| number))
}

/// Code bytes of one line, appended. False where the line is not made of them alone, or says that there are none.
pub fn code(line: &str, into: &mut CodeBytes, at: &mut Option<usize>) -> bool {
    let line = line.trim_end_matches('=');
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut bytes = Vec::with_capacity(words.len());
    let mut marked = None;
    let known_half = into.half.take();
    let mut half = None;
    for (index, word) in words.iter().enumerate() {
        // Somebody has cut the line within a byte.
        if let [digit] = word.as_bytes()
            && let Some(value) = char::from(*digit).to_digit(16)
        {
            let value = value as u8;
            match known_half {
                Some(high) if index == 0 => bytes.push(high << 4 | value),
                _ if index > 0 && index + 1 == words.len() => half = Some(value),
                _ => return false,
            }
            continue;
        }
        let bare = word.trim_start_matches(['<', '(']).trim_end_matches(['>', ')']);
        if bare.len() != 2 {
            return false;
        }
        let Ok(byte) = u8::from_str_radix(bare, 16) else {
            return false;
        };
        if bare.len() != word.len() {
            marked = Some(bytes.len());
        }
        bytes.push(byte);
    }
    if bytes.is_empty() || into.bytes.len() + bytes.len() > MOST_CODE {
        return false;
    }
    *at = at.or(marked.map(|index| into.bytes.len() + index));
    into.bytes.append(&mut bytes);
    into.half = half;
    true
}

/// The kernel dumps 64 bytes, and may be told to dump up to 8192.
const MOST_CODE: usize = 8192;

/// `CPU: 1 PID: 7927 Comm: kworker/1:3 Tainted: G           OE     4.19.47-1-lts #1`; since 6.11 with `UID:` in it, and
/// for hpetun `CPU: 1 PID: 7901 TID: 7927 Comm: wg-tx/0  hpetun 0.1.0  Linux 6.18.44`.
pub fn cpu_line(line: &str, section: &mut Section) -> bool {
    let Some(rest) = line.strip_prefix("CPU:") else {
        return false;
    };
    let Some(cpu) = rest.split_whitespace().next() else {
        return false;
    };
    section.cpu = cpu.parse().ok();
    if section.cpu.is_none() && cpu != "n/a" && cpu != "?" {
        return false;
    }
    let pid = value(line, "TID:").or_else(|| value(line, "PID:"));
    let pid = pid.and_then(|text| text.split_whitespace().next()?.parse().ok());
    let Some(comm) = value(line, "Comm:") else {
        section.task = pid.map(|pid| Task {
            name: String::new(),
            pid: Some(pid),
        });
        return true;
    };
    let end = ["Tainted:", "Not tainted", "Kdump:", " hpetun "]
        .iter()
        .filter_map(|words| comm.find(words))
        .min();
    let (name, rest) = match end {
        Some(end) => comm.split_at(end),
        None => comm.split_at(comm.find(' ').unwrap_or(comm.len())),
    };
    section.task = Some(Task {
        name: name.trim().to_owned(),
        pid,
    });
    versions(rest, section);
    true
}

/// Taint flags and the kernel's version, from the end of a `CPU:` line, which may be on a line of its own.
pub fn versions(text: &str, section: &mut Section) {
    if let Some(linux) = value(text, "Linux") {
        section.kernel = linux.split_whitespace().next().map(str::to_owned);
        return;
    }
    let mut flags: Vec<&str> = Vec::new();
    // The line before may have begun with them.
    let known = section.tainted.take();
    flags.extend(known.as_deref());
    let mut in_flags = !flags.is_empty();
    for word in text.split_whitespace() {
        let is_version = word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.');
        if is_version {
            section.kernel = Some(word.to_owned());
            break;
        }
        if word == "Tainted:" {
            in_flags = true;
        } else if in_flags && word.len() <= 20 && word.bytes().all(|b| b.is_ascii_uppercase()) {
            flags.push(word);
        }
    }
    if !flags.is_empty() {
        section.tainted = Some(flags.join(" "));
    }
}

/// Up to 16 digits, with `0x` or not.
pub fn hex(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    (!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit()))
        .then(|| u64::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_may_be_wrapped_anywhere() {
        let mut registers_ = Registers::default();
        let mut pending = None;
        for line in [
            "RSP: 0018:ffffb8d382533e18 EFLAGS: 00000202 ORIG_RAX:",
            "ffffffffffffff13",
            "RAX: 0000000018a4c89e RBX: n/a RCX:",
            "18a4c89e00000001",
        ] {
            assert!(registers(line, &mut pending, &mut registers_), "{line}");
        }
        assert_eq!(registers_.general(4), Some(0xffff_b8d3_8253_3e18));
        assert_eq!(registers_.orig_rax, Some(0xffff_ffff_ffff_ff13));
        assert_eq!(registers_.general(1), Some(0x18a4_c89e_0000_0001));
        assert_eq!(registers_.general(3), None);
        assert!(!registers(
            "FS: 0000000000000000(0000) knlGS:0",
            &mut pending,
            &mut registers_
        ));
    }

    #[test]
    fn code_goes_on_over_lines_and_ends_with_them() {
        let (mut bytes, mut at) = (CodeBytes::default(), None);
        assert!(code("c0 75 11", &mut bytes, &mut at));
        assert!(code("f3 90 <49> 8b=", &mut bytes, &mut at));
        assert!(code("08 48", &mut bytes, &mut at));
        for other in ["RSP: 0018", "", "Bad RIP value.", "123 45", "zz", "5", "5 6"] {
            assert!(!code(other, &mut bytes, &mut at), "{other}");
        }
        assert_eq!(
            bytes.bytes,
            [0xc0, 0x75, 0x11, 0xf3, 0x90, 0x49, 0x8b, 0x08, 0x48]
        );
        assert_eq!(at, Some(5));
    }

    #[test]
    fn code_may_be_cut_within_a_byte() {
        let (mut bytes, mut at) = (CodeBytes::default(), None);
        assert!(code("c0 c5 20 ab 2", &mut bytes, &mut at));
        assert!(code("3 <a2> 8b 4", &mut bytes, &mut at));
        assert_eq!(bytes.bytes, [0xc0, 0xc5, 0x20, 0xab, 0x23, 0xa2, 0x8b]);
        assert_eq!(at, Some(5));
    }

    #[test]
    fn cpu_lines_of_several_kernels() {
        for (line, name, pid, kernel, tainted) in [
            (
                "CPU: 1 PID: 7927 Comm: kworker/1:3 Tainted: G           OE     4.19.47-1-lts #1",
                "kworker/1:3",
                7927,
                "4.19.47-1-lts",
                Some("G OE"),
            ),
            (
                "CPU: 1 PID: 9 Comm: swapper/1 Not tainted 5.10.0-8-amd64 #1 Debian 5.10.46-4",
                "swapper/1",
                9,
                "5.10.0-8-amd64",
                None,
            ),
            (
                "CPU: 1 UID: 0 PID: 9 Comm: Web Content Kdump: loaded Tainted: G W 6.12.1 #1",
                "Web Content",
                9,
                "6.12.1",
                Some("G W"),
            ),
            (
                "CPU: 1 PID: 7901 TID: 7927 Comm: wg-tx/0  hpetun 0.1.0  Linux 6.18.44",
                "wg-tx/0",
                7927,
                "6.18.44",
                None,
            ),
        ] {
            let mut section = Section::default();
            assert!(cpu_line(line, &mut section), "{line}");
            let task = section.task.unwrap();
            assert_eq!(
                (section.cpu, task.name.as_str(), task.pid),
                (Some(1), name, Some(pid))
            );
            assert_eq!(section.kernel.as_deref(), Some(kernel));
            assert_eq!(section.tainted.as_deref(), tainted);
        }
        assert!(!cpu_line("CPUs: 2", &mut Section::default()));
        assert!(!cpu_line("CPU: many", &mut Section::default()));
    }
}
