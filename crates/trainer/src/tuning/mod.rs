//! Fine-tuning: what all tasks share.
//!
//! A [`Task`] deals out batches of examples and measures how good a model is at them. The loop in `steps.rs` trains on them,
//! measures, keeps the best checkpoint beside the last and stops when it has not become better for long enough. A run that was stopped
//! goes on from the last checkpoint with the flags in its folder's `finetune.toml`, to the same bits as one that was not.

mod flags;
mod given;
mod record;
mod settings;
mod start;
mod state;
mod steps;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use wikigpt_dataset::Tokenizer;
use wikigpt_gpt::Trainer;
use wikigpt_ops::Ops;

pub use flags::TuningFlags;
pub use given::Given;
pub use record::{FILE, Record, open};
pub use settings::Settings;
pub use start::tune;
pub use state::State;

/// A micro-batch of examples (B,T).
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Rows.
    pub B: usize,
    /// Positions of each; from batch to batch it may be another, up to that of [`Task::shape`].
    pub T: usize,
    /// (B,T).
    pub inputs: Vec<u32>,
    /// (B,T); [`IGNORE`](wikigpt_ops::IGNORE) where nothing is to be learnt.
    pub targets: Vec<u32>,
    /// (B,T), where the text of each position begins in its row; empty where a row is one text.
    pub starts: Vec<u32>,
    /// (B,T), what the loss of each position is multiplied by; empty where all count alike.
    pub weights: Vec<f32>,
    /// Positions that hold text: the others are padding.
    pub tokens: usize,
}

impl Batch {
    /// Empties it into B rows of T positions: padding, and no targets.
    pub fn reset(&mut self, B: usize, T: usize) {
        (self.B, self.T, self.tokens) = (B, T, 0);
        self.inputs.clear();
        self.inputs.resize(B * T, 0);
        self.targets.clear();
        self.targets.resize(B * T, wikigpt_ops::IGNORE);
        self.starts.clear();
        self.weights.clear();
    }

    /// What the model is given.
    pub fn view(&self) -> wikigpt_gpt::Batch<'_> {
        let starts = (!self.starts.is_empty()).then_some(&self.starts[..]);
        let weights = (!self.weights.is_empty()).then_some(&self.weights[..]);
        wikigpt_gpt::Batch { inputs: &self.inputs, targets: &self.targets, starts, weights }
    }

    /// What the targets weigh together: the loss is their weighted mean.
    pub fn weight(&self) -> f64 {
        self.view().count()
    }
}

/// How good a model is.
#[derive(Clone, Debug)]
pub struct Score {
    /// The mean loss over `targets`, in nats.
    pub loss: f64,
    /// What was predicted: tokens, or texts.
    pub targets: u64,
    /// Further figures, by their names.
    pub scores: BTreeMap<String, f64>,
    /// The figure that decides which checkpoint is the best: the higher, the better.
    pub merit: f64,
}

/// What is to be learnt.
pub trait Task {
    /// `wikigpt finetune NAME`.
    const NAME: &'static str;

    /// The largest batch that there is (B,T).
    fn shape(&self) -> (usize, usize);

    /// Texts that the model writes at once when it is measured; 0 if it writes none.
    fn slots(&self) -> usize {
        0
    }

    /// Batches of every epoch.
    fn batches(&self) -> u64;

    /// Fills in batch `index` of an epoch; both count from 0. The same numbers give the same batch.
    fn batch(&mut self, epoch: u64, index: u64, batch: &mut Batch) -> Result<()>;

    /// Measures a model on the validation data; nothing if a signal came meanwhile.
    fn evaluate<O: Ops>(&mut self, trainer: &mut Trainer<O>) -> Result<Option<Score>>;

    /// What is to be done with the best model: test it, write files into the run's folder. A sentence or more for a person; nothing
    /// if a signal came before all of it was known, and then no file is written.
    fn finish<O: Ops>(&mut self, trainer: &mut Trainer<O>, run: &Path) -> Result<Option<String>>;

    /// The tokenizer that checkpoints get.
    fn tokenizer(&self) -> &Tokenizer;
}
