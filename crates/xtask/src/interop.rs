//! `cargo xtask interop`: an exported model in Hugging Face transformers.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::{cargo, python, root, run as execute, test};

/// Trains a little with each kind of tokenizer and exports; transformers must compute our logits and encode as we do.
/// What transformers then saves must be, imported, the same model again.
pub fn run() -> Result<()> {
    let wikigpt = test::binary()?;
    let python = python::environment("peers-venv", &root().join("tools/peers/requirements.txt"))?;
    let folder = tempfile::tempdir()?;
    for tokenizer in ["bytes", "gpt2", "bpe:512"] {
        let at = |name: &str| folder.path().join(format!("{name}-{}", tokenizer.replace(':', "-")));
        let (data, trained, exported) = (at("data"), at("run"), at("exported"));
        let (saved, imported) = (at("saved"), at("imported"));
        let corpus = root().join("crates/dataset/corpus/articles.txt");
        execute(
            Command::new(&wikigpt)
                .args(["prepare", "--tokenizer", tokenizer, "--valid-fraction", "0.1"])
                .args(["--no-document-tokens", "--out"])
                .arg(&data)
                .arg("--text")
                .arg(&corpus),
        )?;
        execute(
            Command::new(&wikigpt)
                .args(["train", "--n-layer", "2", "--n-head", "2", "--n-embd", "32", "--context", "32"])
                .args(["--batch", "4", "--steps", "10", "--data"])
                .arg(&data)
                .arg("--out")
                .arg(&trained),
        )?;
        execute(Command::new(&wikigpt).arg("export").arg(&trained).arg("--out").arg(&exported))?;
        let ours = at("logits.json");
        logits(&exported, &ours)?;
        execute(
            Command::new(&python)
                .arg(root().join("tools/checks/export_transformers.py"))
                .arg(&exported)
                .arg(&ours)
                .arg("--tokens")
                .arg(data.join("valid.bin"))
                .arg("--text")
                .arg(&corpus)
                .arg("--save")
                .arg(&saved),
        )?;
        execute(Command::new(&wikigpt).arg("import").arg(&saved).arg("--out").arg(&imported))?;
        let again = at("logits-again.json");
        logits(&imported, &again)?;
        if std::fs::read(&ours)? != std::fs::read(&again)? {
            bail!("{tokenizer}: the model that transformers saved computes other logits than it was given");
        }
        println!("{tokenizer}: transformers computes our logits, and gives the model back unchanged");
    }
    Ok(())
}

/// Writes our logits for a model folder, as `{"tokens":[…],"logits":[[…],…]}`.
fn logits(model: &Path, json: &Path) -> Result<()> {
    execute(
        cargo()
            .args(["run", "--quiet", "--package", "wikigpt-gpt", "--example", "logits", "--"])
            .arg(model)
            .stdout(File::create(json)?),
    )
}
