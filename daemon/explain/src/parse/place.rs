//! Places in code, as `RIP:` lines and call traces have them.

use super::fields::hex;
use crate::trace::{Frame, Place};

/// What follows `RIP:` or `EIP:`, in any of the forms that kernels had:
/// `0010:read_hpet+0x67/0xc0`, `0010:[<ffffffff8103d1b5>]  [<ffffffff8103d1b5>] read_hpet+0x15/0x20`, `0033:0x7f0e1cf78aff`.
pub fn rip(text: &str) -> Option<Place> {
    let mut place = Place::default();
    let mut rest = text.trim();
    if let Some((segment, after)) = rest.split_once(':')
        && !segment.is_empty()
        && segment.len() <= 4
        && let Ok(segment) = u16::from_str_radix(segment, 16)
    {
        place.segment = Some(segment);
        rest = after.trim_start();
    }
    let (address, rest) = addresses(rest);
    place.address = address;
    if let Some(named) = symbol(rest) {
        return Some(Place {
            segment: place.segment,
            address,
            ..named
        });
    }
    if let Some(named) = decoded(rest) {
        return Some(Place {
            segment: place.segment,
            address,
            ..named
        });
    }
    // `Bad RIP value.` is no address.
    let bare = rest
        .split_whitespace()
        .next()
        .filter(|word| word.starts_with("0x") || word.len() >= 8)
        .and_then(hex);
    place.address = address.or(bare);
    place.address.map(|_| place)
}

/// Takes `[<ffffffff8103d1b5>]` off the front, as often as it is there.
fn addresses(mut text: &str) -> (Option<u64>, &str) {
    let mut address = None;
    while let Some((inside, rest)) = text
        .trim_start()
        .strip_prefix("[<")
        .and_then(|text| text.split_once(">]"))
    {
        address = hex(inside).or(address);
        text = rest;
    }
    (address, text.trim_start())
}

/// `name+0x67/0xc0 [module]`, up to the end of what belongs to it. Rust names may hold spaces.
fn symbol(text: &str) -> Option<Place> {
    let (name, rest) = text.split_once("+0x")?;
    let name = name.trim();
    if name.is_empty() || name.len() > 1000 {
        return None;
    }
    let (offset, rest) = leading_hex(rest)?;
    let (size, rest) = leading_hex(rest.strip_prefix("/0x")?)?;
    let module = rest
        .trim_start()
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
        // Since 5.14, a build id may follow the name.
        .and_then(|(inside, _)| inside.split_whitespace().next())
        .filter(|module| !module.starts_with('<'));
    Some(Place {
        segment: None,
        address: None,
        symbol: Some(name.to_owned()),
        offset,
        size,
        module: module.map(str::to_owned),
        source: None,
    })
}

/// `read_hpet (arch/x86/kernel/hpet.c:823 arch/x86/kernel/hpet.c:793)`, as the kernel's `decode_stacktrace.sh` has it. The
/// offset is lost.
fn decoded(text: &str) -> Option<Place> {
    let (name, rest) = text.split_once(" (")?;
    let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'$');
    if name.is_empty() || name.len() > 200 || !name.bytes().all(is_name) {
        return None;
    }
    let source = rest.split([' ', ')']).next()?;
    let (file, line) = source.rsplit_once(':')?;
    let is_line = !line.is_empty() && line.bytes().all(|b| b.is_ascii_digit());
    let is_file = [".c", ".h", ".S", ".rs"].iter().any(|end| file.ends_with(end));
    (is_line && is_file).then(|| Place {
        symbol: Some(name.to_owned()),
        source: Some(source.to_owned()),
        ..Place::default()
    })
}

/// `? func+0x1/0x2 [mod]`, `[<ffffffff8103d1b5>] ? func+0x1/0x2`, `<IRQ>  [<...>] func+0x1/0x2`, and hpetun's own, which
/// may say `at FILE:LINE` behind.
pub fn frame(line: &str) -> Option<Frame> {
    let mut rest = line;
    // `<IRQ>`, `</TASK>`, `<#DF>`, and before 4.14 `<<EOE>>`.
    while let Some(inner) = rest.strip_prefix("<<").or_else(|| rest.strip_prefix('<'))
        && let Some((mark, after)) = inner.split_once('>')
        && mark
            .trim_start_matches(['/', '#'])
            .bytes()
            .all(|b| b.is_ascii_uppercase())
    {
        rest = after.trim_start_matches('>').trim_start();
    }
    let (address, rest) = addresses(rest);
    let (doubtful, rest) = match rest.strip_prefix('?') {
        Some(rest) => (true, rest.trim_start()),
        None => (false, rest),
    };
    let place = symbol(rest).or_else(|| decoded(rest))?;
    // A sentence that mentions a place is no frame, nor is `hardirqs last  enabled at (9): [<...>] f+0x1/0x2`. Rust names may
    // hold spaces, within brackets.
    let name = place.symbol.as_deref().unwrap_or_default();
    let may_have_spaces = name.contains("::") && name.contains(['<', '{', '(']);
    if (name.contains(' ') && !may_have_spaces) || name.contains("[<") {
        return None;
    }
    Some(Frame {
        place: Place { address, ..place },
        doubtful,
    })
}

