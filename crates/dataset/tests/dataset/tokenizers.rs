//! Every tokenizer encodes exactly and gives back what it was given.

use std::fs;

use proptest::prelude::*;
use serde_json::{Value, json};
use wikigpt_dataset::{StreamDecoder, Tokenizer, TokenizerSpec, Utf8Stream};

const TEXT: &str = include_str!("../../corpus/articles.txt");

fn build(spec: &str) -> Tokenizer {
    Tokenizer::build(&spec.parse().unwrap(), TEXT).unwrap()
}

/// One of each kind that gives any text back.
fn exact() -> &'static [Tokenizer] {
    static EXACT: std::sync::LazyLock<Vec<Tokenizer>> =
        std::sync::LazyLock::new(|| ["bytes", "gpt2", "bpe:500"].map(build).to_vec());
    &EXACT
}

fn round_trips(text: &str) {
    for tokenizer in exact() {
        let ids = tokenizer.encode(text).unwrap();
        assert!(ids.iter().all(|id| (*id as usize) < tokenizer.vocab_size()));
        assert!(tokenizer.decode(&ids) == text.as_bytes(), "{}: {text:?}", tokenizer.spec());
        let mut stream = StreamDecoder::new(tokenizer);
        let mut streamed: String = ids.iter().map(|id| stream.push(*id)).collect();
        streamed += &stream.finish();
        assert!(streamed == text, "{}, token by token: {text:?}", tokenizer.spec());
    }
}

/// The fixture is what tools/checks/tiktoken_ids.py made of the texts of tools/checks/hostile.py; texts over 2,000
/// characters are left to the next test, and the random ones are cut to 500.
#[test]
fn gpt2_ids_of_hostile_texts_are_those_of_tiktoken() {
    let tokenizer = build("gpt2");
    let folder = tempfile::tempdir().unwrap();
    tokenizer.save(folder.path()).unwrap();
    let hugging_face = tokenizers::Tokenizer::from_file(folder.path().join("tokenizer.json")).unwrap();
    for line in include_str!("gpt2_hostile.jsonl").lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let (name, text) = (row["name"].as_str().unwrap(), row["text"].as_str().unwrap());
        let ids = tokenizer.encode(text).unwrap();
        assert_eq!(json!(ids), row["ids"], "{name}");
        round_trips(text);
        // Random characters may be letters to one regular expressions engine and unknown to the other.
        if !name.starts_with("random") && !text.contains("<|endoftext|>") {
            let theirs = hugging_face.encode_fast(text, false).unwrap();
            assert_eq!(theirs.get_ids(), ids, "{name}, with the file that we export");
        }
    }
}

#[test]
fn long_runs_are_encoded_as_tiktoken_does_or_would() {
    // Ids as u16 by tiktoken 0.14, which itself gives up on runs of a million spaces between words.
    let cases = [
        (
            format!("x{}y", " ".repeat(10_000)),
            10_001,
            "aad4f5aca53aabddc5c9b1c94ab1230c0f1364d311709cee3c760fb32c2c723a",
        ),
        (
            format!("x{}", " ".repeat(10_000)),
            10_001,
            "6c3b57ff659ed5fe34dabdf0ed663dc05460bf358c11e4e99af849453358e2a2",
        ),
        (
            format!("x{}y", "\n".repeat(5_000)),
            2_503,
            "41f592067b123f9a193d01692fcc0d1741df20ff5bacd1b50346285f368b0edd",
        ),
        (
            "\n".repeat(3_000_000),
            1_500_000,
            "cf977020403c3857e7ea0a968e43c9a01419b9310482deaa65cc4bf6c2ca7f7e",
        ),
        ("=".repeat(2_000_000), 31_250, "f30cff4cb91dd7b0adf8a15761212ad29ab6d9030c99499c813b814d885ec710"),
        ("a".repeat(1_000_000), 250_000, "1d4eb90b6f997a14b6d4ffd80647916ea2ffa8d7fe291be36828e56a0227ddc5"),
    ];
    let tokenizer = build("gpt2");
    for (text, count, digest) in cases {
        let ids = tokenizer.encode(&text).unwrap();
        assert_eq!((ids.len(), sha256(&ids).as_str()), (count, digest), "{}…", &text[..3]);
    }
    let long = format!("x{}y", " ".repeat(1_200_000));
    assert_eq!(tokenizer.decode(&tokenizer.encode(&long).unwrap()), long.as_bytes());
    for run in [" ", "\n", "\u{3000}", "= ", "é"] {
        round_trips(&format!("x{}y", run.repeat(50_000)));
    }
}

