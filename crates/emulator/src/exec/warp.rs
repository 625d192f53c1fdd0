//! A warp: its registers, and where its lanes are.

use super::Launch;
use super::lanes::{ALL, Row, WideRow, blend};
use crate::program::{Address, Guard, Predicate, Program, Slot};

/// What a fragment waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// In words, for the report of a deadlock: "barrier 0 (3 of 8 warps have arrived)".
    pub what: String,
    /// Handed back to the instruction when it is tried again: what it did at its first try.
    pub token: u64,
}

/// Lanes that are at the same instruction with the same calls behind them.
#[derive(Clone, Debug, Default)]
pub struct Fragment {
    /// Index of the next instruction; while the fragment runs, of the one it started at.
    pub pc: u32,
    /// Its lanes.
    pub mask: u32,
    /// Where to return to, innermost call last.
    pub calls: Vec<u32>,
    /// Set while its instruction has begun and cannot end.
    pub wait: Option<Wait>,
    /// Lanes that must join it before its instruction begins; 0 where none are missing.
    pub meeting: u32,
    /// Whether its instruction could not end in this turn.
    pub(super) tried: bool,
    /// Whether it gives way to the other fragments of its warp.
    pub(super) resting: bool,
    /// How often it went round the loop at `spins_at` in vain.
    pub(super) spins: u32,
    pub(super) spins_at: u32,
}

impl Fragment {
    /// Lanes at an instruction.
    pub fn new(pc: u32, mask: u32, calls: Vec<u32>) -> Fragment {
        Fragment { pc, mask, calls, ..Fragment::default() }
    }
}

/// 32 threads.
#[derive(Debug)]
pub struct Warp {
    /// Rank of its block in the cluster.
    pub block: u32,
    /// Its index in the block.
    pub index: u32,
    /// The register file.
    pub rows: Vec<Row>,
    /// The predicate file: a mask each.
    pub predicates: Vec<u32>,
    /// Local memory: `local_bytes` of lane 0, then of lane 1, and so on.
    pub local: Vec<u8>,
    /// Which bytes of `local` were written.
    pub local_written: Vec<bool>,
    /// Lanes that exist and have not exited.
    pub live: u32,
    /// Where they are.
    pub fragments: Vec<Fragment>,
    /// Which of them runs.
    pub current: usize,
    /// Asynchronous copies of its lanes.
    pub copies: super::copy::Groups,
    /// Where its loads and stores found their memory.
    pub lookups: super::memory::Lookups,
    /// Matrix products in flight.
    pub products: super::tensor::Groups,
}

impl Warp {
    /// A warp at the start of a program, of `threads` lanes.
    pub fn new(program: &Program, block: u32, index: u32, threads: u32) -> Warp {
        let mut rows = vec![[0; 32]; program.slots as usize];
        for (slot, value) in &program.constants {
            rows[*slot as usize] = [*value; 32];
        }
        for slot in &program.ranked {
            rows[*slot as usize] = rows[*slot as usize].map(|address| address.wrapping_add(block << 24));
        }
        let live = if threads >= 32 { ALL } else { (1 << threads) - 1 };
        let local = program.local_bytes as usize * 32;
        Warp {
            block,
            index,
            rows,
            predicates: vec![0; program.predicates as usize],
            local: vec![0; local],
            local_written: vec![false; local],
            live,
            fragments: vec![Fragment::new(0, live, Vec::new())],
            current: 0,
            copies: Default::default(),
            lookups: Default::default(),
            products: Default::default(),
        }
    }

    /// Its index in the cluster, by which the checker knows it.
    pub fn number(&self, launch: &Launch) -> u32 {
        self.block * launch.warps() + self.index
    }

    /// The fragment that runs.
    pub fn running(&self) -> &Fragment {
        &self.fragments[self.current]
    }

    /// A row.
    #[inline(always)]
    pub fn row(&self, slot: Slot) -> &Row {
        &self.rows[slot as usize]
    }

    /// Writes lanes of a row.
    #[inline(always)]
    pub fn set_row(&mut self, slot: Slot, values: &Row, mask: u32) {
        blend(&mut self.rows[slot as usize], values, mask);
    }

    /// A pair of rows as 64-bit values.
    #[inline(always)]
    pub fn wide(&self, slot: Slot) -> WideRow {
        let (low, high) = (&self.rows[slot as usize], &self.rows[slot as usize + 1]);
        std::array::from_fn(|lane| u64::from(low[lane]) | u64::from(high[lane]) << 32)
    }

    /// Writes lanes of a pair of rows.
    #[inline(always)]
    pub fn set_wide(&mut self, slot: Slot, values: &WideRow, mask: u32) {
        self.set_row(slot, &values.map(|value| value as u32), mask);
        self.set_row(slot + 1, &values.map(|value| (value >> 32) as u32), mask);
    }

    /// The lanes for which a predicate operand holds.
    #[inline(always)]
    pub fn predicate(&self, predicate: Predicate) -> u32 {
        let mask = if predicate.index == u32::MAX { ALL } else { self.predicates[predicate.index as usize] };
        if predicate.negated { !mask } else { mask }
    }

    /// Writes lanes of a predicate.
    #[inline(always)]
    pub fn set_predicate(&mut self, index: u32, values: u32, mask: u32) {
        let old = &mut self.predicates[index as usize];
        *old = *old & !mask | values & mask;
    }

    /// The lanes that a guard lets through.
    #[inline(always)]
    pub fn guarded(&self, guard: Guard) -> u32 {
        match guard {
            Guard::Always => ALL,
            Guard::If(index) => self.predicates[index as usize],
            Guard::Unless(index) => !self.predicates[index as usize],
        }
    }

    /// The address of each lane.
    #[inline(always)]
    pub fn addresses(&self, address: Address) -> WideRow {
        if address.narrow {
            let base = self.row(address.base);
            return std::array::from_fn(|lane| u64::from(base[lane].wrapping_add(address.offset as u32)));
        }
        self.wide(address.base).map(|base| base.wrapping_add_signed(address.offset))
    }
}
