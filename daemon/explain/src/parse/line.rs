//! A line of a report without what mail programs, loggers and consoles put in front of it.

use std::borrow::Cow;

/// `line` without quoting, log prefixes and its end. Never longer than the line.
pub fn clean(line: &[u8]) -> Cow<'_, str> {
    match String::from_utf8_lossy(line) {
        Cow::Borrowed(text) => Cow::Borrowed(strip(text)),
        Cow::Owned(text) => Cow::Owned(strip(&text).to_owned()),
    }
}

fn strip(text: &str) -> &str {
    let mut rest = text.trim();
    // Each turn takes something off, and a line that is all prefix ends as the empty one.
    while let Some(shorter) = quote(rest)
        .or_else(|| bracketed(rest))
        .or_else(|| priority(rest))
        .or_else(|| time_of_day(rest))
        .or_else(|| sender(rest))
        .or_else(|| level(rest))
        .or_else(|| record(rest))
        .or_else(|| numbered(rest))
        .or_else(|| after_stamp(rest))
    {
        rest = shorter.trim_start();
    }
    rest
}

/// `>` and `|`, as mail quotes.
fn quote(text: &str) -> Option<&str> {
    text.strip_prefix(['>', '|', '│'])
}

/// `4,5007,12915309105,-;` and `6,1,2,-,caller=T1;`, as `/dev/kmsg` and netconsole have it.
fn record(text: &str) -> Option<&str> {
    let (head, rest) = text.split_once(';')?;
    let mut fields = head.split(',');
    let numbers = fields
        .by_ref()
        .take(3)
        .filter(|field| !field.is_empty() && field.bytes().all(|b| b.is_ascii_digit()))
        .count();
    (numbers == 3 && head.len() < 100 && fields.next().is_some_and(|flag| flag.len() == 1)).then_some(rest)
}

/// `7344   │ `: the line's number, as pagers have it.
fn numbered(text: &str) -> Option<&str> {
    let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
    (rest.len() < text.len()).then(|| rest.trim_start().strip_prefix('│'))?
}

/// Whatever a console, a service or a cloud puts in front of the kernel's `[12345.678901]`: `login: [12345.678901] `.
fn after_stamp(text: &str) -> Option<&str> {
    const LONGEST: usize = 80;
    // These are the beginning of one line, and the stamp that of another which follows it.
    const CONTENT: [&str; 6] = ["lockup", "LOCKUP", "stall", "RIP:", "Code:", "+0x"];
    // No stamp is longer: a line of millions of brackets is not searched to its end from each of them.
    const STAMP: usize = 32;
    let mut near = text.match_indices('[').take_while(|(at, _)| *at <= LONGEST);
    let (before, _) = near.find_map(|(at, _)| {
        let inside = &text.as_bytes()[at + 1..];
        let end = inside.iter().take(STAMP).position(|byte| *byte == b']')?;
        let inside = &text[at + 1..at + 1 + end];
        let (seconds, fraction) = inside.trim_start().split_once('.')?;
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        (digits(seconds) && digits(fraction) && fraction.len() == 6).then_some((&text[..at], inside))
    })?;
    let is_value = |word: &str| word.len() >= 8 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let has_value = before.split(|c: char| !c.is_ascii_alphanumeric()).any(is_value);
    let is_content = has_value || CONTENT.iter().any(|words| before.contains(words));
    (!before.is_empty() && !is_content).then(|| &text[before.len()..])
}

/// `[12345.678901]`, `[    C1]`, `[  T123]`, `[Sat Jun  1 12:00:00 2019]`, `[<    0.000012>]`: a time stamp or a caller.
fn bracketed(text: &str) -> Option<&str> {
    let (inside, rest) = text.strip_prefix('[')?.split_once(']')?;
    let inside = inside.trim_matches([' ', '<', '>', '+']);
    let caller = inside
        .strip_prefix(['C', 'T'])
        .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()));
    // `[Jun 3 09:04]`, as `dmesg -H` has it for the first line of a minute.
    let minute = MONTHS.iter().any(|month| inside.starts_with(month))
        && inside.len() <= 12
        && inside.split_whitespace().count() == 3
        && inside.matches(':').count() == 1;
    let date = inside.len() >= 19 && inside.matches(':').count() == 2 && inside.contains(' ');
    (inside.parse::<f64>().is_ok_and(f64::is_finite) && inside.contains('.') || caller || date || minute)
        .then_some(rest)
}