fn leading_hex(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(text.len());
    Some((u64::from_str_radix(&text[..end], 16).ok()?, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(symbol: &str, offset: u64, size: u64) -> Place {
        Place {
            symbol: Some(symbol.to_owned()),
            offset,
            size,
            ..Place::default()
        }
    }

    #[test]
    fn places_in_every_form() {
        let known = place("read_hpet", 0x67, 0xc0);
        let new = Place {
            segment: Some(0x10),
            ..known.clone()
        };
        assert_eq!(rip("0010:read_hpet+0x67/0xc0"), Some(new.clone()));
        assert_eq!(rip("read_hpet+0x67/0xc0"), Some(known.clone()));
        let old = Place {
            address: Some(0xffff_ffff_8103_d1b5),
            ..new
        };
        let text = "0010:[<ffffffff8103d1b5>]  [<ffffffff8103d1b5>] read_hpet+0x67/0xc0";
        assert_eq!(rip(text), Some(old));
        let user = rip("0033:0x7f0e1cf78aff").unwrap();
        assert!(user.is_user());
        assert_eq!((user.address, user.symbol), (Some(0x7f0e_1cf7_8aff), None));
        let module = rip("0010:wg_packet_tx_worker+0x183/0x220 [wireguard 0123abcd]").unwrap();
        assert_eq!(module.module.as_deref(), Some("wireguard"));
        assert_eq!(rip("Bad RIP value."), None);
        assert_eq!(rip(""), None);
        let rust = "0033:<clockshim::source::hpet_sim::HpetSim as clockshim::Clocksource>::read+0x150/0x5c0";
        let rust = rip(rust).unwrap();
        assert_eq!(
            rust.symbol.as_deref(),
            Some("<clockshim::source::hpet_sim::HpetSim as clockshim::Clocksource>::read")
        );
    }

    #[test]
    fn places_with_their_source_have_no_offset() {
        let text = "0010:read_hpet (arch/x86/kernel/hpet.c:823 arch/x86/kernel/hpet.c:793)";
        let found = rip(text).unwrap();
        assert_eq!(
            (found.symbol.as_deref(), found.segment),
            (Some("read_hpet"), Some(0x10))
        );
        assert_eq!(found.to_string(), "read_hpet (arch/x86/kernel/hpet.c:823)");
        let found = frame("? ktime_get (kernel/time/timekeeping.c:190 (discriminator 3))").unwrap();
        assert!(found.doubtful);
        assert_eq!(found.place.symbol.as_deref(), Some("ktime_get"));
        // The function that it is inlined into follows on a line of its own.
        assert_eq!(
            rip("0010:rep_nop arch/x86/include/asm/processor.h:13 [inline]"),
            None
        );
    }

    #[test]
    fn frames_in_every_form() {
        for (line, doubtful) in [
            ("wg_packet_tx_worker+0x183/0x220 [wireguard]", false),
            ("? wg_packet_tx_worker+0x183/0x220 [wireguard]", true),
            (
                "[<ffffffffa0123456>] ? wg_packet_tx_worker+0x183/0x220 [wireguard]",
                true,
            ),
            (
                "<IRQ>  [<ffffffffa0123456>] wg_packet_tx_worker+0x183/0x220 [wireguard]",
                false,
            ),
            (
                "<<EOE>>  [<ffffffffa0123456>] wg_packet_tx_worker+0x183/0x220 [wireguard]",
                false,
            ),
        ] {
            let frame = frame(line).unwrap();
            assert_eq!(frame.doubtful, doubtful, "{line}");
            assert_eq!(frame.place.symbol.as_deref(), Some("wg_packet_tx_worker"));
            assert_eq!(frame.place.module.as_deref(), Some("wireguard"));
        }
        for line in [
            "<TASK>",
            "Call Trace:",
            "It hung in read_hpet+0x67/0xc0",
            "hardirqs last  enabled at (91): [<ffffffff81693456>] f+0x36/0x60",
            "It hung (drivers/x.c:1)",
            "+0x1/0x2",
            "",
        ] {
            assert_eq!(frame(line), None, "{line}");
        }
    }
}
