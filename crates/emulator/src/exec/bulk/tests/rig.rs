//! A cluster of blocks with one warp each.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::{advance, at_exit};
use crate::check::{Checker, Options};
use crate::device::Device;
use crate::exec::lanes::ALL;
use crate::exec::{self, Cluster, Context, Decoded, Flow, Launch, decode};
use crate::fault::Fault;
use crate::memory::{Allocation, Memory};
use crate::program::{Class, Decoder, Guard, Inst, Meet, Program, Symbol};
use crate::ptx::ast::{Instruction, Operand, Space};
use crate::ptx::{self, Type};

/// Bytes of shared memory of each block.
pub const SHARED: usize = 96 * 1024;
/// Where the test's mbarrier is.
pub const BARRIER: u32 = 1024;
/// Where data may be.
pub const DATA: u32 = 2048;

/// Registers that instructions may name.
const REGISTERS: [(&str, Type); 20] = [
    ("a", Type::B64),
    ("b", Type::B64),
    ("map", Type::B64),
    ("global", Type::B64),
    ("policy", Type::B64),
    ("wide", Type::B64),
    ("dst", Type::B32),
    ("src", Type::B32),
    ("bar", Type::B32),
    ("size", Type::B32),
    ("x", Type::B32),
    ("c0", Type::B32),
    ("c1", Type::B32),
    ("c2", Type::B32),
    ("c3", Type::B32),
    ("c4", Type::B32),
    ("mask", Type::B16),
    ("f", Type::F32),
    ("mbar", Type::B32),
    ("count", Type::B32),
];

pub struct Rig {
    pub memory: Memory,
    pub cluster: Cluster,
    pub params: Vec<u8>,
    pub program: Program,
    threads: u32,
    decoder: Decoder<'static>,
    line: u32,
}

impl Rig {
    /// `blocks` blocks of one warp.
    pub fn new(blocks: u32) -> Rig {
        Rig::with_warps(blocks, 1)
    }

    /// `blocks` blocks of `warps` warps.
    pub fn with_warps(blocks: u32, warps: u32) -> Rig {
        let mut decoder = Decoder::default();
        let mut names = HashMap::new();
        for (name, ty) in REGISTERS {
            names.insert(name, Symbol::Register(decoder.fresh(ty.slots()), ty));
        }
        names.insert("buffer", Symbol::Variable(Space::Shared, u64::from(DATA)));
        names.insert("table", Symbol::Variable(Space::Global, 0x7300_0000_0000));
        names.insert("parameter", Symbol::Variable(Space::Param, 0));
        decoder.scopes.push(names);
        let program = Program {
            name: "test".to_owned(),
            slots: decoder.slots,
            shared_bytes: SHARED as u32 - 1024,
            ..Program::default()
        };
        let memory = Memory::default();
        let options = Options::NONE;
        let launch = launch(&program, &[], &memory, blocks, 32 * warps);
        let mut cluster = Cluster::new(&launch, 0, options);
        cluster.blocks.iter_mut().for_each(|block| block.shared.fill(0));
        let threads = 32 * warps;
        Rig { memory, cluster, params: Vec::new(), program, threads, decoder, line: 0 }
    }

    /// Sets a register in all lanes of all warps.
    pub fn set(&mut self, name: &str, value: u64) -> &mut Rig {
        for warp in 0..self.cluster.warps.len() {
            self.set_in(warp, name, |_| value);
        }
        self
    }

    /// Sets a register in the lanes of one warp.
    pub fn set_in(&mut self, warp: usize, name: &str, value: impl Fn(usize) -> u64) {
        let Some(Symbol::Register(slot, ty)) = self.decoder.lookup(name).cloned() else { panic!("{name}") };
        let warp = self.cluster.warps[warp].as_mut().expect("not running");
        let values = std::array::from_fn(&value);
        if ty.slots() == 2 {
            warp.set_wide(slot, &values, ALL);
        } else {
            warp.set_row(slot, &values.map(|value| value as u32), ALL);
        }
    }

