//! Tokens to the syntax tree: recursive descent with two tokens of lookahead and bounded depth.

mod constant;
mod declaration;
mod function;
mod instruction;
mod module;

use super::ast::{Module, Source};
use super::lexer::{Lexer, Placed, Token};
use super::{Error, Result};

/// Scopes within scopes, and parentheses within parentheses, that are accepted: compilers emit three or four.
const DEPTH: u32 = 100;

/// Zeros that short inner lists of initial values may stand for, in a whole module: a few characters could ask for any number.
const PADDING: u64 = 1 << 20;

/// Parses a whole module. Names are not resolved and instructions not checked: that is decoding's part.
///
/// # Errors
/// [`ErrorKind::Version`](super::ErrorKind::Version) for a `.version` newer than any known,
/// [`ErrorKind::Invalid`](super::ErrorKind::Invalid) for what is no PTX, with what was expected and what was found, and
/// [`ErrorKind::Unsupported`](super::ErrorKind::Unsupported) for PTX that the syntax tree has no place for.
pub fn parse(text: &str) -> Result<Module<'_>> {
    Parser::new(text)?.module()
}

struct Parser<'a> {
    text: &'a str,
    lexer: Lexer<'a>,
    /// The next token and the one after it.
    ahead: [Placed<'a>; 2],
    /// Scopes or parentheses around the next token.
    depth: u32,
    /// What is left of [`PADDING`].
    padding: u64,
    /// What `.loc` said last in this function.
    source: Option<Source>,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Result<Self> {
        let mut lexer = Lexer::new(text);
        let ahead = [lexer.next()?, lexer.next()?];
        Ok(Parser { text, lexer, ahead, depth: 0, padding: PADDING, source: None })
    }

    fn peek(&self) -> Token<'a> {
        self.ahead[0].token
    }

    fn peek_second(&self) -> Token<'a> {
        self.ahead[1].token
    }

    /// The line of the next token.
    fn line(&self) -> u32 {
        self.ahead[0].line
    }

    /// Takes the next token.
    fn advance(&mut self) -> Result<Placed<'a>> {
        let taken = self.ahead[0];
        self.ahead = [self.ahead[1], self.lexer.next()?];
        Ok(taken)
    }

    fn is(&self, sign: &str) -> bool {
        matches!(self.peek(), Token::Sign(found) if found == sign)
    }

    /// Takes this sign if it comes next; whether it did.
    fn take(&mut self, sign: &str) -> Result<bool> {
        let found = self.is(sign);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    /// Takes this sign, which must come next: `place` says where it is missing otherwise.
    fn expect(&mut self, sign: &str, place: &str) -> Result<()> {
        if self.take(sign)? { Ok(()) } else { Err(self.unexpected(&format!("`{sign}` {place}"))) }
    }

    /// Takes this directive or modifier if it comes next; whether it did.
    fn take_dotted(&mut self, name: &str) -> Result<bool> {
        let found = self.peek() == Token::Dotted(name);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    /// Takes an identifier, which must come next, and its line.
    fn name(&mut self, what: &str) -> Result<(&'a str, u32)> {
        match self.peek() {
            Token::Name(name) => Ok((name, self.advance()?.line)),
            _ => Err(self.unexpected(what)),
        }
    }

    /// Takes a string, which must come next.
    fn string(&mut self, what: &str) -> Result<&'a str> {
        match self.peek() {
            Token::Text(text) => {
                self.advance()?;
                Ok(text)
            }
            _ => Err(self.unexpected(what)),
        }
    }

    /// One or more of something, with commas between them.
    fn list<T>(&mut self, mut one: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut all = vec![one(self)?];
        while self.take(",")? {
            all.push(one(self)?);
        }
        Ok(all)
    }

    /// Parses something that may contain its like.
    fn nested<T>(&mut self, inside: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth == DEPTH {
            return Err(Error::unsupported(self.line(), format!("nested more than {DEPTH} deep")));
        }
        self.depth += 1;
        let result = inside(self);
        self.depth -= 1;
        result
    }

    /// An error at the next token.
    fn unexpected(&self, what: &str) -> Error {
        Error::invalid(self.line(), format!("expected {what}, found {}", self.peek().describe()))
    }
}
