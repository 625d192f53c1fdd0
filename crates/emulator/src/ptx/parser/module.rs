//! What stands outside functions.

use super::Parser;
use crate::ptx::ast::{Linkage, Module, Space};
use crate::ptx::lexer::{Number, Token};
use crate::ptx::{Error, ErrorKind, Result};

/// Versions up to this are accepted; 9.0 is what the compiler of CUDA 13.0 writes, and later ones of the same major are
/// taken to add instructions and no syntax.
const NEWEST: (u32, u32) = (9, 9);

impl<'a> Parser<'a> {
    pub(super) fn module(mut self) -> Result<Module<'a>> {
        let mut module = Module { version: self.version()?, ..Module::default() };
        loop {
            let line = self.line();
            match self.peek() {
                Token::End => return Ok(module),
                Token::Dotted(directive) => {
                    self.advance()?;
                    self.directive(directive, line, &mut module)?;
                }
                _ => return Err(self.unexpected("a directive")),
            }
        }
    }

    fn version(&mut self) -> Result<(u32, u32)> {
        if !self.take_dotted("version")? {
            return Err(self.unexpected("`.version` at the beginning"));
        }
        let Token::Number(Number::Double(_), text) = self.peek() else {
            return Err(self.unexpected("a version such as 9.0"));
        };
        let parts =
            text.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
        let Some(version) = parts else {
            return Err(self.unexpected("a version such as 9.0"));
        };
        if version > NEWEST {
            let message =
                format!("version {text} is newer than any known: up to {}.{} are", NEWEST.0, NEWEST.1);
            return Err(Error { kind: ErrorKind::Version, line: self.line(), message });
        }
        self.advance()?;
        Ok(version)
    }

    fn directive(&mut self, directive: &str, line: u32, module: &mut Module<'a>) -> Result<()> {
        match directive {
            "target" => {
                if !module.target.is_empty() {
                    return Err(Error::invalid(line, "a second `.target`"));
                }
                module.target = self.list(|parser| Ok(parser.name("a target such as sm_90a")?.0))?;
            }
            "address_size" => {
                let size = self.count("the size of an address")?;
                if size != 64 {
                    return Err(Error::unsupported(line, format!("addresses of {size} bits")));
                }
            }
            "file" => {
                let number = self.count("the number of a file")?;
                let path = self.string("the path of a file")?.to_owned();
                // Its time stamp and size.
                while self.take(",")? {
                    self.integer("a number")?;
                }
                module.files.push((number, path));
            }
            "section" => self.skip_section(line)?,
            "pragma" => self.pragma()?,
            "alias" => {
                let (alias, _) = self.name("the name of an alias")?;
                self.expect(",", "after the name of an alias")?;
                let (function, _) = self.name("the name of a function")?;
                self.expect(";", "after an alias")?;
                module.aliases.push((alias, function));
            }
            "visible" => self.declaration(Linkage::Visible, module)?,
            "extern" => self.declaration(Linkage::Extern, module)?,
            "weak" => self.declaration(Linkage::Weak, module)?,
            "common" => self.declaration(Linkage::Common, module)?,
            _ => self.declared(directive, line, Linkage::Internal, module)?,
        }
        Ok(())
    }

    /// What follows a linkage.
    fn declaration(&mut self, linkage: Linkage, module: &mut Module<'a>) -> Result<()> {
        match self.peek() {
            Token::Dotted(directive) => {
                let line = self.advance()?.line;
                self.declared(directive, line, linkage, module)
            }
            _ => Err(self.unexpected("`.entry`, `.func` or a state space")),
        }
    }

    fn declared(
        &mut self,
        directive: &str,
        line: u32,
        linkage: Linkage,
        module: &mut Module<'a>,
    ) -> Result<()> {
        match directive {
            "entry" | "func" => {
                let function = self.function(linkage, directive == "entry")?;
                module.functions.push(function);
                Ok(())
            }
            "global" => self.variables(Space::Global, linkage, |variable| module.variables.push(variable)),
            "const" => self.variables(Space::Const, linkage, |variable| module.variables.push(variable)),
            "shared" => self.variables(Space::Shared, linkage, |variable| module.variables.push(variable)),
            "local" | "param" | "reg" => {
                Err(Error::invalid(line, format!("`.{directive}` outside a function")))
            }
            _ => Err(Error::unsupported(line, format!("the directive `.{directive}` is not known"))),
        }
    }

    /// `.section .debug_str { … }`: for debuggers.
    fn skip_section(&mut self, line: u32) -> Result<()> {
        match self.peek() {
            Token::Dotted(_) | Token::Name(_) => self.advance()?,
            _ => return Err(self.unexpected("the name of a section")),
        };
        self.expect("{", "after the name of a section")?;
        let mut open = 1u64;
        while open > 0 {
            match self.advance()?.token {
                Token::Sign("{") => open += 1,
                Token::Sign("}") => open -= 1,
                Token::End => return Err(Error::invalid(line, "a section is opened here and never closed")),
                _ => {}
            }
        }
        Ok(())
    }

    /// Hints in strings, all ignored.
    pub(super) fn pragma(&mut self) -> Result<()> {
        self.list(|parser| parser.string("a string"))?;
        self.expect(";", "after a pragma")
    }
}
