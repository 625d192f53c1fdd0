//! Constant expressions: C's operators over 64-bit integers, and arithmetic of f64.

use super::Parser;
use crate::ptx::lexer::{Number, Token};
use crate::ptx::{Error, Result};

/// What a constant expression comes to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Constant {
    /// A signed integer.
    Signed(i64),
    /// An unsigned integer.
    Unsigned(u64),
    /// `0f…`: bits of an f32, which no operator takes.
    Single(u32),
    /// An f64.
    Double(f64),
}

/// Binary operators by how tightly they bind, loosest first.
const LEVELS: [&[&str]; 10] = [
    &["||"],
    &["&&"],
    &["|"],
    &["^"],
    &["&"],
    &["==", "!="],
    &["<", "<=", ">", ">="],
    &["<<", ">>"],
    &["+", "-"],
    &["*", "/", "%"],
];

impl<'a> Parser<'a> {
    /// Whether a constant expression can begin here.
    pub(super) fn is_constant(&self) -> bool {
        match self.peek() {
            Token::Number(..) | Token::Name("WARP_SZ") => true,
            Token::Sign(sign) => matches!(sign, "-" | "+" | "~" | "!" | "("),
            _ => false,
        }
    }

    /// A constant expression.
    pub(super) fn constant(&mut self) -> Result<Constant> {
        let condition = self.binary(0)?;
        let line = self.line();
        if !self.take("?")? {
            return Ok(condition);
        }
        let chosen = condition.truth(line)?;
        self.nested(|parser| {
            let yes = parser.constant()?;
            parser.expect(":", "of the conditional")?;
            let no = parser.constant()?;
            Ok(if chosen { yes } else { no })
        })
    }

    /// A constant expression whose value is an integer, as 64 bits.
    pub(super) fn integer(&mut self, what: &str) -> Result<u64> {
        let line = self.line();
        if !self.is_constant() {
            return Err(self.unexpected(what));
        }
        match self.constant()? {
            Constant::Signed(value) => Ok(value as u64),
            Constant::Unsigned(value) => Ok(value),
            Constant::Single(_) | Constant::Double(_) => {
                Err(Error::invalid(line, format!("expected {what}, found a floating-point number")))
            }
        }
    }

    /// A constant expression that comes to a number from 0 to `u32::MAX`.
    pub(super) fn count(&mut self, what: &str) -> Result<u32> {
        let line = self.line();
        let value = self.integer(what)?;
        u32::try_from(value)
            .map_err(|_| Error::invalid(line, format!("expected {what}, found {}", value as i64)))
    }

    /// A number from 0 to `u32::MAX` that is no expression.
    pub(super) fn plain_count(&mut self) -> Result<u32> {
        let value = match self.peek() {
            Token::Number(Number::Signed(value), _) => u32::try_from(value).ok(),
            _ => None,
        };
        let value = value.ok_or_else(|| self.unexpected("a number of 32 bits"))?;
        self.advance()?;
        Ok(value)
    }

    fn binary(&mut self, level: usize) -> Result<Constant> {
        let mut left = self.unary()?;
        loop {
            let Token::Sign(sign) = self.peek() else { return Ok(left) };
            let Some(found) = (level..LEVELS.len()).find(|&found| LEVELS[found].contains(&sign)) else {
                return Ok(left);
            };
            let line = self.advance()?.line;
            let right = self.binary(found + 1)?;
            left = left.combine(sign, right, line)?;
        }
    }

    fn unary(&mut self) -> Result<Constant> {
        let line = self.line();
        match self.peek() {
            Token::Number(number, _) => {
                self.advance()?;
                Ok(match number {
                    Number::Signed(value) => Constant::Signed(value),
                    Number::Unsigned(value) => Constant::Unsigned(value),
                    Number::Single(bits) => Constant::Single(bits),
                    Number::Double(value) => Constant::Double(value),
                })
            }
            Token::Name("WARP_SZ") => {
                self.advance()?;
                Ok(Constant::Signed(32))
            }
            Token::Sign("(") => {
                self.advance()?;
                self.nested(|parser| parser.parenthesised(line))
            }
            Token::Sign(sign @ ("-" | "+" | "~" | "!")) => {
                self.advance()?;
                let value = self.nested(Parser::unary)?;
                value.apply(sign, line)
            }
            _ => Err(self.unexpected("a constant")),
        }
    }

    /// What follows `(`: an expression, or the type of a cast.
    fn parenthesised(&mut self, line: u32) -> Result<Constant> {
        if let Token::Dotted(ty @ ("s64" | "u64")) = self.peek() {
            self.advance()?;
            self.expect(")", "after the type of a cast")?;
            let value = self.unary()?;
            return match (value, ty) {
                (Constant::Signed(value), "u64") => Ok(Constant::Unsigned(value as u64)),
                (Constant::Unsigned(value), "s64") => Ok(Constant::Signed(value as i64)),
                (Constant::Single(_) | Constant::Double(_), _) => Err(mismatch(&format!("(.{ty})"), line)),
                (value, _) => Ok(value),
            };
        }
        let value = self.constant()?;
        self.expect(")", "after the expression")?;
        Ok(value)
    }
}

