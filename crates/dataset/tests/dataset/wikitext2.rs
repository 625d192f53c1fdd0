//! What is known of WikiText-2, found again in the archive that `WIKIGPT_DATA` names.

use std::path::PathBuf;

use wikigpt_dataset::{
    Dataset, Format, Prepare, Progress, Silent, Source, Split, TokenizerSpec, Tokens, prepare,
};

/// The archive, or a printed reason why a test is skipped.
fn archive_or_skip(test: &str) -> Option<PathBuf> {
    let data = std::env::var_os("WIKIGPT_DATA").map(PathBuf::from);
    if data.is_none() {
        println!("skipped: {test}: WIKIGPT_DATA is not set");
    }
    data.map(|data| data.join("wikitext-2/wikitext-2-v1.zip"))
}

/// Prepares WikiText-2 in a folder.
fn prepared(
    archive: PathBuf,
    tokenizer: &str,
    change: impl FnOnce(&mut Prepare),
) -> (tempfile::TempDir, Dataset) {
    let folder = tempfile::tempdir().unwrap();
    let mut options = Prepare::new(Source::WikiText2, tokenizer.parse().unwrap(), folder.path().join("data"));
    options.archive = Some(archive);
    change(&mut options);
    let manifest = prepare(&options, &mut Silent).unwrap();
    let dataset = Dataset::open(&options.out).unwrap();
    assert_eq!(*dataset.manifest(), manifest);
    (folder, dataset)
}

fn all(dataset: &Dataset, split: Split) -> Vec<u32> {
    let tokens = dataset.tokens(split).unwrap();
    let mut out = vec![0; tokens.len() as usize];
    tokens.read(0, &mut out);
    out
}

fn text(dataset: &Dataset, split: Split) -> Vec<u8> {
    dataset.tokenizer().decode(&all(dataset, split))
}

/// Tokens, words and bytes of the literature.
const COUNTS: [(Split, u64, u64); 3] = [
    (Split::Train, 2_088_628, 10_797_148),
    (Split::Valid, 217_646, 1_121_681),
    (Split::Test, 245_569, 1_256_449),
];

#[test]
fn words_are_counted_as_in_the_literature() {
    let Some(archive) = archive_or_skip("words_are_counted_as_in_the_literature") else { return };
    let (_folder, words) = prepared(archive.clone(), "words", |_| {});
    let (_folder2, bytes) = prepared(archive, "bytes", |_| {});
    assert_eq!(words.manifest().vocab_size, 33_278);
    assert_eq!(bytes.manifest().vocab_size, 256);
    for (split, count, size) in COUNTS {
        for (dataset, tokens) in [(&words, count), (&bytes, size)] {
            let info = dataset.manifest().split(split).unwrap();
            assert_eq!((info.tokens, info.words, info.bytes), (tokens, count, size), "{split}");
        }
        assert!(text(&words, split) == text(&bytes, split), "{split}: words are written as they were read");
        assert_eq!(text(&bytes, split).len() as u64, size);
    }
    // The published digest of the validation text.
    let valid = text(&bytes, Split::Valid);
    assert_eq!(sha256(&valid), "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8");
}

