//! Functions: their heads, and the statements of their bodies.

use super::Parser;
use crate::ptx::ast::{Function, Limits, Linkage, Prototype, Source, Space, Statement};
use crate::ptx::lexer::Token;
use crate::ptx::{Error, Result};

/// `.reg .b32 %r<n>` may not declare more: a few characters could ask for any number.
const REGISTERS: u32 = 1 << 20;

impl<'a> Parser<'a> {
    /// What follows `.entry` or `.func`.
    pub(super) fn function(&mut self, linkage: Linkage, entry: bool) -> Result<Function<'a>> {
        let returns = if !entry && self.is("(") { self.parameters()? } else { Vec::new() };
        let (name, line) = self.name("the name of a function")?;
        let params = if self.is("(") { self.parameters()? } else { Vec::new() };
        let limits = self.limits()?;
        let body = if self.take(";")? {
            None
        } else {
            self.source = None;
            let opened = self.line();
            self.expect("{", "or `;` after the head of a function")?;
            Some(self.statements(opened)?)
        };
        Ok(Function { name, entry, linkage, returns, params, limits, body, line })
    }

    /// Directives between a function's parameters and its body.
    fn limits(&mut self) -> Result<Limits> {
        let mut limits = Limits::default();
        while let Token::Dotted(name) = self.peek() {
            let line = self.advance()?.line;
            match name {
                "maxntid" => limits.max_threads = Some(self.shape()?),
                "reqntid" => limits.required_threads = Some(self.shape()?),
                "reqnctapercluster" => limits.required_cluster = Some(self.shape()?),
                "minnctapersm" => limits.min_blocks_per_sm = Some(self.count("a number of blocks")?),
                "maxnreg" => limits.max_registers = Some(self.count("a number of registers")?),
                "maxclusterrank" => limits.max_cluster = Some(self.count("a number of blocks")?),
                "explicitcluster" => limits.explicit_cluster = true,
                "pragma" => self.pragma()?,
                // Hints to the compiler.
                "noreturn" => {}
                "maxnctapersm" | "abi_preserve" | "abi_preserve_control" => {
                    self.count("a number")?;
                }
                _ => return Err(Error::unsupported(line, format!("the directive `.{name}` is not known"))),
            }
        }
        Ok(limits)
    }

    /// One to three numbers; those that are missing are 1.
    fn shape(&mut self) -> Result<[u32; 3]> {
        let mut shape = [1; 3];
        shape[0] = self.count("a number")?;
        for side in &mut shape[1..] {
            if !self.take(",")? {
                break;
            }
            *side = self.count("a number")?;
        }
        Ok(shape)
    }

    /// Statements up to and with the closing brace.
    fn statements(&mut self, opened: u32) -> Result<Vec<Statement<'a>>> {
        let mut all = Vec::new();
        loop {
            let line = self.line();
            match self.peek() {
                Token::Sign("}") => {
                    self.advance()?;
                    return Ok(all);
                }
                Token::Sign("{") => {
                    self.advance()?;
                    all.push(Statement::Block(self.nested(|parser| parser.statements(line))?));
                }
                Token::Dotted(directive) => {
                    self.advance()?;
                    self.body_directive(directive, line, &mut all)?;
                }
                Token::Name(_) if self.peek_second() == Token::Sign(":") => all.push(self.label()?),
                Token::Name(_) | Token::Sign("@") => all.push(Statement::Instruction(self.instruction()?)),
                Token::End => {
                    return Err(Error::invalid(opened, "a `{` is opened here and never closed"));
                }
                _ => return Err(self.unexpected("a statement or `}`")),
            }
        }
    }

    fn body_directive(&mut self, directive: &str, line: u32, all: &mut Vec<Statement<'a>>) -> Result<()> {
        let linkage = match directive {
            "extern" => Linkage::Extern,
            "visible" => Linkage::Visible,
            "weak" => Linkage::Weak,
            _ => Linkage::Internal,
        };
        let mut directive = directive;
        if linkage != Linkage::Internal {
            let Token::Dotted(space) = self.peek() else { return Err(self.unexpected("a state space")) };
            self.advance()?;
            directive = space;
        }
        let space = match directive {
            "reg" if linkage == Linkage::Internal => {
                all.push(self.registers()?);
                return Ok(());
            }
            "loc" => return self.loc(),
            "pragma" => return self.pragma(),
            "shared" => Space::Shared,
            "local" => Space::Local,
            "param" => Space::Param,
            "global" => Space::Global,
            "const" => Space::Const,
            _ => {
                return Err(Error::unsupported(
                    line,
                    format!("the directive `.{directive}` is not known in a function"),
                ));
            }
        };
        self.variables(space, linkage, |variable| all.push(Statement::Variable(variable)))
    }

    /// `.b32 %r<5>, x;` after `.reg`.
    fn registers(&mut self) -> Result<Statement<'a>> {
        let line = self.line();
        if let Token::Dotted(vector @ ("v2" | "v4")) = self.peek() {
            return Err(Error::unsupported(line, format!("registers that are vectors: .{vector}")));
        }
        let ty = self.ty()?;
        let names = self.list(|parser| {
            let (name, _) = parser.name("the name of a register")?;
            if !parser.take("<")? {
                return Ok((name, None));
            }
            let line = parser.line();
            // No expression: `>` would belong to it.
            let count = parser.plain_count()?;
            if count > REGISTERS {
                return Err(Error::unsupported(line, format!("more than {REGISTERS} registers at once")));
            }
            parser.expect(">", "after a number of registers")?;
            Ok((name, Some(count)))
        })?;
        self.expect(";", "after registers")?;
        Ok(Statement::Registers { ty, names })
    }

    /// `.loc 1 20 5` and what may follow: `, function_name label+8, inlined_at 1 30 3`.
    fn loc(&mut self) -> Result<()> {
        let file = self.plain_count()?;
        let line = self.plain_count()?;
        self.plain_count()?;
        let mut inlined_at = None;
        while self.take(",")? {
            match self.name("`function_name` or `inlined_at`")? {
                ("function_name", _) => {
                    self.name("a label")?;
                    if self.take("+")? {
                        self.plain_count()?;
                    }
                }
                ("inlined_at", _) => {
                    inlined_at = Some((self.plain_count()?, self.plain_count()?));
                    self.plain_count()?;
                }
                (other, line) => {
                    return Err(Error::invalid(
                        line,
                        format!("expected `function_name` or `inlined_at`, found `{other}`"),
                    ));
                }
            }
        }
        self.source = Some(Source { file, line, inlined_at });
        Ok(())
    }

    /// `L:`, or a list of labels or a prototype with a name.
    fn label(&mut self) -> Result<Statement<'a>> {
        let (name, line) = self.name("a label")?;
        self.expect(":", "after a label")?;
        match self.peek() {
            Token::Dotted("branchtargets") => {
                self.advance()?;
                let labels = self.list(|parser| Ok(parser.name("a label")?.0))?;
                self.expect(";", "after branch targets")?;
                Ok(Statement::BranchTargets(name, labels))
            }
            Token::Dotted("calltargets") => {
                self.advance()?;
                let functions = self.list(|parser| Ok(parser.name("the name of a function")?.0))?;
                self.expect(";", "after call targets")?;
                Ok(Statement::CallTargets(name, functions))
            }
            Token::Dotted("callprototype") => {
                self.advance()?;
                let returns = if self.is("(") { self.parameters()? } else { Vec::new() };
                self.name("`_`")?;
                let params = if self.is("(") { self.parameters()? } else { Vec::new() };
                // Hints, as after the head of a function.
                self.limits()?;
                self.expect(";", "after a prototype")?;
                Ok(Statement::CallPrototype(Prototype { name, returns, params }))
            }
            _ => Ok(Statement::Label(name, line)),
        }
    }
}
