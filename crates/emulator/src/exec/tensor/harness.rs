//! Runs single instructions in tests: text in, registers before and after.

use std::collections::HashMap;

use crate::check::Options;
use crate::device::Device;
use crate::exec::lanes::{ALL, LANES, Row, WideRow};
use crate::exec::{self, Cluster, Context, Flow, Launch, Warp};
use crate::fault::Fault;
use crate::memory::Memory;
use crate::program::{Decoder, Guard, Inst, Program, Slot, Symbol};
use crate::ptx::ast::Statement;
use crate::ptx::{self, Result, Type};

/// Blocks of a cluster with registers `r0` to `r399` (32 bits), `rd0` to `rd31` (64 bits), and predicates `p0` to `p7`.
pub struct Harness {
    pub cluster: Cluster,
    pub device: &'static Device,
    memory: Memory,
    program: Program,
    names: HashMap<&'static str, Symbol>,
    code: Vec<(String, Inst)>,
    threads: u32,
}

/// Bytes of shared memory, with what the system keeps.
const SHARED: u32 = 64 << 10;
const NARROW: u32 = 400;
const WIDE: u32 = 32;

impl Harness {
    /// `blocks` blocks of `threads` threads with 64 KiB of shared memory each.
    pub fn new(blocks: u32, threads: u32) -> Harness {
        let mut names = HashMap::new();
        let leak = |name: String| -> &'static str { Box::leak(name.into_boxed_str()) };
        for i in 0..NARROW {
            names.insert(leak(format!("r{i}")), Symbol::Register(i, Type::B32));
        }
        for i in 0..WIDE {
            names.insert(leak(format!("rd{i}")), Symbol::Register(NARROW + 2 * i, Type::B64));
        }
        for i in 0..8 {
            names.insert(leak(format!("p{i}")), Symbol::Predicate(i));
        }
        let program = Program {
            name: "test".to_owned(),
            slots: NARROW + 2 * WIDE,
            predicates: 8,
            dynamic_align: 1,
            ..Program::default()
        };
        let device = Device::of("sm_90a").unwrap();
        let options = Options::NONE;
        let memory = Memory::default();
        let mut cluster = Cluster::new(&launch(&program, &memory, device, blocks, threads), 0, options);
        cluster.blocks.iter_mut().for_each(|block| block.shared.fill(0));
        Harness { cluster, device, memory, program, names, code: Vec::new(), threads }
    }

    pub fn warp(&mut self, warp: usize) -> &mut Warp {
        self.cluster.warps[warp].as_mut().unwrap()
    }

    fn slot(&self, name: &str) -> Slot {
        match self.names.get(name) {
            Some(Symbol::Register(slot, _)) => *slot,
            other => panic!("{name} is {other:?}"),
        }
    }

    pub fn set(&mut self, warp: usize, name: &str, values: Row) {
        let slot = self.slot(name);
        self.warp(warp).set_row(slot, &values, ALL);
    }

    pub fn get(&mut self, warp: usize, name: &str) -> Row {
        let slot = self.slot(name);
        *self.warp(warp).row(slot)
    }

    pub fn set_wide(&mut self, warp: usize, name: &str, values: WideRow) {
        let slot = self.slot(name);
        self.warp(warp).set_wide(slot, &values, ALL);
    }

    pub fn get_wide(&mut self, warp: usize, name: &str) -> WideRow {
        let slot = self.slot(name);
        self.warp(warp).wide(slot)
    }

    /// What a text decodes to, as an error or not.
    pub fn decode(&mut self, text: &str) -> Result<usize> {
        if let Some(known) = self.code.iter().position(|(known, _)| known == text) {
            return Ok(known);
        }
        let body = format!("{};", text.trim_end_matches(';'));
        let module = format!(".version 8.7\n.target sm_90a\n.address_size 64\n.entry k() {{\n{body}\n}}\n");
        let module = ptx::parse(Box::leak(module.into_boxed_str()))?;
        let [Statement::Instruction(parsed)] = module.functions[0].body.as_deref().unwrap() else {
            panic!("{text} is no instruction")
        };
        let mut decoder = Decoder::default();
        decoder.scopes.push(self.names.clone());
        decoder.slots = self.program.slots;
        decoder.predicates = self.program.predicates;
        let decoded = exec::decode(parsed, &mut decoder)?.expect("some family knows it");
        self.program.slots = decoder.slots;
        self.program.predicates = decoder.predicates;
        for warp in self.cluster.warps.iter_mut().flatten() {
            warp.rows.resize(decoder.slots as usize, [0; LANES]);
            warp.predicates.resize(decoder.predicates as usize, 0);
            for (slot, value) in decoder.constants() {
                warp.rows[slot as usize] = [value; LANES];
            }
        }
        let exec::Decoded { op, meet, class } = decoded;
        self.code
            .push((text.to_owned(), Inst { op, guard: Guard::Always, meet, class, line: 1, source: None }));
        Ok(self.code.len() - 1)
    }

    /// Runs an instruction for the lanes of a mask.
    pub fn run(&mut self, warp: usize, text: &str, active: u32) -> Result<Flow, Fault> {
        let pc = self.decode(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let mut running = self.cluster.warps[warp].take().unwrap();
        let blocks = self.cluster.blocks.len() as u32;
        let launch = launch(&self.program, &self.memory, self.device, blocks, self.threads);
        let mut cx = Context {
            launch: &launch,
            cluster: &mut self.cluster,
            warp: &mut running,
            inst: &self.code[pc].1,
            pc: pc as u32,
            token: None,
            converged: active,
        };
        let flow = exec::execute(&mut cx, active);
        self.cluster.warps[warp] = Some(running);
        flow
    }

    /// Runs an instruction for all lanes, which goes on with the next one.
    pub fn step(&mut self, warp: usize, text: &str) {
        match self.run(warp, text, ALL) {
            Ok(Flow::Next) => {}
            other => panic!("{text}: {other:?}"),
        }
    }

    /// Runs an instruction for all lanes, which is at fault.
    pub fn fault(&mut self, warp: usize, text: &str) -> Fault {
        match self.run(warp, text, ALL) {
            Err(fault) => fault,
            other => panic!("{text}: {other:?}"),
        }
    }
}

/// `{r0,r1,…}`
pub fn vector(prefix: &str, from: usize, count: usize) -> String {
    let names: Vec<String> = (from..from + count).map(|i| format!("{prefix}{i}")).collect();
    format!("{{{}}}", names.join(","))
}

fn launch<'a>(
    program: &'a Program,
    memory: &'a Memory,
    device: &'a Device,
    blocks: u32,
    threads: u32,
) -> Launch<'a> {
    Launch {
        program,
        params: &[],
        grid: [blocks, 1, 1],
        threads: [threads, 1, 1],
        cluster: [blocks, 1, 1],
        dynamic_shared: SHARED - device.shared_base(),
        memory,
        device,
        number: 1,
        workspace: 0,
    }
}
