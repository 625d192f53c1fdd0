//! Digests in hexadecimal digits.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use md5::Md5;
use sha2::{Digest, Sha256};

use crate::error::{IoContext, Result};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 of bytes.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// SHA-256 of files, one after the other, in hexadecimal digits.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io) when one cannot be read.
pub fn sha256_of_files<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Result<String> {
    let mut digest = Sha256::new();
    paths.into_iter().try_for_each(|path| feed(&mut digest, path))?;
    Ok(hex(&digest.finalize()))
}

/// MD5 of a file: too weak against forgery, but what the archives are published with.
pub(crate) fn md5_of_file(path: &Path) -> Result<String> {
    let mut digest = Md5::new();
    feed(&mut digest, path)?;
    Ok(hex(&digest.finalize()))
}

fn feed(digest: &mut impl Digest, path: &Path) -> Result {
    let mut file = File::open(path).while_trying("open", path)?;
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer).while_trying("read", path)? {
            0 => return Ok(()),
            n => digest.update(&buffer[..n]),
        }
    }
}
