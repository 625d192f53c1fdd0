//! The syntax tree as PTX text, from which [`parse`](super::parse) makes the same tree but for its lines.

use std::fmt::{Display, Formatter, Result};

use super::ast::{
    Function, Init, Instruction, Limits, Linkage, Module, Operand, Prototype, Source, Space, Statement,
    Variable,
};
use super::types::{Kind, Type};

impl Display for Module<'_> {
    fn fmt(&self, f: &mut Formatter) -> Result {
        let (major, minor) = self.version;
        writeln!(f, ".version {major}.{minor}")?;
        if !self.target.is_empty() {
            writeln!(f, ".target {}", self.target.join(", "))?;
        }
        writeln!(f, ".address_size 64")?;
        for (number, path) in &self.files {
            writeln!(f, ".file {number} \"{path}\"")?;
        }
        for variable in &self.variables {
            writeln!(f, "{variable};")?;
        }
        for function in &self.functions {
            write!(f, "{function}")?;
        }
        for (alias, function) in &self.aliases {
            writeln!(f, ".alias {alias}, {function};")?;
        }
        Ok(())
    }
}

impl Display for Space {
    fn fmt(&self, f: &mut Formatter) -> Result {
        f.write_str(match self {
            Space::Generic => "generic",
            Space::Const => "const",
            Space::Global => "global",
            Space::Local => "local",
            Space::Param => "param",
            Space::Shared => "shared",
        })
    }
}

impl Display for Linkage {
    fn fmt(&self, f: &mut Formatter) -> Result {
        f.write_str(match self {
            Linkage::Internal => "",
            Linkage::Visible => ".visible ",
            Linkage::Extern => ".extern ",
            Linkage::Weak => ".weak ",
            Linkage::Common => ".common ",
        })
    }
}

/// Without the semicolon.
impl Display for Variable<'_> {
    fn fmt(&self, f: &mut Formatter) -> Result {
        write!(f, "{}.{} .align {} ", self.linkage, self.space, self.align)?;
        if self.vector > 1 {
            write!(f, ".v{} ", self.vector)?;
        }
        write!(f, ".{} {}", self.ty.name(), self.name)?;
        match self.len {
            Some(0) => write!(f, "[]")?,
            Some(len) => write!(f, "[{len}]")?,
            None => {}
        }
        if self.init.is_empty() {
            return Ok(());
        }
        write!(f, " = ")?;
        match (self.len, self.vector) {
            (None, 1) => initial_value(f, self.ty, self.init[0]),
            (Some(_), 2..) => {
                let vectors = self.init.chunks(self.vector as usize);
                separated(f, "{", vectors, "}", |f, vector| initial_values(f, self.ty, vector))
            }
            _ => initial_values(f, self.ty, &self.init),
        }
    }
}

fn initial_values(f: &mut Formatter, ty: Type, values: &[Init]) -> Result {
    separated(f, "{", values, "}", |f, value| initial_value(f, ty, *value))
}

fn initial_value(f: &mut Formatter, ty: Type, value: Init) -> Result {
    match value {
        Init::Bits(bits) if ty.kind() == Kind::Float && ty.bits() == 32 => write!(f, "0f{bits:08X}"),
        Init::Bits(bits) if ty.kind() == Kind::Float => write!(f, "0d{bits:016X}"),
        Init::Bits(bits) => write!(f, "{bits}"),
        Init::Address { name, offset, generic, byte } => {
            if let Some(byte) = byte {
                write!(f, "{:#x}(", 0xff_u64 << (8 * byte))?;
            }
            if generic {
                write!(f, "generic({name})")?;
            } else {
                write!(f, "{name}")?;
            }
            if offset != 0 {
                write!(f, "+{offset}")?;
            }
            f.write_str(if byte.is_some() { ")" } else { "" })
        }
    }
}

impl Display for Function<'_> {
    fn fmt(&self, f: &mut Formatter) -> Result {
        write!(f, "{}{} ", self.linkage, if self.entry { ".entry" } else { ".func" })?;
        if !self.returns.is_empty() {
            separated(f, "(", &self.returns, ") ", |f, variable| write!(f, "{variable}"))?;
        }
        write!(f, "{}", self.name)?;
        separated(f, "(", &self.params, ")", |f, variable| write!(f, "{variable}"))?;
        write!(f, "{}", self.limits)?;
        match &self.body {
            None => writeln!(f, ";"),
            Some(body) => {
                writeln!(f, "\n{{")?;
                statements(f, body, 1, &mut None)?;
                writeln!(f, "}}")
            }
        }
    }
}

/// With a blank before each.
impl Display for Limits {
    fn fmt(&self, f: &mut Formatter) -> Result {
        let shapes = [
            ("maxntid", self.max_threads),
            ("reqntid", self.required_threads),
            ("reqnctapercluster", self.required_cluster),
        ];
        for (name, shape) in shapes {
            if let Some([x, y, z]) = shape {
                write!(f, " .{name} {x}, {y}, {z}")?;
            }
        }
        let numbers = [
            ("minnctapersm", self.min_blocks_per_sm),
            ("maxnreg", self.max_registers),
            ("maxclusterrank", self.max_cluster),
        ];
        for (name, number) in numbers {
            if let Some(number) = number {
                write!(f, " .{name} {number}")?;
            }
        }
        f.write_str(if self.explicit_cluster { " .explicitcluster" } else { "" })
    }
}

