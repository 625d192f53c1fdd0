//! A run's settings once every open question is answered: defaults filled in, contradictions refused.

use anyhow::Result;
use wikigpt_gpt::{Config, Decay, Schedule};
use wikigpt_ops::Rounding;

use crate::device::{self, Device, Machine};
use crate::fault::bad_input;
use crate::flags::{Flags, OrderName, PrecisionName, ScheduleName};
use crate::{output, shape};

/// What a run is trained on, as far as settings depend on it.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Tokens in the vocabulary.
    pub vocab_size: usize,
    /// Tokens in the training split.
    pub train_tokens: u64,
    /// Tokens in the validation split.
    pub valid_tokens: u64,
    /// Whether it is the corpus inside this program.
    pub embedded: bool,
}

/// Everything about a run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The model's shape.
    pub config: Config,
    /// Tokens seen at once in training (T); at most the model's context.
    pub context: usize,
    /// Sequences in a micro-batch (B).
    pub batch: usize,
    /// Micro-batches in a step.
    pub grad_accum: usize,
    /// Steps in all.
    pub steps: u64,
    /// Learning rate by step.
    pub schedule: Schedule,
    /// Probability of dropping an activation.
    pub dropout: f64,
    /// AdamW's decay of tensors of two or more dimensions.
    pub weight_decay: f64,
    /// AdamW's decay of the first moment.
    pub beta1: f64,
    /// AdamW's decay of the second moment.
    pub beta2: f64,
    /// Largest gradient norm let through; 0 for any.
    pub grad_clip: f64,
    /// Seed of everything random.
    pub seed: u64,
    /// Order of training windows.
    pub order: OrderName,
    /// Validate every so many steps; 0 for never.
    pub eval_every: u64,
    /// Batches in a validation.
    pub eval_batches: u64,
    /// Sample every so many steps; 0 for never.
    pub sample_every: u64,
    /// Save every so many steps; 0 for only at the end.
    pub checkpoint_every: u64,
    /// Checkpoints kept; 0 for all.
    pub keep: usize,
    /// Print every so many steps; 0 for never.
    pub log_every: u64,
    /// What computes, and how.
    pub machine: Machine,
    /// How master weights are rounded.
    pub rounding: Rounding,
    /// All of the above as flags, to be written to the run's `config.toml`.
    pub flags: Flags,
}

/// Models of more channels than this are GPT-2's: they get GPT-2's learning rates and smaller batches.
const SMALL_MODEL: usize = 384;

/// Steps of a run on the embedded corpus: about a minute on two cores.
const EMBEDDED_STEPS: u64 = 600;

