//! What the tests share: a kernel from the text of its body, run over an array of its own.

use std::collections::HashMap;

use wikigpt_emulator::check;
use wikigpt_emulator::counters::Counters;
use wikigpt_emulator::device::Device;
use wikigpt_emulator::exec::{Launch, grid};
use wikigpt_emulator::fault::Report;
use wikigpt_emulator::memory::Memory;
use wikigpt_emulator::program::{Class, Program};
use wikigpt_emulator::ptx::{Error, ast::Space, parse};

/// A launch of a kernel `k` with one parameter, the address of an array of 32-bit words.
pub struct Kernel {
    text: String,
    grid: [u32; 3],
    threads: [u32; 3],
    cluster: [u32; 3],
    dynamic: u32,
    words: usize,
    device: &'static Device,
    options: grid::Options,
}

/// What a launch left behind.
#[derive(Debug)]
pub struct Outcome {
    /// The array.
    pub words: Vec<u32>,
    /// What was counted.
    pub counters: Counters,
    /// What was printed.
    pub printed: String,
}

impl Outcome {
    /// Instructions of a class, of warps.
    pub fn warps(&self, class: Class) -> u64 {
        self.counters.warp_instructions[class as usize]
    }

    /// Instructions of a class, of lanes.
    pub fn lanes(&self, class: Class) -> u64 {
        self.counters.lane_instructions[class as usize]
    }
}

/// Registers, the array's address in `%out`, the thread's number in the grid (of one-dimensional blocks) in `%at`, and in
/// its block in `%tid`.
const PROLOGUE: &str = "
    .reg .pred %p<16>;
    .reg .b16 %h<16>;
    .reg .b32 %r<64>;
    .reg .b64 %d<32>;
    .reg .f64 %w<8>;
    .reg .b32 %tid, %at;
    .reg .b64 %out, %own;
    ld.param.u64 %out, [k_param_0];
    mov.u32 %tid, %tid.x;
    mov.u32 %at, %ctaid.x;
    mov.u32 %r0, %ntid.x;
    mad.lo.u32 %at, %at, %r0, %tid;
    mul.wide.u32 %own, %at, 4;
    add.s64 %own, %own, %out;
";

impl Kernel {
    /// A kernel with this body, behind [`PROLOGUE`].
    pub fn new(body: &str) -> Kernel {
        Kernel::module("", body)
    }

    /// The same, in a module with other things before it.
    pub fn module(before: &str, body: &str) -> Kernel {
        Kernel::text(format!(
            ".version 8.0\n.target sm_90a\n.address_size 64\n{before}\n.visible .entry k(.param .u64 k_param_0)\n{{{PROLOGUE}{body}\nret;\n}}\n"
        ))
    }

    /// A whole module.
    pub fn text(text: String) -> Kernel {
        Kernel {
            text,
            grid: [1; 3],
            threads: [32, 1, 1],
            cluster: [1; 3],
            dynamic: 0,
            words: 8192,
            device: Device::of("sm_90a").expect("it is known"),
            options: grid::Options {
                threads: 1,
                check: check::Options::NONE,
                patience: grid::Options::PATIENCE,
            },
        }
    }

    pub fn grid(self, grid: impl Into<Dim>) -> Kernel {
        Kernel { grid: grid.into().0, ..self }
    }

    pub fn threads(self, threads: impl Into<Dim>) -> Kernel {
        Kernel { threads: threads.into().0, ..self }
    }

    pub fn cluster(self, cluster: impl Into<Dim>) -> Kernel {
        Kernel { cluster: cluster.into().0, ..self }
    }

    pub fn dynamic(self, dynamic: u32) -> Kernel {
        Kernel { dynamic, ..self }
    }

    pub fn workers(mut self, threads: usize) -> Kernel {
        self.options.threads = threads;
        self
    }

    pub fn patience(mut self, patience: u64) -> Kernel {
        self.options.patience = patience;
        self
    }

    /// With all checks on.
    pub fn checked(self) -> Kernel {
        self.checks(true, true)
    }

    pub fn checks(mut self, races: bool, uninitialized: bool) -> Kernel {
        self.options.check = check::Options { races, proxy: races, uninitialized, report: false };
        self
    }

    pub fn on(self, device: &str) -> Kernel {
        Kernel { device: Device::of(device).expect("it is known"), ..self }
    }

    /// Runs it; the outer error is one of decoding.
    pub fn try_run(&self) -> Result<Result<Outcome, Box<Report>>, Error> {
        let module = parse(&self.text)?;
        let memory = Memory::default();
        let mut addresses = HashMap::new();
        let variables = module.variables.iter();
        for variable in variables.filter(|variable| matches!(variable.space, Space::Global | Space::Const)) {
            let len = variable.len.unwrap_or(1) * u64::from(variable.ty.bytes() * variable.vector);
            let allocation = memory.allocate(len).expect("there is room");
            addresses.insert(variable.name, allocation);
        }
        for variable in module.variables.iter().filter(|variable| addresses.contains_key(variable.name)) {
            use wikigpt_emulator::program::{function_address, function_number};
            use wikigpt_emulator::ptx::ast::Init;
            for (index, init) in variable.init.iter().enumerate() {
                let value = match init {
                    Init::Bits(bits) => *bits,
                    Init::Address { name, .. } => {
                        function_address(function_number(&module, name).expect("a function"))
                    }
                };
                let bytes = variable.ty.bytes();
                addresses[variable.name].store(index as u64 * u64::from(bytes), bytes, value);
            }
        }
        let globals = |name: &str| addresses.get(name).map(|allocation| allocation.base);
        let program = Program::decode(&module, "k", &globals, self.device)?;
        let array = memory.allocate(4 * self.words as u64).expect("there is room");
        array.write(0, &vec![0; 4 * self.words]);
        let launch = Launch {
            program: &program,
            params: &array.base.to_le_bytes(),
            grid: self.grid,
            threads: self.threads,
            cluster: self.cluster,
            dynamic_shared: self.dynamic,
            memory: &memory,
            device: self.device,
            number: 1,
            workspace: 0,
        };
        let mut printed = Vec::new();
        Ok(grid::run(&launch, &self.options, &mut printed, &mut |_| {}).map(|counters| Outcome {
            words: (0..self.words as u64).map(|at| array.load(4 * at, 4) as u32).collect(),
            counters,
            printed: String::from_utf8(printed).expect("tests print UTF-8"),
        }))
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn run(&self) -> Outcome {
        match self.try_run() {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(report)) => panic!("{report}"),
            Err(error) => panic!("{error}\n{}", self.text),
        }
    }

    /// Runs it until it is at fault.
    #[track_caller]
    pub fn fault(&self) -> Report {
        match self.try_run() {
            Ok(Ok(outcome)) => panic!("it ran to its end: {:?}", &outcome.words[..32]),
            Ok(Err(report)) => *report,
            Err(error) => panic!("{error}\n{}", self.text),
        }
    }

    /// Decodes it, which must fail.
    #[track_caller]
    pub fn refused(&self) -> Error {
        match self.try_run() {
            Ok(_) => panic!("it was decoded"),
            Err(error) => error,
        }
    }
}

/// One, two or three numbers.
pub struct Dim([u32; 3]);

impl From<u32> for Dim {
    fn from(x: u32) -> Dim {
        Dim([x, 1, 1])
    }
}

impl From<[u32; 3]> for Dim {
    fn from(dim: [u32; 3]) -> Dim {
        Dim(dim)
    }
}
