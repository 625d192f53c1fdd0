//! An instruction's modifiers, taken one by one: what is left at the end is refused.

use crate::ptx::ast::Instruction;
use crate::ptx::{Error, Result, Type};

/// The modifiers that nobody has taken yet. PTX fixes an order, and compilers depart from it here and there: `take` accepts any.
pub struct Modifiers<'i, 'a> {
    instruction: &'i Instruction<'a>,
    left: Vec<&'a str>,
}

impl<'i, 'a> Modifiers<'i, 'a> {
    /// Those of an instruction.
    pub fn new(instruction: &'i Instruction<'a>) -> Self {
        Modifiers { instruction, left: instruction.modifiers.clone() }
    }

    /// Takes a modifier; whether it was there.
    pub fn take(&mut self, name: &str) -> bool {
        self.take_any(&[name]).is_some()
    }

    /// Takes the first of these that is there.
    pub fn take_any(&mut self, names: &[&str]) -> Option<&'a str> {
        let at = self.left.iter().position(|modifier| names.contains(modifier))?;
        Some(self.left.remove(at))
    }

    /// Takes the next type suffix, from the left.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ptx::ErrorKind::Invalid) when none is left.
    pub fn ty(&mut self) -> Result<Type> {
        self.optional_type().ok_or_else(|| self.invalid("its type is missing"))
    }

    /// Takes the next type suffix, if one is left.
    pub fn optional_type(&mut self) -> Option<Type> {
        let at = self.left.iter().position(|modifier| Type::parse(modifier).is_some())?;
        Type::parse(self.left.remove(at))
    }

    /// What nobody has taken.
    pub fn left(&self) -> &[&'a str] {
        &self.left
    }

    /// Refuses the instruction if a modifier is left.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ptx::ErrorKind::Unsupported), naming it.
    pub fn finish(&self) -> Result<()> {
        match self.left.first() {
            Some(modifier) => Err(self.unsupported(&format!("modifier .{modifier} is not known here"))),
            None => Ok(()),
        }
    }

    /// An error of this instruction: no compiler accepts it.
    pub fn invalid(&self, message: &str) -> Error {
        Error::invalid(self.instruction.line, self.describe(message))
    }

    /// An error of this instruction: it is not emulated.
    pub fn unsupported(&self, message: &str) -> Error {
        Error::unsupported(self.instruction.line, self.describe(message))
    }

    fn describe(&self, message: &str) -> String {
        let mut name = self.instruction.opcode.to_owned();
        for modifier in &self.instruction.modifiers {
            name.push('.');
            name.push_str(modifier);
        }
        format!("{name}: {message}")
    }
}
