//! Text files: plain or compressed, UTF-8.

use std::fs;
use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;

use crate::error::{Error, IoContext, Result};

/// What gzip's files begin with.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// The most bytes that a compressed file may become.
const LIMIT: u64 = 4 << 30;

/// A file's text; one compressed with gzip is told by its first bytes.
///
/// # Errors
/// A file that is not there, is damaged, or is not UTF-8: then with the line.
pub fn read(path: &Path) -> Result<String> {
    let mut bytes = fs::read(path).while_trying("read", path)?;
    if bytes.starts_with(&GZIP) {
        bytes = inflate(&bytes, LIMIT).map_err(|message| Error::file(path, message))?;
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let bytes = error.as_bytes();
        let line = bytes[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        Error::file(
            path,
            format!(
                "not UTF-8 text: byte {at} (0x{:02x}, in line {line}) is not part of a character; convert the file to \
                 UTF-8",
                bytes[at]
            ),
        )
    })
}

fn inflate(bytes: &[u8], limit: u64) -> std::result::Result<Vec<u8>, String> {
    let mut text = Vec::new();
    match MultiGzDecoder::new(bytes).take(limit + 1).read_to_end(&mut text) {
        Ok(read) if read as u64 > limit => Err(format!("more than {limit} bytes when it is unpacked")),
        Ok(_) => Ok(text),
        Err(error) => Err(format!("not a whole gzip file: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn compressed_or_not_it_is_the_same_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        let read_back = |contents: &[u8]| {
            fs::write(&path, contents).unwrap();
            read(&path).map_err(|error| error.to_string())
        };
        let text = "Störche\nnisten\n";
        assert_eq!(read_back(text.as_bytes()).unwrap(), text);
        assert_eq!(read_back(&gzip(text.as_bytes())).unwrap(), text);
        // Files that were written one after the other are one file.
        assert_eq!(read_back(&[gzip(b"a\n"), gzip(b"b\n")].concat()).unwrap(), "a\nb\n");
        let whole = gzip(text.as_bytes());
        assert!(read_back(&whole[..whole.len() - 3]).unwrap_err().contains("not a whole gzip file"));
        assert!(read_back(&gzip(b"a\nb\xff")).unwrap_err().contains("byte 3 (0xff, in line 2)"));
    }

    #[test]
    fn a_bomb_does_not_go_off() {
        let zeros = gzip(&[0; 10_000]);
        assert!(inflate(&zeros, 9_999).unwrap_err().contains("more than 9999 bytes"));
        assert_eq!(inflate(&zeros, 10_000).unwrap().len(), 10_000);
    }
}
