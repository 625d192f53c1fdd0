//! The tokens of one split, over all its shards.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;

use crate::error::{Error, IoContext, Result};
use crate::shard::{Format, Shard, TokenSlice, Width};

/// Tokens that one thread looks at before it takes the next piece.
const CHECK_TOKENS: usize = 1 << 20;

/// A sequence of tokens, memory-mapped from one or several files or held in memory. Clones share it.
#[derive(Clone, Debug)]
pub struct Tokens {
    shards: Arc<Vec<Shard>>,
    /// Position of each shard's first token, and of the end.
    starts: Arc<Vec<u64>>,
}

impl Tokens {
    /// Opens a token file, or all files that a pattern finds (`*` and `?` in the last part of the path), which are
    /// read one after the other in the order of their names.
    ///
    /// # Errors
    /// No file of this name, or one whose header, size or kind is wrong.
    pub fn open(path: impl AsRef<Path>, format: Format) -> Result<Self> {
        let files = find(path.as_ref())?;
        let shards = files.iter().map(|file| Shard::open(file, format)).collect::<Result<Vec<_>>>()?;
        Ok(Self::from_shards(shards))
    }

    /// Tokens in memory; `name` is what messages call them.
    pub fn in_memory(name: &str, tokens: &[u32]) -> Self {
        Self::from_shards(vec![Shard::in_memory(name, tokens)])
    }

    fn from_shards(shards: Vec<Shard>) -> Self {
        let mut starts = vec![0];
        starts.extend(shards.iter().scan(0, |end, shard| {
            *end += shard.len() as u64;
            Some(*end)
        }));
        Tokens { shards: Arc::new(shards), starts: Arc::new(starts) }
    }

    /// Number of tokens.
    pub fn len(&self) -> u64 {
        self.starts[self.shards.len()]
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The widest tokens among the files.
    pub fn width(&self) -> Width {
        let wide = self.shards.iter().any(|shard| shard.width() == Width::U32);
        if wide { Width::U32 } else { Width::U16 }
    }

    /// The largest token, found by looking at each.
    pub fn largest(&self) -> Option<u32> {
        self.pieces().filter_map(|(_, _, slice)| slice.largest()).max()
    }

    /// Makes sure that every token is below `vocab_size`.
    ///
    /// # Errors
    /// The first token that is not, with its file and its position there.
    pub fn check(&self, vocab_size: usize) -> Result {
        let found = self.pieces().find_map_first(|(shard, start, slice)| {
            slice.first_outside(vocab_size).map(|(at, token)| (shard, start + at, token))
        });
        let Some((shard, at, token)) = found else { return Ok(()) };
        Err(Error::file(
            &shard.path,
            format!(
                "token {at} (counted from 0) is {token}, but the vocabulary has {vocab_size} tokens: the file is \
                 damaged or was made with another tokenizer"
            ),
        ))
    }

    /// All tokens in pieces, in order: the shard, where in it a piece starts, and the piece.
    fn pieces(&self) -> impl IndexedParallelIterator<Item = (&Shard, usize, TokenSlice<'_>)> {
        let pieces: Vec<_> = self
            .shards
            .iter()
            .flat_map(|shard| (0..shard.len()).step_by(CHECK_TOKENS).map(move |start| (shard, start)))
            .collect();
        pieces.into_par_iter().map(|(shard, start)| {
            let end = shard.len().min(start + CHECK_TOKENS);
            (shard, start, shard.slice(start..end))
        })
    }

    /// Copies the tokens from `start` on to `out`.
    ///
    /// # Panics
    /// If there are not as many: positions come from [`Tokens::len`].
    pub fn read(&self, start: u64, out: &mut [u32]) {
        let end = start.checked_add(out.len() as u64).expect("a position below 2^64");
        assert!(end <= self.len(), "tokens {start}..{end} of {}", self.len());
        let (mut start, mut out) = (start, out);
        while !out.is_empty() {
            let (shard, at) = self.locate(start);
            let n = out.len().min(shard.len() - at);
            let (now, later) = out.split_at_mut(n);
            shard.slice(at..at + n).copy_to(now);
            (start, out) = (start + n as u64, later);
        }
    }

    /// The tokens from `start` on, where they lie; `None` if they are not all in one file.
    pub fn slice(&self, start: u64, len: usize) -> Option<TokenSlice<'_>> {
        if start >= self.len() {
            return None;
        }
        let (shard, at) = self.locate(start);
        let end = at.checked_add(len).filter(|end| *end <= shard.len())?;
        Some(shard.slice(at..end))
    }

    /// The shard that has a token, and where in it.
    fn locate(&self, position: u64) -> (&Shard, usize) {
        // Shards are never empty, so exactly one starts at or before the position and ends after it.
        let index = self.starts.partition_point(|start| *start <= position) - 1;
        (&self.shards[index], (position - self.starts[index]) as usize)
    }
}

/// The file of a path, or the files of a pattern, sorted by name.
fn find(path: &Path) -> Result<Vec<PathBuf>> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if !name.contains(['*', '?']) || path.exists() {
        return Ok(vec![path.to_path_buf()]);
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).while_trying("list", folder)? {
        let entry = entry.while_trying("list", folder)?.path();
        let matched =
            entry.file_name().and_then(|found| found.to_str()).is_some_and(|found| matches(name, found));
        if matched {
            found.push(entry);
        }
    }
    found.sort();
    if found.is_empty() {
        return Err(Error::file(path, "no file matches this pattern"));
    }
    Ok(found)
}

/// Whether a name is of a pattern in which `*` stands for any characters and `?` for one.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where to go on if what follows the last `*` does not match: the star takes one character more.
    let mut retry = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                retry = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => (p, n) = (p + 1, n + 1),
            _ => match retry {
                Some((star, taken)) => {
                    retry = Some((star, taken + 1));
                    (p, n) = (star + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("train_*.bin", "train_000.bin", true),
            ("train_*.bin", "train_.bin", true),
            ("train_*.bin", "valid_000.bin", false),
            ("train_*.bin", "train_000.bin.tmp", false),
            ("*", "", true),
            ("*a*b", "xaxbab", true),
            ("*a*b", "xaxba", false),
            ("?", "é", true),
            ("??", "é", false),
            ("a*", "a", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
