//! Variables, parameters and their initial values.

use super::Parser;
use super::constant::Constant;
use crate::ptx::ast::{Init, Linkage, Space, Variable};
use crate::ptx::lexer::{Number, Token};
use crate::ptx::{Error, Kind, Result, Type};

/// Dimensions of an array that are accepted. They bound how deep lists of initial values nest.
const DIMENSIONS: usize = 16;

/// What stands between a state space and the names.
struct Head {
    align: Option<u32>,
    vector: u32,
    ty: Type,
}

impl<'a> Parser<'a> {
    /// `.align 4 .b8 a[16] = {1, 2}, b;` after its state space.
    pub(super) fn variables(
        &mut self,
        space: Space,
        linkage: Linkage,
        mut found: impl FnMut(Variable<'a>),
    ) -> Result<()> {
        let head = self.head()?;
        loop {
            found(self.declarator(space, linkage, &head)?);
            if !self.take(",")? {
                return self.expect(";", "after a variable");
            }
        }
    }

    /// `(.param .b32 a, .param .align 8 .b8 b[24])`, of which the opening parenthesis comes next.
    pub(super) fn parameters(&mut self) -> Result<Vec<Variable<'a>>> {
        self.expect("(", "before parameters")?;
        if self.take(")")? {
            return Ok(Vec::new());
        }
        let all = self.list(|parser| {
            let line = parser.line();
            if parser.take_dotted("reg")? {
                return Err(Error::unsupported(line, "parameters in registers"));
            }
            if !parser.take_dotted("param")? {
                return Err(parser.unexpected("`.param`"));
            }
            let head = parser.head()?;
            parser.declarator(Space::Param, Linkage::Internal, &head)
        })?;
        self.expect(")", "after parameters")?;
        Ok(all)
    }

    /// A type suffix, which must come next.
    pub(super) fn ty(&mut self) -> Result<Type> {
        match self.peek() {
            Token::Dotted(name) => {
                let line = self.advance()?.line;
                Type::parse(name)
                    .ok_or_else(|| Error::unsupported(line, format!("the type `.{name}` is not known")))
            }
            _ => Err(self.unexpected("a type")),
        }
    }

    fn head(&mut self) -> Result<Head> {
        let (mut align, mut vector) = (None, 1);
        loop {
            match self.peek() {
                Token::Dotted("align") => align = Some(self.align()?),
                Token::Dotted("attribute") => self.attribute()?,
                Token::Dotted(name @ ("v2" | "v4" | "v8")) => {
                    self.advance()?;
                    vector = u32::from(name.as_bytes()[1] - b'0');
                }
                _ => break,
            }
        }
        let line = self.line();
        let ty = self.ty()?;
        if ty == Type::Pred {
            return Err(Error::invalid(line, "a predicate outside registers"));
        }
        // What a pointer points to: `.ptr .global .align 16`.
        if self.take_dotted("ptr")? {
            for space in ["const", "global", "local", "shared", "param"] {
                self.take_dotted(space)?;
            }
            if self.peek() == Token::Dotted("align") {
                self.align()?;
            }
        }
        Ok(Head { align, vector, ty })
    }

    /// `.align 16`
    fn align(&mut self) -> Result<u32> {
        let line = self.advance()?.line;
        let align = self.count("an alignment")?;
        if align.is_power_of_two() {
            Ok(align)
        } else {
            Err(Error::invalid(line, format!("expected a power of two as alignment, found {align}")))
        }
    }

    /// `.attribute(.managed)`: all memory of the emulator is.
    fn attribute(&mut self) -> Result<()> {
        let line = self.advance()?.line;
        self.expect("(", "after `.attribute`")?;
        loop {
            match self.peek() {
                Token::Dotted("managed") => {
                    self.advance()?;
                }
                // A name across modules, made of two numbers.
                Token::Dotted("unified") => {
                    self.advance()?;
                    self.expect("(", "after `.unified`")?;
                    self.list(|parser| parser.integer("a number"))?;
                    self.expect(")", "after the numbers of `.unified`")?;
                }
                Token::Dotted(name) => {
                    return Err(Error::unsupported(line, format!("the attribute `.{name}` is not known")));
                }
                _ => return Err(self.unexpected("an attribute")),
            }
            if !self.take(",")? {
                return self.expect(")", "after an attribute");
            }
        }
    }

    fn declarator(&mut self, space: Space, linkage: Linkage, head: &Head) -> Result<Variable<'a>> {
        let (name, line) = self.name("the name of a variable")?;
        if self.is("<") {
            return Err(Error::unsupported(line, "a range of names for variables that are not registers"));
        }
        // Lengths of the dimensions, outermost first; the outermost may be open.
        let mut shape = Vec::new();
        let mut open = false;
        while self.take("[")? {
            if shape.len() == DIMENSIONS {
                return Err(Error::unsupported(
                    line,
                    format!("an array of more than {DIMENSIONS} dimensions"),
                ));
            }
            if shape.is_empty() && self.is("]") {
                open = true;
                shape.push(u64::MAX);
            } else {
                shape.push(self.integer("a length")?);
            }
            self.expect("]", "after a length")?;
        }
        let array = !shape.is_empty();
        let inner = shape.iter().skip(usize::from(open)).try_fold(1u64, |len, &by| len.checked_mul(by));
        let size = inner.and_then(|len| len.checked_mul(u64::from(head.vector * head.ty.bytes())));
        let (Some(inner), Some(_)) = (inner, size) else {
            return Err(Error::invalid(line, format!("{name} is larger than any memory")));
        };
        if head.vector > 1 {
            shape.push(u64::from(head.vector));
        }