/// `<4>`, of the kernel's log.
fn priority(text: &str) -> Option<&str> {
    let (inside, rest) = text.strip_prefix('<')?.split_once('>')?;
    // `<49> 8b` is the middle of a wrapped `Code:` line.
    let is_code = inside.len() == 2 && rest.starts_with(' ');
    let is_number = !inside.is_empty() && inside.len() <= 3 && inside.bytes().all(|b| b.is_ascii_digit());
    (is_number && !is_code).then_some(rest)
}

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// `2019-06-01T12:00:00.123+02:00`, `2019-06-01 12:00:00,123`, `Jun  1 12:00:00`.
fn time_of_day(text: &str) -> Option<&str> {
    let (first, rest) = text.split_once(' ')?;
    let bytes = first.as_bytes();
    if bytes.len() >= 10 && bytes[4] == b'-' && bytes[7] == b'-' && bytes[..4].iter().all(u8::is_ascii_digit)
    {
        return Some(match bytes.len() {
            10 => clock_time(rest)?,
            _ => rest,
        });
    }
    if MONTHS.contains(&first) {
        let (day, rest) = rest.trim_start().split_once(' ')?;
        day.parse::<u8>().ok().filter(|day| (1..=31).contains(day))?;
        return clock_time(rest.trim_start());
    }
    None
}

/// `12:00:00`, with a fraction or not.
fn clock_time(text: &str) -> Option<&str> {
    let (time, rest) = text.split_once(' ')?;
    let is_time = time.matches(':').count() == 2
        && time.len() >= 8
        && time
            .bytes()
            .all(|b| b.is_ascii_digit() || matches!(b, b':' | b'.' | b',' | b'+' | b'-'));
    is_time.then_some(rest)
}

/// `host kernel:`, `host hpetun[123]:`, `kernel:`.
fn sender(text: &str) -> Option<&str> {
    let is_sender = |word: &str| {
        let name = word.strip_suffix(':').unwrap_or("");
        let name = name.split_once('[').map_or(name, |(name, _)| name);
        matches!(name, "kernel" | "hpetun" | "unknown")
    };
    if let Some(rest) = text.strip_prefix("kernel:") {
        return Some(rest);
    }
    let (first, rest) = text.split_once(' ')?;
    if is_sender(first) {
        return Some(rest);
    }
    // A host name comes only before the sender.
    let (second, rest) = rest.trim_start().split_once(' ')?;
    let is_host = first
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    if !is_host {
        return None;
    }
    match second.strip_prefix("kernel:") {
        // `kernel:[123.4]`, as syslog writes to terminals.
        Some(glued) if !glued.is_empty() => Some(&text[text.len() - rest.len() - 1 - glued.len()..]),
        _ => is_sender(second).then_some(rest),
    }
}