/// Each on a line of its own, `depth` tabs deep; `source` is what `.loc` said last.
fn statements(f: &mut Formatter, all: &[Statement], depth: usize, source: &mut Option<Source>) -> Result {
    for statement in all {
        let indent = "\t".repeat(depth);
        match statement {
            Statement::Registers { ty, names } => {
                write!(f, "{indent}.reg .{} ", ty.name())?;
                separated(f, "", names, ";\n", |f, (name, count)| match count {
                    Some(count) => write!(f, "{name}<{count}>"),
                    None => write!(f, "{name}"),
                })?;
            }
            Statement::Variable(variable) => writeln!(f, "{indent}{variable};")?,
            Statement::Label(name, _) => writeln!(f, "{name}:")?,
            Statement::Instruction(instruction) => {
                if let Some(place) = instruction.source.filter(|place| *source != Some(*place)) {
                    writeln!(f, "{indent}{place}")?;
                    *source = Some(place);
                }
                writeln!(f, "{indent}{instruction};")?;
            }
            Statement::Block(inner) => {
                writeln!(f, "{indent}{{")?;
                statements(f, inner, depth + 1, source)?;
                writeln!(f, "{indent}}}")?;
            }
            Statement::BranchTargets(name, labels) => {
                writeln!(f, "{indent}{name}: .branchtargets {};", labels.join(", "))?
            }
            Statement::CallTargets(name, functions) => {
                writeln!(f, "{indent}{name}: .calltargets {};", functions.join(", "))?
            }
            Statement::CallPrototype(prototype) => writeln!(f, "{indent}{prototype};")?,
        }
    }
    Ok(())
}

impl Display for Prototype<'_> {
    fn fmt(&self, f: &mut Formatter) -> Result {
        write!(f, "{}: .callprototype ", self.name)?;
        if !self.returns.is_empty() {
            separated(f, "(", &self.returns, ") ", |f, variable| write!(f, "{variable}"))?;
        }
        separated(f, "_ (", &self.params, ")", |f, variable| write!(f, "{variable}"))
    }
}

/// As `.loc`; columns are not kept.
impl Display for Source {
    fn fmt(&self, f: &mut Formatter) -> Result {
        write!(f, ".loc {} {} 0", self.file, self.line)?;
        match self.inlined_at {
            Some((file, line)) => write!(f, ", inlined_at {file} {line} 0"),
            None => Ok(()),
        }
    }
}

/// Without the semicolon.
impl Display for Instruction<'_> {
    fn fmt(&self, f: &mut Formatter) -> Result {
        if let Some((name, negated)) = self.guard {
            write!(f, "@{}{name} ", if negated { "!" } else { "" })?;
        }
        f.write_str(self.opcode)?;
        for modifier in &self.modifiers {
            write!(f, ".{modifier}")?;
        }
        if self.operands.is_empty() {
            Ok(())
        } else {
            separated(f, " ", &self.operands, "", |f, operand| write!(f, "{operand}"))
        }
    }
}

impl Display for Operand<'_> {
    fn fmt(&self, f: &mut Formatter) -> Result {
        match self {
            Operand::Name(name, 0) => f.write_str(name),
            Operand::Name(name, offset) => write!(f, "{name}+{offset}"),
            Operand::Int(value) => write!(f, "{}", *value as i64),
            Operand::F32(bits) => write!(f, "0f{bits:08X}"),
            Operand::F64(value) => write!(f, "0d{:016X}", value.to_bits()),
            Operand::Sink => f.write_str("_"),
            Operand::Not(name) => write!(f, "!{name}"),
            Operand::Vector(all) => separated(f, "{", all, "}", |f, operand| write!(f, "{operand}")),
            Operand::Pair(first, second) => write!(f, "{first}|{second}"),
            Operand::Address { base, offset, coordinates } => {
                write!(f, "[{base}")?;
                if *offset != 0 {
                    write!(f, "+{offset}")?;
                }
                if !coordinates.is_empty() {
                    separated(f, ", {", coordinates, "}", |f, operand| write!(f, "{operand}"))?;
                }
                f.write_str("]")
            }
            Operand::List(all) => separated(f, "(", all, ")", |f, operand| write!(f, "{operand}")),
        }
    }
}

/// All of them between two marks, with commas.
fn separated<T>(
    f: &mut Formatter,
    before: &str,
    all: impl IntoIterator<Item = T>,
    after: &str,
    mut one: impl FnMut(&mut Formatter, T) -> Result,
) -> Result {
    f.write_str(before)?;
    for (index, item) in all.into_iter().enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        one(f, item)?;
    }
    f.write_str(after)
}
