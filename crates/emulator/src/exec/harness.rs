//! For tests of single instructions: a cluster without a scheduler, whose registers are set and read by name.

use crate::check::Options;
use crate::device::Device;
use crate::exec::lanes::{ALL, LANES};
use crate::exec::{self, Cluster, Context, Flow, Launch, Warp};
use crate::fault::Fault;
use crate::memory::{Allocation, Memory};
use crate::program::{Decoder, Guard, Inst, Program, Symbol};
use crate::ptx::ast::{Space, Statement};
use crate::ptx::{self, Type};

use std::sync::Arc;

/// Bytes of each block's shared memory, of each thread's local memory, of the parameters.
pub const SHARED: u32 = 4096;
/// See [`SHARED`].
pub const LOCAL: u32 = 64;
/// See [`SHARED`].
pub const PARAMS: u32 = 32;
/// A word of shared memory that nobody wrote.
pub const UNWRITTEN: u32 = 0xA5A5_A5A5;
/// Where shared memory starts.
pub const SHARED_BASE: u64 = 1024;

/// Registers `%b0..8` (8 bits), `%rs`, `%r`, `%rd`, `%q` (16 to 128 bits), `%f`, `%fd`, `%p`; variables `sm` (shared, at its start), `lc` (local,
/// at 16), `cp` (a call's parameter: local, at 32), `kp` (the kernel's parameter, at 8), `gv` (global, 64 bytes) and `cv` (constant, 64 bytes).
pub struct Machine {
    /// Global memory.
    pub memory: Memory,
    /// All of its blocks.
    pub cluster: Cluster,
    /// What the parameters' bytes are: at first their numbers.
    pub params: Vec<u8>,
    /// Where the variable `gv` lies.
    pub gv: Arc<Allocation>,
    /// Where the variable `cv` lies.
    pub cv: Arc<Allocation>,
    /// The warp that runs: one for each block.
    pub current: usize,
    /// What names mean.
    pub decoder: Decoder<'static>,
    program: Program,
    device: &'static Device,
}

impl Machine {
    /// One block, unchecked.
    pub fn unchecked() -> Machine {
        Machine::of(1, Options::NONE)
    }

    /// A cluster of so many blocks, of a warp each.
    pub fn of(blocks: u32, options: Options) -> Machine {
        let memory = Memory::default();
        let gv = memory.allocate(64).expect("room");
        let cv = memory.allocate(64).expect("room");
        gv.fill(0, 64, &[0]);
        cv.fill(0, 64, &[0]);
        let mut decoder = Decoder::default();
        decoder.scopes.push(Default::default());
        for (prefix, ty) in [
            ("b", Type::B8),
            ("rs", Type::B16),
            ("r", Type::B32),
            ("rd", Type::B64),
            ("q", Type::B128),
            ("f", Type::F32),
            ("fd", Type::F64),
            ("s", Type::S32),
        ] {
            for index in 0..10 {
                let slot = decoder.fresh(ty.slots());
                decoder.scopes[0].insert(format!("%{prefix}{index}").leak(), Symbol::Register(slot, ty));
            }
        }
        for index in 0..8 {
            decoder.scopes[0].insert(format!("%p{index}").leak(), Symbol::Predicate(index));
            decoder.predicates += 1;
        }
        for (name, space, address) in [
            ("sm", Space::Shared, SHARED_BASE),
            ("lc", Space::Local, 16),
            ("cp", Space::Local, 32),
            ("kp", Space::Param, 8),
            ("gv", Space::Global, gv.base),
            ("cv", Space::Const, cv.base),
        ] {
            decoder.scopes[0].insert(name, Symbol::Variable(space, address));
        }
        let program = Program {
            name: "test".to_owned(),
            code: Vec::new(),
            slots: decoder.slots,
            predicates: decoder.predicates,
            local_bytes: LOCAL,
            shared_bytes: SHARED,
            param_bytes: PARAMS,
            ..Program::default()
        };
        let params: Vec<u8> = (0..PARAMS as u8).collect();
        let device = Device::of("sm_90a").expect("it is known");
        let cluster = Cluster::new(&launch(&program, &params, blocks, &memory, device), 0, options);
        Machine { memory, cluster, params, gv, cv, current: 0, decoder, program, device }
    }

    /// Global memory of `len` bytes, written with the numbers of its bytes.
    pub fn numbered(&self, len: u64) -> Arc<Allocation> {
        let allocation = self.memory.allocate(len).expect("room");
        let bytes: Vec<u8> = (0..len).map(number).collect();
        allocation.write(0, &bytes);
        allocation
    }

    /// What a register's slots are, and its type.
    fn register(&self, name: &str) -> (usize, Type) {
        match self.decoder.lookup(name) {
            Some(Symbol::Register(slot, ty)) => (*slot as usize, *ty),
            other => panic!("{name} is {other:?}"),
        }
    }

    /// The warp that runs.
    pub fn warp(&mut self) -> &mut Warp {
        self.cluster.warps[self.current].as_mut().expect("it is not running")
    }

