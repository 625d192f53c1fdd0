//! PTX text to tokens.

use super::{Error, Result};

/// A token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Token<'a> {
    /// An identifier: `%r1`, `$L__BB0_2`, `ld`.
    Name(&'a str),
    /// What follows a dot without a space: `global`, `2d`, `mbarrier::complete_tx::bytes`.
    Dotted(&'a str),
    /// A number, and how it was written.
    Number(Number, &'a str),
    /// What stands between double quotes.
    Text(&'a str),
    /// Any other sign.
    Sign(&'static str),
    /// The end of the text.
    End,
}

/// A number without a sign.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    /// Fits i64 and has no `U`.
    Signed(i64),
    /// Has a `U`, or does not fit i64.
    Unsigned(u64),
    /// `0f3F800000`: bits.
    Single(u32),
    /// `0d3FF0000000000000` or `1.0`.
    Double(f64),
}

impl Token<'_> {
    /// As an error message names it.
    pub(super) fn describe(&self) -> String {
        match self {
            Token::Name(text) | Token::Number(_, text) => format!("`{text}`"),
            Token::Dotted(text) => format!("`.{text}`"),
            Token::Text(_) => "a string".to_owned(),
            Token::Sign(text) => format!("`{text}`"),
            Token::End => "the end of the text".to_owned(),
        }
    }
}

/// A token and where it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed<'a> {
    pub(super) token: Token<'a>,
    /// From 1.
    pub(super) line: u32,
    /// First byte.
    pub(super) start: usize,
    /// Byte after the last.
    pub(super) end: usize,
}

/// Signs of more than one character stand before their beginnings.
const SIGNS: [&str; 35] = [
    "<<", ">>", "<=", ">=", "==", "!=", "&&", "||", "{", "}", "(", ")", "[", "]", "<", ">", ",", ";", ":",
    "+", "-", "*", "/", "%", "&", "|", "^", "~", "!", "?", "@", "=", ".", "\\", "#",
];

/// Reads tokens one by one.
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    line: u32,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Lexer { text, at: 0, line: 1 }
    }

    /// The next token; `End` again and again at the end.
    pub(super) fn next(&mut self) -> Result<Placed<'a>> {
        self.skip_blank()?;
        let (start, line) = (self.at, self.line);
        let token = match self.byte(0) {
            None => Token::End,
            Some(b'"') => self.string()?,
            Some(b'0'..=b'9') => self.number()?,
            Some(b'.') if self.byte(1).is_some_and(is_word) => self.dotted()?,
            Some(first) if starts_name(first, self.byte(1)) => {
                self.at += 1;
                Token::Name(self.word_from(start))
            }
            Some(_) => self.sign()?,
        };
        Ok(Placed { token, line, start, end: self.at })
    }

    fn byte(&self, ahead: usize) -> Option<u8> {
        self.text.as_bytes().get(self.at + ahead).copied()
    }

    fn skip_blank(&mut self) -> Result<()> {
        loop {
            match (self.byte(0), self.byte(1)) {
                (Some(b'\n'), _) => {
                    self.at += 1;
                    self.line += 1;
                }
                (Some(b' ' | b'\t' | b'\r' | 0x0b | 0x0c), _) => self.at += 1,
                (Some(b'/'), Some(b'/')) => {
                    while self.byte(0).is_some_and(|byte| byte != b'\n') {
                        self.at += 1;
                    }
                }
                (Some(b'/'), Some(b'*')) => self.skip_comment()?,
                _ => return Ok(()),
            }
        }
    }

    fn skip_comment(&mut self) -> Result<()> {
        let opened = self.line;
        self.at += 2;
        loop {
            match (self.byte(0), self.byte(1)) {
                (None, _) => return Err(Error::invalid(opened, "a comment is opened here and never closed")),
                (Some(b'*'), Some(b'/')) => {
                    self.at += 2;
                    return Ok(());
                }
                (Some(byte), _) => {
                    self.line += u32::from(byte == b'\n');
                    self.at += 1;
                }
            }
        }
    }

    /// The rest of a word that began at `start`.
    fn word_from(&mut self, start: usize) -> &'a str {
        while self.byte(0).is_some_and(is_word) {
            self.at += 1;
        }
        &self.text[start..self.at]
    }

    /// `.word` or `.word::word`
    fn dotted(&mut self) -> Result<Token<'a>> {
        self.at += 1;
        let start = self.at;
        self.word_from(start);
        while self.byte(0) == Some(b':') && self.byte(1) == Some(b':') {
            self.at += 2;
            if !self.byte(0).is_some_and(is_word) {
                return Err(Error::invalid(self.line, "expected a name after `::`"));
            }
            self.word_from(start);
        }
        let word = &self.text[start..self.at];
        // `.5` is a number. No modifier is made of digits alone.
        if word.bytes().next().is_some_and(|byte| byte.is_ascii_digit()) && is_decimal(word) {
            self.at = start - 1;
            return self.decimal(start - 1);
        }
        Ok(Token::Dotted(word))
    }

    fn string(&mut self) -> Result<Token<'a>> {
        let start = self.at + 1;
        self.at = start;
        loop {
            match self.byte(0) {
                None | Some(b'\n') => {
                    return Err(Error::invalid(self.line, "a string is not closed on its line"));
                }
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Token::Text(&self.text[start..self.at - 1]));
                }
                // What is escaped stays as it is written; an escaped quote does not end the string.
                Some(b'\\') if matches!(self.byte(1), Some(b'"' | b'\\')) => self.at += 2,
                Some(_) => self.at += 1,
            }
        }
    }

    fn number(&mut self) -> Result<Token<'a>> {
        let start = self.at;
        match (self.byte(0), self.byte(1)) {
            (Some(b'0'), Some(b'x' | b'X')) => self.integer(start, 2, 16),
            (Some(b'0'), Some(b'b' | b'B')) => self.integer(start, 2, 2),
            (Some(b'0'), Some(b'f' | b'F')) => self.float_bits(start, 8),
            (Some(b'0'), Some(b'd' | b'D')) => self.float_bits(start, 16),
            _ => {
                let digits =
                    self.text.as_bytes()[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                if matches!(self.byte(digits), Some(b'.' | b'e' | b'E')) {
                    self.decimal(start)
                } else if self.byte(0) == Some(b'0') && digits > 1 {
                    self.integer(start, 1, 8)
                } else {
                    self.integer(start, 0, 10)
                }
            }
        }
    }

    /// An integer whose digits begin after a prefix.
    fn integer(&mut self, start: usize, prefix: usize, radix: u32) -> Result<Token<'a>> {
        let word = self.word_from(start);
        let digits = &word[prefix..];
        let (digits, unsigned) = match digits.strip_suffix('U') {
            Some(rest) => (rest, true),
            None => (digits, false),
        };
        if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
            return Err(Error::invalid(self.line, format!("`{word}` is no number")));
        }
        let value = u64::from_str_radix(digits, radix)
            .map_err(|_| Error::invalid(self.line, format!("`{word}` does not fit 64 bits")))?;
        let number = match i64::try_from(value) {
            Ok(value) if !unsigned => Number::Signed(value),
            _ => Number::Unsigned(value),
        };
        Ok(Token::Number(number, word))
    }

    /// `0f` or `0d` and exactly so many hexadecimal digits.
    fn float_bits(&mut self, start: usize, digits: usize) -> Result<Token<'a>> {
        let word = self.word_from(start);
        let bits = Some(&word[2..])
            .filter(|text| text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .and_then(|text| u64::from_str_radix(text, 16).ok());
        match bits {
            None => {
                let message = format!(
                    "`{word}` is no number: expected {digits} hexadecimal digits after `{}`",
                    &word[..2]
                );
                Err(Error::invalid(self.line, message))
            }
            Some(bits) if digits == 8 => Ok(Token::Number(Number::Single(bits as u32), word)),
            Some(bits) => Ok(Token::Number(Number::Double(f64::from_bits(bits)), word)),
        }
    }

    /// `1.5`, `1.`, `.5`, `1e-3`
    fn decimal(&mut self, start: usize) -> Result<Token<'a>> {
        let digits = |lexer: &mut Self| {
            while lexer.byte(0).is_some_and(|byte| byte.is_ascii_digit()) {
                lexer.at += 1;
            }
        };
        digits(self);
        if self.byte(0) == Some(b'.') {
            self.at += 1;
            digits(self);
        }
        if matches!(self.byte(0), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.byte(0), Some(b'+' | b'-')) {
                self.at += 1;
            }
            digits(self);
        }
        let word = self.word_from(start);
        match word.parse() {
            Ok(value) => Ok(Token::Number(Number::Double(value), word)),
            Err(_) => Err(Error::invalid(self.line, format!("`{word}` is no number"))),
        }
    }

    fn sign(&mut self) -> Result<Token<'a>> {
        let rest = &self.text[self.at..];
        if let Some(sign) = SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
            self.at += sign.len();
            return Ok(Token::Sign(sign));
        }
        let found = rest.chars().next().unwrap_or_default();
        Err(Error::invalid(self.line, format!("the character {found:?} has no meaning here")))
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$'
}

/// `%` begins a name where one follows; it is a remainder otherwise.
fn starts_name(first: u8, second: Option<u8>) -> bool {
    first.is_ascii_alphabetic()
        || matches!(first, b'_' | b'$')
        || first == b'%' && second.is_some_and(|byte| is_word(byte) && !byte.is_ascii_digit())
}

/// Digits, perhaps with the beginning of an exponent.
fn is_decimal(word: &str) -> bool {
    let rest = word.trim_start_matches(|digit: char| digit.is_ascii_digit());
    rest.strip_prefix(['e', 'E']).is_some_and(|exponent| exponent.bytes().all(|byte| byte.is_ascii_digit()))
        || rest.is_empty()
}
