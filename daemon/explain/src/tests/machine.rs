//! A machine that runs the few instructions of a reader with real numbers, and can stop anywhere: so the truth is known
//! that the explanation of its registers has to find.

use std::fmt::Write as _;

use iced_x86::{ConditionCode, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

use super::super::disassembly::is_jump;
use super::super::trace::{GENERAL, number};

/// One function that a compiler made.
pub struct Reader {
    pub name: &'static str,
    pub address: u64,
    /// Of the lock word.
    pub word_at: u64,
    pub bytes: Vec<u8>,
}

/// All of `readers.txt`.
pub fn readers() -> Vec<Reader> {
    let hex = |text: &str| u64::from_str_radix(text, 16).unwrap();
    include_str!("readers.txt")
        .lines()
        .map(|line| {
            let [name, address, word_at, bytes] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
            Reader {
                name,
                address: hex(address),
                word_at: hex(word_at),
                bytes: (0..bytes.len())
                    .step_by(2)
                    .map(|at| u8::from_str_radix(&bytes[at..at + 2], 16).unwrap())
                    .collect(),
            }
        })
        .collect()
}

/// What a run is to meet.
#[derive(Debug, Clone, Copy)]
pub struct World {
    /// Whether the lock is held at the first look; if not, another one takes it before our try.
    pub held_at_entry: bool,
    /// The value in the word, all along.
    pub value: u32,
    /// The lock half while it is held.
    pub lock: u32,
    pub interrupts: bool,
    pub callers: [u64; 16],
}

pub struct Machine<'a> {
    reader: &'a Reader,
    world: World,
    pub registers: [u64; 16],
    pub rip: u64,
    pub flags: u64,
    stack: Vec<u64>,
    /// Looks at the word so far.
    pub looks: u32,
}

const CF: u64 = 1;
const ZF: u64 = 1 << 6;
const SF: u64 = 1 << 7;
const IF: u64 = 1 << 9;

