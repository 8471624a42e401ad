//! A backtrace out of registers and a copy of the stack, by the unwind tables; by frame pointers where there are none.

use framehop::{
    CacheNative, ExplicitModuleSectionInfo, FrameAddress, MayAllocateDuringUnwind, UnwindRegsNative,
    Unwinder as _, UnwinderNative,
};
use object::{Object as _, ObjectSection as _};

use crate::evidence::symbols::{Bytes, Module, Symbols};
use stall_report::report::Frame;
use sys::capture::Snapshot;

/// Lines of one backtrace at most, inlined functions not counted.
const MOST_FRAMES: usize = 48;

/// Unwinds the stacks of this process, and names what it finds.
pub struct Unwinder {
    symbols: Symbols,
    tables: UnwinderNative<Bytes, MayAllocateDuringUnwind>,
    cache: CacheNative<MayAllocateDuringUnwind>,
}

impl std::fmt::Debug for Unwinder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Unwinder")
    }
}

impl Unwinder {
    pub fn read() -> Self {
        let symbols = Symbols::read();
        let mut tables = UnwinderNative::new();
        for module in symbols.modules() {
            tables.add_module(table_of(module));
        }
        Self {
            symbols,
            tables,
            cache: CacheNative::new(),
        }
    }

    /// The frames of a thread, innermost first.
    pub fn backtrace(&mut self, snapshot: &Snapshot) -> Vec<Frame> {
        self.addresses(snapshot)
            .into_iter()
            .flat_map(|address| match address {
                FrameAddress::InstructionPointer(address) => self.symbols.frames(address, false),
                FrameAddress::ReturnAddress(address) => self.symbols.frames(address.get(), true),
            })
            .collect()
    }

    fn addresses(&mut self, snapshot: &Snapshot) -> Vec<FrameAddress> {
        let registers = &snapshot.registers;
        let stack = &snapshot.stack[..snapshot.stack_len];
        let mut read = |address: u64| {
            let at = address.checked_sub(registers.rsp).ok_or(())? as usize;
            let word = stack.get(at..at.checked_add(8).ok_or(())?).ok_or(())?;
            Ok(u64::from_ne_bytes(word.try_into().map_err(|_| ())?))
        };
        let start = UnwindRegsNative::new(registers.rip, registers.rsp, registers.general[6]);
        let mut frames = self
            .tables
            .iter_frames(registers.rip, start, &mut self.cache, &mut read);
        let mut addresses = Vec::new();
        // An error ends the backtrace: what there is, is right.
        while let Ok(Some(frame)) = frames.next() {
            addresses.push(frame);
            if addresses.len() == MOST_FRAMES {
                break;
            }
        }
        addresses
    }
}

fn table_of(module: &Module) -> framehop::Module<Bytes> {
    let mut sections = ExplicitModuleSectionInfo::default();
    if let Ok(file) = object::File::parse(&*module.bytes) {
        let section = |name: &str| {
            let section = file.section_by_name(name)?;
            let (offset, size) = section.file_range()?;
            let data = module.bytes.part(offset..offset.checked_add(size)?)?;
            Some((section.address()..section.address() + section.size(), data))
        };
        if let Some((range, data)) = section(".eh_frame") {
            (sections.eh_frame_svma, sections.eh_frame) = (Some(range), Some(data));
        }
        if let Some((range, data)) = section(".eh_frame_hdr") {
            (sections.eh_frame_hdr_svma, sections.eh_frame_hdr) = (Some(range), Some(data));
        }
        if let Some((range, data)) = section(".text") {
            (sections.text_svma, sections.text) = (Some(range), Some(data));
        }
    }
    // Addresses in the file begin at zero, so that the bias is where the file is in memory.
    framehop::Module::new(module.name.clone(), module.range.clone(), module.bias, sections)
}