/// `kern  :emerg :` of `dmesg -x`, and tracing's `ERROR` with its target.
fn level(text: &str) -> Option<&str> {
    if let Some(rest) = text.strip_prefix("kern ") {
        let (level, rest) = rest.trim_start().strip_prefix(':')?.split_once(':')?;
        return level
            .trim()
            .bytes()
            .all(|b| b.is_ascii_lowercase())
            .then_some(rest);
    }
    let (first, rest) = text.split_once(' ')?;
    let rest = rest.trim_start();
    // `INFO: ` and `WARNING: ` are what the kernel's own lines begin with.
    if matches!(
        first,
        "EMERG:" | "ALERT:" | "CRIT:" | "ERR:" | "NOTICE:" | "DEBUG:"
    ) {
        return Some(rest);
    }
    let rest = rest.strip_prefix("watchdog: ").unwrap_or(rest);
    matches!(first, "ERROR" | "WARN" | "INFO").then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn stamp_far_from_the_beginning_is_none() {
        let line = |before: usize| format!("{}[12345.678901] text", "x ".repeat(before / 2));
        assert_eq!(after_stamp(&line(80)), Some("[12345.678901] text"));
        assert_eq!(after_stamp(&line(82)), None);
        // Searching each bracket's line to its end would take minutes.
        assert_eq!(after_stamp(&"[".repeat(16 << 20)), None);
    }

    #[test]
    fn every_usual_prefix_goes() {
        for line in [
            "RIP: 0010:read_hpet+0x67/0xc0",
            "  RIP: 0010:read_hpet+0x67/0xc0\r",
            "> RIP: 0010:read_hpet+0x67/0xc0",
            ">> > RIP: 0010:read_hpet+0x67/0xc0",
            "[12345.678901] RIP: 0010:read_hpet+0x67/0xc0",
            "> [    5.678901][    C1] RIP: 0010:read_hpet+0x67/0xc0",
            "[    5.678901] [  T123] RIP: 0010:read_hpet+0x67/0xc0",
            "<4>[12345.678901] RIP: 0010:read_hpet+0x67/0xc0",
            "Jun  1 12:00:00 box kernel: [12345.678901] RIP: 0010:read_hpet+0x67/0xc0",
            "Jun 11 12:00:00 box kernel: RIP: 0010:read_hpet+0x67/0xc0",
            " kernel:[405108.698255] RIP: 0010:read_hpet+0x67/0xc0",
            "Jun 11 12:00:00 box kernel:[405108.698255] RIP: 0010:read_hpet+0x67/0xc0",
            "2019-06-01T12:00:00.123456+02:00 box.lan kernel: RIP: 0010:read_hpet+0x67/0xc0",
            "2019-06-01T12:00:00,123456+02:00 RIP: 0010:read_hpet+0x67/0xc0",
            "2019-06-01 12:00:00.123 kernel: RIP: 0010:read_hpet+0x67/0xc0",
            "[Sat Jun  1 12:00:00 2019] RIP: 0010:read_hpet+0x67/0xc0",
            "[  123.456789] box kernel: RIP: 0010:read_hpet+0x67/0xc0",
            "[Jun 3 09:04] RIP: 0010:read_hpet+0x67/0xc0",
            "[  +0.041663] RIP: 0010:read_hpet+0x67/0xc0",
            "[<    0.000012>] RIP: 0010:read_hpet+0x67/0xc0",
            "kern  :emerg : [12345.678901] RIP: 0010:read_hpet+0x67/0xc0",
            "kern  :warn  : [12345.678901] RIP: 0010:read_hpet+0x67/0xc0",
            "2026-11-24T16:08:36.123456Z ERROR RIP: 0010:read_hpet+0x67/0xc0",
            "2026-11-24T16:08:36.123456Z ERROR watchdog: RIP: 0010:read_hpet+0x67/0xc0",
            "Nov 24 16:08:36 box hpetun[123]: ERROR RIP: 0010:read_hpet+0x67/0xc0",
            "4,5007,12915309105,-;RIP: 0010:read_hpet+0x67/0xc0",
            "4,5007,12915309105,-,caller=T707; RIP: 0010:read_hpet+0x67/0xc0",
            "7344   │ 4,5007,12915309105,-;RIP: 0010:read_hpet+0x67/0xc0",
            " 117 [46223316.652645] RIP: 0010:read_hpet+0x67/0xc0",
            "box login: [10304.603691] RIP: 0010:read_hpet+0x67/0xc0",
            "385h 44m 43.879s(  13ms): [347845.117599] RIP: 0010:read_hpet+0x67/0xc0",
            "Feb 16 11:00:22 pi run[755]: UART: [57316.097991] RIP: 0010:read_hpet+0x67/0xc0",
            "[41819967.871466]  EMERG: RIP: 0010:read_hpet+0x67/0xc0",
        ] {
            assert_eq!(clean(line.as_bytes()), "RIP: 0010:read_hpet+0x67/0xc0", "{line}");
        }
    }

    #[test]
    fn what_looks_like_a_prefix_and_is_none_stays() {
        for line in [
            "[<ffffffff8103d1b5>] ? read_hpet+0x15/0x20",
            "[kworker/1:3:7927]",
            "<TASK>",
            "<49> 8b 08",
            "Call Trace:",
            "RAX: 0000000018a4c89e RBX: 0000000000000000",
            "R14: 0000000000000030 R15: ffff9b1a7fd[ 5173.890970] FS:  0",
            "BUG: soft lockup - CPU#0 stuck for 23s! [x:7] [  467.189857] Modules linked",
            "INFO: rcu_sched self-detected stall on CPU",
        ] {
            assert_eq!(clean(line.as_bytes()), line);
        }
    }

    proptest! {
        #[test]
        fn any_line_gets_no_longer(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let whole = String::from_utf8_lossy(&line).len();
            prop_assert!(clean(&line).len() <= whole);
        }
    }
}
