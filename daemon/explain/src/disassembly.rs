//! The instructions of a `Code:` line. Their beginnings are not known; only that one of them is at RIP.

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, FormatMnemonicOptions, Formatter as _, GasFormatter,
    Instruction, Mnemonic, OpKind,
};

use super::trace::CodeBytes;

/// Longest instruction, in bytes.
const LONGEST: usize = 15;

#[derive(Debug, Clone)]
pub struct Disassembly {
    pub lines: Vec<Line>,
    /// Which of them RIP points to.
    pub at: usize,
    /// Bytes at the end of which the instruction is cut off.
    pub tail: Vec<u8>,
}

#[derive(Debug, Clone)]
pub struct Line {
    /// From the beginning of the function where that is known, else from RIP.
    pub offset: i64,
    pub bytes: Vec<u8>,
    pub instruction: Instruction,
    /// Gas syntax, as objdump has it. Branches name the offset that they go to.
    pub text: String,
}

/// The address that offset 0 is given, so that branches backwards stay above 0.
fn origin(bitness: u32) -> u64 {
    match bitness {
        64 => 1 << 40,
        _ => 1 << 31,
    }
}

/// Decodes `code`. `offset` is RIP's into its function, which begins no instruction before offset 0; `None` where that
/// is not known. `None` where nothing decodes at RIP.
pub fn disassemble(code: &CodeBytes, offset: Option<u64>, bitness: u32) -> Option<Disassembly> {
    let at = code.at;
    if at >= code.bytes.len() {
        return None;
    }
    let rip = offset
        .and_then(|offset| i64::try_from(offset).ok())
        .filter(|offset| *offset < 1 << 30);
    let function = rip.and_then(|rip| at.checked_sub(usize::try_from(rip).ok()?));
    let starts: Vec<usize> = match function {
        // The function begins in the bytes, and with it an instruction.
        Some(start) => vec![start],
        None => (0..=at.min(LONGEST)).collect(),
    };
    let reads = starts
        .into_iter()
        .filter_map(|start| read(code, start, rip.unwrap_or(0), bitness))
        .max_by_key(|read| (read.score, std::cmp::Reverse(read.start)));
    // Bytes that align nowhere (data between instructions): from RIP on all is well.
    let read = reads.or_else(|| read(code, at, rip.unwrap_or(0), bitness))?;
    Some(Disassembly {
        at: read.at,
        tail: code.bytes[read.end..].to_vec(),
        lines: format(code, &read, rip.unwrap_or(0), origin(bitness)),
    })
}

struct Read {
    start: usize,
    /// Index of the instruction at RIP.
    at: usize,
    /// After the last instruction that is whole.
    end: usize,
    instructions: Vec<Instruction>,
    score: i32,
}

/// Decodes from `start` on. `None` where that does not come by RIP.
fn read(code: &CodeBytes, start: usize, rip: i64, bitness: u32) -> Option<Read> {
    let address = origin(bitness)
        .checked_add_signed(rip)?
        .checked_add_signed(start as i64 - code.at as i64)?;
    let mut decoder = Decoder::with_ip(bitness, &code.bytes[start..], address, DecoderOptions::NONE);
    let mut instructions = Vec::new();
    let mut at = None;
    let mut end = start;
    while decoder.can_decode() {
        let instruction = decoder.decode();
        if instruction.is_invalid() {
            break;
        }
        if end == code.at {
            at = Some(instructions.len());
        }
        end += instruction.len();
        instructions.push(instruction);
    }
    let at = at?;
    let before = &instructions[..at];
    // A byte that is left out costs less than an instruction that no compiler makes.
    let score = -(start as i32) - before.iter().map(oddity).sum::<i32>() - stray_jumps(&instructions, at);
    Some(Read {
        start,
        at,
        end,
        instructions,
        score,
    })
}

