//! Token files: one mapped shard, and how shards are written.
//!
//! Layouts, all little-endian:
//!
//! | kind | header | tokens |
//! |---|---|---|
//! | llm.c, u16 | 256 i32: magic 20240520, version 1, count, zeros | u16 |
//! | llm.c, u32 | 256 i32: magic 20240801, version 7, count, zeros | u32 |
//! | raw u16 | none (nanoGPT) | u16 |
//!
//! The u32 layout is for vocabularies of more than 65,536 tokens. A count is a positive i32, so more tokens than
//! [`MAX_SHARD_TOKENS`] are written as several files.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use serde::{Deserialize, Serialize};

use crate::atomic::AtomicFile;
use crate::error::{Error, IoContext, Result};

#[cfg(target_endian = "big")]
compile_error!(
    "token files are little-endian and are used where they are mapped: this needs a little-endian machine"
);

/// Bytes before the first token of a file with a header.
pub(crate) const HEADER_BYTES: usize = 1024;
/// Most tokens that are written to one file with a header.
pub const MAX_SHARD_TOKENS: u64 = 1 << 30;

const MAGIC_U16: i32 = 20240520;
const VERSION_U16: i32 = 1;
const MAGIC_U32: i32 = 20240801;
const VERSION_U32: i32 = 7;

/// What lies around the tokens in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// llm.c's header, which says whether the tokens are u16 or u32.
    #[default]
    #[serde(rename = "llm.c")]
    LlmC,
    /// Nothing: bare u16 tokens, as nanoGPT writes them.
    #[serde(rename = "raw-u16")]
    RawU16,
}

/// Bytes that a token takes in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// Two bytes: vocabularies up to 65,536.
    U16,
    /// Four bytes.
    U32,
}

impl Width {
    /// The narrowest width for a vocabulary.
    pub fn for_vocabulary(vocab_size: usize) -> Self {
        if vocab_size <= 1 << 16 { Width::U16 } else { Width::U32 }
    }

    /// Bytes of one token.
    pub fn bytes(self) -> usize {
        match self {
            Width::U16 => 2,
            Width::U32 => 4,
        }
    }
}