#[test]
fn gpt2_ids_are_those_of_tiktoken() {
    let Some(archive) = archive_or_skip("gpt2_ids_are_those_of_tiktoken") else { return };
    // Of tiktoken 0.14 for each whole text (tools/checks/tiktoken_ids.py). The training text's articles stand in another
    // order in other copies of the archive, so its digest holds for one copy only.
    let expected = [
        (Split::Train, 2_448_382, "72800bcbc07a134ad5a156451277329e941bf3c75a716dce9ddb9ea1b90907ad"),
        (Split::Valid, 258_659, "17bc83b54d943c68889ab3b9cb01f17b86fe0216e9738ee39806d2631aac2ef9"),
        (Split::Test, 295_877, "33d3634d89dfb45a09164ac72a5e7939b90eeffce49f82cc738dc5dbc652cf3c"),
    ];
    let (folder, plain) = prepared(archive.clone(), "gpt2", |options| {
        options.document_tokens = false;
        options.raw_u16 = true;
    });
    let copy = plain.manifest().archive_sha256.as_deref();
    let this_copy = copy == Some("eb7f5046746e96b5b7829aa4a3d0de73dd632cc0cd45b5a96abcd832327fdd7a");
    for (split, tokens, digest) in expected {
        let info = plain.manifest().split(split).unwrap();
        if split != Split::Train || this_copy {
            assert_eq!((info.tokens, info.sha256.as_str()), (tokens, digest), "{split}");
        }
        // What is written is what nanoGPT reads.
        let raw = folder.path().join("data").join(&info.file);
        assert_eq!(std::fs::metadata(&raw).unwrap().len(), 2 * info.tokens);
        assert_eq!(Tokens::open(&raw, Format::RawU16).unwrap().len(), info.tokens);
    }
    // With document tokens: one for each article, and otherwise the same.
    let (_folder, documents) = prepared(archive, "gpt2", |_| {});
    for (split, articles) in [(Split::Train, 600), (Split::Valid, 60), (Split::Test, 60)] {
        let with = all(&documents, split);
        assert_eq!(with.iter().filter(|token| **token == 50_256).count(), articles, "{split}");
        assert_eq!(with[0], 50_256);
        let without: Vec<u32> = with.into_iter().filter(|token| *token != 50_256).collect();
        assert!(without == all(&plain, split), "{split}");
    }
}

#[test]
fn a_trained_bpe_repeats_and_gives_the_text_back() {
    let Some(archive) = archive_or_skip("a_trained_bpe_repeats_and_gives_the_text_back") else { return };
    let (_folder, first) = prepared(archive.clone(), "bpe:4096", |_| {});
    let (_folder2, bytes) = prepared(archive.clone(), "bytes", |_| {});
    assert_eq!(first.manifest().vocab_size, 4096);
    let end = first.tokenizer().end_of_text().unwrap();
    assert_eq!(end, 4095);
    let tokens: Vec<u32> = all(&first, Split::Test).into_iter().filter(|token| *token != end).collect();
    assert!(first.tokenizer().decode(&tokens) == text(&bytes, Split::Test));
    // One thread instead of all makes the same tokenizer and the same tokens.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let (_folder3, again) = pool.install(|| prepared(archive, "bpe:4096", |_| {}));
    assert_eq!(first.tokenizer().to_hf_json(), again.tokenizer().to_hf_json());
    assert_eq!(first.manifest().train, again.manifest().train);
}

/// Remembers notes.
#[derive(Default)]
struct Notes(Vec<String>);

impl Progress for Notes {
    fn begin(&mut self, _: &str, _: Option<u64>) {}
    fn advance(&mut self, _: u64) {}
    fn end(&mut self) {}
    fn note(&mut self, text: &str) {
        self.0.push(text.to_owned());
    }
}

#[test]
fn another_copy_of_the_archive_is_taken_with_a_note() {
    let Some(archive) = archive_or_skip("another_copy_of_the_archive_is_taken_with_a_note") else { return };
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("data");
    let mut options = Prepare::new(Source::WikiText2, TokenizerSpec::Bytes, out);
    options.archive = Some(archive.clone());
    let mut notes = Notes::default();
    let manifest = prepare(&options, &mut notes).unwrap();
    let published = manifest.archive_sha256.as_deref()
        != Some("eb7f5046746e96b5b7829aa4a3d0de73dd632cc0cd45b5a96abcd832327fdd7a");
    assert_eq!(notes.0.is_empty(), published, "{:?}", notes.0);
    assert!(notes.0.iter().all(|note| note.contains("542ccefacc6c27f945fb54453812b3cd")), "{:?}", notes.0);

    // A damaged copy is refused, wherever it is cut or changed.
    let bytes = std::fs::read(archive).unwrap();
    let damaged = folder.path().join("damaged.zip");
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 1;
    for contents in [&bytes[..bytes.len() / 2], &bytes[..bytes.len() - 1], &flipped] {
        std::fs::write(&damaged, contents).unwrap();
        let options =
            Prepare { archive: Some(damaged.clone()), out: folder.path().join("none"), ..options.clone() };
        let error = prepare(&options, &mut Silent).unwrap_err().to_string();
        assert!(error.contains("damaged.zip") && error.contains("zip archive"), "{error}");
        assert!(!options.out.exists());
    }
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
