//! `wikigpt eval`.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde::Serialize;
use wikigpt_dataset::{Dataset, Split, Tokens};
use wikigpt_gpt::{Batch, Evaluator};
use wikigpt_ops::{IGNORE, Ops};

use crate::device::{MachineFlags, with_backend};
use crate::fault::bad_input;
use crate::settings::positive;
use crate::{corpus, model, output, progress};

/// What `--help` ends with.
pub const EXAMPLES: &str = "\
Examples:
  wikigpt eval runs/001
  wikigpt eval runs/wikitext-2 --data data/wikitext-2 --split test --stride 64 --json

Every token of the split is predicted once, but for the first, which has nothing before it: `tokens` counts those \
predicted. With --stride S each prediction (but those of the first window) has at least context - S tokens before it. \
Word perplexity is e to the loss in all by the words of the split; bits per byte count the bytes of its text.";

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
    /// Windows computed at once [default: about 4096 tokens]
    #[arg(long, value_name = "B")]
    batch: Option<usize>,
    #[command(flatten)]
    machine: MachineFlags,
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
    split: Split,
    /// Tokens predicted: all but the first.
    tokens: u64,
    /// Mean over `tokens`, in nats.
    loss: f64,
    perplexity: f64,
    /// Null where the data does not say how many it has.
    words: Option<u64>,
    word_perplexity: Option<f64>,
    bytes: Option<u64>,
    bits_per_byte: Option<f64>,
    context: usize,
    stride: usize,
}

/// Evaluates a model.
pub fn run(arguments: Arguments) -> Result<()> {
    let machine = arguments.machine.resolve()?;
    let model = model::open_language(&arguments.model)?;
    let dataset = corpus::open(arguments.data.as_deref())?;
    corpus::check_vocabulary(&model.config, dataset.manifest())?;
    let context = arguments.context.unwrap_or(model.config.context);
    if context == 0 || context > model.config.context {
        bad_input!("--context {context}: the model's context is {}, and 1 the least", model.config.context);
    }
    let stride = arguments.stride.unwrap_or(context);
    if stride == 0 || stride > context {
        bad_input!("--stride {stride}: must be at least 1 and at most the context of {context}");
    }
    let batch = arguments.batch.unwrap_or((4096 / context).max(1));
    positive("batch", batch)?;
    let split = match arguments.split {
        SplitName::Train => Split::Train,
        SplitName::Valid => Split::Valid,
        SplitName::Test => Split::Test,
    };
    let Some(info) = dataset.manifest().split(split) else {
        bad_input!("--split {split}: this data has no such split");
    };
    let known = |count: u64| (count > 0).then_some(count);
    let (words, bytes) = (known(info.words), known(info.bytes));
    let tokens = dataset.tokens(split)?;
    if tokens.len() < 2 {
        bad_input!("--split {split}: {} tokens are too few to predict any", tokens.len());
    }
    let (nats, predicted) = with_backend!(machine.open()?, ops => {
        let evaluator = Evaluator::new(ops, &model.config, &model.params, batch, context)?;
        // The backend has its own copy.
        drop(model);
        sliding(evaluator, &tokens, batch, context, stride)?
    });
    let loss = nats / predicted as f64;
    let report = Report {
        split,
        tokens: predicted,
        loss,
        perplexity: loss.exp(),
        words,
        word_perplexity: words.map(|words| (nats / words as f64).exp()),
        bytes,
        bits_per_byte: bytes.map(|bytes| nats / bytes as f64 / std::f64::consts::LN_2),
        context,
        stride,
    };
    output::print(arguments.json, &report, || describe(&report, &dataset))
}

/// Predicts every token but the first once, each window moved on by `stride`; returns the sum of the losses in nats
/// and the number of tokens predicted.
fn sliding<O: Ops>(
    mut evaluator: Evaluator<O>,
    tokens: &Tokens,
    batch: usize,
    context: usize,
    stride: usize,
) -> Result<(f64, u64)> {
    let windows = Windows { targets: tokens.len() - 1, context: context as u64, stride: stride as u64 };
    let mut inputs = vec![0; batch * context];
    let mut targets = vec![IGNORE; batch * context];
    let mut buffer = vec![0; context + 1];
    let (mut nats, mut predicted) = (0.0, 0);
    for first in (0..windows.count()).step_by(batch) {
        targets.fill(IGNORE);
        inputs.fill(0);
        let rows = inputs.chunks_exact_mut(context).zip(targets.chunks_exact_mut(context));
        for (window, (inputs, targets)) in (first..windows.count()).zip(rows) {
            let Window { start, length, already } = windows.get(window);
            tokens.read(start, &mut buffer[..=length]);
            inputs[..length].copy_from_slice(&buffer[..length]);
            targets[already..length].copy_from_slice(&buffer[already + 1..=length]);
            predicted += (length - already) as u64;
        }
        evaluator.forward(Batch::new(&inputs, &targets))?;
        nats += evaluator.losses()?.iter().map(|loss| f64::from(*loss)).sum::<f64>();
    }
    Ok((nats, predicted))
}

/// The windows of a sliding evaluation: window w reads [w·stride, w·stride + T), and predicts one token further.
#[derive(Clone, Copy)]
struct Windows {
    /// Tokens that can be predicted.
    targets: u64,
    context: u64,
    /// At most the context.
    stride: u64,
}

/// One window.
struct Window {
    /// The first token that it reads.
    start: u64,
    /// How many it reads.
    length: usize,
    /// How many of its predictions the window before has made.
    already: usize,
}

impl Windows {
    /// As many as reach the last token.
    fn count(self) -> u64 {
        self.targets.saturating_sub(self.context).div_ceil(self.stride) + 1
    }

    fn get(self, window: u64) -> Window {
        let start = window * self.stride;
        let already = if window == 0 { 0 } else { self.context - self.stride };
        Window { start, length: self.context.min(self.targets - start) as usize, already: already as usize }
    }
}

fn describe(report: &Report, dataset: &Dataset) -> String {
    let thousands = progress::thousands;
    let mut lines = vec![
        format!(
            "split {}, context {}, stride {}, tokenizer {}",
            report.split,
            report.context,
            report.stride,
            dataset.manifest().tokenizer
        ),
        format!(
            "loss             {:.6} nats per token over {} tokens",
            report.loss,
            thousands(report.tokens)
        ),
        format!("perplexity       {:.3} per token", report.perplexity),
    ];
    if let (Some(words), Some(perplexity)) = (report.words, report.word_perplexity) {
        lines.push(format!("word perplexity  {perplexity:.3} over {} words", thousands(words)));
    }
    if let (Some(bytes), Some(bits)) = (report.bytes, report.bits_per_byte) {
        lines.push(format!("bits per byte    {bits:.4} over {} bytes", thousands(bytes)));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn every_token_is_predicted_once_and_with_what_the_stride_promises(
            targets in 1..200_u64, context in 1..40_u64, stride in 1..40_u64
        ) {
            let stride = stride.min(context);
            let windows = Windows { targets, context, stride };
            let mut next = 0;
            for window in 0..windows.count() {
                let Window { start, length, already } = windows.get(window);
                proptest::prop_assert!(length <= context as usize && already < length);
                proptest::prop_assert_eq!(start + already as u64, next, "the first token not yet predicted");
                proptest::prop_assert!(window == 0 || already as u64 == context - stride);
                next = start + length as u64;
            }
            proptest::prop_assert_eq!(next, targets);
        }
    }
}