    /// Decodes one.
    pub fn decode(&mut self, text: &'static str) -> ptx::Result<Decoded> {
        self.line += 1;
        let inst = instruction(text, self.line);
        let decoded = decode(&inst, &mut self.decoder)?;
        Ok(decoded.unwrap_or_else(|| panic!("{text} is not known")))
    }

    /// Runs an instruction in lane 0 of warp 0.
    pub fn run(&mut self, text: &'static str) -> Result<Flow, Fault> {
        self.run_in(0, 1, text)
    }

    /// Runs an instruction in lanes of a warp.
    pub fn run_in(&mut self, warp: usize, lanes: u32, text: &'static str) -> Result<Flow, Fault> {
        let decoded = self.decode(text).unwrap_or_else(|error| panic!("{error}"));
        let inst = Inst {
            op: decoded.op,
            guard: Guard::Always,
            meet: Meet::Nobody,
            class: Class::Async,
            line: self.line,
            source: None,
        };
        let mut running = self.cluster.warps[warp].take().expect("not running");
        running.rows.resize(self.decoder.slots as usize, [0; 32]);
        for (slot, value) in self.decoder.constants() {
            running.rows[slot as usize] = [value; 32];
        }
        let launch =
            launch(&self.program, &self.params, &self.memory, self.cluster.blocks.len() as u32, self.threads);
        let mut context = Context {
            launch: &launch,
            cluster: &mut self.cluster,
            warp: &mut running,
            inst: &inst,
            pc: 0,
            token: None,
            converged: ALL,
        };
        let flow = exec::execute(&mut context, lanes);
        self.cluster.warps[warp] = Some(running);
        flow
    }

    /// Runs an instruction that must go on.
    pub fn go(&mut self, text: &'static str) {
        assert!(matches!(self.run(text), Ok(Flow::Next)), "{text}");
    }

    /// Runs an instruction that must fail; its message.
    pub fn fault(&mut self, text: &'static str) -> Fault {
        self.run(text).err().unwrap_or_else(|| panic!("{text} went on"))
    }

    /// One turn of the scheduler, which must go well; whether it did anything.
    pub fn advance(&mut self, force: bool) -> bool {
        self.try_advance(force).expect("no fault")
    }

    /// One turn of the scheduler.
    pub fn try_advance(&mut self, force: bool) -> Result<bool, Fault> {
        let launch =
            launch(&self.program, &self.params, &self.memory, self.cluster.blocks.len() as u32, self.threads);
        advance(&mut self.cluster, &launch, force)
    }

    /// Completes everything.
    pub fn finish(&mut self) {
        while self.advance(true) {}
        assert!(self.cluster.flights.is_empty());
    }

    /// What the end of a block says.
    pub fn exit(&mut self, block: u32) -> Result<(), Fault> {
        let options = Options { races: true, proxy: true, ..Options::NONE };
        let blocks = self.cluster.blocks.len() as u32;
        self.cluster.checker = Checker::new(options, 1, 0, blocks, self.threads / 32, SHARED as u32);
        at_exit(&mut self.cluster, block)
    }

    /// Initialises the mbarrier of each block for one arrival, which has come, and `bytes` bytes.
    pub fn expect(&mut self, bytes: u32) {
        for block in 0..self.cluster.blocks.len() {
            self.expect_in(block as u32, BARRIER, bytes);
        }
    }

    /// The same for one mbarrier.
    pub fn expect_in(&mut self, block: u32, offset: u32, bytes: u32) {
        self.init_in(block, offset);
        self.set("count", u64::from(bytes));
        let warp = block as usize * (self.threads / 32) as usize;
        assert!(self.run_in(warp, 1, "mbarrier.arrive.expect_tx.shared::cta.b64 _, [mbar], count").is_ok());
    }

