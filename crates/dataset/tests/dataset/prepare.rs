//! Preparing text: what is written, and that a failure leaves nothing.

use std::fs;
use std::path::{Path, PathBuf};

use wikigpt_dataset::{Dataset, Error, Manifest, Prepare, Silent, Source, Split, TokenizerSpec, prepare};

const ARTICLES: &str = include_str!("../../corpus/articles.txt");

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Writes texts and prepares them in `data` beside.
struct Desk {
    top: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        Desk { top: tempfile::tempdir().unwrap() }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.top.path().join(name)
    }

    fn options(&self, texts: &[&[u8]], tokenizer: &str) -> Prepare {
        let files = texts.iter().enumerate().map(|(i, text)| {
            let path = self.at(&format!("text-{i}.txt"));
            fs::write(&path, text).unwrap();
            path
        });
        Prepare::new(Source::Text(files.collect()), tokenizer.parse().unwrap(), self.at("data"))
    }

    fn prepare(&self, texts: &[&[u8]], tokenizer: &str) -> Result<Manifest, Error> {
        prepare(&self.options(texts, tokenizer), &mut Silent)
    }
}

fn all(dataset: &Dataset, split: Split) -> Vec<u32> {
    let tokens = dataset.tokens(split).unwrap();
    let mut out = vec![0; tokens.len() as usize];
    tokens.read(0, &mut out);
    out
}

#[test]
fn articles_are_split_encoded_and_described() {
    for tokenizer in ["bytes", "gpt2", "words", "bpe:600"] {
        let desk = Desk::new();
        let manifest = desk.prepare(&[ARTICLES.as_bytes()], tokenizer).unwrap();
        let expected = ["dataset.json", "tokenizer.json", "tokenizer_config.json", "train.bin", "valid.bin"];
        assert_eq!(names(&desk.at("data")), expected);
        let dataset = Dataset::open(desk.at("data")).unwrap();
        assert_eq!(*dataset.manifest(), manifest);
        assert_eq!(dataset.tokenizer().spec().to_string(), tokenizer);
        let end = dataset.tokenizer().end_of_text();
        let (mut text, mut articles) = (String::new(), 0);
        for split in [Split::Train, Split::Valid] {
            let info = manifest.split(split).unwrap();
            let tokens = all(&dataset, split);
            assert_eq!(tokens.len() as u64, info.tokens);
            articles += tokens.iter().filter(|token| Some(**token) == end).count();
            let plain: Vec<u32> = tokens.into_iter().filter(|token| Some(*token) != end).collect();
            let part = String::from_utf8(dataset.tokenizer().decode(&plain)).unwrap();
            if tokenizer != "words" {
                assert_eq!(info.bytes, part.len() as u64);
            }
            let lines = part.matches('\n').count();
            assert_eq!(info.words, (part.split_whitespace().count() + lines) as u64);
            text += &part;
        }
        let titles =
            ARTICLES.lines().filter(|line| line.starts_with(" = ") && !line.starts_with(" = = ")).count();
        match tokenizer {
            "words" => assert_eq!(text.lines().count(), ARTICLES.lines().count(), "unknown words differ"),
            _ => assert!(text == ARTICLES),
        }
        if end.is_some() {
            assert_eq!(articles, titles, "{tokenizer}: one document token for each article");
        }
        // A tenth, in whole articles.
        let valid = manifest.valid.unwrap();
        assert!((0.07..0.14).contains(&(valid.bytes as f64 / ARTICLES.len() as f64)), "{valid:?}");
        assert!(manifest.test.is_none() && dataset.tokens(Split::Test).is_err());
    }
}

#[test]
fn digests_are_those_of_the_files() {
    use sha2::{Digest, Sha256};
    let desk = Desk::new();
    let manifest = desk.prepare(&[ARTICLES.as_bytes()], "gpt2").unwrap();
    let file = fs::read(desk.at("data").join("train.bin")).unwrap();
    let digest: String = Sha256::digest(&file).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(manifest.train.sha256, digest);
    assert_eq!(file.len() as u64, 1024 + 2 * manifest.train.tokens);
}

#[test]
fn files_are_documents_and_fractions_are_kept() {
    let desk = Desk::new();
    let mut options = desk.options(&[b"one\n", b"two\n", b"three\nfour\nfive\n"], "gpt2");
    options.valid_fraction = 0.0;
    let manifest = prepare(&options, &mut Silent).unwrap();
    assert!(manifest.valid.is_none());
    let dataset = Dataset::open(&options.out).unwrap();
    let tokens = all(&dataset, Split::Train);
    assert_eq!(tokens.iter().filter(|token| **token == 50_256).count(), 3);
    options.document_tokens = false;
    options.valid_fraction = 0.25;
    let manifest = prepare(&options, &mut Silent).unwrap();
    assert!(!manifest.document_tokens);
    let dataset = Dataset::open(&options.out).unwrap();
    assert_eq!(dataset.tokenizer().decode(&all(&dataset, Split::Train)), b"one\ntwo\nthree\nfour\n");
    assert_eq!(dataset.tokenizer().decode(&all(&dataset, Split::Valid)), b"five\n");
}

