//! What a program hands over to be loaded: PTX text, or something around it.

use super::abi::{In, Text};
use super::entry::refuse;
use super::{Code, Result};

/// `\x7fELF`: a cubin.
const ELF: u32 = 0x464c_457f;
/// A fat binary as `nvcc -fatbin` writes it.
const FATBIN: u32 = 0xba55_ed50;
/// What a host object holds: where a fat binary lies.
const WRAPPER: u32 = 0x4662_43b1;

/// A part's kind in a fat binary.
const PTX_PART: u16 = 1;
/// Flags of a part: LZ4, and what came after it.
const COMPRESSED: u64 = 0x2000 | 0x8000;

/// The PTX text of an image.
///
/// # Errors
/// Machine code is not run: the code that a driver gives where an image holds none for its device.
pub(super) fn ptx(image: In<u8>) -> Result<String> {
    if image.is_null() {
        return Err(refuse(Code::INVALID_VALUE, "the image is NULL"));
    }
    // Text ends with NUL, and nothing else is shorter than this.
    let first = image.get()?;
    if first != 0x7f && first != 0x50 && first != 0xb1 {
        return text(image);
    }
    match image.cast::<u32>().get()? {
        ELF => Err(refuse(Code::NO_BINARY_FOR_GPU, "the image is a cubin; the emulator runs PTX")),
        FATBIN => from_fatbin(image),
        WRAPPER => from_fatbin(image.offset(8).cast::<In<u8>>().get()?),
        _ => text(image),
    }
}

fn text(image: In<u8>) -> Result<String> {
    let bytes = Text::of(image).bytes()?;
    let text = String::from_utf8(bytes).map_err(|_| not_an_image())?;
    if after_comments(&text).starts_with(".version") { Ok(text) } else { Err(not_an_image()) }
}

fn not_an_image() -> Code {
    refuse(
        Code::INVALID_IMAGE,
        "the image is neither PTX (which starts with .version) nor a cubin nor a fat binary",
    )
}

/// The text behind leading white space and comments.
fn after_comments(text: &str) -> &str {
    let mut rest = text.trim_start();
    loop {
        let skipped = if let Some(comment) = rest.strip_prefix("//") {
            comment.split_once('\n').map_or("", |(_, rest)| rest)
        } else if let Some(comment) = rest.strip_prefix("/*") {
            comment.split_once("*/").map_or("", |(_, rest)| rest)
        } else {
            return rest;
        };
        rest = skipped.trim_start();
    }
}

/// The PTX of a fat binary, the one for the newest architecture if it holds several.
fn from_fatbin(image: In<u8>) -> Result<String> {
    let number = |at: usize| image.offset(at).cast::<u32>().get();
    let wide = |at: usize| image.offset(at).cast::<u64>().get();
    let half = |at: usize| image.offset(at).cast::<u16>().get();
    if number(0)? != FATBIN {
        return Err(not_an_image());
    }
    // Magic, version, bytes of this header, bytes behind it.
    let start = usize::from(half(6)?);
    let end = start.saturating_add(wide(8)? as usize);
    let (mut at, mut compressed) = (start, false);
    let mut best: Option<(u32, usize, usize)> = None;
    while at.saturating_add(64) <= end {
        // Kind, version, bytes of this header, bytes behind it; later the architecture and flags.
        let (kind, header, size) = (half(at)?, number(at + 4)? as usize, wide(at + 8)? as usize);
        let (architecture, flags) = (number(at + 28)?, wide(at + 40)?);
        if kind == PTX_PART && flags & COMPRESSED != 0 {
            compressed = true;
        } else if kind == PTX_PART && best.is_none_or(|(newest, ..)| architecture > newest) {
            best = Some((architecture, at.saturating_add(header), size));
        }
        match at.checked_add(header).and_then(|behind| behind.checked_add(size)) {
            Some(next) if next > at => at = next,
            _ => break,
        }
    }
    match best {
        Some((_, from, size)) if from.saturating_add(size) <= end => {
            let bytes = image.offset(from).list(size)?;
            let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
            String::from_utf8(text.to_vec()).map_err(|_| not_an_image())
        }
        _ if compressed => Err(refuse(
            Code::NO_BINARY_FOR_GPU,
            "the fat binary's PTX is compressed; nvcc --no-compress leaves it readable",
        )),
        _ => Err(refuse(
            Code::NO_BINARY_FOR_GPU,
            "the fat binary holds no PTX; the emulator runs nothing else",
        )),
    }
}