impl<'a> Machine<'a> {
    pub fn new(reader: &'a Reader, world: World) -> Machine<'a> {
        Machine {
            reader,
            world,
            registers: world.callers,
            rip: reader.address,
            flags: 2 | if world.interrupts { IF } else { 0 },
            stack: Vec::new(),
            looks: 0,
        }
    }

    pub fn instruction(&self) -> Instruction {
        let at = (self.rip - self.reader.address) as usize;
        Decoder::with_ip(64, &self.reader.bytes[at..], self.rip, DecoderOptions::NONE).decode()
    }

    pub fn step(&mut self) {
        let instruction = self.instruction();
        self.rip = instruction.next_ip();
        let bits = operand_bytes(&instruction) * 8;
        let mask = if bits == 64 { !0 } else { (1u64 << bits) - 1 };
        match instruction.mnemonic() {
            Mnemonic::Nop | Mnemonic::Pause | Mnemonic::Endbr64 => {}
            Mnemonic::Cli => self.flags &= !IF,
            Mnemonic::Sti => self.flags |= IF,
            Mnemonic::Mov | Mnemonic::Movzx => {
                let value = self.read(&instruction, 1);
                self.write(&instruction, value);
            }
            Mnemonic::Push => self.stack.push(self.read_register(instruction.op0_register())),
            Mnemonic::Pushfq => self.stack.push(self.flags),
            Mnemonic::Pop => {
                let value = self.stack.pop().unwrap();
                self.write(&instruction, value);
            }
            Mnemonic::Popfq => self.flags = self.stack.pop().unwrap(),
            Mnemonic::Shr => {
                let value = self.read(&instruction, 0) >> instruction.immediate8();
                self.result(&instruction, value, bits);
            }
            Mnemonic::Xor => {
                let value = self.read(&instruction, 0) ^ self.read(&instruction, 1);
                self.result(&instruction, value, bits);
            }
            Mnemonic::And => {
                let value = self.read(&instruction, 0) & self.read(&instruction, 1);
                self.result(&instruction, value, bits);
            }
            Mnemonic::Test => {
                let value = self.read(&instruction, 0) & self.read(&instruction, 1) & mask;
                self.set_flags(value, bits, false);
            }
            Mnemonic::Cmp => {
                let (left, right) = (
                    self.read(&instruction, 0) & mask,
                    self.read(&instruction, 1) & mask,
                );
                self.set_flags(left.wrapping_sub(right) & mask, bits, left < right);
            }
            Mnemonic::Bt => {
                let bit = self.read(&instruction, 0) >> self.read(&instruction, 1) & 1;
                self.flags = self.flags & !CF | bit;
            }
            Mnemonic::Sete => {
                let value = u64::from(self.flags & ZF != 0);
                self.write(&instruction, value);
            }
            // Always too late.
            Mnemonic::Cmpxchg => {
                self.registers[0] = self.world.lock.into();
                self.flags &= !ZF;
            }
            _ if is_jump(&instruction) => {
                if self.holds(instruction.condition_code()) {
                    self.rip = instruction.near_branch_target();
                }
            }
            other => panic!("{}: no {other:?} here", self.reader.name),
        }
    }

    fn holds(&self, condition: ConditionCode) -> bool {
        let set = |flag: u64| self.flags & flag != 0;
        match condition {
            ConditionCode::None => true,
            ConditionCode::e => set(ZF),
            ConditionCode::ne => !set(ZF),
            ConditionCode::b => set(CF),
            ConditionCode::ae => !set(CF),
            other => panic!("no {other:?} here"),
        }
    }

    fn read(&mut self, instruction: &Instruction, operand: u32) -> u64 {
        match instruction.op_kind(operand) {
            OpKind::Register => self.read_register(instruction.op_register(operand)),
            OpKind::Memory => self.load(instruction),
            _ => instruction.immediate(operand),
        }
    }

    fn read_register(&self, register: Register) -> u64 {
        let whole = self.registers[number(register).unwrap()];
        match register.size() {
            8 => whole,
            4 => whole & 0xffff_ffff,
            1 if register == Register::DH => whole >> 8 & 0xff,
            1 => whole & 0xff,
            size => panic!("no register of {size} bytes here"),
        }
    }

    fn load(&mut self, instruction: &Instruction) -> u64 {
        let base = match instruction.memory_base() {
            Register::None | Register::RIP => 0,
            base => self.registers[number(base).unwrap()],
        };
        let address = base.wrapping_add(instruction.memory_displacement64());
        if address != self.reader.word_at {
            // `depth` and `counter_base`: not in an NMI.
            return 0;
        }
        self.looks += u32::from(operand_bytes(instruction) == 8);
        let first = self.looks == 1 && operand_bytes(instruction) == 8;
        let is_try = operand_bytes(instruction) == 4;
        let lock = match (first, self.world.held_at_entry) {
            (true, false) => 0,
            // The try looks once more before it asks for the bus.
            _ if is_try => 0,
            _ => self.world.lock,
        };
        u64::from(self.world.value) << 32 | u64::from(lock)
    }

    fn write(&mut self, instruction: &Instruction, value: u64) {
        let register = instruction.op0_register();
        let slot = &mut self.registers[number(register).unwrap()];
        *slot = match register.size() {
            8 => value,
            4 => value & 0xffff_ffff,
            1 if register == Register::DH => *slot & !0xff00 | (value & 0xff) << 8,
            1 => *slot & !0xff | value & 0xff,
            size => panic!("no register of {size} bytes here"),
        };
    }

    fn result(&mut self, instruction: &Instruction, value: u64, bits: usize) {
        self.write(instruction, value);
        self.set_flags(value, bits, false);
    }

    fn set_flags(&mut self, value: u64, bits: usize, carry: bool) {
        self.flags &= !(CF | ZF | SF);
        self.flags |= if carry { CF } else { 0 };
        self.flags |= if value == 0 { ZF } else { 0 };
        self.flags |= if value >> (bits - 1) & 1 == 1 { SF } else { 0 };
    }

    /// As a kernel prints it: 42 bytes of code before RIP and 21 from it on.
    pub fn report(&self) -> String {
        let offset = self.rip - self.reader.address;
        let mut code = String::new();
        for at in offset as i64 - 42..offset as i64 + 22 {
            let byte = usize::try_from(at).ok().and_then(|at| self.reader.bytes.get(at));
            let byte = byte.copied().unwrap_or(0xcc);
            let _ = match at == offset as i64 {
                true => write!(code, " <{byte:02x}>"),
                false => write!(code, " {byte:02x}"),
            };
        }
        let mut text = format!(
            "watchdog: BUG: soft lockup - CPU#3 stuck for 22s! [kworker/3:1:77]\nCPU: 3 PID: 77 Comm: kworker/3:1 Not tainted 5.15.0 #1\n\
             RIP: 0010:read_hpet+{offset:#x}/{:#x}\nCode:{code}\n\
             RSP: 0018:ffffb8d382533e18 EFLAGS: {:08x} ORIG_RAX: ffffffffffffffff\n",
            self.reader.bytes.len(),
            self.flags
        );
        for (name, value) in GENERAL
            .iter()
            .zip(self.registers)
            .filter(|(name, _)| **name != "RSP")
        {
            let _ = writeln!(text, "{name}: {value:016x}");
        }
        text + "Call Trace:\n ktime_get+0x3e/0xa0\n"
    }
}

fn operand_bytes(instruction: &Instruction) -> usize {
    match instruction.op0_kind() {
        OpKind::Register if instruction.op1_kind() == OpKind::Memory => instruction.memory_size().size(),
        OpKind::Register => instruction.op0_register().size(),
        OpKind::Memory => instruction.memory_size().size(),
        _ => 8,
    }
}
