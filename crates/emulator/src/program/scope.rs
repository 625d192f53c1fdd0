//! Names of a function, scope by scope: PTX's scopes nest and shadow.

use std::collections::HashMap;

use crate::ptx::ast::Space;

/// What a name in a function stands for, before registers have their rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entity {
    /// A register's number among all of the kernel.
    Register(usize),
    /// A variable of `size` bytes.
    Variable { space: Space, address: u64, size: u32 },
    /// The base of dynamic shared memory.
    Dynamic,
    /// A function's index in the module.
    Function(usize),
    /// A label's number in its function.
    Label(usize),
    /// A branch table's number in its function.
    Targets(usize),
    /// A prototype's number in its function.
    Prototype(usize),
}

/// The names of one scope.
#[derive(Debug, Default)]
pub(super) struct Scope<'a> {
    names: HashMap<&'a str, Entity>,
    /// `%r<5>`: prefix, first register, how many.
    ranges: Vec<(&'a str, usize, u32)>,
}

impl<'a> Scope<'a> {
    /// Declares a name; whether it was free.
    pub fn declare(&mut self, name: &'a str, entity: Entity) -> bool {
        self.names.insert(name, entity).is_none()
    }

    /// Declares `prefix0`, `prefix1` and so on.
    pub fn declare_range(&mut self, prefix: &'a str, first: usize, count: u32) {
        self.ranges.push((prefix, first, count));
    }

    fn get(&self, name: &str) -> Option<Entity> {
        if let Some(entity) = self.names.get(name) {
            return Some(*entity);
        }
        self.ranges.iter().find_map(|(prefix, first, count)| {
            let digits = name.strip_prefix(prefix)?;
            let canonical = digits == "0" || !digits.starts_with('0');
            let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
            let index: u32 = (canonical && plain).then(|| digits.parse().ok())??;
            (index < *count).then(|| Entity::Register(first + index as usize))
        })
    }
}

/// What a name stands for, innermost scope first.
pub(super) fn lookup(scopes: &[Scope], name: &str) -> Option<Entity> {
    scopes.iter().rev().find_map(|scope| scope.get(name))
}
