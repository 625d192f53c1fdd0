//! Token files: good ones are read as they are, all others are one clear error.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use wikigpt_dataset::{Format, TokenSlice, Tokens, Width};

/// llm.c's layout, byte by byte.
fn llm_c(magic: i32, version: i32, count: i32, tokens: &[u8]) -> Vec<u8> {
    let mut bytes: Vec<u8> = [magic, version, count].iter().flat_map(|field| field.to_le_bytes()).collect();
    bytes.resize(1024, 0);
    bytes.extend_from_slice(tokens);
    bytes
}

fn u16_file(tokens: &[u16]) -> Vec<u8> {
    let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
    llm_c(20240520, 1, tokens.len() as i32, &bytes)
}

fn u32_file(tokens: &[u32]) -> Vec<u8> {
    let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
    llm_c(20240801, 7, tokens.len() as i32, &bytes)
}

fn written(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, bytes).unwrap();
    path
}

fn all(tokens: &Tokens) -> Vec<u32> {
    let mut out = vec![0; tokens.len() as usize];
    tokens.read(0, &mut out);
    out
}

#[test]
fn all_layouts_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let narrow = written(folder.path(), "narrow.bin", &u16_file(&[1, 65535, 3]));
    let tokens = Tokens::open(&narrow, Format::LlmC).unwrap();
    assert_eq!(
        (all(&tokens), tokens.width(), tokens.largest()),
        (vec![1, 65535, 3], Width::U16, Some(65535))
    );
    assert_eq!(tokens.slice(1, 2), Some(TokenSlice::U16(&[65535, 3])));
    assert_eq!(tokens.slice(1, 3), None);
    assert_eq!(tokens.slice(3, 0), None);

    let wide = written(folder.path(), "wide.bin", &u32_file(&[70_000, 0, u32::MAX]));
    let tokens = Tokens::open(&wide, Format::LlmC).unwrap();
    assert_eq!((all(&tokens), tokens.width()), (vec![70_000, 0, u32::MAX], Width::U32));
    assert_eq!(tokens.slice(0, 1), Some(TokenSlice::U32(&[70_000])));

    let raw = written(folder.path(), "raw.bin", &[1, 0, 2, 1]);
    assert_eq!(all(&Tokens::open(&raw, Format::RawU16).unwrap()), [1, 258]);
}

#[test]
fn shards_are_read_in_the_order_of_their_names() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path(), "train_001.bin", &u16_file(&[3, 4, 5]));
    written(folder.path(), "train_000.bin", &u16_file(&[1, 2]));
    written(folder.path(), "train_010.bin", &u32_file(&[100_000]));
    written(folder.path(), "train_002.bin.tmp", b"half-written");
    written(folder.path(), "valid_000.bin", &u16_file(&[9]));
    let tokens = Tokens::open(folder.path().join("train_*.bin"), Format::LlmC).unwrap();
    assert_eq!(all(&tokens), [1, 2, 3, 4, 5, 100_000]);
    let mut across = [0; 4];
    tokens.read(1, &mut across);
    assert_eq!(across, [2, 3, 4, 5]);
    assert_eq!(tokens.slice(1, 2), None, "not in one file");
    assert_eq!(tokens.slice(2, 3), Some(TokenSlice::U16(&[3, 4, 5])));
    assert_eq!(tokens.width(), Width::U32);
    let error = tokens.check(100_000).unwrap_err().to_string();
    assert!(error.contains("train_010.bin") && error.contains("token 0"), "{error}");
    tokens.check(100_001).unwrap();
    let error = Tokens::open(folder.path().join("test_*.bin"), Format::LlmC).unwrap_err().to_string();
    assert!(error.contains("no file matches"), "{error}");
}

