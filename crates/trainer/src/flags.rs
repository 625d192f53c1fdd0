//! The settings of a training run, as flags and as keys of a TOML file.
//!
//! One struct is both: a key is a flag's name without its dashes. Everything is optional here; what is left open
//! gets its default in [`crate::settings`].

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

/// Everything that `wikigpt train` can be told.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Flags {
    /// Folder that `wikigpt prepare` wrote [default: the articles inside this program]
    #[arg(long, value_name = "DIR", help_heading = "Data")]
    pub data: Option<PathBuf>,
    /// Where to put the run; must not exist yet, or be empty [default: runs/001, 002, …]
    #[arg(long, value_name = "RUN", help_heading = "Output")]
    pub out: Option<PathBuf>,

    /// A model by name, instead of --n-layer, --n-head and --n-embd: tiny, small, medium, gpt2, gpt2-355m, … [default: small]
    #[arg(long, value_name = "NAME", help_heading = "Model", conflicts_with_all = ["n_layer", "n_head", "n_embd"])]
    pub preset: Option<String>,
    /// Layers
    #[arg(long, value_name = "L", help_heading = "Model")]
    pub n_layer: Option<usize>,
    /// Attention heads per layer; the channels must divide by them
    #[arg(long, value_name = "NH", help_heading = "Model")]
    pub n_head: Option<usize>,
    /// Channels
    #[arg(long, value_name = "C", help_heading = "Model")]
    pub n_embd: Option<usize>,
    /// Tokens that the model sees at once [default: the preset's]
    #[arg(long, value_name = "T", help_heading = "Model")]
    pub context: Option<usize>,
    /// Biases in linear layers and layer norms [default: true]
    #[arg(long, value_name = "BOOL", help_heading = "Model")]
    pub bias: Option<bool>,
    /// Output head shares the embedding's weights [default: true]
    #[arg(long, value_name = "BOOL", help_heading = "Model")]
    pub tied: Option<bool>,
    /// Probability of dropping an activation during training [default: 0]
    #[arg(long, value_name = "P", help_heading = "Model")]
    pub dropout: Option<f64>,
    /// Where weights come from: scratch, a model folder, or FILE.safetensors (with the model's shape given by flags)
    #[arg(long, value_name = "scratch|DIR|FILE", help_heading = "Model")]
    pub init: Option<String>,

    /// Sequences in a micro-batch [default: 16; 4 above 384 channels]
    #[arg(long, value_name = "B", help_heading = "Training")]
    pub batch: Option<usize>,
    /// Micro-batches whose gradients make one step [default: 1]
    #[arg(long, value_name = "N", help_heading = "Training", conflicts_with = "tokens_per_step")]
    pub grad_accum: Option<usize>,
    /// Tokens in a step, instead of --grad-accum: a multiple of batch × context
    #[arg(long, value_name = "N", help_heading = "Training")]
    pub tokens_per_step: Option<usize>,
    /// Steps in all: trains steps 0 to N-1 [default: one epoch; on the embedded articles about a minute]
    #[arg(long, value_name = "N", help_heading = "Training", conflicts_with = "epochs")]
    pub steps: Option<u64>,
    /// Passes over the training data, instead of --steps
    #[arg(long, value_name = "E", help_heading = "Training")]
    pub epochs: Option<f64>,
    /// Learning rate, the highest of the schedule [default: 1e-3, on the embedded articles 3e-3; above 384 channels 6e-4 and less]
    #[arg(long, value_name = "X", help_heading = "Training")]
    pub lr: Option<f64>,
    /// Learning rate at the end of the schedule [default: a tenth of --lr]
    #[arg(long, value_name = "X", help_heading = "Training")]
    pub min_lr: Option<f64>,
    /// Steps over which the learning rate rises to --lr [default: a tenth of all, at most 100; above 384 channels 700]
    #[arg(long, value_name = "W", help_heading = "Training")]
    pub warmup: Option<u64>,
    /// How the learning rate falls after the warmup [default: cosine]
    #[arg(long, help_heading = "Training")]
    pub schedule: Option<ScheduleName>,
    /// AdamW's decay of tensors of two or more dimensions [default: 0.1]
    #[arg(long, value_name = "X", help_heading = "Training")]
    pub weight_decay: Option<f64>,
    /// AdamW's decay of the first moment [default: 0.9]
    #[arg(long, value_name = "X", help_heading = "Training")]
    pub beta1: Option<f64>,
    /// AdamW's decay of the second moment [default: 0.95]
    #[arg(long, value_name = "X", help_heading = "Training")]
    pub beta2: Option<f64>,
    /// Gradients of a larger global norm are scaled down to it; 0 for never [default: 1]
    #[arg(long, value_name = "X", help_heading = "Training")]
    pub grad_clip: Option<f64>,
    /// Seeds initial weights, the order of the data and dropout [default: 1]
    #[arg(long, value_name = "N", help_heading = "Training", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    pub seed: Option<u64>,
    /// The order in which training windows come [default: shuffled]
    #[arg(long, help_heading = "Data")]
    pub order: Option<OrderName>,

    /// Validate before steps 0, N, 2N, … and after the last; 0 for never [default: 200]
    #[arg(long, value_name = "N", help_heading = "Output")]
    pub eval_every: Option<u64>,
    /// Batches in a validation: the first N, in order [default: 20, or what there is]
    #[arg(long, value_name = "N", help_heading = "Output")]
    pub eval_batches: Option<u64>,
    /// Show a sample before steps N, 2N, … and after the last; 0 for never [default: 300]
    #[arg(long, value_name = "N", help_heading = "Output")]
    pub sample_every: Option<u64>,
    /// Save before steps N, 2N, …; 0 for only after the last, which is always saved [default: 500]
    #[arg(long, value_name = "N", help_heading = "Output")]
    pub checkpoint_every: Option<u64>,
    /// Checkpoints to keep; 0 for all [default: 2]
    #[arg(long, value_name = "N", help_heading = "Output")]
    pub keep: Option<usize>,
    /// Print a line every N steps (metrics.jsonl has every step) [default: 10]
    #[arg(long, value_name = "N", help_heading = "Output")]
    pub log_every: Option<u64>,

    /// What computes: auto, cpu, cuda or cuda:N [default: auto]
    #[arg(long, value_name = "auto|cpu|cuda[:N]", help_heading = "Machine")]
    pub device: Option<String>,
    /// Precision of weights and activations [default: bf16 on a GPU that multiplies it, else f32]
    #[arg(long, help_heading = "Machine")]
    pub precision: Option<PrecisionName>,
    /// Precision in which gradients of bf16 weights are kept [default: f32]
    #[arg(long, help_heading = "Machine")]
    pub grad_precision: Option<PrecisionName>,
    /// Round master weights to bf16 up or down at random, so that their mean is right [default: to the nearest]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = "Machine")]
    pub stochastic_rounding: Option<bool>,
    /// Launch a GPU's kernels one by one instead of a step's at once
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = "Machine")]
    pub no_graph: Option<bool>,
    /// CPU threads [default: one per core]
    #[arg(long, value_name = "N", help_heading = "Machine")]
    pub threads: Option<usize>,
}

/// Names of learning-rate schedules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleName {
    /// Half a cosine down to --min-lr
    Cosine,
    /// A straight line down to --min-lr
    Linear,
    /// Constant, then a straight line down to --min-lr over the last fifth
    Wsd,
    /// Constant
    Constant,
}

/// Names of data orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OrderName {
    /// As the text stands, from its start
    Sequential,
    /// Every window once an epoch, in an order drawn anew each epoch
    Shuffled,
}

/// What to do with a text that is longer than the model takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Long {
    /// Leave a part of it out, and say of how many
    Truncate,
    /// Refuse it
    Refuse,
}

/// Names of precisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PrecisionName {
    /// 32-bit floating point
    F32,
    /// bfloat16 with f32 master weights
    Bf16,
}

impl PrecisionName {
    /// Bytes that an element takes.
    pub fn bytes(self) -> usize {
        match self {
            PrecisionName::F32 => 4,
            PrecisionName::Bf16 => 2,
        }
    }
}