/// Tokens where they lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenSlice<'a> {
    /// Tokens of two bytes.
    U16(&'a [u16]),
    /// Tokens of four bytes.
    U32(&'a [u32]),
}

impl TokenSlice<'_> {
    /// Number of tokens.
    pub fn len(&self) -> usize {
        match self {
            TokenSlice::U16(tokens) => tokens.len(),
            TokenSlice::U32(tokens) => tokens.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies all tokens to `out`, which must be as long.
    pub fn copy_to(&self, out: &mut [u32]) {
        assert_eq!(self.len(), out.len(), "copy_to: as many tokens as there is room for");
        match self {
            TokenSlice::U16(tokens) => {
                for (to, from) in out.iter_mut().zip(*tokens) {
                    *to = u32::from(*from);
                }
            }
            TokenSlice::U32(tokens) => out.copy_from_slice(tokens),
        }
    }

    /// Index and value of the first token that a vocabulary of `vocab_size` does not have.
    pub(crate) fn first_outside(&self, vocab_size: usize) -> Option<(usize, u32)> {
        let outside = |token: u32| token as usize >= vocab_size;
        match self {
            TokenSlice::U16(_) if vocab_size > usize::from(u16::MAX) => None,
            TokenSlice::U16(tokens) => {
                let at = tokens.iter().position(|token| outside(u32::from(*token)))?;
                Some((at, u32::from(tokens[at])))
            }
            TokenSlice::U32(tokens) => {
                let at = tokens.iter().position(|token| outside(*token))?;
                Some((at, tokens[at]))
            }
        }
    }

    pub(crate) fn largest(&self) -> Option<u32> {
        match self {
            TokenSlice::U16(tokens) => tokens.iter().max().map(|token| u32::from(*token)),
            TokenSlice::U32(tokens) => tokens.iter().max().copied(),
        }
    }
}

/// Where a shard's tokens are.
#[derive(Debug)]
enum Storage {
    /// A file in memory as the system pages it in, and where its tokens start.
    Mapped {
        map: Mmap,
        offset: usize,
    },
    U16(Vec<u16>),
    U32(Vec<u32>),
}

/// A run of tokens in one file, or in memory.
#[derive(Debug)]
pub(crate) struct Shard {
    /// What messages call it.
    pub path: PathBuf,
    storage: Storage,
    width: Width,
    len: usize,
}

impl Shard {
    /// Maps a token file and checks everything that its header and its size say.
    pub fn open(path: &Path, format: Format) -> Result<Self> {
        let metadata = std::fs::metadata(path).while_trying("open", path)?;
        if metadata.is_dir() {
            return Err(Error::file(path, "a folder, not a token file"));
        }
        if metadata.len() == 0 {
            return Err(Error::file(path, "the token file is empty"));
        }
        let file = File::open(path).while_trying("open", path)?;
        // SAFETY: the map is read-only. Another process that cuts the file short meanwhile can still make a read
        // fault; token files are written beside and renamed, never changed in place, so ours do not do that.
        let map = unsafe { Mmap::map(&file) }.while_trying("map", path)?;
        let (width, offset) = match format {
            Format::LlmC => (parse_header(&map).map_err(|message| Error::file(path, message))?, HEADER_BYTES),
            Format::RawU16 if map.len() % 2 == 1 => {
                let message =
                    format!("{} bytes are no whole number of u16 tokens: the file is cut short", map.len());
                return Err(Error::file(path, message));
            }
            Format::RawU16 => (Width::U16, 0),
        };
        let len = (map.len() - offset) / width.bytes();
        Ok(Shard { path: path.to_path_buf(), storage: Storage::Mapped { map, offset }, width, len })
    }

    /// Tokens in memory, kept in two bytes each where they fit.
    pub fn in_memory(name: &str, tokens: &[u32]) -> Self {
        let narrow: Option<Vec<u16>> = tokens.iter().map(|token| u16::try_from(*token).ok()).collect();
        let (storage, width) = match narrow {
            Some(tokens) => (Storage::U16(tokens), Width::U16),
            None => (Storage::U32(tokens.to_vec()), Width::U32),
        };
        Shard { path: PathBuf::from(name), storage, width, len: tokens.len() }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn width(&self) -> Width {
        self.width
    }

    /// The tokens of a range, where they lie.
    pub fn slice(&self, range: Range<usize>) -> TokenSlice<'_> {
        match &self.storage {
            Storage::U16(tokens) => TokenSlice::U16(&tokens[range]),
            Storage::U32(tokens) => TokenSlice::U32(&tokens[range]),
            Storage::Mapped { map, offset } => {
                let width = self.width.bytes();
                let bytes = &map[offset + range.start * width..offset + range.end * width];
                // A map starts at a page and the header is 1024 bytes long, so tokens are aligned.
                match self.width {
                    Width::U16 => TokenSlice::U16(bytemuck::cast_slice(bytes)),
                    Width::U32 => TokenSlice::U32(bytemuck::cast_slice(bytes)),
                }
            }
        }
    }
}

/// The width of the tokens in a file with a header, or what is wrong with it.
fn parse_header(bytes: &[u8]) -> std::result::Result<Width, String> {
    let (words, _) = bytes.as_chunks::<4>();
    let field = |i: usize| i32::from_le_bytes(words[i]);
    if bytes.len() < HEADER_BYTES {
        return Err(format!("{} bytes are too few for a token file's header of {HEADER_BYTES}", bytes.len()));
    }
    let magic = field(0);
    let (width, version) = match magic {
        MAGIC_U16 => (Width::U16, VERSION_U16),
        MAGIC_U32 => (Width::U32, VERSION_U32),
        _ if [MAGIC_U16, MAGIC_U32].contains(&magic.swap_bytes()) => {
            return Err("a big-endian token file; token files are little-endian".to_owned());
        }
        _ => {
            return Err(format!(
                "not a token file: it starts with {magic}, not with the magic number {MAGIC_U16} (u16 tokens) or \
                 {MAGIC_U32} (u32 tokens)"
            ));
        }
    };
    if field(1) != version {
        return Err(format!("token file version {}, but only version {version} is known", field(1)));
    }
    let count = field(2);
    if count <= 0 {
        return Err(format!("its header counts {count} tokens"));
    }
    let there = (bytes.len() - HEADER_BYTES) as u64;
    let wanted = count as u64 * width.bytes() as u64;
    if there != wanted {
        return Err(format!(
            "its header counts {count} tokens, which take {wanted} bytes, but {there} follow it: the file is damaged \
             or was cut short"
        ));
    }
    Ok(width)
}

fn header(width: Width, count: u64) -> [u8; HEADER_BYTES] {
    let (magic, version) = match width {
        Width::U16 => (MAGIC_U16, VERSION_U16),
        Width::U32 => (MAGIC_U32, VERSION_U32),
    };
    let count = i32::try_from(count).expect("at most MAX_SHARD_TOKENS");
    let mut header = [0; HEADER_BYTES];
    for (bytes, value) in header.chunks_exact_mut(4).zip([magic, version, count]) {
        bytes.copy_from_slice(&value.to_le_bytes());
    }
    header
}

/// Writes one split's tokens: one file, or several where a header could not count them.
///
/// Files get their final names from [`Written::rename`] only; whatever is dropped before leaves nothing.
pub(crate) struct TokenWriter {
    folder: PathBuf,
    stem: String,
    format: Format,
    width: Width,
    limit: u64,
    /// Full files.
    done: Vec<AtomicFile>,
    /// The file being written, and how many tokens it has.
    current: AtomicFile,
    count: u64,
    total: u64,
}

impl TokenWriter {
    /// Begins `folder/stem.bin` for tokens of a vocabulary; more than `limit` tokens make several files.
    pub fn create(folder: &Path, stem: &str, format: Format, vocab_size: usize, limit: u64) -> Result<Self> {
        let width = Width::for_vocabulary(vocab_size);
        if format == Format::RawU16 && width != Width::U16 {
            return Err(Error::argument(format!(
                "a vocabulary of {vocab_size} tokens does not fit raw u16 files, which hold up to 65536"
            )));
        }
        let limit = if format == Format::RawU16 { u64::MAX } else { limit.min(MAX_SHARD_TOKENS) };
        let (folder, stem) = (folder.to_path_buf(), stem.to_owned());
        let current = begin(&folder, &stem, 0, format)?;
        Ok(TokenWriter { folder, stem, format, width, limit, done: Vec::new(), current, count: 0, total: 0 })
    }

    /// Appends tokens.
    pub fn push(&mut self, mut tokens: &[u32]) -> Result {
        while !tokens.is_empty() {
            if self.count == self.limit {
                let next = begin(&self.folder, &self.stem, self.done.len() + 1, self.format)?;
                let mut full = std::mem::replace(&mut self.current, next);
                finish(&mut full, self.format, self.width, self.count)?;
                self.done.push(full);
                self.count = 0;
            }
            let room = usize::try_from(self.limit - self.count).unwrap_or(usize::MAX);
            let (now, later) = tokens.split_at(room.min(tokens.len()));
            match self.width {
                Width::U16 => {
                    let narrow: Vec<u16> = now.iter().map(|token| *token as u16).collect();
                    self.current.write_all(bytemuck::cast_slice(&narrow))?;
                }
                Width::U32 => self.current.write_all(bytemuck::cast_slice(now))?,
            }
            self.count += now.len() as u64;
            self.total += now.len() as u64;
            tokens = later;
        }
        Ok(())
    }

    /// Puts all tokens on the disk; only the names are missing then.
    pub fn finish(self) -> Result<Written> {
        let TokenWriter { folder, stem, format, width, mut done, mut current, count, total, .. } = self;
        finish(&mut current, format, width, count)?;
        done.push(current);
        let shards = done.len();
        let pattern =
            if shards == 1 { format!("{stem}.bin") } else { format!("{stem}_*_of_{shards:05}.bin") };
        let name =
            |i| if shards == 1 { pattern.clone() } else { format!("{stem}_{i:05}_of_{shards:05}.bin") };
        let files = done.into_iter().enumerate().map(|(i, file)| (file, folder.join(name(i)))).collect();
        Ok(Written { files, pattern, tokens: total })
    }
}

/// Begins a split's file, with room for the header. Its temporary name does not say how many there will be.
fn begin(folder: &Path, stem: &str, index: usize, format: Format) -> Result<AtomicFile> {
    let name = if index == 0 { format!("{stem}.bin") } else { format!("{stem}_{index:05}.bin") };
    let mut file = AtomicFile::create(&folder.join(name))?;
    if format == Format::LlmC {
        file.write_all(&[0; HEADER_BYTES])?;
    }
    Ok(file)
}

fn finish(file: &mut AtomicFile, format: Format, width: Width, count: u64) -> Result {
    if format == Format::LlmC {
        file.write_header(&header(width, count))?;
    }
    file.sync()
}

/// Tokens on the disk whose files have no names yet.
pub(crate) struct Written {
    files: Vec<(AtomicFile, PathBuf)>,
    /// What the files will be found by: a name, or a pattern for several.
    pub pattern: String,
    /// Tokens in all files.
    pub tokens: u64,
}

impl Written {
    /// Where the contents are now, in order.
    pub fn contents(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|(file, _)| file.temporary())
    }

    /// Gives the files their names.
    pub fn rename(self) -> Result {
        self.files.into_iter().try_for_each(|(file, path)| file.rename_to(&path))
    }
}
