//! Scalars for TensorBoard.
//!
//! An event file is a sequence of TFRecords: the payload's length (u64), a masked CRC-32C of those eight bytes, the
//! payload, a masked CRC-32C of the payload; integers little-endian. A payload is an `Event` in protobuf's wire
//! format, of which scalars need six fields:
//!
//! ```text
//! Event   { double wall_time = 1; int64 step = 2; string file_version = 3; Summary summary = 5; }
//! Summary { repeated Value value = 1; }      Value { string tag = 1; float simple_value = 2; }
//! ```

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Appends scalar events to a file of its own, `events.out.tfevents.…`.
pub struct EventWriter {
    file: BufWriter<File>,
}

impl EventWriter {
    /// Creates an event file in `folder`, named by the time so that a resumed run adds one.
    pub fn create(folder: &Path) -> io::Result<Self> {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (seconds, nanoseconds) = (time.as_secs(), time.subsec_nanos());
        let name = format!("events.out.tfevents.{seconds:010}.wikigpt.{}.{nanoseconds}", std::process::id());
        let file = OpenOptions::new().write(true).create_new(true).open(folder.join(name))?;
        let mut writer = EventWriter { file: BufWriter::new(file) };
        let mut event = start_event();
        put_bytes(&mut event, 3, b"brain.Event:2");
        writer.file.write_all(&record(&event))?;
        writer.flush()?;
        Ok(writer)
    }

    /// Writes one event with all of a step's scalars.
    pub fn scalars<'a>(
        &mut self,
        step: u64,
        scalars: impl IntoIterator<Item = &'a (&'a str, f64)>,
    ) -> io::Result<()> {
        let mut summary = Vec::new();
        for (tag, value) in scalars {
            let mut entry = Vec::new();
            put_bytes(&mut entry, 1, tag.as_bytes());
            put_key(&mut entry, 2, WIRE_FIXED32);
            entry.extend_from_slice(&(*value as f32).to_le_bytes());
            put_bytes(&mut summary, 1, &entry);
        }
        let mut event = start_event();
        put_key(&mut event, 2, WIRE_VARINT);
        put_varint(&mut event, step);
        put_bytes(&mut event, 5, &summary);
        self.file.write_all(&record(&event))
    }

    /// Makes what was written visible to readers.
    pub fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

const WIRE_VARINT: u64 = 0;
const WIRE_FIXED64: u64 = 1;
const WIRE_BYTES: u64 = 2;
const WIRE_FIXED32: u64 = 5;

/// An event that holds its time only.
fn start_event() -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let mut event = Vec::new();
    put_key(&mut event, 1, WIRE_FIXED64);
    event.extend_from_slice(&now.to_le_bytes());
    event
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_key(out: &mut Vec<u8>, field: u64, wire: u64) {
    put_varint(out, field << 3 | wire);
}

fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_key(out, field, WIRE_BYTES);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn record(payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u64).to_le_bytes();
    let mut out = Vec::with_capacity(payload.len() + 16);
    out.extend_from_slice(&length);
    out.extend_from_slice(&masked_crc(&length).to_le_bytes());
    out.extend_from_slice(payload);
    out.extend_from_slice(&masked_crc(payload).to_le_bytes());
    out
}

/// A checksum of data that itself holds checksums: rotated and offset, so that it is not a fixed point.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_framed_as_tensorflow_frames_them() {
        // CRC-32C of "123456789" is the check value of the algorithm's catalogue entry.
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        let framed = record(b"abc");
        assert_eq!(framed.len(), 8 + 4 + 3 + 4);
        assert_eq!(framed[..8], 3u64.to_le_bytes());
        assert_eq!(&framed[12..15], b"abc");
        let unmask = |masked: u32| masked.wrapping_sub(0xa282_ead8).rotate_left(15);
        let stored = u32::from_le_bytes(framed[15..].try_into().unwrap());
        assert_eq!(unmask(stored), crc32c::crc32c(b"abc"));
    }

    #[test]
    fn integers_are_varints() {
        let mut out = Vec::new();
        for value in [0, 1, 127, 128, 300, u64::MAX] {
            put_varint(&mut out, value);
        }
        let mut expected = vec![0, 1, 0x7f, 0x80, 0x01, 0xac, 0x02];
        expected.extend([0xff; 9]);
        expected.push(0x01);
        assert_eq!(out, expected);
    }

    #[test]
    fn a_scalar_event_is_its_protobuf_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::create(folder.path()).unwrap();
        writer.scalars(300, &[("lr", 0.5)]).unwrap();
        writer.flush().unwrap();
        let path = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
        let bytes = std::fs::read(path).unwrap();
        let first = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        assert_eq!(&bytes[12 + 9..12 + first], b"\x1a\x0dbrain.Event:2");
        let second = &bytes[16 + first..];
        // after the time (9 bytes): step = 300, then summary { value { tag "lr", simple_value 0.5 } }
        let half = 0.5f32.to_le_bytes();
        let expected = [b"\x10\xac\x02\x2a\x0b\x0a\x09\x0a\x02lr\x15".as_slice(), &half].concat();
        assert_eq!(second[12 + 9..second.len() - 4], expected);
    }
}
