//! Each mistake gets one clear sentence, the documented exit status, and leaves nothing half-written behind.

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, TensorView, serialize_to_file};

use crate::common::{TINY, assert_fails, checkpoint, ok, ok_line, run, tree};

/// What the cases work on: good things to be spoilt.
struct Workshop {
    top: tempfile::TempDir,
}

impl Workshop {
    fn new() -> Self {
        let workshop = Workshop { top: tempfile::tempdir().unwrap() };
        let at = |name: &str| workshop.at(name);
        fs::write(at("text.txt"), "The river runs through the old town to the sea. ".repeat(100)).unwrap();
        for (tokenizer, data) in [("bytes", "data"), ("bpe:270", "bpe")] {
            let flags = format!("prepare --valid-fraction 0.2 --tokenizer {tokenizer}");
            ok_line(&flags, &["--text", &at("text.txt"), "--out", &at(data)]);
        }
        ok_line(&format!("train {TINY} --steps 2"), &["--data", &at("data"), "--out", &at("run")]);
        ok(["export", &at("run"), "--out", &at("hf")]);
        workshop
    }

    fn at(&self, name: &str) -> String {
        self.top.path().join(name).to_str().unwrap().to_owned()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.top.path().join(name)
    }

    /// A copy of a folder (one level), to be spoilt.
    fn copy(&self, from: &str, to: &str) -> PathBuf {
        let (from, to) = (self.path(from), self.path(to));
        fs::create_dir(&to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
        to
    }

    /// Runs a command that must fail, and checks everything that holds for any failure.
    #[track_caller]
    fn fails<'a>(&self, status: i32, expected: &[&str], arguments: impl IntoIterator<Item = &'a str>) {
        let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
        let before = tree(self.top.path());
        let case = format!("wikigpt {}", arguments.join(" "));
        assert_fails(&run(&arguments), status, expected, &case);
        let new: Vec<_> = tree(self.top.path()).into_iter().filter(|path| !before.contains(path)).collect();
        assert!(new.is_empty(), "left behind {new:?}: {case}");
    }
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split_whitespace()
}

#[test]
fn wrong_flags_and_shapes() {
    let workshop = Workshop::new();
    let out = workshop.at("never");
    let cases: &[(&str, &[&str])] = &[
        ("--no-such-flag 1", &["--no-such-flag"]),
        ("--steps many", &["--steps", "many"]),
        ("--steps -5", &["-5"]),
        ("--lr 0", &["--lr 0"]),
        ("--lr NaN", &["--lr NaN"]),
        ("--lr inf", &["--lr inf"]),
        ("--lr 0.1 --min-lr 0.2", &["--min-lr 0.2"]),
        ("--n-embd 100 --n-head 3", &["100", "3"]),
        ("--n-embd 18446744073709551615", &["18446744073709551615"]),
        ("--n-head 0", &["--n-head 0"]),
        ("--n-layer 0", &["--n-layer 0"]),
        ("--context 0", &["--context 0"]),
        ("--batch 0", &["--batch 0"]),
        ("--grad-accum 0", &["--grad-accum 0"]),
        ("--grad-accum 2 --tokens-per-step 64", &["--tokens-per-step"]),
        ("--tokens-per-step 100", &["multiple of batch"]),
        ("--steps 5 --epochs 1", &["--epochs"]),
        ("--epochs 0", &["--epochs 0"]),
        ("--dropout 1", &["--dropout 1"]),
        ("--beta1 1", &["--beta1 1"]),
        ("--weight-decay -1", &["-1"]),
        ("--grad-clip NaN", &["--grad-clip NaN"]),
        ("--schedule cubic", &["cubic", "cosine"]),
        ("--order random", &["random", "shuffled"]),
        ("--preset gpt5", &["gpt5", "gpt2"]),
        ("--preset gpt2 --n-layer 2", &["--preset"]),
        ("--context 1000000000", &["--context 1000000000"]),
        ("--batch 1000000", &["--batch"]),
        ("--n-embd 100000 --n-head 1 --n-layer 1000", &["memory"]),
        ("--eval-batches 0", &["--eval-batches 0"]),
        ("--threads 0", &["--threads 0"]),
        ("--threads 1000000", &["--threads 1000000"]),
        ("--device gpu", &["gpu", "expected auto"]),
        ("--device cuda:99", &["--device cuda:99", "there is no"]),
        ("--precision bf16 --device cpu", &["bf16"]),
        ("--seed -1", &["-1"]),
    ];
    for (flags, expected) in cases {
        workshop.fails(2, expected, words("train --out").chain([out.as_str()]).chain(words(flags)));
    }
    workshop.fails(2, &["subcommand"], words("trian"));
    workshop.fails(2, &["no data folder"], words("train --data /no/such/folder --out").chain([out.as_str()]));
    workshop.fails(2, &["already holds files"], ["train", "--out", &workshop.at("run")]);
    workshop.fails(2, &["is a file"], ["train", "--out", &workshop.at("text.txt")]);
    workshop.fails(2, &["--resume"], ["train", "--resume", &workshop.at("nothing")]);
    workshop.fails(2, &["not a run folder"], ["train", "--resume", &workshop.at("data")]);
    workshop.fails(2, &["--n-embd 32", "16"], ["train", "--resume", &workshop.at("run"), "--n-embd", "32"]);
}

