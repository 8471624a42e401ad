//! Addresses of this process made into names: of its own code, of libraries, of the kernel's vDSO.
//!
//! Taken from the files when a report is made and forgotten once nobody is stalled any more: tables of megabytes for
//! something that hopefully never happens. Files are mapped, and a table is made of one when an address in it is asked for: a report should not wait
//! for what it does not need.

use std::cell::OnceCell;
use std::fs;
use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::Arc;

use addr2line::Loader;
use memmap2::Mmap;
use object::{Object as _, ObjectSegment as _, ObjectSymbol as _};

use stall_report::report::Frame;
use sys::capture::read_memory;
use sys::mapping;

const OWN: &str = "/proc/self/exe";

/// The code that is mapped into this process.
#[derive(Debug)]
pub struct Symbols {
    modules: Vec<Module>,
}

/// One mapped file.
pub struct Module {
    pub name: String,
    /// Addresses of its code.
    pub range: Range<u64>,
    /// Addresses in memory minus those in the file.
    pub bias: u64,
    pub bytes: Bytes,
    symbols: OnceCell<Vec<Symbol>>,
    lines: OnceCell<Option<Loader>>,
    is_own: bool,
}

/// A part of a file, or of memory.
#[derive(Debug, Clone)]
pub struct Bytes {
    whole: Arc<Whole>,
    range: Range<usize>,
}

#[derive(Debug)]
enum Whole {
    File(Mmap),
    Memory(Vec<u8>),
}

/// An entry of a symbol table, to be sorted by address.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Symbol {
    start: u64,
    size: u64,
    mangled: String,
}

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {:#x?}", self.name, self.range)
    }
}

impl Symbols {
    /// Reads the symbols of everything that is mapped. What cannot be read has no names.
    pub fn read() -> Self {
        let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let modules = maps.lines().filter_map(Mapping::parse).filter_map(Module::load);
        Self {
            modules: modules.collect(),
        }
    }

    pub fn modules(&self) -> &[Module] {
        &self.modules
    }

    /// The frames at one address, innermost first: more than one where functions were inlined into another.
    ///
    /// A return address belongs to the call before it.
    pub fn frames(&self, address: u64, is_return: bool) -> Vec<Frame> {
        let look = address - u64::from(is_return);
        let Some(module) = self.modules.iter().find(|module| module.range.contains(&look)) else {
            return vec![Frame {
                address,
                ..Frame::default()
            }];
        };
        module.frames(address, look)
    }
}

impl Module {
    fn load(mapping: Mapping<'_>) -> Option<Self> {
        let range = mapping.range.clone();
        let own = fs::read_link(OWN).ok();
        let is_own = own.is_some_and(|own| own.as_os_str() == mapping.path);
        let whole = if mapping.path == "[vdso]" {
            let mut bytes = vec![0; usize::try_from(range.end - range.start).ok()?];
            let read = read_memory(range.start, &mut bytes);
            bytes.truncate(read);
            Whole::Memory(bytes)
        } else {
            // The file may have been replaced since; the link still leads to the one that runs.
            let path = Path::new(if is_own { OWN } else { mapping.path });
            Whole::File(mapping::of_running_code(path).ok()?)
        };
        let bytes = Bytes::from(whole);
        let file = object::File::parse(&*bytes).ok()?;
        // A mapping begins on the page that its segment begins on, where the segment before may end.
        let bias = file.segments().filter_map(|segment| {
            let (offset, size) = segment.file_range();
            let pages = offset & !0xfff..offset + size;
            pages
                .contains(&mapping.offset)
                .then(|| (mapping.range.start - mapping.offset + offset).wrapping_sub(segment.address()))
        });
        let bias = bias.last();
        Some(Self {
            name: mapping.path.rsplit('/').next().unwrap_or_default().to_owned(),
            range,
            bias: bias?,
            symbols: OnceCell::new(),
            lines: OnceCell::new(),
            is_own,
            bytes,
        })
    }

    fn frames(&self, address: u64, look: u64) -> Vec<Frame> {
        let in_file = look.wrapping_sub(self.bias);
        let module = (!self.is_own).then(|| self.name.clone());
        let outer = self.symbol_at(in_file);
        let whole = Frame {
            address,
            symbol: outer.map(|symbol| demangle(&symbol.mangled)),
            offset: outer.map_or(address - self.range.start, |symbol| {
                address.wrapping_sub(self.bias) - symbol.start
            }),
            size: outer.map_or(0, |symbol| symbol.size),
            module,
            ..Frame::default()
        };
        let mut frames = self.inlined(in_file, &whole);
        match frames.last_mut() {
            // The symbol table's name for the function itself: line tables shorten it.
            Some(last) => {
                last.inlined = false;
                last.symbol = whole.symbol.or(last.symbol.take());
            }
            None => frames.push(whole),
        }
        frames
    }

    fn inlined(&self, in_file: u64, whole: &Frame) -> Vec<Frame> {
        let mut frames = Vec::new();
        let Some(mut found) = self.lines().and_then(|lines| lines.find_frames(in_file).ok()) else {
            return frames;
        };
        while let Ok(Some(frame)) = found.next() {
            let name = frame
                .function
                .and_then(|name| Some(demangle(&name.raw_name().ok()?)));
            let location = frame
                .location
                .and_then(|at| Some(format!("{}:{}", short(at.file?), at.line?)));
            frames.push(Frame {
                symbol: name,
                inlined: true,
                location,
                ..whole.clone()
            });
        }
        frames
    }

