//! Every reader of texts takes the same text in all its guises.

use std::fs;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use wikigpt_dataset::completion::{self, Layout};
use wikigpt_dataset::labelled::{self, Reading};
use wikigpt_dataset::{Prepare, Silent, Source, Split, Tokenizer, TokenizerSpec, open_text, prepare};

/// A text plain, with a byte-order mark, compressed, and both; under a name that tells of it, or not.
fn guises(folder: &Path, name: &str, text: &str) -> Vec<PathBuf> {
    let marked = format!("\u{feff}{text}");
    let mut paths = Vec::new();
    for (i, text) in [text, &marked].into_iter().enumerate() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text.as_bytes()).unwrap();
        let compressed = encoder.finish().unwrap();
        let folder = folder.join(i.to_string());
        fs::create_dir_all(folder.join("quiet")).unwrap();
        for (path, contents) in [
            (folder.join(name), text.as_bytes()),
            (folder.join(format!("{name}.gz")), &compressed),
            (folder.join("quiet").join(name), &compressed),
        ] {
            fs::write(&path, contents).unwrap();
            paths.push(path);
        }
    }
    paths
}

/// Reads a text in all guises; what comes of it, which has to be the same.
#[track_caller]
fn same<T: PartialEq + std::fmt::Debug>(name: &str, text: &str, read: impl Fn(&Path) -> T) -> T {
    let folder = tempfile::tempdir().unwrap();
    let paths = guises(folder.path(), name, text);
    let plain = read(&paths[0]);
    for path in &paths[1..] {
        assert_eq!(read(path), plain, "{}", path.display());
    }
    plain
}

#[test]
fn lines() {
    let read =
        |path: &Path| -> Vec<String> { open_text(path).unwrap().lines().collect::<Result<_, _>>().unwrap() };
    let many: String = (0..20_000).map(|i| format!("Grün {i}\n")).collect();
    for (text, lines) in [("Grün\r\n\nRot", 3), ("", 0), ("a", 1), ("é", 1), (&many, 20_000)] {
        let found = same("text.txt", text, read);
        assert_eq!((found.len(), found), (lines, text.lines().map(str::to_owned).collect()));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.gz");
    let whole = fs::read(&guises(folder.path(), "text.txt", &many)[1]).unwrap();
    fs::write(&path, &whole[..whole.len() - 9]).unwrap();
    let mut right = 0;
    let wrong = open_text(&path)
        .unwrap()
        .lines()
        .inspect(|line| right += usize::from(line.is_ok()))
        .find(Result::is_err);
    assert!(wrong.is_some() && right > 10_000, "{wrong:?} after {right}");
    let none = open_text(&folder.path().join("none.txt")).err().unwrap();
    assert!(none.to_string().contains("none.txt") && none.is_bad_input(), "{none}");
}

#[test]
fn texts_with_labels() {
    for (name, text) in [
        ("a.csv", "text,label\n\"good, é\",1\nbad,0\n"),
        ("a.tsv", "text\tlabel\ngood, é\t1\nbad\t0\n"),
        ("a.jsonl", "{\"text\": \"good, é\", \"label\": 1}\n\n{\"text\": \"bad\", \"label\": 0}\n"),
    ] {
        let examples = same(name, text, |path| labelled::read(path, &Reading::default()).unwrap());
        let found: Vec<_> =
            examples.iter().map(|example| (&*example.text, example.label.to_string())).collect();
        assert_eq!(found, [("good, é", "1".to_owned()), ("bad", "0".to_owned())], "{name}");
    }
    let unknown = labelled::Layout::of(Path::new("a.csv.gz.txt")).unwrap_err();
    assert!(unknown.to_string().contains("--format"), "{unknown}");
}

#[test]
fn prompts_with_completions() {
    for (name, text) in [
        ("a.jsonl", "{\"prompt\": \"green\", \"completion\": \"Grün\"}\n"),
        (
            "a.json",
            "{\"data\": [{\"paragraphs\": [{\"context\": \"c\", \"qas\": [{\"question\": \"q\", \"answers\": [{\"text\": \
             \"Grün\"}]}]}]}]}",
        ),
        ("a.tokens", " \n = Grün = \n \n A colour . \n"),
    ] {
        let examples = same(name, text, |path| {
            let files = [path.to_path_buf()];
            completion::read(&files, Layout::of(&files).unwrap(), Split::Train).unwrap()
        });
        assert_eq!(examples.list[0].completion, "Grün", "{name}");
    }
    let examples = same("a.de", "Grün\nRot\n", |path| {
        let files = [path.to_path_buf(), path.to_path_buf()];
        completion::read(&files, Layout::of(&files).unwrap(), Split::Train).unwrap()
    });
    assert_eq!(examples.list[0].prompt, "Grün");
}

#[test]
fn corpora_and_tokenizers() {
    let train = same("text.txt", "Grün ist die Farbe.\n", |path| {
        let out = tempfile::tempdir().unwrap();
        let source = Source::Text(vec![path.to_path_buf()]);
        let mut options = Prepare::new(source, TokenizerSpec::Bytes, out.path().join("data"));
        options.valid_fraction = 0.0;
        prepare(&options, &mut Silent).unwrap().train
    });
    assert_eq!(train.tokens, 21);

    let trained = Tokenizer::build(&TokenizerSpec::Words, "Grün ist die Farbe").unwrap();
    let ids = same("tokenizer.json", &trained.to_hf_json(), |path| {
        let read = Tokenizer::build(&TokenizerSpec::File(path.to_path_buf()), "").unwrap();
        read.encode("Die Farbe ist Grün").unwrap()
    });
    assert_eq!(ids, trained.encode("Die Farbe ist Grün").unwrap());
}