impl Constant {
    fn truth(self, line: u32) -> Result<bool> {
        match self {
            Constant::Signed(value) => Ok(value != 0),
            Constant::Unsigned(value) => Ok(value != 0),
            Constant::Single(_) | Constant::Double(_) => Err(mismatch("?", line)),
        }
    }

    fn apply(self, sign: &str, line: u32) -> Result<Constant> {
        Ok(match (sign, self) {
            ("-", Constant::Signed(value)) => Constant::Signed(value.wrapping_neg()),
            ("-", Constant::Unsigned(value)) => Constant::Unsigned(value.wrapping_neg()),
            ("-", Constant::Double(value)) => Constant::Double(-value),
            ("+", Constant::Signed(_) | Constant::Unsigned(_) | Constant::Double(_)) => self,
            ("~", Constant::Signed(value)) => Constant::Signed(!value),
            ("~", Constant::Unsigned(value)) => Constant::Unsigned(!value),
            ("!", Constant::Signed(_) | Constant::Unsigned(_)) => {
                Constant::Signed(i64::from(!self.truth(line)?))
            }
            _ => return Err(mismatch(sign, line)),
        })
    }

    fn combine(self, sign: &str, right: Constant, line: u32) -> Result<Constant> {
        match (self, right) {
            (Constant::Signed(a), Constant::Signed(b)) => signed(a, sign, b, line),
            (Constant::Signed(a), Constant::Unsigned(b)) if matches!(sign, "<<" | ">>") => {
                signed(a, sign, b as i64, line)
            }
            (Constant::Signed(a), Constant::Unsigned(b)) => unsigned(a as u64, sign, b, line),
            (Constant::Unsigned(a), Constant::Signed(b)) => unsigned(a, sign, b as u64, line),
            (Constant::Unsigned(a), Constant::Unsigned(b)) => unsigned(a, sign, b, line),
            (Constant::Double(a), Constant::Double(b)) => double(a, sign, b, line),
            _ => Err(mismatch(sign, line)),
        }
    }
}

fn signed(a: i64, sign: &str, b: i64, line: u32) -> Result<Constant> {
    Ok(Constant::Signed(match sign {
        "+" => a.wrapping_add(b),
        "-" => a.wrapping_sub(b),
        "*" => a.wrapping_mul(b),
        "/" | "%" if b == 0 => return Err(Error::invalid(line, "a division by zero")),
        "/" => a.wrapping_div(b),
        "%" => a.wrapping_rem(b),
        "<<" => a.wrapping_shl(amount(b as u64, line)?),
        ">>" => a.wrapping_shr(amount(b as u64, line)?),
        "&" => a & b,
        "|" => a | b,
        "^" => a ^ b,
        "&&" => i64::from(a != 0 && b != 0),
        "||" => i64::from(a != 0 || b != 0),
        _ => i64::from(compare(&a, sign, &b)),
    }))
}

fn unsigned(a: u64, sign: &str, b: u64, line: u32) -> Result<Constant> {
    Ok(Constant::Unsigned(match sign {
        "+" => a.wrapping_add(b),
        "-" => a.wrapping_sub(b),
        "*" => a.wrapping_mul(b),
        "/" | "%" if b == 0 => return Err(Error::invalid(line, "a division by zero")),
        "/" => a / b,
        "%" => a % b,
        "<<" => a << amount(b, line)?,
        ">>" => a >> amount(b, line)?,
        "&" => a & b,
        "|" => a | b,
        "^" => a ^ b,
        "&&" => return Ok(Constant::Signed(i64::from(a != 0 && b != 0))),
        "||" => return Ok(Constant::Signed(i64::from(a != 0 || b != 0))),
        _ => return Ok(Constant::Signed(i64::from(compare(&a, sign, &b)))),
    }))
}

fn double(a: f64, sign: &str, b: f64, line: u32) -> Result<Constant> {
    Ok(Constant::Double(match sign {
        "+" => a + b,
        "-" => a - b,
        "*" => a * b,
        "/" => a / b,
        "==" | "!=" | "<" | "<=" | ">" | ">=" => {
            return Ok(Constant::Signed(i64::from(compare(&a, sign, &b))));
        }
        _ => return Err(mismatch(sign, line)),
    }))
}

fn compare<T: PartialOrd>(a: &T, sign: &str, b: &T) -> bool {
    match sign {
        "==" => a == b,
        "!=" => a != b,
        "<" => a < b,
        "<=" => a <= b,
        ">" => a > b,
        _ => a >= b,
    }
}

/// What a longer shift gives is nobody's promise.
fn amount(value: u64, line: u32) -> Result<u32> {
    match u32::try_from(value) {
        Ok(value) if value < 64 => Ok(value),
        _ => Err(Error::unsupported(line, format!("a constant shifted by {}", value as i64))),
    }
}

fn mismatch(sign: &str, line: u32) -> Error {
    Error::invalid(line, format!("`{sign}` does not take constants of these types"))
}