    /// Sets a register in all lanes.
    pub fn set(&mut self, name: &str, value: impl Fn(u64) -> u128) {
        let (slot, ty) = self.register(name);
        for lane in 0..LANES {
            // A register holds no more than its type.
            let value = value(lane as u64) & (u128::MAX >> (128 - ty.bits()));
            for index in 0..ty.slots() as usize {
                self.warp().rows[slot + index][lane] = (value >> (32 * index)) as u32;
            }
        }
    }

    /// Sets a predicate.
    pub fn set_predicate(&mut self, name: &str, mask: u32) {
        match self.decoder.lookup(name) {
            Some(Symbol::Predicate(index)) => {
                let index = *index as usize;
                self.warp().predicates[index] = mask;
            }
            other => panic!("{name} is {other:?}"),
        }
    }

    /// A predicate.
    pub fn predicate(&mut self, name: &str) -> u32 {
        match self.decoder.lookup(name) {
            Some(Symbol::Predicate(index)) => {
                let index = *index as usize;
                self.warp().predicates[index]
            }
            other => panic!("{name} is {other:?}"),
        }
    }

    /// A register of a lane.
    pub fn get(&mut self, name: &str, lane: usize) -> u128 {
        let (slot, ty) = self.register(name);
        let rows = &self.warp().rows;
        (0..ty.slots() as usize)
            .fold(0, |value, index| value | u128::from(rows[slot + index][lane]) << (32 * index))
    }

    /// Decodes instructions, one or more.
    pub fn decode(&mut self, text: &str) -> ptx::Result<Vec<Inst>> {
        let text: &'static str =
            format!(".version 8.7\n.target sm_90a\n.address_size 64\n.entry k() {{\n{text}\n}}\n").leak();
        let mut module = ptx::parse(text)?;
        let body = module.functions.remove(0).body.expect("it has one");
        let mut code = Vec::new();
        for statement in body {
            let Statement::Instruction(inst) = statement else { panic!("{statement:?} is no instruction") };
            let decoded = exec::decode(&inst, &mut self.decoder)?
                .ok_or_else(|| ptx::Error::unsupported(inst.line, format!("nobody knows {}", inst.opcode)))?;
            code.push(Inst {
                op: decoded.op,
                guard: Guard::Always,
                meet: decoded.meet,
                class: decoded.class,
                line: inst.line,
                source: None,
            });
        }
        Ok(code)
    }

    /// Lets a turn of the scheduler pass for arrivals of copies; whether any happened.
    pub fn advance(&mut self, force: bool) -> Result<bool, Fault> {
        let blocks = self.cluster.blocks.len() as u32;
        let launch = launch(&self.program, &self.params, blocks, &self.memory, self.device);
        exec::copy::advance(&mut self.cluster, &launch, force)
    }

    /// Runs instructions for all lanes.
    pub fn run(&mut self, text: &str) -> Result<(), Fault> {
        self.run_lanes(ALL, text)
    }

    /// Runs instructions for some lanes.
    pub fn run_lanes(&mut self, active: u32, text: &str) -> Result<(), Fault> {
        let code = self.decode(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let constants = self.decoder.constants();
        let slots = self.decoder.slots as usize;
        let mut warp = self.cluster.warps[self.current].take().expect("it is not running");
        warp.rows.resize(slots.max(warp.rows.len()), [0; LANES]);
        for (slot, value) in constants {
            warp.rows[slot as usize] = [value; LANES];
        }
        for slot in self.decoder.ranked() {
            warp.rows[slot as usize][..].iter_mut().for_each(|address| *address += warp.block << 24);
        }
        let blocks = self.cluster.blocks.len() as u32;
        let launch = launch(&self.program, &self.params, blocks, &self.memory, self.device);
        let mut result = Ok(());
        for (pc, inst) in code.iter().enumerate() {
            let mut cx = Context {
                launch: &launch,
                cluster: &mut self.cluster,
                warp: &mut warp,
                inst,
                pc: pc as u32,
                token: None,
                converged: active,
            };
            match exec::execute(&mut cx, active) {
                Ok(Flow::Next | Flow::Yield) => {}
                Ok(flow) => panic!("{text}: {flow:?}"),
                Err(fault) => {
                    result = Err(fault);
                    break;
                }
            }
        }
        self.cluster.warps[self.current] = Some(warp);
        result
    }
}

/// A launch of one cluster of so many blocks.
pub fn launch<'a>(
    program: &'a Program,
    params: &'a [u8],
    blocks: u32,
    memory: &'a Memory,
    device: &'a Device,
) -> Launch<'a> {
    Launch {
        program,
        params,
        grid: [blocks, 1, 1],
        threads: [32, 1, 1],
        cluster: [blocks, 1, 1],
        dynamic_shared: 0,
        memory,
        device,
        number: 1,
        workspace: 0,
    }
}

/// The byte that stands at a place of numbered memory: neighbours differ, and their signs do.
pub fn number(at: u64) -> u8 {
    (at.wrapping_mul(0x9D) ^ (at >> 8)) as u8
}

/// `len` bytes from `at` of numbered memory as a number.
pub fn numbers(at: u64, len: u32) -> u128 {
    (0..u64::from(len)).fold(0, |value, byte| value | u128::from(number(at + byte)) << (8 * byte))
}
