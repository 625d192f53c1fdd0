//! An instruction as text again, for reports.

use std::fmt::Write;

use crate::ptx::ast::{Instruction, Operand};

/// `@p ld.global.f32 %f1, [%rd1+4];`
pub(super) fn instruction(inst: &Instruction) -> String {
    let mut text = String::new();
    if let Some((name, negated)) = inst.guard {
        text.push('@');
        if negated {
            text.push('!');
        }
        text.push_str(name);
        text.push(' ');
    }
    text.push_str(&name(inst));
    for (index, one) in inst.operands.iter().enumerate() {
        text.push_str(if index == 0 { " " } else { ", " });
        operand(&mut text, one);
    }
    text.push(';');
    text
}

/// `ld.global.f32`
pub(super) fn name(inst: &Instruction) -> String {
    let mut name = inst.opcode.to_owned();
    for modifier in &inst.modifiers {
        name.push('.');
        name.push_str(modifier);
    }
    name
}

fn operand(text: &mut String, one: &Operand) {
    match one {
        Operand::Name(name, offset) => {
            text.push_str(name);
            signed(text, *offset);
        }
        Operand::Int(value) if *value as i64 > -(1 << 16) => number(text, *value as i64),
        Operand::Int(value) => number(text, *value),
        Operand::F32(bits) => write(text, format_args!("0f{bits:08X}")),
        Operand::F64(value) => write(text, format_args!("0d{:016X}", value.to_bits())),
        Operand::Sink => text.push('_'),
        Operand::Not(name) => write(text, format_args!("!{name}")),
        Operand::Vector(parts) => sequence(text, ("{", "}"), parts),
        Operand::Pair(first, second) => {
            operand(text, first);
            text.push('|');
            operand(text, second);
        }
        Operand::Address { base, offset, coordinates } => {
            text.push('[');
            operand(text, base);
            signed(text, *offset);
            if !coordinates.is_empty() {
                text.push_str(", ");
                sequence(text, ("{", "}"), coordinates);
            }
            text.push(']');
        }
        Operand::List(parts) => sequence(text, ("(", ")"), parts),
    }
}

fn sequence(text: &mut String, (open, close): (&str, &str), parts: &[Operand]) {
    text.push_str(open);
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            text.push_str(", ");
        }
        operand(text, part);
    }
    text.push_str(close);
}

fn signed(text: &mut String, offset: i64) {
    if offset != 0 {
        write(text, format_args!("{offset:+}"));
    }
}

fn number(text: &mut String, value: impl std::fmt::Display) {
    write(text, format_args!("{value}"));
}

fn write(text: &mut String, args: std::fmt::Arguments) {
    text.write_fmt(args).expect("a string takes all text");
}
