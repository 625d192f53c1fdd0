//! A file as text.

use std::path::Path;

use super::at_line;
use crate::error::{Error, IoContext, Result};

/// The contents of a UTF-8 file, without a byte-order mark.
///
/// # Errors
/// [`Error::Io`] when it cannot be read, [`Error::File`] with the line where it is not UTF-8.
pub fn read_text(path: &Path) -> Result<String> {
    let mut bytes = std::fs::read(path).while_trying("read", path)?;
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(Error::file(path, "it is in UTF-16: save it as UTF-8"));
    }
    if bytes.starts_with("\u{feff}".as_bytes()) {
        bytes.drain(..3);
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let bytes = error.as_bytes();
        let line = bytes[..at].iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
        let byte = bytes[at];
        at_line(path, line, format_args!("not UTF-8 (byte {byte:#04x}): save the file as UTF-8"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> std::result::Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.csv");
        std::fs::write(&path, bytes).unwrap();
        read_text(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_not_utf_8_is_named_with_its_line() {
        assert_eq!(read("\u{feff}é\n".as_bytes()).unwrap(), "é\n");
        assert!(
            read(b"one\r\ntwo\ncaf\xe9\n")
                .unwrap_err()
                .ends_with("line 3: not UTF-8 (byte 0xe9): save the file as UTF-8")
        );
        assert!(read(b"torn \xc3").unwrap_err().contains("line 1: not UTF-8 (byte 0xc3)"));
        for mark in [b"\xff\xfea\0", b"\xfe\xff\0a"] {
            assert!(read(mark).unwrap_err().ends_with("it is in UTF-16: save it as UTF-8"));
        }
    }
}
