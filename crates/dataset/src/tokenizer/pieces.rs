//! Where a text can be cut without changing what GPT-2's pattern makes of it.
//!
//! The pattern, `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`, never matches across the
//! point between a character that is no white space and one that is, and it does not look back. So a text may be cut
//! there. It may also be cut before the last character of a run of white space that something else follows: that is
//! where `\s+(?!\S)` ends. Tokens of the parts, one after the other, are the tokens of the whole; so long texts are
//! encoded by several threads, and no part is longer than a regular expression's engine can take.

use std::iter;

/// Bytes after which a text is cut at the next chance.
const PIECE: usize = 1 << 16;
/// Characters of white space in a row that are worth a piece of their own.
const LONG_RUN: usize = 1 << 12;

/// The parts of a text, in order.
pub(super) fn split(text: &str) -> Pieces<'_> {
    Pieces { rest: text }
}

/// Iterator over the parts of a text.
pub(super) struct Pieces<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.rest.is_empty() {
            return None;
        }
        let (piece, rest) = self.rest.split_at(cut(self.rest));
        self.rest = rest;
        Some(piece)
    }
}

/// Parts of a text that are whole lines.
pub(super) fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    iter::from_fn(move || {
        let from = rest.len().min(PIECE);
        let line_end = rest.as_bytes()[from..].iter().position(|byte| *byte == b'\n');
        let (part, later) = rest.split_at(line_end.map_or(rest.len(), |at| from + at + 1));
        rest = later;
        (!part.is_empty()).then_some(part)
    })
}

/// Where a text's first part ends.
fn cut(text: &str) -> usize {
    // The run of white space that is being passed: where it starts, its characters, where its last one starts.
    let (mut start, mut run, mut last) = (0, 0, 0);
    let mut after_word = false;
    for (at, c) in text.char_indices() {
        if c.is_whitespace() {
            if after_word && at >= PIECE {
                return at;
            }
            if run == 0 {
                start = at;
            }
            (run, last, after_word) = (run + 1, at, false);
        } else {
            if run >= LONG_RUN {
                // First what stands before the run, then the run without its last character.
                return if start > 0 { start } else { last };
            }
            (run, after_word) = (0, true);
        }
    }
    if run >= LONG_RUN && start > 0 { start } else { text.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_make_the_whole() {
        let long = " ".repeat(LONG_RUN);
        let words = "word ".repeat(PIECE);
        for (text, parts) in [
            (String::new(), 0),
            ("a b".to_owned(), 1),
            (format!("a{long}b"), 3),
            (format!("{long}b"), 2),
            (format!("a{long}"), 2),
            (long.clone(), 1),
            (words, 5),
        ] {
            let found: Vec<&str> = split(&text).collect();
            assert_eq!(found.concat(), text);
            assert!(found.iter().all(|part| !part.is_empty()));
            assert_eq!(found.len(), parts);
        }
    }
}
