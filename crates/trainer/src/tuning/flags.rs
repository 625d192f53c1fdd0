//! The flags of fine-tuning that all tasks share.

use std::path::PathBuf;

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::device::MachineFlags;
use crate::flags::ScheduleName;

/// How a model is fine-tuned, whatever the task.
#[derive(Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TuningFlags {
    /// Where to put the run; must not exist yet, or be empty [default: runs/001, 002, …]
    #[arg(long, value_name = "RUN", help_heading = "Output")]
    #[serde(skip)]
    pub out: Option<PathBuf>,
    /// Go on with a run from its newest checkpoint, with the flags that it was begun with; with --epochs E, to E epochs in all
    #[arg(long, value_name = "RUN", conflicts_with_all = ["out", "model"], help_heading = "Output")]
    #[serde(skip)]
    pub resume: Option<PathBuf>,

    /// Passes over the examples, at most
    #[arg(long, value_name = "E", default_value_t = 5, help_heading = "Training")]
    pub epochs: u64,
    /// Examples in a micro-batch
    #[arg(long, value_name = "B", default_value_t = 16, help_heading = "Training")]
    pub batch: usize,
    /// Micro-batches whose gradients make one step
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Training")]
    pub grad_accum: usize,
    /// Learning rate, the highest of the schedule [default: 5e-4, above 384 channels 5e-5 and less; of adapters more]
    #[arg(long, value_name = "X", help_heading = "Training")]
    pub lr: Option<f64>,
    /// Learning rate at the end of the schedule
    #[arg(long, value_name = "X", default_value_t = 0.0, help_heading = "Training")]
    pub min_lr: f64,
    /// Steps over which the learning rate rises to --lr [default: a tenth of all]
    #[arg(long, value_name = "W", help_heading = "Training")]
    pub warmup: Option<u64>,
    /// How the learning rate falls after the warmup
    #[arg(long, default_value = "linear", help_heading = "Training")]
    pub schedule: ScheduleName,
    /// AdamW's decay of tensors of two or more dimensions
    #[arg(long, value_name = "X", default_value_t = 0.01, help_heading = "Training")]
    pub weight_decay: f64,
    /// Gradients of a larger global norm are scaled down to it; 0 for never
    #[arg(long, value_name = "X", default_value_t = 1.0, help_heading = "Training")]
    pub grad_clip: f64,
    /// Probability of dropping an activation during training
    #[arg(long, value_name = "P", default_value_t = 0.1, help_heading = "Training")]
    pub dropout: f64,
    /// Keep the embeddings and the N lowest layers as they are
    #[arg(long, value_name = "N", help_heading = "Training")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub freeze: Option<usize>,
    /// Train low-rank adapters (LoRA) of rank R, and leave the model as it is: much less to keep, a little less to compute
    #[arg(long, value_name = "R", help_heading = "Adapters")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora: Option<usize>,
    /// The adapters count A/R times [default: 2·R]
    #[arg(long, value_name = "A", requires = "lora", help_heading = "Adapters")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora_alpha: Option<f64>,
    /// The layers of each block that have one: attn.c_attn, attn.c_proj, mlp.c_fc, mlp.c_proj [default: all]
    #[arg(long, value_name = "LAYER", value_delimiter = ',', requires = "lora", help_heading = "Adapters")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lora_targets: Vec<String>,
    /// Seeds new weights, the order of the examples and dropout
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Training", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    pub seed: u64,

    /// Validate after steps N, 2N, … [default: after each epoch]
    #[arg(long, value_name = "N", help_heading = "Output")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_every: Option<u64>,
    /// Save every N steps too, to go on from; 0 for only after validations, after the last step and at a signal
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Output")]
    pub checkpoint_every: u64,
    /// Stop when N validations in a row were not better than the best; 0 for never
    #[arg(long, value_name = "N", default_value_t = 3, help_heading = "Output")]
    pub patience: u64,
    /// Print a line every N steps (metrics.jsonl has every step)
    #[arg(long, value_name = "N", default_value_t = 50, help_heading = "Output")]
    pub log_every: u64,

    #[command(flatten)]
    #[serde(flatten)]
    pub machine: MachineFlags,
}