impl Settings {
    /// Fills in what `flags` leave open. `initial` is the shape of the model that training starts from, if any.
    pub fn resolve(flags: &Flags, facts: &Facts, initial: Option<&Config>) -> Result<Settings> {
        let (device, why) = flags.device.as_deref().unwrap_or("auto").parse::<Device>()?.resolve();
        if let Some(why) = why {
            output::warn(&format!("--device auto takes the CPU: {why}"));
        }
        let precision = flags.precision.unwrap_or_else(|| device.usual_precision());
        let machine = Machine {
            device,
            precision,
            grads: flags.grad_precision.unwrap_or(PrecisionName::F32),
            graph: !flags.no_graph.unwrap_or(false),
            threads: device::threads(flags.threads)?,
        };
        let (config, context) = shape::resolve(flags, facts.vocab_size, initial)?;
        let small = config.n_embd <= SMALL_MODEL;
        let batch = flags.batch.unwrap_or(if small { 16 } else { 4 });
        positive("batch", batch)?;
        if batch.checked_mul(context).is_none_or(|tokens| tokens > u32::MAX as usize) {
            bad_input!("--batch {batch} --context {context}: a micro-batch of more than 2^32 tokens");
        }
        let grad_accum = grad_accum(flags, batch * context)?;
        let can_validate = check_data(facts, batch, context, flags.eval_every)?;
        let steps = steps(flags, facts, batch * context * grad_accum)?;

        let lr = flags.lr.unwrap_or_else(|| learning_rate(&config, facts.embedded));
        let min_lr = flags.min_lr.unwrap_or(lr / 10.0);
        let warmup = flags.warmup.unwrap_or((steps / 10).min(if small { 100 } else { 700 }));
        check_rates(lr, min_lr)?;
        let schedule_name = flags.schedule.unwrap_or(ScheduleName::Cosine);
        let weight_decay = non_negative("weight-decay", flags.weight_decay.unwrap_or(0.1))?;
        let beta1 = fraction("beta1", flags.beta1.unwrap_or(0.9))?;
        let beta2 = fraction("beta2", flags.beta2.unwrap_or(0.95))?;
        let grad_clip = non_negative("grad-clip", flags.grad_clip.unwrap_or(1.0))?;

        let per_batch = (batch * context) as u64;
        let eval_batches =
            flags.eval_batches.unwrap_or(20).min(facts.valid_tokens.saturating_sub(1) / per_batch);
        let eval_every = flags.eval_every.unwrap_or(if can_validate { 200 } else { 0 });
        if eval_every > 0 && flags.eval_batches == Some(0) {
            bad_input!("--eval-batches 0: use --eval-every 0 to do without validation");
        }
        let sample_every = flags.sample_every.unwrap_or(300);
        let checkpoint_every = flags.checkpoint_every.unwrap_or(500);
        let keep = flags.keep.unwrap_or(2);
        let log_every = flags.log_every.unwrap_or(10);
        let order = flags.order.unwrap_or(OrderName::Shuffled);
        let seed = flags.seed.unwrap_or(1);
        let dropout = fraction("dropout", flags.dropout.unwrap_or(0.0))?;

        let resolved = Flags {
            data: flags.data.clone(),
            out: None,
            preset: None,
            n_layer: Some(config.n_layer),
            n_head: Some(config.n_head),
            n_embd: Some(config.n_embd),
            context: Some(context),
            bias: Some(config.bias),
            tied: Some(config.tied),
            dropout: Some(dropout),
            init: flags.init.clone(),
            batch: Some(batch),
            grad_accum: Some(grad_accum),
            tokens_per_step: None,
            steps: Some(steps),
            epochs: None,
            lr: Some(lr),
            min_lr: Some(min_lr),
            warmup: Some(warmup),
            schedule: Some(schedule_name),
            weight_decay: Some(weight_decay),
            beta1: Some(beta1),
            beta2: Some(beta2),
            grad_clip: Some(grad_clip),
            seed: Some(seed),
            order: Some(order),
            eval_every: Some(eval_every),
            eval_batches: Some(eval_batches),
            sample_every: Some(sample_every),
            checkpoint_every: Some(checkpoint_every),
            keep: Some(keep),
            log_every: Some(log_every),
            device: Some(device.to_string()),
            precision: Some(precision),
            grad_precision: (precision == PrecisionName::Bf16).then_some(machine.grads),
            stochastic_rounding: flags.stochastic_rounding,
            no_graph: flags.no_graph,
            threads: flags.threads,
        };
        Ok(Settings {
            config,
            context,
            batch,
            grad_accum,
            steps,
            schedule: Schedule { decay: decay(schedule_name), lr, min_lr, warmup, steps },
            dropout,
            weight_decay,
            beta1,
            beta2,
            grad_clip,
            seed,
            order,
            eval_every,
            eval_batches,
            sample_every,
            checkpoint_every,
            keep,
            log_every,
            machine,
            rounding: match flags.stochastic_rounding.unwrap_or(false) {
                true => Rounding::Stochastic { seed },
                false => Rounding::Nearest,
            },
            flags: resolved,
        })
    }

    /// Tokens in a micro-batch.
    pub fn micro_tokens(&self) -> usize {
        self.batch * self.context
    }

    /// Tokens in a step.
    pub fn step_tokens(&self) -> u64 {
        (self.micro_tokens() * self.grad_accum) as u64
    }
}

