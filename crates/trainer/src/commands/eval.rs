//! `wikigpt eval`.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde::Serialize;
use wikigpt_dataset::{Dataset, Split, Tokens};
use wikigpt_gpt::Gpt;
use wikigpt_ops::{IGNORE, Ops};

use crate::fault::bad_input;
use crate::model::Model;
use crate::{corpus, device, output, progress};

/// Flags of `wikigpt eval`.
#[derive(Args)]
pub struct Arguments {
    /// A run folder, a checkpoint or a Hugging Face folder
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Folder that `wikigpt prepare` wrote [default: the articles inside this program]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Which part of the data
    #[arg(long, default_value = "valid")]
    split: SplitName,
    /// Tokens that the model sees at once [default: the model's context]
    #[arg(long, value_name = "T")]
    context: Option<usize>,
    /// Tokens by which the window moves on; with less than the context, what a window shares with the one before
    /// only serves as context [default: the context]
    #[arg(long, value_name = "S")]
    stride: Option<usize>,
    /// Windows computed at once
    #[arg(long, value_name = "B", default_value_t = 8)]
    batch: usize,
    /// CPU threads [default: one per core]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum SplitName {
    Train,
    Valid,
    Test,
}

/// What `eval --json` prints.
#[derive(Serialize)]
struct Report {
    split: &'static str,
    /// Tokens predicted: all but the first.
    tokens: u64,
    /// Mean over `tokens`, in nats.
    loss: f64,
    perplexity: f64,
    words: u64,
    word_perplexity: f64,
    bytes: u64,
    bits_per_byte: f64,
    context: usize,
    stride: usize,
}

/// Evaluates a model.
pub fn run(arguments: Arguments) -> Result<()> {
    let model = Model::open(&arguments.model)?;
    let dataset = corpus::open(arguments.data.as_deref())?;
    corpus::check_vocabulary(&model, &dataset)?;
    let context = arguments.context.unwrap_or(model.config.context);
    if context == 0 || context > model.config.context {
        bad_input!("--context {context}: the model's context is {}, and 1 the least", model.config.context);
    }
    let stride = arguments.stride.unwrap_or(context);
    if stride == 0 || stride > context {
        bad_input!("--stride {stride}: must be at least 1 and at most the context of {context}");
    }
    if arguments.batch == 0 {
        bad_input!("--batch 0: must be at least 1");
    }
    let (split, name) = match arguments.split {
        SplitName::Train => (Split::Train, "train"),
        SplitName::Valid => (Split::Valid, "valid"),
        SplitName::Test => (Split::Test, "test"),
    };
    let Some(info) = dataset.info().split(split) else {
        bad_input!("--split {name}: this data has no such split");
    };
    let (words, bytes) = (info.words, info.bytes);
    let tokens = dataset.tokens(split)?;
    if tokens.len() < 2 {
        bad_input!("--split {name}: {} tokens are too few to predict any", tokens.len());
    }
    let gpt = model.load(device::open_cpu(arguments.threads)?, arguments.batch, context)?;
    let (nats, predicted) = sliding(gpt, tokens, arguments.batch, context, stride)?;
    let loss = nats / predicted as f64;
    let report = Report {
        split: name,
        tokens: predicted,
        loss,
        perplexity: loss.exp(),
        words,
        word_perplexity: (nats / words as f64).exp(),
        bytes,
        bits_per_byte: nats / bytes as f64 / std::f64::consts::LN_2,
        context,
        stride,
    };
    output::print(arguments.json, &report, || describe(&report, &dataset))
}

/// Predicts every token but the first once, each window moved on by `stride`; returns the sum of the losses in nats
/// and the number of tokens predicted.
fn sliding<O: Ops>(
    mut gpt: Gpt<O>,
    tokens: &Tokens,
    batch: usize,
    context: usize,
    stride: usize,
) -> Result<(f64, u64)> {
    // Window w reads [w·stride, w·stride + T) and predicts one token further; what window w - 1 predicted already
    // is left out of the loss.
    let targets_in_all = tokens.len() - 1;
    let windows = targets_in_all.saturating_sub(context).div_ceil(stride) + 1;
    let mut inputs = vec![0; batch * context];
    let mut targets = vec![IGNORE; batch * context];
    let mut buffer = vec![0; context + 1];
    let (mut nats, mut predicted) = (0.0, 0);
    for first in (0..windows).step_by(batch) {
        targets.fill(IGNORE);
        inputs.fill(0);
        for row in 0..batch.min(windows - first) {
            let start = (first + row) * stride;
            let length = context.min(targets_in_all - start);
            tokens.copy_to(start, &mut buffer[..=length]);
            let already = if first + row == 0 { 0 } else { context - stride };
            let at = row * context;
            inputs[at..at + length].copy_from_slice(&buffer[..length]);
            targets[at + already..at + length].copy_from_slice(&buffer[already + 1..=length]);
            predicted += (length - already) as u64;
        }
        let losses = gpt.evaluate(&inputs, &targets)?;
        nats += losses.iter().map(|loss| f64::from(*loss)).sum::<f64>();
    }
    Ok((nats, predicted))
}

fn describe(report: &Report, dataset: &Dataset) -> String {
    let thousands = progress::thousands;
    [
        format!(
            "split {}, context {}, stride {}, tokenizer {}",
            report.split,
            report.context,
            report.stride,
            dataset.info().tokenizer
        ),
        format!(
            "loss             {:.6} nats per token over {} tokens",
            report.loss,
            thousands(report.tokens)
        ),
        format!("perplexity       {:.3} per token", report.perplexity),
        format!("word perplexity  {:.3} over {} words", report.word_perplexity, thousands(report.words)),
        format!("bits per byte    {:.4} over {} bytes", report.bits_per_byte, thousands(report.bytes)),
    ]
    .join("\n")
}
