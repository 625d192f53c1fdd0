//! Instructions and their operands.

use super::Parser;
use super::constant::Constant;
use crate::ptx::ast::{Instruction, Operand};
use crate::ptx::lexer::Token;
use crate::ptx::{Error, Result};

impl<'a> Parser<'a> {
    /// `@!p opcode.modifier operand, operand;`
    pub(super) fn instruction(&mut self) -> Result<Instruction<'a>> {
        let mut guard = None;
        if self.take("@")? {
            let negated = self.take("!")?;
            guard = Some((self.name("a predicate")?.0, negated));
        }
        let opcode = match self.peek() {
            Token::Name(name) if name.starts_with(|first: char| first.is_ascii_alphabetic()) => name,
            _ => return Err(self.unexpected("an instruction")),
        };
        let line = self.advance()?.line;
        let mut modifiers = Vec::new();
        while let Token::Dotted(modifier) = self.peek() {
            self.advance()?;
            modifiers.push(modifier);
        }
        let mut operands = Vec::new();
        if !self.is(";") {
            operands = self.list(|parser| {
                let operand = parser.operand(opcode)?;
                // The one modifier that stands behind its operand.
                if matches!(operand, Operand::Address { .. }) && parser.take_dotted("unified")? {
                    modifiers.push("unified");
                }
                Ok(operand)
            })?;
        }
        self.expect(";", "after an instruction")?;
        Ok(Instruction { guard, opcode, modifiers, operands, line, source: self.source })
    }

    fn operand(&mut self, opcode: &str) -> Result<Operand<'a>> {
        match self.peek() {
            Token::Sign("[") => self.address(),
            Token::Sign("{") => {
                self.advance()?;
                let all = self.list(Parser::simple_operand)?;
                self.expect("}", "after a vector")?;
                Ok(Operand::Vector(all))
            }
            // Arguments; anywhere else a parenthesis begins an expression.
            Token::Sign("(") if opcode == "call" => {
                self.advance()?;
                if self.take(")")? {
                    return Ok(Operand::List(Vec::new()));
                }
                let all = self.list(Parser::simple_operand)?;
                self.expect(")", "after arguments")?;
                Ok(Operand::List(all))
            }
            Token::Sign("!") if matches!(self.peek_second(), Token::Name(name) if name != "WARP_SZ") => {
                self.advance()?;
                Ok(Operand::Not(self.name("a predicate")?.0))
            }
            _ => {
                let first = self.simple_operand()?;
                if !matches!(first, Operand::Name(_, 0) | Operand::Sink) || !self.take("|")? {
                    return Ok(first);
                }
                let Token::Name(_) = self.peek() else { return Err(self.unexpected("a name after `|`")) };
                let second = self.simple_operand()?;
                Ok(Operand::Pair(Box::new(first), Box::new(second)))
            }
        }
    }

    /// A name, a constant or `_`: what vectors and arguments are made of.
    fn simple_operand(&mut self) -> Result<Operand<'a>> {
        if self.is_constant() {
            return Ok(match self.constant()? {
                Constant::Signed(value) => Operand::Int(value as u64),
                Constant::Unsigned(value) => Operand::Int(value),
                Constant::Single(bits) => Operand::F32(bits),
                Constant::Double(value) => Operand::F64(value),
            });
        }
        if self.peek() == Token::Name("_") {
            self.advance()?;
            return Ok(Operand::Sink);
        }
        let name = self.component("an operand")?;
        let line = self.line();
        if self.is("[") {
            return Err(Error::unsupported(line, format!("an element of {name} by its index")));
        }
        let offset = if self.take("+")? { self.integer("an offset")? as i64 } else { 0 };
        Ok(Operand::Name(name, offset))
    }

    /// A name, with the component of a special register: `%tid.x`.
    fn component(&mut self, what: &str) -> Result<&'a str> {
        let first = self.ahead[0];
        let (name, line) = self.name(what)?;
        let Token::Dotted(_) = self.peek() else { return Ok(name) };
        let second = self.advance()?;
        if second.start != first.end {
            return Err(Error::unsupported(line, format!("a space between {name} and its component")));
        }
        Ok(&self.text[first.start..second.end])
    }

    /// `[base]`, `[base+8]`, `[map, {x, y}]`
    fn address(&mut self) -> Result<Operand<'a>> {
        self.expect("[", "before an address")?;
        let base = if self.is_constant() {
            Operand::Int(self.integer("an address")?)
        } else {
            Operand::Name(self.component("an address")?, 0)
        };
        let offset = if self.take("+")? { self.integer("an offset")? as i64 } else { 0 };
        let mut coordinates = Vec::new();
        if self.take(",")? {
            if !self.is("{") {
                return Err(Error::unsupported(
                    self.line(),
                    format!("{} in an address", self.peek().describe()),
                ));
            }
            self.advance()?;
            coordinates = self.list(Parser::simple_operand)?;
            self.expect("}", "after coordinates")?;
        }
        self.expect("]", "after an address")?;
        Ok(Operand::Address { base: Box::new(base), offset, coordinates })
    }
}
