//! Runs a few instructions with unknowns instead of numbers, to learn what is in which register, whatever compiler chose it.

use iced_x86::{
    ConditionCode, Instruction, InstructionInfoFactory, MemorySize, Mnemonic, OpAccess, OpKind, Register,
};

use super::trace::number;

/// The upper half of a word.
pub const HIGH: u64 = 0xffff_ffff_0000_0000;
const LOW: u64 = 0xffff_ffff;

/// What a register holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expr {
    /// What this register held at the beginning.
    Entry(usize),
    Load(Load),
    Const(u64),
    /// 64 bits shifted down by 32.
    Upper(Box<Expr>),
    /// The low 32 bits.
    Lower(Box<Expr>),
    Xor(Box<Expr>, Box<Expr>),
    And(Box<Expr>, u64),
    /// EFLAGS, saved.
    Flags,
    /// Something else; equal numbers are equal things.
    Opaque(u32),
}

/// What was in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Load {
    /// Line of the disassembly.
    pub line: usize,
    /// Which pass of a loop loaded it.
    pub pass: u32,
    pub bytes: usize,
    pub address: Address,
}

/// A memory operand: registers by number, with what they held at the beginning if they still do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub base: Option<usize>,
    pub index: Option<usize>,
    /// With the base RIP: the address that the disassembly gives it.
    pub displacement: u64,
    pub relative_to_rip: bool,
}

impl Address {
    pub fn of(instruction: &Instruction) -> Address {
        Address {
            base: number(instruction.memory_base()),
            index: number(instruction.memory_index()),
            displacement: instruction.memory_displacement64(),
            relative_to_rip: instruction.is_ip_rel_memory_operand(),
        }
    }

    /// The address that is so many bytes on.
    pub fn plus(&self, bytes: u64) -> Address {
        Address {
            displacement: self.displacement.wrapping_add(bytes),
            ..self.clone()
        }
    }
}

impl Expr {
    pub fn upper(self) -> Expr {
        match self {
            Expr::And(inner, mask) if mask & HIGH == HIGH => Expr::Upper(inner),
            Expr::Const(number) => Expr::Const(number >> 32),
            other => Expr::Upper(Box::new(other)),
        }
    }

    pub fn lower(self) -> Expr {
        match self {
            Expr::Upper(_) | Expr::Lower(_) | Expr::Flags => self,
            Expr::Load(ref load) if load.bytes <= 4 => self,
            Expr::And(_, mask) if mask <= LOW => self,
            Expr::Const(number) => Expr::Const(number & LOW),
            other => Expr::Lower(Box::new(other)),
        }
    }

    fn and(self, mask: u64) -> Expr {
        match self {
            Expr::Const(number) => Expr::Const(number & mask),
            other if mask == LOW => other.lower(),
            other => Expr::And(Box::new(other), mask),
        }
    }

    /// Cut to the size of an operand.
    fn cut(self, bytes: usize) -> Expr {
        match bytes {
            1 => self.and(0xff),
            2 => self.and(0xffff),
            4 => self.lower(),
            _ => self,
        }
    }

    /// The load that it is made of, if it is made of one.
    pub fn load(&self) -> Option<&Load> {
        match self {
            Expr::Load(load) => Some(load),
            Expr::Upper(inner) | Expr::Lower(inner) | Expr::And(inner, _) => inner.load(),
            Expr::Xor(left, right) => left.load().or_else(|| right.load()),
            _ => None,
        }
    }

    fn depth(&self) -> usize {
        match self {
            Expr::Upper(inner) | Expr::Lower(inner) | Expr::And(inner, _) => 1 + inner.depth(),
            Expr::Xor(left, right) => 1 + left.depth().max(right.depth()),
            _ => 0,
        }
    }
}

/// What the flags tell of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flags {
    /// `cmp`, `sub`
    Compared(Expr, Expr),
    /// `test`, and the result of an operation: of this, whether it is zero.
    Zero(Expr),
    Unknown,
}

/// A conditional jump on the way, and how it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    pub line: usize,
    /// What holds on this way.
    pub holds: ConditionCode,
    pub flags: Flags,
}

/// The state of a processor that runs with unknowns.
#[derive(Debug, Clone)]
pub struct State {
    pub registers: [Expr; 16],
    flags: Flags,
    stack: Vec<Expr>,
    opaque: u32,
    pass: u32,
    pub conditions: Vec<Condition>,
}

impl Default for State {
    fn default() -> State {
        State {
            registers: std::array::from_fn(Expr::Entry),
            flags: Flags::Unknown,
            stack: Vec::new(),
            opaque: 0,
            pass: 0,
            conditions: Vec::new(),
        }
    }
}

impl State {
    /// Goes on as the next pass of a loop: what the last one left alone is still what it was.
    pub fn next_pass(&mut self) {
        self.pass += 1;
        self.conditions.clear();
    }

    /// Every register that holds `expr` holds saved flags.
    pub fn are_flags(&mut self, expr: &Expr) {
        if matches!(expr, Expr::Const(_)) {
            return;
        }
        for register in &mut self.registers {
            if register == expr {
                *register = Expr::Flags;
            }
        }
    }

    pub fn jumped(&mut self, line: usize, condition: ConditionCode) {
        self.conditions.push(Condition {
            line,
            holds: condition,
            flags: self.flags.clone(),
        });
    }

    fn new_opaque(&mut self) -> Expr {
        self.opaque += 1;
        // Apart from what other passes have made up.
        Expr::Opaque(self.opaque)
    }

