//! The settings of fine-tuning once every open question is answered.

use anyhow::Result;
use wikigpt_gpt::{Config, Lora, Projection, Schedule};

use super::{Record, TuningFlags};
use crate::device::Machine;
use crate::fault::{BadInput, bad_input};
use crate::settings::{check_rates, decay, fraction, non_negative, positive};

/// How a model is fine-tuned.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Passes over the examples.
    pub epochs: u64,
    /// Micro-batches in a step; the last of an epoch may have fewer.
    pub grad_accum: u64,
    /// Steps of an epoch.
    pub epoch_steps: u64,
    /// Learning rate by step.
    pub schedule: Schedule,
    /// Probability of dropping an activation.
    pub dropout: f64,
    /// AdamW's decay of tensors of two or more dimensions.
    pub weight_decay: f64,
    /// Largest gradient norm let through; 0 for any.
    pub grad_clip: f64,
    /// The embeddings and so many of the lowest layers stay as they are.
    pub freeze: Option<usize>,
    /// What is trained beside a model that stays as it is; none trains the model.
    pub lora: Option<Lora>,
    /// Seed of everything random.
    pub seed: u64,
    /// Steps between validations.
    pub eval_every: u64,
    /// Steps between checkpoints beside those of validations; 0 for none.
    pub checkpoint_every: u64,
    /// Validations in a row that may be no better; 0 for any number.
    pub patience: u64,
    /// Print every so many steps; 0 for never.
    pub log_every: u64,
    /// What computes, and how.
    pub machine: Machine,
}

impl Settings {
    /// Checks the flags, and fills in what they leave open for a model and an epoch of so many batches.
    pub fn resolve(flags: &TuningFlags, config: &Config, batches: u64) -> Result<Settings> {
        if flags.epochs == 0 {
            bad_input!("--epochs 0: must be at least 1");
        }
        positive("grad-accum", flags.grad_accum)?;
        if flags.eval_every == Some(0) {
            bad_input!("--eval-every 0: must be at least 1, so that there is a best checkpoint to keep");
        }
        if let Some(n) = flags.freeze.filter(|n| *n > config.n_layer) {
            bad_input!("--freeze {n}: the model has {} layers", config.n_layer);
        }
        let grad_accum = flags.grad_accum as u64;
        let epoch_steps = batches.div_ceil(grad_accum);
        let Some(steps) = epoch_steps.checked_mul(flags.epochs) else {
            bad_input!("--epochs {}: too many", flags.epochs);
        };
        let lora = flags.lora.map(|rank| adapters(flags, rank, config)).transpose()?;
        let lr = flags.lr.unwrap_or_else(|| learning_rate(config, lora.is_some()));
        check_rates(lr, flags.min_lr)?;
        let warmup = flags.warmup.unwrap_or(steps / 10);
        Ok(Settings {
            epochs: flags.epochs,
            grad_accum,
            epoch_steps,
            schedule: Schedule { decay: decay(flags.schedule), lr, min_lr: flags.min_lr, warmup, steps },
            dropout: fraction("dropout", flags.dropout)?,
            weight_decay: non_negative("weight-decay", flags.weight_decay)?,
            grad_clip: non_negative("grad-clip", flags.grad_clip)?,
            freeze: flags.freeze,
            lora,
            seed: flags.seed,
            eval_every: flags.eval_every.unwrap_or(epoch_steps),
            checkpoint_every: flags.checkpoint_every,
            patience: flags.patience,
            log_every: flags.log_every,
            machine: flags.machine.resolve()?,
        })
    }

    /// Says what the flags left open, so that a run goes on with it.
    pub fn record(&self, record: &mut Record) -> Result<()> {
        record.set("lr", self.schedule.lr)?;
        record.set("warmup", self.schedule.warmup)?;
        record.set("eval-every", self.eval_every)?;
        if let Some(lora) = &self.lora {
            record.set("lora-alpha", lora.alpha)?;
            record
                .set("lora-targets", lora.targets.iter().map(|target| target.name()).collect::<Vec<_>>())?;
        }
        record.set("device", self.machine.device.to_string())
    }
}

/// The adapters that the flags ask for.
fn adapters(flags: &TuningFlags, rank: usize, config: &Config) -> Result<Lora> {
    let named = |error: wikigpt_gpt::Error| BadInput::new(format!("--lora: {error}"));
    let targets = match &flags.lora_targets[..] {
        [] => Projection::ALL.to_vec(),
        names => names.iter().map(|name| name.parse()).collect::<wikigpt_gpt::Result<_>>().map_err(named)?,
    };
    let alpha = flags.lora_alpha.unwrap_or(Lora::new(rank).alpha);
    let lora = Lora { rank, alpha, targets, frozen: flags.freeze.unwrap_or(0) };
    lora.validate(config).map_err(named)?;
    Ok(lora)
}

/// What GPT-2's sizes are usually fine-tuned with; small models bear more, and adapters more than models.
fn learning_rate(config: &Config, adapters: bool) -> f64 {
    match (config.n_embd, adapters) {
        (0..=384, false) => 5e-4,
        (385..=1024, false) => 5e-5,
        (_, false) => 2e-5,
        (0..=384, true) => 1e-3,
        (385..=1024, true) => 5e-4,
        (_, true) => 2e-4,
    }
}