        let mut init = Vec::new();
        if self.take("=")? {
            if !matches!(space, Space::Global | Space::Const) {
                return Err(Error::invalid(
                    line,
                    format!("{name}: only .global and .const variables have initial values"),
                ));
            }
            if shape.is_empty() {
                init.push(self.initial_value(head.ty)?);
            } else {
                self.initial_values(head.ty, &shape, &mut init)?;
            }
        }
        let len = if open && !init.is_empty() {
            let element = inner * u64::from(head.vector);
            // An element of no length has no values: `initial_values` saw to that.
            Some((init.len() as u64).div_ceil(element.max(1)) * inner)
        } else if open {
            Some(0)
        } else {
            array.then_some(inner)
        };
        let natural = head.ty.bytes() * head.vector;
        let align = head.align.unwrap_or(natural);
        Ok(Variable { space, linkage, align, ty: head.ty, vector: head.vector, name, len, init, line })
    }

    /// `{…}`: values, or lists of them where there are more dimensions.
    fn initial_values(&mut self, ty: Type, shape: &[u64], init: &mut Vec<Init<'a>>) -> Result<()> {
        let line = self.line();
        self.expect("{", "before initial values")?;
        if self.take("}")? {
            return Ok(());
        }
        let (len, inner) = (shape[0], &shape[1..]);
        // Of values in each item of this list. The product was checked.
        let stride: u64 = inner.iter().product();
        let first = init.len() as u64;
        let mut count = 0;
        loop {
            if count == len {
                return Err(Error::invalid(line, format!("more than {len} initial values")));
            }
            let missing = first.saturating_add(stride.saturating_mul(count)) - init.len() as u64;
            self.padding = self.padding.checked_sub(missing).ok_or_else(|| {
                Error::unsupported(
                    line,
                    format!("initial values that leave more than {} others out", super::PADDING),
                )
            })?;
            init.extend((0..missing).map(|_| Init::Bits(0)));
            if inner.is_empty() {
                init.push(self.initial_value(ty)?);
            } else {
                self.initial_values(ty, inner, init)?;
            }
            count += 1;
            if !self.take(",")? {
                return self.expect("}", "after initial values");
            }
        }
    }

    /// A number, `name+8`, `generic(name)+8`, or a byte of an address: `0xFF00(name)`.
    fn initial_value(&mut self, ty: Type) -> Result<Init<'a>> {
        let line = self.line();
        if matches!(self.peek(), Token::Number(..)) && self.peek_second() == Token::Sign("(") {
            let mask = match self.advance()?.token {
                Token::Number(Number::Signed(mask), _) => mask as u64,
                Token::Number(Number::Unsigned(mask), _) => mask,
                _ => 0,
            };
            let byte = (0..8u8).find(|byte| mask == 0xff << (8 * byte));
            let Some(byte) = byte else {
                return Err(Error::invalid(line, "expected a mask of one byte, such as 0xFF00, before `(`"));
            };
            if ty.bits() != 8 {
                return Err(Error::invalid(
                    line,
                    format!("a byte of an address where .{} is expected", ty.name()),
                ));
            }
            self.advance()?;
            let address = self.initial_address(Some(byte))?;
            self.expect(")", "after an address")?;
            return Ok(address);
        }
        if self.is_constant() {
            return initial_bits(self.constant()?, ty, line);
        }
        if let Token::Name(name) = self.peek()
            && (ty.bits() != 64 || ty.kind() == Kind::Float)
        {
            return Err(Error::invalid(line, format!("the address of {name} does not fit .{}", ty.name())));
        }
        self.initial_address(None)
    }

    fn initial_address(&mut self, byte: Option<u8>) -> Result<Init<'a>> {
        let (mut name, _) = self.name("an initial value")?;
        let generic = name == "generic" && self.take("(")?;
        if generic {
            name = self.name("a variable")?.0;
            self.expect(")", "after the name of a variable")?;
        }
        let offset = if self.take("+")? { self.integer("an offset")? as i64 } else { 0 };
        Ok(Init::Address { name, offset, generic, byte })
    }
}

/// A constant as the bits of a type.
fn initial_bits<'a>(value: Constant, ty: Type, line: u32) -> Result<Init<'a>> {
    let bits = match (value, ty) {
        (Constant::Signed(_) | Constant::Unsigned(_), _) if ty.kind() == Kind::Float => {
            return Err(Error::invalid(line, format!("an integer where .{} is expected", ty.name())));
        }
        (_, Type::B128) => return Err(Error::unsupported(line, "initial values of 128 bits")),
        (Constant::Signed(value), _) => value as u64,
        (Constant::Unsigned(value), _) => value,
        (Constant::Single(bits), Type::F32 | Type::B32) => u64::from(bits),
        (Constant::Single(bits), Type::F64) => f64::from(f32::from_bits(bits)).to_bits(),
        (Constant::Double(value), Type::F32) => u64::from((value as f32).to_bits()),
        (Constant::Double(value), Type::F64 | Type::B64) => value.to_bits(),
        _ => {
            return Err(Error::unsupported(
                line,
                format!("a floating-point number as initial value of .{}", ty.name()),
            ));
        }
    };
    Ok(Init::Bits(if ty.bits() < 64 { bits & ((1 << ty.bits()) - 1) } else { bits }))
}