    pub fn operand(&mut self, line: usize, instruction: &Instruction, operand: u32) -> Expr {
        let kind = instruction.op_kind(operand);
        match kind {
            OpKind::Register => {
                let register = instruction.op_register(operand);
                let is_high_byte = matches!(
                    register,
                    Register::AH | Register::BH | Register::CH | Register::DH
                );
                match number(register) {
                    Some(number) if !is_high_byte => self.registers[number].clone().cut(register.size()),
                    _ => self.new_opaque(),
                }
            }
            OpKind::Memory => {
                let bytes = instruction.memory_size().size();
                if instruction.memory_size() == MemorySize::Unknown || !matches!(bytes, 1 | 2 | 4 | 8) {
                    return self.new_opaque();
                }
                Expr::Load(Load {
                    line,
                    pass: self.pass,
                    bytes,
                    address: Address::of(instruction),
                })
            }
            _ => match instruction.try_immediate(operand) {
                Ok(number) => Expr::Const(number),
                Err(_) => self.new_opaque(),
            },
        }
    }

    /// Runs one instruction; jumps are for [`State::jumped`].
    pub fn run(&mut self, line: usize, instruction: &Instruction) {
        let to = instruction.op0_register();
        match instruction.mnemonic() {
            Mnemonic::Mov | Mnemonic::Movzx if instruction.op0_kind() == OpKind::Register => {
                let from = self.operand(line, instruction, 1);
                self.write(to, from);
            }
            Mnemonic::Shr
                if instruction.op1_kind() == OpKind::Immediate8 && instruction.immediate8() == 32 =>
            {
                let result = self.operand(line, instruction, 0).upper();
                self.result(to, result);
            }
            Mnemonic::Xor if instruction.op0_kind() == OpKind::Register => {
                let (left, right) = self.operands(line, instruction);
                let result = match left == right {
                    true => Expr::Const(0),
                    false => Expr::Xor(Box::new(left), Box::new(right)),
                };
                self.result(to, result);
            }
            Mnemonic::And if instruction.op0_kind() == OpKind::Register => {
                let result = match self.operands(line, instruction) {
                    (left, Expr::Const(mask)) | (Expr::Const(mask), left) => left.and(mask),
                    _ => self.new_opaque(),
                };
                self.result(to, result);
            }
            Mnemonic::Cmp => {
                let (left, right) = self.operands(line, instruction);
                self.flags = match right {
                    Expr::Const(0) => Flags::Zero(left),
                    right => Flags::Compared(left, right),
                };
            }
            Mnemonic::Sub if instruction.op0_kind() == OpKind::Register => {
                let (left, right) = self.operands(line, instruction);
                let result = self.new_opaque();
                self.write(to, result);
                self.flags = Flags::Compared(left, right);
            }
            Mnemonic::Test => {
                let (left, right) = self.operands(line, instruction);
                self.flags = match (left, right) {
                    (left, right) if left == right => Flags::Zero(left),
                    (left, Expr::Const(mask)) => Flags::Zero(left.and(mask)),
                    _ => Flags::Unknown,
                };
            }
            Mnemonic::Push => {
                let pushed = self.operand(line, instruction, 0);
                self.stack.push(pushed);
            }
            Mnemonic::Pushfq | Mnemonic::Pushfd => self.stack.push(Expr::Flags),
            Mnemonic::Pop if instruction.op0_kind() == OpKind::Register => {
                let popped = self.stack.pop();
                let popped = popped.unwrap_or_else(|| self.new_opaque());
                self.write(to, popped);
            }
            Mnemonic::Popfq | Mnemonic::Popfd => {
                if let Some(flags) = self.stack.pop() {
                    self.are_flags(&flags);
                }
                self.flags = Flags::Unknown;
            }
            Mnemonic::Call => self.call(),
            _ => self.other(instruction),
        }
    }

    fn operands(&mut self, line: usize, instruction: &Instruction) -> (Expr, Expr) {
        let left = self.operand(line, instruction, 0);
        (left, self.operand(line, instruction, 1))
    }

    fn result(&mut self, to: Register, result: Expr) {
        self.flags = Flags::Zero(result.clone());
        self.write(to, result);
    }

    fn write(&mut self, to: Register, value: Expr) {
        const DEEPEST: usize = 6;
        let Some(number) = number(to) else {
            return;
        };
        self.registers[number] = match to.size() {
            8 if value.depth() <= DEEPEST => value,
            4 if value.depth() < DEEPEST => value.lower(),
            _ => self.new_opaque(),
        };
    }

    /// The registers that a function may use as it likes.
    fn call(&mut self) {
        for number in [0, 1, 2, 6, 7, 8, 9, 10, 11] {
            self.registers[number] = self.new_opaque();
        }
        self.flags = Flags::Unknown;
    }

    fn other(&mut self, instruction: &Instruction) {
        let mut factory = InstructionInfoFactory::new();
        for used in factory.info(instruction).used_registers() {
            let writes = matches!(
                used.access(),
                OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
            );
            if let Some(number) = number(used.register()).filter(|_| writes) {
                self.registers[number] = self.new_opaque();
            }
        }
        if instruction.rflags_modified() != 0 {
            self.flags = Flags::Unknown;
        }
    }
}

pub fn negated(condition: ConditionCode) -> ConditionCode {
    use ConditionCode as C;
    match condition {
        C::o => C::no,
        C::no => C::o,
        C::b => C::ae,
        C::ae => C::b,
        C::e => C::ne,
        C::ne => C::e,
        C::be => C::a,
        C::a => C::be,
        C::s => C::ns,
        C::ns => C::s,
        C::p => C::np,
        C::np => C::p,
        C::l => C::ge,
        C::ge => C::l,
        C::le => C::g,
        C::g => C::le,
        C::None => C::None,
    }
}