fn grad_accum(flags: &Flags, micro_tokens: usize) -> Result<usize> {
    if let Some(tokens) = flags.tokens_per_step {
        if tokens == 0 || tokens % micro_tokens != 0 {
            bad_input!(
                "--tokens-per-step {tokens} is not a multiple of batch × context = {micro_tokens} tokens"
            );
        }
        return Ok(tokens / micro_tokens);
    }
    let grad_accum = flags.grad_accum.unwrap_or(1);
    positive("grad-accum", grad_accum)?;
    if grad_accum.checked_mul(micro_tokens).is_none() {
        bad_input!("--grad-accum {grad_accum}: too large");
    }
    Ok(grad_accum)
}

/// A window of T tokens and its targets, B of them, must be there in both splits; whether they are in the validation
/// split, where nobody asked for validation.
fn check_data(facts: &Facts, batch: usize, context: usize, eval_every: Option<u64>) -> Result<bool> {
    let needed = (batch * context) as u64 + 1;
    let train = facts.train_tokens;
    if (context as u64) >= train {
        bad_input!("--context {context}: longer than the training data, which has {train} tokens");
    }
    if needed > train {
        bad_input!(
            "a batch takes batch × context + 1 = {needed} tokens, but the training data has {train}: \
             use a smaller --batch or --context"
        );
    }
    if needed > facts.valid_tokens && eval_every.is_some_and(|every| every > 0) {
        bad_input!(
            "a batch takes batch × context + 1 = {needed} tokens, but the validation data has {}: \
             use a smaller --batch or --context, or --eval-every 0 to do without validation",
            facts.valid_tokens
        );
    }
    Ok(needed <= facts.valid_tokens)
}

fn steps(flags: &Flags, facts: &Facts, step_tokens: usize) -> Result<u64> {
    if let Some(steps) = flags.steps {
        return Ok(steps);
    }
    let epochs = match flags.epochs {
        Some(epochs) if epochs.is_finite() && epochs > 0.0 => epochs,
        Some(epochs) => bad_input!("--epochs {epochs}: must be a number above 0"),
        None if facts.embedded => return Ok(EMBEDDED_STEPS),
        None => 1.0,
    };
    let steps = facts.train_tokens as f64 * epochs / step_tokens as f64;
    Ok((steps as u64).max(1))
}

/// The learning rates of GPT-2's and GPT-3's papers' sizes; small models bear more, and in a short run they need it.
fn learning_rate(config: &Config, short: bool) -> f64 {
    match config.n_embd {
        0..=SMALL_MODEL if short => 3e-3,
        0..=SMALL_MODEL => 1e-3,
        385..=768 => 6e-4,
        769..=1024 => 3e-4,
        _ => 2e-4,
    }
}

/// Refuses learning rates that make no sense.
pub fn check_rates(lr: f64, min_lr: f64) -> Result<()> {
    if !(lr.is_finite() && lr > 0.0) {
        bad_input!("--lr {lr}: must be a number above 0");
    }
    non_negative("min-lr", min_lr)?;
    if min_lr > lr {
        bad_input!("--min-lr {min_lr} is above --lr {lr}");
    }
    Ok(())
}

/// The decay of a name.
pub fn decay(name: ScheduleName) -> Decay {
    match name {
        ScheduleName::Cosine => Decay::Cosine,
        ScheduleName::Linear => Decay::Linear,
        ScheduleName::Wsd => Decay::Wsd,
        ScheduleName::Constant => Decay::Constant,
    }
}

/// Refuses zero.
pub fn positive(name: &str, value: usize) -> Result<()> {
    if value == 0 {
        bad_input!("--{name} 0: must be at least 1");
    }
    Ok(())
}

/// Refuses what is below zero or no number.
pub fn non_negative(name: &str, value: f64) -> Result<f64> {
    if !(value.is_finite() && value >= 0.0) {
        bad_input!("--{name} {value}: must be a number not below 0");
    }
    Ok(value)
}

/// Refuses what is not in [0, 1).
pub fn fraction(name: &str, value: f64) -> Result<f64> {
    if !(0.0..1.0).contains(&value) {
        bad_input!("--{name} {value}: must be at least 0 and below 1");
    }
    Ok(value)
}