#[test]
fn wrong_config_files() {
    let workshop = Workshop::new();
    let config = workshop.at("config.toml");
    let cases: &[(&str, &[&str])] = &[
        ("n-layr = 2", &["config.toml", "unknown key `n-layr`", "`n-layer`"]),
        ("steps = \"ten\"", &["config.toml", "steps"]),
        ("steps = 10\nlr = = 3", &["config.toml", "line 2"]),
        ("steps = 10\nepochs = 1", &["`steps`", "`epochs`"]),
        ("batch = -4", &["batch"]),
        ("[model]\nn-layer = 2", &["unknown key `model`"]),
        ("\u{0}\u{1}garbage", &["config.toml"]),
    ];
    for (contents, expected) in cases {
        fs::write(&config, contents).unwrap();
        workshop.fails(2, expected, ["train", "--config", &config, "--out", &workshop.at("never")]);
    }
    fs::write(&config, [0xff, 0xfe, 0x00]).unwrap();
    workshop.fails(2, &["config.toml"], ["train", "--config", &config, "--out", &workshop.at("never")]);
    workshop.fails(2, &["none.toml"], ["train", "--config", &workshop.at("none.toml")]);
}

#[test]
fn wrong_token_files() {
    let workshop = Workshop::new();
    type Spoil = fn(&Path);
    fn patch(folder: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let path = folder.join("train.bin");
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(path, bytes).unwrap();
    }
    let cases: &[(Spoil, &[&str])] = &[
        (|f| fs::remove_file(f.join("dataset.json")).unwrap(), &["dataset.json"]),
        (|f| fs::write(f.join("dataset.json"), "{\"tokenizer\": ").unwrap(), &["dataset.json"]),
        (|f| fs::remove_file(f.join("train.bin")).unwrap(), &["train"]),
        (|f| fs::write(f.join("train.bin"), "").unwrap(), &["train.bin"]),
        (|f| patch(f, |b| b[0] ^= 0xff), &["train.bin"]),
        (|f| patch(f, |b| b[4] = 9), &["train.bin", "version"]),
        (|f| patch(f, |b| b[9] ^= 1), &["train.bin"]),
        (|f| patch(f, |b| b.truncate(b.len() / 2)), &["train.bin"]),
        (|f| patch(f, |b| b.extend([7; 100])), &["train.bin"]),
        (|f| patch(f, |b| b[1025] = 0xff), &["train.bin", "vocabulary"]),
        (|f| fs::write(f.join("train.bin"), "not tokens at all ".repeat(500)).unwrap(), &["train.bin"]),
    ];
    for (i, (spoil, expected)) in cases.iter().enumerate() {
        let name = format!("spoilt-{i}");
        spoil(&workshop.copy("data", &name));
        let (data, out) = (workshop.at(&name), workshop.at("never"));
        let arguments = ["train", "--out", &out, "--data", &data, "--steps", "2"].into_iter();
        workshop.fails(2, expected, arguments.chain(words(TINY)));
    }
    workshop.fails(
        2,
        &["text.txt"],
        ["train", "--data", &workshop.at("text.txt"), "--out", &workshop.at("never")],
    );
}

