//! `cargo xtask interop`: an exported model in Hugging Face transformers.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::{cargo, python, root, run as execute, test};

/// Trains a little with each kind of tokenizer and exports; transformers must compute our logits and encode as we do.
/// What transformers then saves must be, imported, the same model again. Then all of that for a classifier, and for adapters in PEFT.
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
        let labels = folder.path().join(tokenizer.replace(':', "-"));
        classifier(&wikigpt, &python, &trained, &labels)?;
        println!("{tokenizer}: transformers labels texts as we do, and gives the classifier back unchanged");
        adapters(&wikigpt, &python, &trained, &labels)?;
        println!("{tokenizer}: PEFT computes what our adapters do, and gives them back unchanged");
    }
    Ok(())
}

/// Fine-tunes a little on labels, exports, and compares.
fn classifier(wikigpt: &Path, python: &Path, trained: &Path, folder: &Path) -> Result<()> {
    std::fs::create_dir(folder)?;
    let at = |name: &str| folder.join(name);
    let (run, exported, saved, imported) = (at("run"), at("exported"), at("saved"), at("imported"));
    let (examples, texts, labelled) = (at("examples.csv"), at("texts.txt"), at("labelled.jsonl"));
    // Short enough for a context of 32 bytes.
    let corpus = std::fs::read_to_string(root().join("crates/dataset/corpus/articles.txt"))?;
    let words: Vec<&str> = corpus.split_whitespace().collect();
    let all = words.chunks(4).map(|words| words.join(" ")).filter(|text| text.len() <= 32);
    let all: Vec<String> = all.take(60).collect();
    let quoted = |(i, text): (usize, &String)| {
        format!("\"{}\",{}\n", text.replace('"', "\"\""), ["low", "mid", "high"][i % 3])
    };
    std::fs::write(
        &examples,
        "text,label\n".to_owned() + &all.iter().enumerate().map(quoted).collect::<String>(),
    )?;
    std::fs::write(&texts, all.join("\n"))?;
    execute(
        Command::new(wikigpt)
            .args(["finetune", "classify", "--epochs", "2"])
            .arg(trained)
            .arg("--train")
            .arg(&examples)
            .arg("--valid")
            .arg(&examples)
            .arg("--out")
            .arg(&run),
    )?;
    execute(Command::new(wikigpt).arg("export").arg(&run).arg("--out").arg(&exported))?;
    let label = |model: &Path, out: &Path| -> Result<()> {
        execute(
            Command::new(wikigpt)
                .args(["classify", "--json"])
                .arg(model)
                .arg(&texts)
                .stdout(File::create(out)?),
        )
    };
    label(&exported, &labelled)?;
    let ours = at("logits.json");
    logits(&exported, &ours)?;
    execute(
        Command::new(python)
            .arg(root().join("tools/checks/classify_transformers.py"))
            .args([&exported, &ours, &texts, &labelled])
            .arg("--save")
            .arg(&saved),
    )?;
    execute(Command::new(wikigpt).arg("import").arg(&saved).arg("--out").arg(&imported))?;
    let again = at("labelled-again.jsonl");
    label(&imported, &again)?;
    if std::fs::read(&labelled)? != std::fs::read(&again)? {
        bail!("the classifier that transformers saved says something else than the one it was given");
    }
    Ok(())
}

/// Trains adapters for both tasks on the examples that [`classifier`] left, and compares.
fn adapters(wikigpt: &Path, python: &Path, trained: &Path, folder: &Path) -> Result<()> {
    let at = |name: &str| folder.join(name);
    let (examples, texts, pairs) = (at("examples.csv"), at("texts.txt"), at("pairs.jsonl"));
    let lines = std::fs::read_to_string(&texts)?;
    let words = lines.lines().filter_map(|line| line.split_whitespace().next());
    let pair = |word: &str| serde_json::json!({ "prompt": word, "completion": word.to_uppercase() });
    std::fs::write(&pairs, words.map(|word| format!("{}\n", pair(word))).collect::<String>())?;
    for (task, data) in [("classify", &examples), ("complete", &pairs)] {
        let (run, alone, saved) = (at(task), at(&format!("{task}-alone")), at(&format!("{task}-saved")));
        execute(
            Command::new(wikigpt)
                .args([
                    "finetune",
                    task,
                    "--lora",
                    "4",
                    "--lora-alpha",
                    "64",
                    "--lr",
                    "1e-2",
                    "--epochs",
                    "8",
                ])
                .arg(trained)
                .arg("--train")
                .arg(data)
                .arg("--valid")
                .arg(data)
                .arg("--out")
                .arg(&run),
        )?;
        execute(Command::new(wikigpt).args(["export", "--adapters"]).arg(&run).arg("--out").arg(&alone))?;
        let (ours, again) = (at(&format!("{task}.json")), at(&format!("{task}-again.json")));
        logits(&alone, &ours)?;
        let check = root().join("tools/checks/adapters_peft.py");
        execute(Command::new(python).arg(check).args([&alone, &ours]).arg("--save").arg(&saved))?;
        logits(&saved, &again)?;
        if std::fs::read(&ours)? != std::fs::read(&again)? {
            bail!("{task}: the adapters that PEFT saved compute other logits than those it was given");
        }
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
