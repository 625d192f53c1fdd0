//! What is found where a finding does not end the launch.

use std::cell::RefCell;
use std::collections::HashSet;

use super::history::{Clash, Why};
use super::{Checker, Options};
use crate::fault::Fault;

/// A fault after which the kernel went on.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What.
    pub fault: Fault,
    /// Index of the warp in its cluster.
    pub warp: u32,
    /// Index of its instruction.
    pub pc: u32,
    /// What it is known by.
    pub key: Key,
}

/// An instruction and, of two accesses that do not go together, why. A finding is told once for each of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(pub(super) u32, pub(super) Option<Why>);

/// What becomes of the clashes of one instruction.
#[derive(Debug)]
pub(super) struct Leniency {
    options: Options,
    /// Those that are to be told, one of each kind.
    found: RefCell<Vec<Clash>>,
}

impl Leniency {
    pub(super) fn new(options: Options) -> Leniency {
        Leniency { options, found: RefCell::default() }
    }

    /// Whether the access goes on as if there were no clash.
    #[cold]
    pub(super) fn tolerates(&self, clash: &Clash) -> bool {
        let Options { races, proxy, report, .. } = self.options;
        let checked = if matches!(clash.why, Why::Proxy | Why::Map) { proxy } else { races };
        if checked && report {
            let mut found = self.found.borrow_mut();
            if !found.iter().any(|known| known.why == clash.why) {
                found.push(*clash);
            }
        }
        !checked || report
    }

    /// What is to be told.
    pub(super) fn found(self) -> Vec<Clash> {
        self.found.into_inner()
    }
}

/// Findings of one cluster.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Those that nobody has taken.
    list: Vec<Finding>,
    known: HashSet<Key>,
}

impl Checker {
    /// Whether the like has been found before, and the kernel went on.
    pub(super) fn is_known(&self, key: Key) -> bool {
        self.findings.known.contains(&key)
    }

    /// Keeps a fault of a warp as a finding, where findings do not end the launch.
    ///
    /// # Errors
    /// The fault itself where they do.
    pub fn tolerate(&mut self, warp: u32, pc: u32, fault: Fault) -> Result<(), Fault> {
        if !self.options.report {
            return Err(fault);
        }
        self.keep(warp, pc, None, fault);
        Ok(())
    }

    /// Keeps a finding, unless one like it is known.
    pub(super) fn keep(&mut self, warp: u32, pc: u32, why: Option<Why>, fault: Fault) {
        let key = Key(pc, why);
        if self.findings.known.insert(key) {
            self.findings.list.push(Finding { fault, warp, pc, key });
        }
    }

    /// What was found since this was called last.
    pub fn findings(&mut self) -> Vec<Finding> {
        std::mem::take(&mut self.findings.list)
    }
}