/// How unlikely a compiler, or a person who writes a kernel, is to have made this: 0 for a usual instruction.
fn oddity(instruction: &Instruction) -> i32 {
    const ODD: i32 = 20;
    let mnemonic = instruction.mnemonic();
    let is_add_to_byte = instruction.code() == Code::Add_rm8_r8;
    let shifts_too_far = matches!(
        mnemonic,
        Mnemonic::Shl | Mnemonic::Shr | Mnemonic::Sar | Mnemonic::Sal | Mnemonic::Rol | Mnemonic::Ror
    ) && instruction.op1_kind() == OpKind::Immediate8
        && instruction.immediate8() >= 64;
    let never = matches!(
        mnemonic,
        Mnemonic::Rcl
            | Mnemonic::Rcr
            | Mnemonic::In
            | Mnemonic::Out
            | Mnemonic::Insb
            | Mnemonic::Insd
            | Mnemonic::Outsb
            | Mnemonic::Outsd
            | Mnemonic::Loop
            | Mnemonic::Loope
            | Mnemonic::Loopne
            | Mnemonic::Jrcxz
            | Mnemonic::Enter
            | Mnemonic::Retf
            | Mnemonic::Xlatb
            | Mnemonic::Cmc
            | Mnemonic::Stc
            | Mnemonic::Lahf
            | Mnemonic::Sahf
            | Mnemonic::Cmpsb
            | Mnemonic::Cmpsd
            | Mnemonic::Scasd
            | Mnemonic::Lodsb
            | Mnemonic::Lodsd
            | Mnemonic::Int
            | Mnemonic::Int1
            | Mnemonic::Hlt
            | Mnemonic::Fadd
            | Mnemonic::Fmul
    );
    // What a function takes off the stack is a few words.
    let returns_oddly = instruction.flow_control() == FlowControl::Return
        && instruction.op_count() == 1
        && (instruction.immediate16() > 64 || !instruction.immediate16().is_multiple_of(4));
    let odd_segment = instruction.has_segment_prefix() && mnemonic != Mnemonic::Nop && {
        use iced_x86::Register::{CS, DS, ES, SS};
        matches!(instruction.segment_prefix(), CS | DS | ES | SS)
    };
    let in_bytes =
        matches!(mnemonic, Mnemonic::Adc | Mnemonic::Sbb) && instruction.op0_kind() == OpKind::Memory;
    ODD * (i32::from(is_add_to_byte)
        + i32::from(shifts_too_far)
        + i32::from(never)
        + i32::from(returns_oddly)
        + i32::from(odd_segment)
        + i32::from(in_bytes))
}

/// A jump into the middle of an instruction says that one of the two is none.
fn stray_jumps(instructions: &[Instruction], at: usize) -> i32 {
    let (first, last) = (
        instructions[0].ip(),
        instructions[instructions.len() - 1].next_ip(),
    );
    let lands = |target: u64| instructions.iter().any(|instruction| instruction.ip() == target);
    let stray = |(index, jump): &(usize, &Instruction)| {
        let target = jump.near_branch_target();
        let touches = *index < at || target < instructions[at].ip();
        is_jump(jump) && touches && (first..last).contains(&target) && !lands(target)
    };
    20 * instructions.iter().enumerate().filter(stray).count() as i32
}

pub fn is_jump(instruction: &Instruction) -> bool {
    let is_near = matches!(
        instruction.op0_kind(),
        OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64
    );
    let jumps = matches!(
        instruction.flow_control(),
        FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch
    );
    is_near && jumps
}

fn format(code: &CodeBytes, read: &Read, rip: i64, origin: u64) -> Vec<Line> {
    let mut formatter = GasFormatter::new();
    let options = formatter.options_mut();
    options.set_rip_relative_addresses(true);
    options.set_space_after_operand_separator(false);
    options.set_uppercase_hex(false);
    options.set_small_hex_numbers_in_decimal(false);
    options.set_branch_leading_zeros(false);
    options.set_displacement_leading_zeros(false);
    let mut from = read.start;
    read.instructions
        .iter()
        .map(|instruction| {
            let mut text = String::new();
            let target = instruction.near_branch_target();
            if matches!(
                instruction.op0_kind(),
                OpKind::NearBranch64 | OpKind::NearBranch32
            ) {
                formatter.format_mnemonic_options(instruction, &mut text, FormatMnemonicOptions::NONE);
                text = format!("{text} {}", Offset(target.wrapping_sub(origin) as i64));
            } else {
                formatter.format(instruction, &mut text);
            }
            let bytes = code.bytes[from..from + instruction.len()].to_vec();
            let offset = rip + from as i64 - code.at as i64;
            from += instruction.len();
            Line {
                offset,
                bytes,
                instruction: *instruction,
                text,
            }
        })
        .collect()
}

/// `+0x67`, `-0x2`
pub struct Offset(pub i64);

impl std::fmt::Display for Offset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sign = if self.0 < 0 { '-' } else { '+' };
        f.pad(&format!("{sign}{:#x}", self.0.unsigned_abs()))
    }
}

impl Disassembly {
    pub fn instruction(&self, index: usize) -> &Instruction {
        &self.lines[index].instruction
    }

    /// The line that begins where `jump` goes to, if it is in sight.
    pub fn target(&self, jump: &Instruction) -> Option<usize> {
        let target = jump.near_branch_target();
        self.lines.iter().position(|line| line.instruction.ip() == target)
    }
}
