//! `wikigpt inspect`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use safetensors::SafeTensors;
use serde_json::{Value, json};
use wikigpt_dataset::{Dataset, Info, Split};
use wikigpt_gpt::plan::Plan;

use crate::fault::bad_input;
use crate::metrics::Line;
use crate::model::Model;
use crate::progress::{bytes, thousands};
use crate::{checkpoint, output, run_folder};

/// Flags of `wikigpt inspect`.
#[derive(Args)]
pub struct Arguments {
    /// A token file, data folder, run, checkpoint, model folder or safetensors file
    #[arg(value_name = "FILE|DIR")]
    path: PathBuf,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// What was found: an object whose `kind` says what it is, and lines for people.
type Found = (Value, String);

/// Says what a file or folder is.
pub fn run(arguments: Arguments) -> Result<()> {
    let path = &arguments.path;
    let (value, lines) = match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => folder(path)?,
        Ok(_) => file(path)?,
        Err(error) => return Err(error).with_context(|| format!("cannot look at {}", path.display())),
    };
    output::print(arguments.json, &value, || lines)
}

fn folder(path: &Path) -> Result<Found> {
    if path.join("dataset.json").is_file() {
        return dataset(path);
    }
    if run_folder::is_run(path) {
        return run_of(path);
    }
    if checkpoint::is_checkpoint(path) {
        return checkpoint_of(path);
    }
    if path.join("config.json").is_file() {
        return model("model", path);
    }
    bad_input!(
        "{}: neither data (dataset.json), nor a run (config.toml), nor a model (config.json)",
        path.display()
    )
}

fn file(path: &Path) -> Result<Found> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("safetensors") => safetensors(path),
        Some("bin") => tokens(path),
        _ => bad_input!(
            "{}: not a kind of file that is known here (.bin, .safetensors, or a folder)",
            path.display()
        ),
    }
}

fn dataset(path: &Path) -> Result<Found> {
    let dataset = Dataset::open(path)?;
    let mut value = serde_json::to_value(dataset.info())?;
    value["kind"] = "dataset".into();
    Ok((value, describe_dataset(dataset.info())))
}

/// A dataset in lines.
pub fn describe_dataset(info: &Info) -> String {
    let mut lines =
        vec![format!("tokenizer {}, vocabulary {}", info.tokenizer, thousands(info.vocab_size as u64))];
    for (name, split) in [("train", Split::Train), ("valid", Split::Valid), ("test", Split::Test)] {
        if let Some(split) = info.split(split) {
            let [tokens, words, bytes] = [split.tokens, split.words, split.bytes].map(thousands);
            lines.push(format!("{name}  {tokens} tokens, {words} words, {bytes} bytes"));
        }
    }
    lines.join("\n")
}

fn tokens(path: &Path) -> Result<Found> {
    let tokens = wikigpt_dataset::Tokens::open(path)?;
    let count = tokens.len() as u64;
    let largest = tokens.largest();
    let value =
        json!({ "kind": "tokens", "tokens": count, "bytes_per_token": tokens.width(), "largest": largest });
    let largest = largest.map_or("none".to_owned(), |token| token.to_string());
    let lines = format!("{} tokens of {} bytes, the largest {largest}", thousands(count), tokens.width());
    Ok((value, lines))
}

fn run_of(path: &Path) -> Result<Found> {
    let text = fs::read_to_string(path.join("metrics.jsonl")).unwrap_or_default();
    let lines: Vec<Line> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let train =
        lines.iter().rev().find_map(|line| if let Line::Train(train) = line { Some(train) } else { None });
    let valid =
        lines.iter().rev().find_map(|line| if let Line::Valid(valid) = line { Some(valid) } else { None });
    let mut checkpoints = Vec::new();
    for (step, folder) in checkpoint::list(&run_folder::checkpoints(path))? {
        let damage = checkpoint::verify(&folder).err().map(|error| format!("{error:#}"));
        checkpoints.push(json!({ "step": step, "damage": damage }));
    }
    let mut out = vec![format!("a run of {} steps", train.map_or(0, |line| line.step + 1))];
    out.extend(train.map(|line| format!("last training loss    {:.6} (step {})", line.loss, line.step)));
    out.extend(valid.map(|line| format!("last validation loss  {:.6} (step {})", line.loss, line.step)));
    for checkpoint in &checkpoints {
        let state =
            checkpoint["damage"].as_str().map_or("good".to_owned(), |damage| format!("damaged: {damage}"));
        out.push(format!("checkpoint of step {}: {state}", checkpoint["step"]));
    }
    let value = json!({ "kind": "run", "train": train, "valid": valid, "checkpoints": checkpoints });
    Ok((value, out.join("\n")))
}

fn checkpoint_of(path: &Path) -> Result<Found> {
    let state = checkpoint::verify(path)?;
    let (mut value, lines) = model("checkpoint", path)?;
    let head = format!(
        "checkpoint of step {}, after {} tokens; all files whole",
        state.step,
        thousands(state.tokens)
    );
    value["state"] = serde_json::to_value(state)?;
    Ok((value, format!("{head}\n{lines}")))
}

fn model(kind: &str, path: &Path) -> Result<Found> {
    let model = Model::open(path)?;
    let config = &model.config;
    let parameters = Plan::new(config, 1, 1).parameters;
    let lines = format!(
        "GPT-2 of {} layers, {} heads, {} channels, context {}, vocabulary {}: {} parameters",
        config.n_layer,
        config.n_head,
        config.n_embd,
        config.context,
        thousands(config.vocab_size as u64),
        thousands(parameters)
    );
    Ok((json!({ "kind": kind, "config": config, "parameters": parameters }), lines))
}

fn safetensors(path: &Path) -> Result<Found> {
    let contents = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let tensors = match SafeTensors::deserialize(&contents) {
        Ok(tensors) => tensors,
        Err(error) => bad_input!("{}: not a safetensors file: {error}", path.display()),
    };
    let mut list = tensors.tensors();
    list.sort_by(|a, b| a.0.cmp(&b.0));
    let mut lines = vec![format!("{} tensors, {}", list.len(), bytes(contents.len() as u64))];
    lines.extend(list.iter().map(|(name, view)| format!("{name}  {:?}  {:?}", view.dtype(), view.shape())));
    let entry = |(name, view): &(String, safetensors::tensor::TensorView)| json!({ "name": name, "dtype": format!("{:?}", view.dtype()), "shape": view.shape() });
    let value = json!({ "kind": "safetensors", "tensors": list.iter().map(entry).collect::<Vec<_>>() });
    Ok((value, lines.join("\n")))
}
