//! `wikigpt plan`, and the look at memory before training.

use std::path::Path;

use anyhow::Result;
use clap::Args;
use wikigpt_gpt::Plan;

use crate::device::{self, Machine};
use crate::fault::bad_input;
use crate::flags::Flags;
use crate::progress::{bytes, thousands};
use crate::settings::{Facts, Settings};
use crate::{config, corpus, model, output};

/// What `--help` ends with.
pub const EXAMPLES: &str = "\
Examples:
  wikigpt plan --preset gpt2 --batch 8
  wikigpt plan --config runs/001/config.toml --json";

/// Flags of `wikigpt plan`: those of train.
#[derive(Args)]
pub struct Arguments {
    /// Settings from a TOML file, such as a run's config.toml
    #[arg(long, value_name = "TOML")]
    config: Option<std::path::PathBuf>,
    /// Tokens in the vocabulary [default: those of --data; 50257 for a GPT-2 preset, else 256]
    #[arg(long, value_name = "V")]
    vocab_size: Option<usize>,
    /// One JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: Flags,
}

/// Says what a model would cost.
pub fn run(arguments: Arguments) -> Result<()> {
    let flags = match &arguments.config {
        Some(file) => config::read(file, &arguments.flags)?.0,
        None => arguments.flags,
    };
    let initial = match flags.init.as_deref().map(Path::new).filter(|path| path.is_dir()) {
        Some(path) => Some(model::open(path)?.config),
        None => None,
    };
    let facts = facts(&flags, arguments.vocab_size, initial.as_ref().map(|config| config.vocab_size))?;
    let settings = Settings::resolve(&flags, &facts, initial.as_ref())?;
    let plan = plan(&settings, settings.batch)?;
    output::print(arguments.json, &plan, || describe(&plan, &settings))
}

/// The data's vocabulary, or what stands in for it where there is none.
fn facts(flags: &Flags, vocab_size: Option<usize>, initial: Option<usize>) -> Result<Facts> {
    if vocab_size == Some(0) {
        bad_input!("--vocab-size 0: must be at least 1");
    }
    if let (Some(data), None) = (&flags.data, vocab_size) {
        return corpus::facts(&corpus::open(Some(data))?, false);
    }
    let gpt2 = flags.preset.as_deref().is_some_and(|name| name.starts_with("gpt2"));
    let vocab_size = vocab_size.or(initial).unwrap_or(if gpt2 { 50257 } else { 256 });
    Ok(Facts { vocab_size, train_tokens: u64::MAX, valid_tokens: u64::MAX, embedded: true })
}

/// What training takes with micro-batches of so many sequences.
fn plan(settings: &Settings, batch: usize) -> Result<Plan> {
    let Machine { precision, grads, .. } = settings.machine;
    Ok(Plan::new(&settings.config, batch, settings.context, true, precision.bytes(), grads.bytes())?)
}

/// Refuses a run that would not fit into so many free bytes, with the batch that would.
pub fn check_memory(settings: &Settings, free: Option<u64>) -> Result<()> {
    let total = plan(settings, settings.batch)?.bytes.total;
    let Some(free) = free.filter(|free| *free < total) else { return Ok(()) };
    let advice = match largest_batch(settings, free) {
        0 => "not even --batch 1 would fit: use a smaller model or --context".to_owned(),
        batch => format!("--batch {batch} would fit (--grad-accum keeps the step's size)"),
    };
    bad_input!("the run takes {} of memory and {} are free; {advice}", bytes(total), bytes(free))
}

/// The most sequences at once that fit into so many bytes.
fn largest_batch(settings: &Settings, free: u64) -> usize {
    let fits = |batch: usize| plan(settings, batch).is_ok_and(|plan| plan.bytes.total <= free);
    let (mut low, mut high) = (0, 1);
    while fits(high) && high < 1 << 20 {
        (low, high) = (high, high * 2);
    }
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if fits(middle) { low = middle } else { high = middle }
    }
    low
}

fn describe(report: &Plan, settings: &Settings) -> String {
    let config = &settings.config;
    let labels = match config.labels.len() {
        0 => String::new(),
        labels => format!(", {labels} labels"),
    };
    let mut lines = vec![
        format!(
            "{} layers, {} heads, {} channels, context {}, vocabulary {}{labels}; batch {}",
            config.n_layer, config.n_head, config.n_embd, settings.context, config.vocab_size, settings.batch
        ),
        format!("parameters   {}", thousands(report.parameters)),
        format!("FLOPs        {} per token, forward and backward", thousands(report.flops_per_token)),
        format!("weights      {}", bytes(report.bytes.weights)),
        format!("gradients    {}", bytes(report.bytes.gradients)),
        format!("optimizer    {}", bytes(report.bytes.optimizer)),
        format!("activations  {}", bytes(report.bytes.activations)),
        format!("total        {}", bytes(report.bytes.total)),
    ];
    if let Some(free) = device::free_memory_of(settings.machine.device) {
        let largest = largest_batch(settings, free);
        lines.push(match largest {
            0 => format!("{} are free: not even --batch 1 fits", bytes(free)),
            _ if report.bytes.total > free => {
                format!("{} are free: it does not fit; --batch {largest} would", bytes(free))
            }
            _ => format!("{} are free: it fits, up to --batch {largest}", bytes(free)),
        });
    }
    lines.join("\n")
}
