//! Decoded tokens as text, while they come.

use std::mem;

use super::Tokenizer;

/// Turns bytes that come in any portions into text, without ever splitting a character.
///
/// Bytes that are not UTF-8 become U+FFFD, as [`String::from_utf8_lossy`] has it; what may still become a character waits.
#[derive(Clone, Debug, Default)]
pub struct Utf8Stream {
    /// The start of a character, at most three bytes.
    waiting: Vec<u8>,
}

impl Utf8Stream {
    /// Takes bytes; returns the text that is complete now.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.waiting.extend_from_slice(bytes);
        let bytes = mem::take(&mut self.waiting);
        let mut text = String::with_capacity(bytes.len());
        let mut chunks = bytes.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            text.push_str(chunk.valid());
            let is_last = chunks.peek().is_none();
            if is_last && is_start_of_character(chunk.invalid()) {
                self.waiting = chunk.invalid().to_vec();
            } else if !chunk.invalid().is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        text
    }

    /// The end: what still waits is no character.
    pub fn finish(&mut self) -> String {
        if mem::take(&mut self.waiting).is_empty() {
            String::new()
        } else {
            char::REPLACEMENT_CHARACTER.to_string()
        }
    }
}

/// Whether more bytes could make a character of these.
fn is_start_of_character(bytes: &[u8]) -> bool {
    // An error without a length is an unexpected end.
    !bytes.is_empty() && std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

/// Decodes tokens one at a time: the texts it returns, one after the other, are the text of the sequence.
#[derive(Clone, Debug)]
pub struct StreamDecoder<'a> {
    tokenizer: &'a Tokenizer,
    bytes: Utf8Stream,
    /// For tokenizers whose tokens depend on their neighbours: the tokens so far, and the bytes of text returned.
    context: Vec<u32>,
    returned: usize,
}

/// Tokens of context that are kept when there is no end in sight: more than any tokenizer looks back.
const CONTEXT: usize = 64;

impl<'a> StreamDecoder<'a> {
    /// Begins a sequence.
    pub fn new(tokenizer: &'a Tokenizer) -> Self {
        StreamDecoder { tokenizer, bytes: Utf8Stream::default(), context: Vec::new(), returned: 0 }
    }

    /// Takes a token; returns the text that is complete now.
    pub fn push(&mut self, id: u32) -> String {
        if self.tokenizer.decodes_token_by_token() {
            return self.bytes.push(&self.tokenizer.decode(&[id]));
        }
        self.context.push(id);
        let text = self.text();
        // A character that is not complete yet, byte by byte, shows as U+FFFD at the end.
        if text.ends_with(char::REPLACEMENT_CHARACTER) || !text.is_char_boundary(self.returned) {
            return String::new();
        }
        let new = text.get(self.returned..).unwrap_or_default().to_owned();
        self.returned = text.len();
        if self.context.len() >= 2 * CONTEXT {
            self.context.drain(..CONTEXT);
            self.returned = self.text().len();
        }
        new
    }

    /// The end: what still waits.
    pub fn finish(&mut self) -> String {
        let text = self.text();
        let rest = text.get(self.returned..).unwrap_or_default();
        self.bytes.finish() + rest
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.tokenizer.decode(&self.context)).into_owned()
    }
}
