//! A launch of a kernel from its text.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wikigpt_emulator::check;
use wikigpt_emulator::counters::Counters;
use wikigpt_emulator::device::Device;
use wikigpt_emulator::exec::{Launch, grid};
use wikigpt_emulator::fault::Report;
use wikigpt_emulator::memory::{Allocation, Memory};
use wikigpt_emulator::program::Program;
use wikigpt_emulator::ptx::parse;
use wikigpt_emulator::tensormap;

/// Number of the next launch.
static NUMBER: AtomicU64 = AtomicU64::new(1);

/// Global memory and how kernels are launched.
pub struct Rig {
    pub memory: Memory,
    pub blocks: u32,
    pub cluster: u32,
    pub threads: u32,
    pub dynamic: u32,
    pub checked: bool,
}

impl Rig {
    pub fn new() -> Rig {
        Rig { memory: Memory::default(), blocks: 1, cluster: 1, threads: 32, dynamic: 0, checked: true }
    }

    /// Global memory that holds `bytes`.
    pub fn allocate(&self, bytes: &[u8]) -> Arc<Allocation> {
        let allocation = self.memory.allocate(bytes.len() as u64).expect("memory");
        allocation.write(0, bytes);
        allocation
    }

    /// Runs `kernel` of a module.
    pub fn launch(&self, text: &str, kernel: &str, params: &[&[u8]]) -> Result<Counters, Box<Report>> {
        let module = parse(text).unwrap_or_else(|error| panic!("{error}"));
        let device = Device::of("sm_90a").expect("known");
        let program =
            Program::decode(&module, kernel, &|_| None, device).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(program.params.len(), params.len());
        let mut bytes = vec![0; program.param_bytes as usize];
        for (param, value) in program.params.iter().zip(params) {
            assert_eq!(param.size as usize, value.len());
            bytes[param.offset as usize..][..value.len()].copy_from_slice(value);
        }
        let launch = Launch {
            program: &program,
            params: &bytes,
            grid: [self.blocks, 1, 1],
            threads: [self.threads, 1, 1],
            cluster: [self.cluster, 1, 1],
            dynamic_shared: self.dynamic,
            memory: &self.memory,
            device,
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            workspace: 0,
        };
        let options = grid::Options {
            threads: 2,
            check: if self.checked { check::Options::ALL } else { check::Options::NONE },
            patience: grid::Options::PATIENCE,
        };
        grid::run(&launch, &options, &mut Vec::new(), &mut |_| {})
    }

    /// Runs a kernel that must go well.
    #[track_caller]
    pub fn run(&self, text: &str, kernel: &str, params: &[&[u8]]) -> Counters {
        self.launch(text, kernel, params).unwrap_or_else(|report| panic!("{report}"))
    }

    /// Runs a kernel that must fail, and looks for words in the report.
    #[track_caller]
    pub fn fault(&self, text: &str, kernel: &str, params: &[&[u8]], words: &str) {
        let report = match self.launch(text, kernel, params) {
            Ok(_) => panic!("it ran to its end, but should say {words:?}"),
            Err(report) => report.to_string(),
        };
        assert!(report.contains(words), "{report:?} does not say {words:?}");
    }
}

/// All bytes of an allocation.
pub fn contents(allocation: &Allocation) -> Vec<u8> {
    let mut bytes = vec![0; allocation.len as usize];
    allocation.read(0, &mut bytes);
    bytes
}

/// All of an allocation as 32-bit numbers.
pub fn words(allocation: &Allocation) -> Vec<u32> {
    (0..allocation.len / 4).map(|i| allocation.load(i * 4, 4) as u32).collect()
}

/// A map of a matrix of 16-bit numbers with `pitch` bytes a row, and a box of 64 columns, 128 bytes, swizzled over them.
pub fn matrix(address: u64, [rows, columns]: [usize; 2], pitch: usize, box_rows: u32) -> [u8; 128] {
    let dims = [columns as u64, rows as u64];
    tensormap::encode(1, address, &dims, &[pitch as u64], &[64, box_rows], &[1, 1], 0, 3, 2, 0)
        .expect("valid")
}

/// Numbers that look random.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.0 >> 24
    }
}