#[test]
fn wrong_models() {
    let workshop = Workshop::new();
    type Spoil = fn(&Path);
    fn patch(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(path).unwrap();
        change(&mut bytes);
        fs::write(path, bytes).unwrap();
    }
    let cases: &[(Spoil, &[&str])] = &[
        (|f| fs::remove_file(f.join("model.safetensors")).unwrap(), &["model.safetensors"]),
        (|f| patch(&f.join("model.safetensors"), |b| b.truncate(b.len() - 9)), &["model.safetensors"]),
        (|f| patch(&f.join("model.safetensors"), |b| b[..8].fill(0xff)), &["model.safetensors"]),
        (|f| fs::write(f.join("model.safetensors"), b"").unwrap(), &["model.safetensors"]),
        (|f| fs::write(f.join("model.safetensors"), "garbage ".repeat(99)).unwrap(), &["model.safetensors"]),
        (
            |f| {
                patch(&f.join("model.safetensors"), |b| {
                    let end = b.len();
                    b[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
                })
            },
            &["model.safetensors", "NaN"],
        ),
        (|f| fs::write(f.join("config.json"), "{").unwrap(), &["config.json"]),
        (|f| fs::remove_file(f.join("config.json")).unwrap(), &["config.json"]),
        (
            |f| {
                patch(&f.join("config.json"), |b| {
                    let text =
                        String::from_utf8(b.clone()).unwrap().replace("\"n_embd\": 16", "\"n_embd\": 32");
                    *b = text.into_bytes();
                })
            },
            &["shape"],
        ),
    ];
    for (i, (spoil, expected)) in cases.iter().enumerate() {
        let name = format!("spoilt-{i}");
        spoil(&workshop.copy("hf", &name));
        workshop.fails(2, expected, ["generate", &workshop.at(&name), "--prompt", "a"]);
        workshop.fails(2, expected, ["import", &workshop.at(&name), "--out", &workshop.at("never")]);
    }
    workshop.fails(2, &["nothing"], ["generate", &workshop.at("nothing")]);
    workshop.fails(2, &["text.txt"], ["generate", &workshop.at("text.txt")]);
    workshop.fails(2, &["data"], ["generate", &workshop.at("data")]);
    workshop.fails(
        2,
        &["already holds files"],
        ["export", &workshop.at("run"), "--out", &workshop.at("data")],
    );
    workshop.fails(2, &["--temperature"], ["generate", &workshop.at("run"), "--temperature", "-1"]);
    workshop.fails(2, &["--top-p"], ["generate", &workshop.at("run"), "--top-p", "1.5"]);
    workshop.fails(
        2,
        &["none.txt"],
        ["generate", &workshop.at("run"), "--prompt-file", &workshop.at("none.txt")],
    );
    fs::write(workshop.path("latin1"), [b'c', 0xe9]).unwrap();
    workshop.fails(
        2,
        &["latin1: line 1: not UTF-8"],
        ["generate", &workshop.at("run"), "--prompt-file", &workshop.at("latin1")],
    );

    let checkpoint = checkpoint(&workshop.path("run"), 2);
    let cut = workshop.path("cut");
    fs::create_dir(&cut).unwrap();
    fs::copy(checkpoint.join("model.safetensors"), cut.join("model.safetensors")).unwrap();
    workshop.fails(2, &["config.json"], ["eval", &workshop.at("cut"), "--data", &workshop.at("data")]);
}

#[test]
fn things_that_do_not_fit_together() {
    let workshop = Workshop::new();
    let (bpe, data, model, out) =
        (workshop.at("bpe"), workshop.at("data"), workshop.at("run"), workshop.at("never"));
    workshop.fails(2, &["vocabulary"], ["eval", &model, "--data", &bpe]);
    workshop.fails(2, &["--split test"], ["eval", &model, "--data", &data, "--split", "test"]);
    workshop.fails(2, &["--stride 0"], ["eval", &model, "--data", &data, "--stride", "0"]);
    workshop.fails(2, &["--stride 17"], ["eval", &model, "--data", &data, "--stride", "17"]);
    workshop.fails(2, &["--context 17", "16"], ["eval", &model, "--data", &data, "--context", "17"]);
    workshop.fails(2, &["vocabulary"], ["train", "--init", &model, "--data", &bpe, "--out", &out]);
    workshop.fails(
        2,
        &["--n-layer 3"],
        ["train", "--init", &model, "--data", &data, "--n-layer", "3", "--out", &out],
    );
    workshop.fails(
        2,
        &["nothing"],
        ["train", "--init", &workshop.at("nothing"), "--data", &data, "--out", &out],
    );
    workshop.fails(2, &["other data"], ["train", "--resume", &model, "--data", &bpe]);

    let nan = workshop.at("nan.safetensors");
    let bytes = [f32::NAN; 16].map(f32::to_le_bytes).concat();
    let tensor = TensorView::new(Dtype::F32, vec![16], &bytes).unwrap();
    serialize_to_file([("transformer.ln_f.weight", tensor)], None, Path::new(&nan)).unwrap();
    let arguments = ["train", "--init", &nan, "--data", &data, "--out", &out];
    workshop.fails(2, &["nan.safetensors"], arguments.into_iter().chain(words(TINY)));
}

#[test]
fn nothing_to_prepare() {
    let workshop = Workshop::new();
    let (text, out) = (workshop.at("text.txt"), workshop.at("never"));
    workshop.fails(2, &["none.txt"], ["prepare", "--text", &workshop.at("none.txt"), "--out", &out]);
    workshop.fails(2, &["--text"], ["prepare", "--out", &out]);
    workshop.fails(2, &["wikitext-3"], ["prepare", "wikitext-3", "--out", &out]);
    workshop.fails(2, &["--out"], ["prepare", "--text", &text]);
    workshop.fails(2, &["--out"], ["prepare", "--text", &text, "--out", &workshop.at("run")]);
    workshop.fails(2, &["tokenizer"], ["prepare", "--text", &text, "--tokenizer", "klingon", "--out", &out]);
    workshop.fails(2, &["tokenizer"], ["prepare", "--text", &text, "--tokenizer", "bpe:x", "--out", &out]);
    workshop.fails(
        2,
        &["none.json"],
        ["prepare", "--text", &text, "--tokenizer", "file:none.json", "--out", &out],
    );
    workshop.fails(2, &["1.5"], ["prepare", "--text", &text, "--valid-fraction", "1.5", "--out", &out]);
    fs::write(workshop.path("empty.txt"), "").unwrap();
    workshop.fails(2, &["empty"], ["prepare", "--text", &workshop.at("empty.txt"), "--out", &out]);
    fs::write(workshop.path("latin1.txt"), [b'c', b'a', b'f', 0xe9, b'\n'].repeat(50)).unwrap();
    workshop.fails(
        2,
        &["latin1.txt", "UTF-8"],
        ["prepare", "--text", &workshop.at("latin1.txt"), "--out", &out],
    );
    let archive = workshop.at("text.txt");
    workshop.fails(2, &["text.txt"], ["prepare", "wikitext-2", "--archive", &archive, "--out", &out]);
    workshop.fails(
        2,
        &["none.zip"],
        ["prepare", "wikitext-2", "--archive", &workshop.at("none.zip"), "--out", &out],
    );
    workshop.fails(2, &["nothing"], ["inspect", &workshop.at("nothing")]);
    workshop.fails(2, &["text.txt"], ["inspect", &text]);
}