    /// Initialises an mbarrier for one arrival.
    pub fn init_in(&mut self, block: u32, offset: u32) {
        self.set("mbar", u64::from(offset));
        let warp = block as usize * (self.threads / 32) as usize;
        assert!(self.run_in(warp, 1, "mbarrier.init.shared::cta.b64 [mbar], 1").is_ok());
    }

    /// Phases that the mbarrier of a block has completed.
    pub fn phase(&self, block: usize) -> u64 {
        self.cluster.blocks[block].mbarriers.get(BARRIER).expect("initialised").phase
    }

    /// Bytes of a block's shared memory.
    pub fn shared(&self, block: usize, offset: u32, len: usize) -> &[u8] {
        &self.cluster.blocks[block].shared[offset as usize..][..len]
    }

    /// Sets bytes of a block's shared memory.
    pub fn put(&mut self, block: usize, offset: u32, bytes: &[u8]) {
        self.cluster.blocks[block].shared[offset as usize..][..bytes.len()].copy_from_slice(bytes);
    }

    /// Global memory that holds `bytes`.
    pub fn allocate(&self, bytes: &[u8]) -> Arc<Allocation> {
        let allocation = self.memory.allocate(bytes.len() as u64).expect("memory");
        allocation.write(0, bytes);
        allocation
    }
}

/// All bytes of an allocation.
pub fn contents(allocation: &Allocation) -> Vec<u8> {
    let mut bytes = vec![0; allocation.len as usize];
    allocation.read(0, &mut bytes);
    bytes
}

/// Bytes that differ from their neighbours and from poison.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| ((i * 31 + i / 251) % 251) as u8).collect()
}

fn launch<'a>(
    program: &'a Program,
    params: &'a [u8],
    memory: &'a Memory,
    blocks: u32,
    threads: u32,
) -> Launch<'a> {
    Launch {
        program,
        params,
        grid: [blocks, 1, 1],
        threads: [threads, 1, 1],
        cluster: [blocks, 1, 1],
        dynamic_shared: 0,
        memory,
        device: Device::of("sm_90a").expect("known"),
        number: 1,
        workspace: 0,
    }
}

/// An instruction of `opcode.modifiers operand, operand`; braces and brackets as in PTX.
pub fn instruction(text: &'static str, line: u32) -> Instruction<'static> {
    let (name, operands) = text.split_once(' ').unwrap_or((text, ""));
    let mut names = name.split('.');
    Instruction {
        guard: None,
        opcode: names.next().unwrap_or_default(),
        modifiers: names.collect(),
        operands: split(operands).into_iter().map(operand).collect(),
        line,
        source: None,
    }
}

/// The parts between commas that are in no bracket.
fn split(text: &'static str) -> Vec<&'static str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (i, c) in text.char_indices() {
        match c {
            '[' | '{' => depth += 1,
            ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text[start..i].trim());
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts.retain(|part| !part.is_empty());
    parts
}

fn operand(text: &'static str) -> Operand<'static> {
    if let Some(inner) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        let (base, rest) = inner.split_once(',').unwrap_or((inner, ""));
        let (base, offset) = base.split_once('+').unwrap_or((base, "0"));
        let coordinates = match operand_or_none(rest.trim()) {
            Some(Operand::Vector(coordinates)) => coordinates,
            _ => Vec::new(),
        };
        let offset = offset.parse().expect("a number");
        return Operand::Address { base: Box::new(operand(base.trim())), offset, coordinates };
    }
    if let Some(inner) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
        return Operand::Vector(split(inner).into_iter().map(operand).collect());
    }
    if text == "_" {
        return Operand::Sink;
    }
    match text.parse::<i64>() {
        Ok(value) => Operand::Int(value as u64),
        Err(_) => Operand::Name(text, 0),
    }
}

fn operand_or_none(text: &'static str) -> Option<Operand<'static>> {
    (!text.is_empty()).then(|| operand(text))
}
