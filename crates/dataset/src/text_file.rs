//! Text files: plain or compressed, UTF-8. Whatever of ours reads a text reads it here, by one set of rules.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use crate::error::{Error, IoContext, Result};

/// What gzip's files begin with.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// The most bytes that a compressed file may become.
const LIMIT: u64 = 4 << 30;

/// What a text may begin with that is no part of it.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// A file's text, without a byte-order mark. A file that gzip compressed is told by its first bytes, whatever its name.
///
/// # Errors
/// [`Error::Io`] when it cannot be read; [`Error::File`] when it is a damaged gzip file or one of more than 4 GiB, and, with the
/// line, when it is not UTF-8.
pub fn read(path: &Path) -> Result<String> {
    let mut bytes = fs::read(path).while_trying("read", path)?;
    if bytes.starts_with(&GZIP) {
        bytes = inflate(&bytes, LIMIT).map_err(|message| Error::file(path, message))?;
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(Error::file(path, "it is in UTF-16: save it as UTF-8"));
    }
    if bytes.starts_with(BYTE_ORDER_MARK) {
        bytes.drain(..BYTE_ORDER_MARK.len());
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let bytes = error.as_bytes();
        let line = bytes[..at].iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
        let byte = bytes[at];
        Error::at_line(path, line, format_args!("not UTF-8 (byte {byte:#04x}): save the file as UTF-8"))
    })
}

/// A file's text to be read as it comes, line by line: by the same rules, but that whoever reads it has to see that it is UTF-8, and
/// that damage shows where it is.
///
/// # Errors
/// [`Error::Io`] when it cannot be read.
pub fn open(path: &Path) -> Result<Box<dyn BufRead + Send>> {
    let file = File::open(path).while_trying("read", path)?;
    let (head, file) = peek(file, GZIP.len()).while_trying("read", path)?;
    let text: Box<dyn Read + Send> =
        if head == GZIP { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    let (head, mut text) = peek(text, BYTE_ORDER_MARK.len()).while_trying("read", path)?;
    if head == BYTE_ORDER_MARK {
        io::copy(&mut text.by_ref().take(head.len() as u64), &mut io::sink()).while_trying("read", path)?;
    }
    Ok(Box::new(BufReader::new(text)))
}

/// The first bytes, fewer where there are no more, and a reader that gives them again.
fn peek<R: Read>(mut reader: R, count: usize) -> io::Result<(Vec<u8>, impl Read + use<R>)> {
    let mut head = Vec::new();
    reader.by_ref().take(count as u64).read_to_end(&mut head)?;
    Ok((head.clone(), Cursor::new(head).chain(reader)))
}

/// What a file's name says that it holds, in small letters: its extension, or the one before `.gz`.
pub(crate) fn extension(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_string_lossy().to_lowercase();
    let name = Path::new(name.strip_suffix(".gz").unwrap_or(&name));
    Some(name.extension()?.to_string_lossy().into_owned())
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

    fn read_back(contents: &[u8]) -> std::result::Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.csv");
        fs::write(&path, contents).unwrap();
        read(&path).map_err(|error| error.to_string())
    }

    /// What is read of contents, which has to be the same where they are compressed.
    #[track_caller]
    fn read_both(contents: &[u8]) -> std::result::Result<String, String> {
        let ends = |read: std::result::Result<String, String>| {
            read.map_err(|error| error.split_once("t.csv: ").unwrap().1.to_owned())
        };
        let (plain, compressed) = (ends(read_back(contents)), ends(read_back(&gzip(contents))));
        assert_eq!(plain, compressed);
        plain
    }

    #[test]
    fn compressed_or_not_it_is_the_same_text() {
        let text = "Störche\nnisten\n";
        assert_eq!(read_both(text.as_bytes()).unwrap(), text);
        assert_eq!(read_both(b"").unwrap(), "");
        // Files that were written one after the other are one file.
        assert_eq!(read_back(&[gzip(b"a\n"), gzip(b"b\n")].concat()).unwrap(), "a\nb\n");
        let whole = gzip(text.as_bytes());
        assert!(read_back(&whole[..whole.len() - 3]).unwrap_err().contains("not a whole gzip file"));
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_it() {
        assert_eq!(read_both("\u{feff}é\n".as_bytes()).unwrap(), "é\n");
        assert_eq!(read_both("\u{feff}".as_bytes()).unwrap(), "");
        // Once, and at the beginning: elsewhere it is a character.
        assert_eq!(read_both("\u{feff}\u{feff}a\u{feff}".as_bytes()).unwrap(), "\u{feff}a\u{feff}");
        for mark in [b"\xff\xfea\0", b"\xfe\xff\0a"] {
            assert_eq!(read_both(mark).unwrap_err(), "it is in UTF-16: save it as UTF-8");
        }
    }

    #[test]
    fn what_is_not_utf_8_is_named_with_its_line() {
        let error = |contents: &[u8]| read_both(contents).unwrap_err();
        assert_eq!(error(b"one\r\ntwo\ncaf\xe9\n"), "line 3: not UTF-8 (byte 0xe9): save the file as UTF-8");
        assert_eq!(error(b"torn \xc3"), "line 1: not UTF-8 (byte 0xc3): save the file as UTF-8");
        assert!(error(b"\xef\xbb\xbfa\n\xef\xbb").starts_with("line 2: not UTF-8 (byte 0xef)"));
    }

    #[test]
    fn names_tell_what_is_compressed() {
        let of = |name: &str| extension(Path::new(name));
        assert_eq!(of("a/b.csv").as_deref(), Some("csv"));
        assert_eq!(of("b.de.TSV.Gz").as_deref(), Some("tsv"));
        for none in ["csv", "csv.gz", "x.d/csv", ".gz", "x.gz", ".."] {
            assert_eq!(of(none), None, "{none}");
        }
    }

    #[test]
    fn a_bomb_does_not_go_off() {
        let zeros = gzip(&[0; 10_000]);
        assert!(inflate(&zeros, 9_999).unwrap_err().contains("more than 9999 bytes"));
        assert_eq!(inflate(&zeros, 10_000).unwrap().len(), 10_000);
    }
}
