//! `wikigpt inspect`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};
use wikigpt_dataset::{Dataset, Format, MANIFEST_FILE, Manifest, Split, Tokens};
use wikigpt_gpt::files::{Description, describe};

use crate::fault::bad_input;
use crate::metrics::Line;
use crate::output;
use crate::progress::{bytes, thousands};

/// What `--help` ends with.
pub const EXAMPLES: &str = "\
Examples:
  wikigpt inspect runs/001
  wikigpt inspect runs/001/checkpoints/step-00000600/model.safetensors --json";

/// Flags of `wikigpt inspect`.
#[derive(Args)]
pub struct Arguments {
    /// A token file, data folder, run, checkpoint, model folder or safetensors file
    #[arg(value_name = "FILE|DIR")]
    path: PathBuf,
    /// A .bin file is nanoGPT's bare u16 tokens, without llm.c's header
    #[arg(long)]
    raw_u16: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// What was found: an object whose `kind` says what it is, and lines for people.
type Found = (Value, String);

/// Says what a file or folder is.
pub fn run(arguments: Arguments) -> Result<()> {
    let path = &arguments.path;
    let metadata = fs::metadata(path).with_context(|| format!("cannot look at {}", path.display()))?;
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let (value, lines) = match (metadata.is_dir(), extension) {
        (true, _) if path.join(MANIFEST_FILE).is_file() => dataset(path)?,
        (true, _) | (false, "safetensors") => model(path)?,
        (false, "bin") => tokens(path, if arguments.raw_u16 { Format::RawU16 } else { Format::LlmC })?,
        (false, "json") if path.ends_with(MANIFEST_FILE) => dataset(path.parent().unwrap_or(path))?,
        _ => bad_input!(
            "{}: not a kind of file that is known here (.bin, .safetensors, {MANIFEST_FILE}, or a folder)",
            path.display()
        ),
    };
    output::print(arguments.json, &value, || lines)
}

fn dataset(path: &Path) -> Result<Found> {
    let dataset = Dataset::open(path)?;
    let mut value = serde_json::to_value(dataset.manifest())?;
    value["kind"] = "dataset".into();
    Ok((value, describe_dataset(dataset.manifest())))
}

/// A dataset in lines.
pub fn describe_dataset(manifest: &Manifest) -> String {
    let mut lines = vec![format!(
        "tokenizer {}, vocabulary {}",
        manifest.tokenizer,
        thousands(manifest.vocab_size as u64)
    )];
    for split in Split::ALL {
        if let Some(info) = manifest.split(split) {
            let [tokens, words, bytes] = [info.tokens, info.words, info.bytes].map(thousands);
            lines.push(format!("{split:5}  {tokens} tokens, {words} words, {bytes} bytes"));
        }
    }
    lines.join("\n")
}

fn tokens(path: &Path, format: Format) -> Result<Found> {
    let tokens = Tokens::open(path, format)?;
    let (count, width, largest) = (tokens.len(), tokens.width().bytes(), tokens.largest());
    let value = json!({ "kind": "tokens", "tokens": count, "bytes_per_token": width, "largest": largest });
    let largest = largest.map_or("none".to_owned(), |token| token.to_string());
    Ok((value, format!("{} tokens of {width} bytes, the largest {largest}", thousands(count))))
}

fn model(path: &Path) -> Result<Found> {
    let found = describe(path)?;
    let mut value = serde_json::to_value(&found)?;
    let mut lines = describe_model(&found);
    let metrics = path.join("metrics.jsonl");
    if metrics.is_file() {
        let bytes = fs::read(&metrics).with_context(|| format!("cannot read {}", metrics.display()))?;
        let text = String::from_utf8_lossy(&bytes);
        for kind in ["train", "valid"] {
            if let Some(line) = last_line(&text, kind) {
                let (loss, step) = match &line {
                    Line::Train(line) => (line.loss, line.step),
                    Line::Valid(line) => (line.loss, line.step),
                };
                lines.push(format!("last {kind} loss {loss:.6} (step {step})"));
                value[kind] = serde_json::to_value(line)?;
            }
        }
    }
    Ok((value, lines.join("\n")))
}

/// The last line of a kind in `metrics.jsonl`.
fn last_line(metrics: &str, kind: &str) -> Option<Line> {
    let lines = metrics.lines().rev().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    lines
        .into_iter()
        .find(|line| matches!((line, kind), (Line::Train(_), "train") | (Line::Valid(_), "valid")))
}

fn describe_model(found: &Description) -> Vec<String> {
    let kind = serde_json::to_value(found.kind).ok().and_then(|kind| kind.as_str().map(str::to_owned));
    let mut lines = vec![format!("{}: {}", kind.unwrap_or_default(), found.weights.display())];
    lines.push(format!("{} parameters, {}", thousands(found.parameters), bytes(found.bytes)));
    if let Some(adapters) = &found.adapters {
        let from =
            if adapters.frozen > 0 { format!(" from block {} on", adapters.frozen) } else { String::new() };
        lines.push(format!(
            "adapters of rank {} in {}{from}, for {}",
            adapters.rank,
            adapters.targets.join(", "),
            adapters.base.path.display()
        ));
    }
    if let Some(config) = &found.config {
        let head = match (config.is_classifier(), config.tied) {
            (true, _) => format!("a head of {} labels", config.labels.len()),
            (false, true) => "tied head".into(),
            (false, false) => "untied head".into(),
        };
        lines.push(format!(
            "GPT-2 of {} layers, {} heads, {} channels, context {}, vocabulary {}; {head}, {} biases",
            config.n_layer,
            config.n_head,
            config.n_embd,
            config.context,
            thousands(config.vocab_size as u64),
            if config.bias { "with" } else { "without" },
        ));
    }
    if let Some(config) = found.config.as_ref().filter(|config| config.is_classifier()) {
        lines.push(format!("labels {}", config.labels.join(", ")));
    }
    lines.extend(found.step.map(|step| format!("{} steps done", thousands(step))));
    for (step, damage) in found.checkpoints.iter().flatten() {
        let state = damage.as_ref().map_or("good".to_owned(), |damage| format!("damaged: {damage}"));
        lines.push(format!("checkpoint of step {step}: {state}"));
    }
    if found.config.is_none() {
        lines.extend(found.tensors.iter().map(|t| format!("{}  {}  {:?}", t.name, t.dtype, t.shape)));
    }
    lines
}