#[test]
fn large_vocabularies_take_four_bytes_and_do_not_fit_raw_files() {
    let desk = Desk::new();
    let text: String = (0..70_000).map(|i| format!("w{i} ")).collect();
    let mut options = desk.options(&[text.as_bytes()], "words");
    options.valid_fraction = 0.0;
    let manifest = prepare(&options, &mut Silent).unwrap();
    assert_eq!(manifest.vocab_size, 70_002);
    let file = fs::read(desk.at("data/train.bin")).unwrap();
    assert_eq!(file.len(), 1024 + 4 * 70_000);
    assert_eq!(file[..4], 20240801_i32.to_le_bytes());
    assert_eq!(all(&Dataset::open(&options.out).unwrap(), Split::Train)[69_999], 69_999);
    options.raw_u16 = true;
    options.out = desk.at("raw");
    let error = prepare(&options, &mut Silent).unwrap_err().to_string();
    assert!(error.contains("70002") && error.contains("u16"), "{error}");
    assert!(!options.out.exists());
}

#[test]
fn a_new_dataset_replaces_an_old_one_only_when_it_is_whole() {
    let desk = Desk::new();
    desk.prepare(&[b"first text\nof two lines\n"], "bytes").unwrap();
    let before: Vec<_> =
        names(&desk.at("data")).into_iter().map(|n| fs::read(desk.at("data").join(n)).unwrap()).collect();
    // Fails after the tokens of the training split could have been written.
    assert!(desk.prepare(&[b"text\n", b"caf\xe9\n"], "gpt2").is_err());
    assert!(desk.prepare(&[b"short\n"], "bpe:5000").is_err());
    let after: Vec<_> =
        names(&desk.at("data")).into_iter().map(|n| fs::read(desk.at("data").join(n)).unwrap()).collect();
    assert!(before == after, "a failure leaves the old dataset as it was");
    let manifest = desk.prepare(&[b"second text\nof two lines\n"], "gpt2").unwrap();
    assert_eq!(*Dataset::open(desk.at("data")).unwrap().manifest(), manifest);
    assert!(names(&desk.at("data")).iter().all(|name| !name.ends_with(".tmp")));
}