#[test]
fn every_lie_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let good = u16_file(&[1, 2, 3, 4]);
    let with = |at: usize, value: i32| {
        let mut bytes = good.clone();
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        bytes
    };
    let big_endian: Vec<u8> = good.chunks(4).flat_map(|word| word.iter().rev().copied()).collect();
    let cases: &[(&str, Vec<u8>, Format, &str)] = &[
        ("empty", Vec::new(), Format::LlmC, "empty"),
        ("empty raw", Vec::new(), Format::RawU16, "empty"),
        ("short header", good[..1023].to_vec(), Format::LlmC, "too few"),
        ("magic", with(0, 20240521), Format::LlmC, "magic"),
        ("magic of a model", with(0, 20240326), Format::LlmC, "magic"),
        ("text", b"not tokens at all ".repeat(100), Format::LlmC, "magic"),
        ("big-endian", big_endian, Format::LlmC, "big-endian"),
        ("version", with(4, 2), Format::LlmC, "version 2"),
        ("version of the other width", with(4, 7), Format::LlmC, "version 7"),
        ("count too large", with(8, 5), Format::LlmC, "counts 5"),
        ("count too small", with(8, 3), Format::LlmC, "counts 3"),
        ("count zero", with(8, 0), Format::LlmC, "counts 0"),
        ("count negative", with(8, -1), Format::LlmC, "counts -1"),
        ("count huge", with(8, i32::MAX), Format::LlmC, "cut short"),
        ("cut short", good[..good.len() - 1].to_vec(), Format::LlmC, "cut short"),
        ("more behind", [&good[..], &[7; 3]].concat(), Format::LlmC, "damaged"),
        ("odd raw", vec![1, 0, 2], Format::RawU16, "cut short"),
    ];
    for (name, bytes, format, expected) in cases {
        let path = written(folder.path(), "tokens.bin", bytes);
        let error = Tokens::open(&path, *format).expect_err(name);
        let text = error.to_string();
        assert!(text.contains("tokens.bin") && text.contains(expected), "{name}: {text}");
        assert!(error.is_bad_input(), "{name}");
    }
    let error = Tokens::open(folder.path(), Format::LlmC).unwrap_err().to_string();
    assert!(error.contains("folder"), "{error}");
    let error = Tokens::open(folder.path().join("none.bin"), Format::LlmC).unwrap_err();
    assert!(error.to_string().contains("none.bin") && error.is_bad_input());
}

#[test]
fn a_token_outside_the_vocabulary_is_named() {
    let folder = tempfile::tempdir().unwrap();
    // Far enough in that several threads look at once; the first one counts.
    let mut tokens = vec![7_u16; 3_000_000];
    (tokens[1_234_567], tokens[2_999_999]) = (50_257, 60_000);
    let path = written(folder.path(), "tokens.bin", &u16_file(&tokens));
    let tokens = Tokens::open(&path, Format::LlmC).unwrap();
    let error = tokens.check(50_257).unwrap_err().to_string();
    for part in ["tokens.bin", "token 1234567 ", "50257", "vocabulary"] {
        assert!(error.contains(part), "no `{part}` in: {error}");
    }
    tokens.check(60_001).unwrap();
    tokens.check(1 << 20).unwrap();
}

#[cfg(unix)]
#[test]
fn an_unreadable_file_is_an_error() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = written(folder.path(), "tokens.bin", &u16_file(&[1]));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    // The superuser may read everything.
    if fs::read(&path).is_err() {
        let error = Tokens::open(&path, Format::LlmC).unwrap_err();
        assert!(error.to_string().contains("cannot open") && !error.is_bad_input(), "{error}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_tokens_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..3000), raw: bool) {
        let folder = tempfile::tempdir().unwrap();
        let path = written(folder.path(), "tokens.bin", &bytes);
        let format = if raw { Format::RawU16 } else { Format::LlmC };
        if let Ok(tokens) = Tokens::open(&path, format) {
            let bytes_of_tokens = tokens.len() as usize * tokens.width().bytes();
            prop_assert_eq!(bytes_of_tokens, bytes.len() - if raw { 0 } else { 1024 });
            let _ = tokens.check(100);
            all(&tokens);
        }
    }

    /// Headers that are nearly right: each field right or random.
    #[test]
    fn nearly_right_headers_are_tokens_or_an_error(
        magic in prop_oneof![Just(20240520), Just(20240801), any::<i32>()],
        version in prop_oneof![Just(1), Just(7), any::<i32>()],
        count in prop_oneof![0..20_i32, any::<i32>()],
        bytes in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = written(folder.path(), "tokens.bin", &llm_c(magic, version, count, &bytes));
        let right = count > 0 && match (magic, version) {
            (20240520, 1) => bytes.len() == 2 * count as usize,
            (20240801, 7) => bytes.len() == 4 * count as usize,
            _ => false,
        };
        let opened = Tokens::open(&path, Format::LlmC);
        prop_assert_eq!(opened.is_ok(), right);
        if let Ok(tokens) = opened {
            prop_assert_eq!(tokens.len(), count as u64);
            prop_assert_eq!(tokens.check(70_000).is_ok(), all(&tokens).iter().all(|token| *token < 70_000));
        }
    }
}