fn sha256(ids: &[u32]) -> String {
    use sha2::{Digest, Sha256};
    let bytes: Vec<u8> = ids.iter().flat_map(|id| (*id as u16).to_le_bytes()).collect();
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_special_tokens_name_in_a_text_is_text() {
    for tokenizer in exact() {
        let ids = tokenizer.encode("a<|endoftext|>b").unwrap();
        assert!(tokenizer.end_of_text().is_none_or(|end| !ids.contains(&end)), "{}", tokenizer.spec());
        round_trips("<|endoftext|>");
    }
    assert_eq!(build("gpt2").end_of_text(), Some(50_256));
    assert_eq!(build("gpt2").decode(&[50_256]), b"<|endoftext|>");
    assert_eq!(build("bpe:300").end_of_text(), Some(299));
    assert_eq!(build("bpe:300").decode(&[299]), b"<|endoftext|>");
    assert_eq!((build("bytes").end_of_text(), build("words").end_of_text()), (None, None));
}

#[test]
fn words_are_wikitexts() {
    let words = Tokenizer::build(&TokenizerSpec::Words, " \n = The = \n the the <unk> \n").unwrap();
    // In order of first occurrence: <eos> = The the <unk>.
    assert_eq!(words.vocab_size(), 5);
    assert_eq!(words.encode(" = the \n Klingon").unwrap(), [1, 3, 0, 4]);
    assert_eq!(words.decode(&[1, 3, 0, 4, 9]), " = the \n <unk>\u{fffd}".as_bytes());
    let whole = build("words");
    assert_eq!(whole.decode(&whole.encode(TEXT).unwrap()), TEXT.as_bytes());
    assert_eq!(Tokenizer::build(&TokenizerSpec::Words, "").unwrap().vocab_size(), 2);
}

#[test]
fn ids_without_a_token_are_replacement_characters() {
    for tokenizer in exact() {
        assert_eq!(
            tokenizer.decode(&[tokenizer.vocab_size() as u32, u32::MAX]),
            "\u{fffd}\u{fffd}".as_bytes()
        );
    }
}

#[test]
fn specs_are_written_as_they_are_read() {
    for text in ["bytes", "gpt2", "words", "bpe:257", "bpe:50000", "file:a b/tokenizer.json", "file:c:x"] {
        let spec: TokenizerSpec = text.parse().unwrap();
        assert_eq!(spec.to_string(), text);
        assert_eq!(serde_json::to_value(&spec).unwrap(), text);
        assert_eq!(serde_json::from_value::<TokenizerSpec>(json!(text)).unwrap(), spec);
    }
    for wrong in
        ["", "klingon", "bpe", "bpe:", "bpe:x", "bpe:256", "bpe:-1", "bpe:99999999999", "file:", "Bytes"]
    {
        let error = wrong.parse::<TokenizerSpec>().unwrap_err().to_string();
        assert!(error.contains(&format!("`{wrong}`")) && error.contains("tokenizer"), "{error}");
    }
}

#[test]
fn a_bpe_that_the_text_is_too_short_for_says_what_it_yields() {
    let error = Tokenizer::build(&TokenizerSpec::Bpe(400), "to be or not to be").unwrap_err().to_string();
    let yields: usize = error.split("bpe:").nth(2).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!((257..300).contains(&yields), "{error}");
    Tokenizer::build(&TokenizerSpec::Bpe(yields), "to be or not to be").unwrap();
    Tokenizer::build(&TokenizerSpec::Bpe(257), "").unwrap();
}

#[test]
fn a_saved_tokenizer_comes_back() {
    for spec in ["bytes", "gpt2", "words", "bpe:500"] {
        let (tokenizer, folder) = (build(spec), tempfile::tempdir().unwrap());
        tokenizer.save(folder.path()).unwrap();
        let back = Tokenizer::load(folder.path()).unwrap();
        assert_eq!(back.to_hf_json(), tokenizer.to_hf_json(), "{spec}");
        assert_eq!(back.vocab_size(), tokenizer.vocab_size());
        assert_eq!(back.end_of_text(), tokenizer.end_of_text());
        assert_eq!(back.encode(TEXT).unwrap(), tokenizer.encode(TEXT).unwrap(), "{spec}");
        if !spec.starts_with("bpe") {
            assert_eq!(back.spec(), tokenizer.spec(), "recognised");
        }
        // Hugging Face's own loader has the same ids.
        let path = folder.path().join("tokenizer.json");
        let theirs = tokenizers::Tokenizer::from_file(&path).unwrap();
        for part in TEXT.split_inclusive('\n').take(200) {
            assert_eq!(
                theirs.encode_fast(part, false).unwrap().get_ids(),
                tokenizer.encode(part).unwrap(),
                "{spec}"
            );
        }
        assert_eq!(theirs.get_vocab_size(true), tokenizer.vocab_size(), "{spec}");
        // As file: it is the same tokenizer.
        let file = Tokenizer::build(&TokenizerSpec::File(path), "").unwrap();
        assert_eq!(file.encode(TEXT).unwrap(), tokenizer.encode(TEXT).unwrap(), "{spec}");
    }
}

#[test]
fn the_older_pair_of_files_is_read() {
    for spec in ["gpt2", "bpe:500"] {
        let (tokenizer, folder) = (build(spec), tempfile::tempdir().unwrap());
        let json: Value = serde_json::from_str(&tokenizer.to_hf_json()).unwrap();
        let mut vocabulary = json["model"]["vocab"].clone();
        vocabulary["<|endoftext|>"] = tokenizer.end_of_text().into();
        let merges = json["model"]["merges"].as_array().unwrap().iter().map(|merge| match merge {
            Value::String(pair) => pair.clone(),
            pair => format!("{} {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()),
        });
        let merges: Vec<String> = merges.collect();
        fs::write(folder.path().join("vocab.json"), vocabulary.to_string()).unwrap();
        fs::write(folder.path().join("merges.txt"), format!("#version: 0.2\n{}\n", merges.join("\n")))
            .unwrap();
        let back = Tokenizer::load(folder.path()).unwrap();
        assert_eq!(back.encode(TEXT).unwrap(), tokenizer.encode(TEXT).unwrap());
        assert_eq!(back.end_of_text(), tokenizer.end_of_text());
        assert_eq!(back.spec() == &TokenizerSpec::Gpt2, spec == "gpt2", "recognised");
    }
}

#[test]
fn tokenizers_of_words_and_marks_are_decoded_as_wholes() {
    // A word-piece tokenizer: "##" continues a word, its decoder joins words by spaces.
    let json = json!({
        "version": "1.0", "truncation": { "direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0 },
        "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": { "type": "Whitespace" }, "post_processor": null,
        "decoder": { "type": "WordPiece", "prefix": "##", "cleanup": false },
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
            "vocab": { "[UNK]": 0, "riv": 1, "##er": 2, "the": 3, "sea": 4 },
        },
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    fs::write(&path, json.to_string()).unwrap();
    let tokenizer = Tokenizer::build(&TokenizerSpec::File(path), "").unwrap();
    let ids = tokenizer.encode("the river the sea").unwrap();
    assert_eq!(ids, [3, 1, 2, 3, 4], "its limit of two tokens is not for us");
    assert_eq!(tokenizer.decode(&ids), b"the river the sea");
    let mut stream = StreamDecoder::new(&tokenizer);
    let streamed: String = ids.iter().cycle().take(1000).map(|id| stream.push(*id)).collect();
    assert_eq!(streamed + &stream.finish(), vec!["the river the sea"; 200].join(" "));
}

#[test]
fn files_that_are_no_tokenizers_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    let message = || {
        let error = Tokenizer::load(folder.path()).unwrap_err();
        assert!(error.is_bad_input(), "{error}");
        error.to_string()
    };
    assert!(message().contains("no tokenizer in it"));
    let bpe = |vocabulary: Value, merges: Value| {
        json!({ "version": "1.0", "added_tokens": [], "model": { "type": "BPE", "vocab": vocabulary, "merges": merges } })
            .to_string()
            .into_bytes()
    };
    let cases: &[(&[u8], &str)] = &[
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"{}", "no model"),
        (b"[1, 2]", "no model"),
        (b"{\n\"a\": \"\xff\"}", "line 2: not UTF-8"),
        (&bpe(json!({}), json!([])), "empty"),
        (&bpe(json!({ "a": 0 }), json!(["a b"])), "`b`"),
        (&bpe(json!({ "a": 0, "b": 1 }), json!([["a", "b"]])), "`ab`"),
        (&bpe(json!({ "a": 0, "b": 1 }), json!(["ab"])), "no pair"),
        (&bpe(json!({ "a": 4_000_000_000_u32 }), json!([])), "ids up to"),
        (&bpe(json!({ "a": -1 }), json!([])), "not a tokenizer"),
    ];
    for (contents, expected) in cases {
        fs::write(&path, contents).unwrap();
        let message = message();
        assert!(message.contains("tokenizer.json") && message.contains(expected), "{message}");
    }
    let error = Tokenizer::build(&TokenizerSpec::File(folder.path().join("none.json")), "").unwrap_err();
    assert!(error.to_string().contains("none.json") && error.is_bad_input());
}

#[test]
fn streams_split_no_character() {
    let text = "aé河😀\u{10ffff}";
    for size in 1..5 {
        let mut stream = Utf8Stream::default();
        let pushed: Vec<String> = text.as_bytes().chunks(size).map(|bytes| stream.push(bytes)).collect();
        assert!(pushed.iter().all(|text| !text.contains('\u{fffd}')));
        assert_eq!(pushed.concat() + &stream.finish(), text);
    }
    let mut stream = Utf8Stream::default();
    assert_eq!(stream.push(&[0xe6, 0xb2]), "");
    assert_eq!(stream.push(b"a"), "\u{fffd}a", "no character after all");
    assert_eq!(stream.push(&[0xf0, 0x9f]), "");
    assert_eq!(stream.finish(), "\u{fffd}");
    assert_eq!(stream.finish(), "");
}

proptest! {
    #[test]
    fn any_text_comes_back(text in any::<String>()) {
        round_trips(&text);
    }

    #[test]
    fn text_of_white_space_and_marks_comes_back(text in "[ \n\t\r\u{a0}\u{3000}a1'=é]{0,60}") {
        round_trips(&text);
    }

    #[test]
    fn any_bytes_stream_as_they_decode(bytes in prop::collection::vec(any::<u8>(), 0..60), size in 1_usize..8) {
        let mut stream = Utf8Stream::default();
        let pushed: String = bytes.chunks(size).map(|bytes| stream.push(bytes)).collect();
        prop_assert_eq!(pushed + &stream.finish(), String::from_utf8_lossy(&bytes));
    }

    /// A good file with some bytes changed is a tokenizer or an error.
    #[test]
    fn damaged_files_are_tokenizers_or_errors(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = exact()[2].to_hf_json().into_bytes();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        fs::write(folder.path().join("tokenizer.json"), bytes).unwrap();
        if let Ok(tokenizer) = Tokenizer::load(folder.path())
            && let Ok(ids) = tokenizer.encode("The river runs to the sea.")
        {
            tokenizer.decode(&ids);
        }
    }
}