#[test]
fn bad_text_is_named_and_leaves_nothing() {
    let desk = Desk::new();
    type Case = (&'static [&'static [u8]], &'static str, &'static [&'static str]);
    let cases: &[Case] = &[
        (&[b""], "bytes", &["text-0.txt", "empty"]),
        (&[b"fine\n", b""], "bytes", &["text-1.txt", "empty"]),
        (&[b"caf\xe9\n"], "bytes", &["text-0.txt", "UTF-8", "0xe9", "line 1"]),
        (&[b"one\ntwo\n\xff"], "gpt2", &["0xff", "line 3"]),
        (&[b"cut \xe6\xb2"], "words", &["0xe6", "line 1"]),
        (&[], "bytes", &["no text files"]),
        (&[b"    "], "words", &["train split", "white space"]),
        (&[b"short"], "bpe:1000", &["bpe:1000", "more text"]),
        (&[b"text"], "file:/no/such/tokenizer.json", &["/no/such/tokenizer.json"]),
    ];
    for (texts, tokenizer, expected) in cases {
        let error = desk.prepare(texts, tokenizer).unwrap_err();
        let text = error.to_string();
        assert!(expected.iter().all(|part| text.contains(part)), "no {expected:?} in: {text}");
        assert!(error.is_bad_input(), "{text}");
        assert!(!desk.at("data").exists(), "left behind: {text}");
    }
    for fraction in [-0.1, 1.0, f64::NAN, f64::INFINITY] {
        let mut options = desk.options(&[b"text"], "bytes");
        options.valid_fraction = fraction;
        assert!(prepare(&options, &mut Silent).unwrap_err().to_string().contains("valid fraction"));
    }
    let mut options = desk.options(&[b"text"], "bytes");
    options.source = Source::Text(vec![desk.at("none.txt")]);
    assert!(prepare(&options, &mut Silent).unwrap_err().to_string().contains("none.txt"));
    options.source = Source::Text(vec![desk.top.path().to_path_buf()]);
    assert!(prepare(&options, &mut Silent).is_err());
}

#[test]
fn folders_that_cannot_be_written_are_errors() {
    let desk = Desk::new();
    for out in [desk.at("text-0.txt"), desk.at("text-0.txt/below"), PathBuf::from("/proc/none/data")] {
        let mut options = desk.options(&[b"text of a file"], "bytes");
        options.out = out.clone();
        let error = prepare(&options, &mut Silent).unwrap_err().to_string();
        assert!(error.contains(&out.display().to_string()), "{error}");
    }
}

#[test]
fn archives_that_are_none_are_errors() {
    let desk = Desk::new();
    let options = |archive: PathBuf| Prepare {
        archive: Some(archive),
        ..Prepare::new(Source::WikiText2, TokenizerSpec::Bytes, desk.at("data"))
    };
    fs::write(desk.at("text.zip"), "not an archive").unwrap();
    let zip = |name: &str, member: &str, text: &[u8]| {
        let mut zip = zip::ZipWriter::new(fs::File::create(desk.at(name)).unwrap());
        zip.start_file(member, zip::write::SimpleFileOptions::default()).unwrap();
        std::io::Write::write_all(&mut zip, text).unwrap();
        zip.finish().unwrap();
    };
    zip("other.zip", "wikitext-2-raw/wiki.train.raw", b"text");
    zip("empty.zip", "wikitext-2/wiki.train.tokens", b"");
    zip("latin1.zip", "wiki.train.tokens", b"caf\xe9");
    for (name, expected) in [
        ("none.zip", "none.zip"),
        ("text.zip", "not a whole zip archive"),
        ("other.zip", "wikitext-2-raw/wiki.train.raw"),
        ("empty.zip", "empty"),
        ("latin1.zip", "byte 3"),
        (".", "folder"),
    ] {
        let error = prepare(&options(desk.at(name)), &mut Silent).unwrap_err();
        assert!(error.to_string().contains(expected) && error.is_bad_input(), "{name}: {error}");
        assert!(!desk.at("data").exists());
    }
}

#[test]
fn datasets_that_do_not_fit_together_are_errors() {
    let desk = Desk::new();
    desk.prepare(&[b"one text\nof three\nlines\n"], "words").unwrap();
    let good: Vec<(String, Vec<u8>)> = names(&desk.at("data"))
        .into_iter()
        .map(|n| (n.clone(), fs::read(desk.at("data").join(n)).unwrap()))
        .collect();
    let edit = |from: &str, to: &str| {
        let path = desk.at("data/dataset.json");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(path, text.replacen(from, to, 1)).unwrap();
    };
    type Spoil<'a> = Box<dyn Fn() + 'a>;
    let cases: Vec<(Spoil, &str)> = vec![
        (Box::new(|| fs::remove_file(desk.at("data/dataset.json")).unwrap()), "no dataset.json"),
        (Box::new(|| fs::write(desk.at("data/dataset.json"), "{\"tokenizer\": ").unwrap()), "dataset.json"),
        (Box::new(|| edit("\"words\"", "\"klingon\"")), "klingon"),
        (Box::new(|| edit("\"vocab_size\": 6", "\"vocab_size\": 300")), "300 tokens"),
        (Box::new(|| edit("\"vocab_size\": 6", "\"vocab_size\": 0")), "0 tokens"),
        (Box::new(|| edit("\"tokens\": ", "\"tokens\": 1")), "counts 1"),
        (Box::new(|| edit("llm.c", "raw-u16")), "train.bin"),
        (Box::new(|| edit("train.bin", "other.bin")), "other.bin"),
        (Box::new(|| fs::remove_file(desk.at("data/valid.bin")).unwrap()), "valid.bin"),
        (Box::new(|| fs::remove_file(desk.at("data/tokenizer.json")).unwrap()), "no tokenizer"),
    ];
    for (spoil, expected) in cases {
        spoil();
        let error = Dataset::open(desk.at("data")).unwrap_err();
        assert!(error.to_string().contains(expected) && error.is_bad_input(), "no {expected}: {error}");
        for (name, bytes) in &good {
            fs::write(desk.at("data").join(name), bytes).unwrap();
        }
    }
    Dataset::open(desk.at("data")).unwrap();
    assert!(Dataset::open(desk.at("nothing")).unwrap_err().is_bad_input());
}

#[test]
fn a_manifest_by_hand_opens_existing_shards() {
    let desk = Desk::new();
    desk.prepare(&[ARTICLES.as_bytes()], "gpt2").unwrap();
    let hand = desk.at("hand");
    fs::create_dir(&hand).unwrap();
    for name in ["web_train_000000.bin", "web_train_000001.bin"] {
        fs::copy(desk.at("data/train.bin"), hand.join(name)).unwrap();
    }
    let json = r#"{"tokenizer": "gpt2", "vocab_size": 50257, "train": {"file": "web_train_*.bin"}}"#;
    fs::write(hand.join("dataset.json"), json).unwrap();
    let (once, twice) = (Dataset::open(desk.at("data")).unwrap(), Dataset::open(hand).unwrap());
    let once = all(&once, Split::Train);
    assert_eq!(all(&twice, Split::Train), [&once[..], &once[..]].concat());
}

#[test]
fn the_embedded_corpus_is_whole_articles_of_bytes() {
    let dataset = Dataset::embedded();
    let (train, valid) = (all(&dataset, Split::Train), all(&dataset, Split::Valid));
    let text = dataset.tokenizer().decode(&[&train[..], &valid[..]].concat());
    assert_eq!(text, ARTICLES.as_bytes());
    assert!(dataset.tokenizer().decode(&valid).starts_with(b" = "), "whole articles");
    assert!(valid.len() * 14 > text.len() && valid.len() * 7 < text.len(), "about a tenth: {}", valid.len());
    assert_eq!(dataset.manifest().train.tokens, train.len() as u64);
    assert!(dataset.tokens(Split::Test).unwrap_err().to_string().contains("no test split"));
}