    /// The line tables of our own code. Those of a library are seldom there.
    fn lines(&self) -> Option<&Loader> {
        let read = || self.is_own.then(|| Loader::new(OWN).ok()).flatten();
        self.lines.get_or_init(read).as_ref()
    }

    fn symbol_at(&self, in_file: u64) -> Option<&Symbol> {
        let symbols = self.symbols.get_or_init(|| table(&self.bytes));
        let after = symbols.partition_point(|symbol| symbol.start <= in_file);
        let symbol = symbols[..after].last()?;
        (in_file < symbol.start + symbol.size).then_some(symbol)
    }
}

/// The symbols of a file by address.
fn table(file: &[u8]) -> Vec<Symbol> {
    let Ok(file) = object::File::parse(file) else {
        return Vec::new();
    };
    let mut symbols: Vec<_> = file
        .symbols()
        .chain(file.dynamic_symbols())
        .filter(|symbol| symbol.is_definition() && symbol.size() > 0)
        .filter_map(|symbol| {
            Some(Symbol {
                start: symbol.address(),
                size: symbol.size(),
                mangled: symbol.name().ok()?.to_owned(),
            })
        })
        .collect();
    symbols.sort();
    symbols
}

impl Bytes {
    /// The part with those bytes of this one, if it has them.
    pub fn part(&self, range: Range<u64>) -> Option<Self> {
        let at = |offset| self.range.start.checked_add(usize::try_from(offset).ok()?);
        let range = at(range.start)?..at(range.end)?;
        (range.start <= range.end && range.end <= self.range.end).then(|| Self {
            whole: self.whole.clone(),
            range,
        })
    }
}

impl Default for Bytes {
    fn default() -> Self {
        Self::from(Whole::Memory(Vec::new()))
    }
}

impl From<Whole> for Bytes {
    fn from(whole: Whole) -> Self {
        let range = 0..match &whole {
            Whole::File(file) => file.len(),
            Whole::Memory(bytes) => bytes.len(),
        };
        Self {
            whole: Arc::new(whole),
            range,
        }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let whole: &[u8] = match &*self.whole {
            Whole::File(file) => file,
            Whole::Memory(bytes) => bytes,
        };
        &whole[self.range.clone()]
    }
}

/// Without the hash at the end of a Rust name.
fn demangle(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}

/// From the root of this project, or of the library: the folder that it was built in tells a reader nothing.
fn short(path: &str) -> String {
    const MEMBER: &str = env!("CARGO_MANIFEST_DIR");
    let own = MEMBER
        .strip_suffix("daemon/watchdog")
        .and_then(|root| path.strip_prefix(root))
        .filter(|path| path.starts_with("daemon/") || path.starts_with("clockshim/"));
    if let Some(path) = own {
        return path.to_owned();
    }
    let parts: Vec<_> = path.rsplit('/').take(4).collect();
    let from = parts
        .iter()
        .position(|part| *part == "src")
        .map_or(parts.len(), |src| src + 2);
    let parts = &parts[..from.min(parts.len())];
    parts.iter().rev().copied().collect::<Vec<_>>().join("/")
}

/// A line of `/proc/self/maps` that maps code.
struct Mapping<'a> {
    range: Range<u64>,
    offset: u64,
    path: &'a str,
}

impl<'a> Mapping<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.splitn(6, ' ');
        let (start, end) = fields.next()?.split_once('-')?;
        let is_code = fields.next()?.contains('x');
        let number = |text| u64::from_str_radix(text, 16).ok();
        let offset = number(fields.next()?)?;
        let path = fields.nth(2)?.trim_start();
        (is_code && (path.starts_with('/') || path == "[vdso]")).then_some(())?;
        Some(Self {
            range: number(start)?..number(end)?,
            offset,
            path,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_code_and_libraries_have_names() {
        let symbols = Symbols::read();
        let own = Symbols::read as fn() -> Symbols as usize as u64;
        let frames = symbols.frames(own + 4, false);
        let last = frames.last().unwrap();
        assert_eq!(
            last.symbol.as_deref(),
            Some("hpetun_watchdog::evidence::symbols::Symbols::read")
        );
        assert!(
            last.offset == 4 && last.size > 4 && last.module.is_none(),
            "{last:?}"
        );
        assert!(
            last.location
                .as_ref()
                .is_some_and(|at| at.starts_with(concat!(file!(), ":"))),
            "{frames:?}"
        );
        let poll = libc::poll as *const () as u64;
        let frame = symbols.frames(poll, false).pop().unwrap();
        assert!(
            frame.symbol.as_ref().is_some_and(|name| name.contains("poll")),
            "{frame:?}"
        );
        assert!(frame.module.as_ref().is_some_and(|name| name.starts_with("libc")));
        assert!(symbols.modules().iter().any(|module| module.name == "[vdso]"));
        assert_eq!(symbols.frames(8, false)[0].symbol, None);
    }

    #[test]
    fn paths_are_shortened_to_the_project_or_the_crate() {
        let own = concat!(env!("CARGO_MANIFEST_DIR"), "/src/evidence/symbols.rs");
        assert_eq!(short(own), "daemon/watchdog/src/evidence/symbols.rs");
        assert_eq!(
            short("/home/x/hpetun/clockshim/src/hpet/lock.rs"),
            "clockshim/src/hpet/lock.rs"
        );
        assert_eq!(
            short("clockshim/src/timekeeper.rs"),
            "clockshim/src/timekeeper.rs"
        );
        assert_eq!(short("x.rs"), "x.rs");
    }
}
