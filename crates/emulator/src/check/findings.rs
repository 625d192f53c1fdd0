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
}

/// The instruction of a finding, and that of the earlier access where there is one. It is told once for each of these.
pub type Key = (u32, Option<u32>);

impl Finding {
    /// What it is known by.
    pub fn key(&self) -> Key {
        (self.pc, self.fault.other.map(|other| other.pc))
    }
}

/// What becomes of the clashes of one instruction.
#[derive(Debug)]
pub(super) struct Leniency {
    options: Options,
    /// Those that are to be told, one for each pair of instructions.
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
        let checked = if clash.why == Why::Proxy { proxy } else { races };
        if checked && report {
            let mut found = self.found.borrow_mut();
            if !found.iter().any(|known| known.other.pc == clash.other.pc) {
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
    /// Whether a fault of these instructions has been found before, after which the kernel went on.
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
        let finding = Finding { fault, warp, pc };
        if self.findings.known.insert(finding.key()) {
            self.findings.list.push(finding);
        }
        Ok(())
    }

    /// What was found since this was called last.
    pub fn findings(&mut self) -> Vec<Finding> {
        std::mem::take(&mut self.findings.list)
    }
}
