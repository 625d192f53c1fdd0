//! The loop of training steps, and everything that happens between them.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, bail};
use wikigpt_dataset::{Batches, Dataset, Order, Split};
use wikigpt_gpt::{Gpt, Hyper, Micro};
use wikigpt_ops::Ops;

use super::save;
use super::validate::Validation;
use crate::flags::OrderName;
use crate::metrics::{self, Line, Metrics};
use crate::progress::Progress;
use crate::run_folder::RunFolder;
use crate::settings::Settings;
use crate::tensorboard::EventWriter;
use crate::{checkpoint, signals};

/// How far training has come.
#[derive(Clone, Debug, Default)]
pub struct Position {
    /// Steps done.
    pub step: u64,
    /// Micro-batches taken from the data.
    pub micro_batches: u64,
    /// Tokens trained on.
    pub tokens: u64,
}

/// A run under way.
pub struct Training<'a, O: Ops> {
    gpt: Gpt<O>,
    settings: &'a Settings,
    dataset: &'a Dataset,
    run: &'a RunFolder,
    batches: Batches<'a>,
    /// A micro-batch's tokens (B,T).
    inputs: Vec<u32>,
    /// Each the token after the input's (B,T).
    targets: Vec<u32>,
    validation: Option<Validation<'a>>,
    metrics: Metrics,
    events: EventWriter,
    progress: Progress,
    position: Position,
    /// The step whose checkpoint is on disk.
    saved: Option<u64>,
    /// The step that this process began with.
    first: u64,
}

impl<'a, O: Ops> Training<'a, O> {
    /// Opens the run's logs at `position`; `saved` is the step whose checkpoint it was loaded from.
    pub fn new(
        gpt: Gpt<O>,
        settings: &'a Settings,
        dataset: &'a Dataset,
        run: &'a RunFolder,
        position: Position,
        saved: Option<u64>,
    ) -> Result<Self> {
        let order = match settings.order {
            OrderName::Sequential => Order::Sequential,
            OrderName::Shuffled => Order::Shuffled { seed: settings.seed },
        };
        let tokens = dataset.tokens(Split::Train)?;
        Ok(Training {
            batches: Batches::new(tokens, settings.batch, settings.context, order, 0, 1)?,
            inputs: vec![0; settings.micro_tokens()],
            targets: vec![0; settings.micro_tokens()],
            validation: Validation::new(settings, dataset)?,
            metrics: Metrics::from_step(run.path(), position.step)?,
            events: EventWriter::create(run.path())?,
            progress: Progress::new(position.step, settings.steps, settings.log_every),
            first: position.step,
            gpt,
            settings,
            dataset,
            run,
            position,
            saved,
        })
    }

    /// Trains to the last step, or until a signal; saves at the end.
    pub fn run(mut self) -> Result<()> {
        signals::catch()?;
        let begun = Instant::now();
        let mut last_loss = None;
        while self.position.step < self.settings.steps && !signals::stop_requested() {
            self.between_steps()?;
            if signals::stop_requested() {
                break;
            }
            last_loss = Some(self.step()?);
        }
        // Before the last validation: what was trained is kept, whatever happens then.
        let checkpoint = self.save()?;
        self.events.flush()?;
        if self.position.step < self.settings.steps {
            self.progress.say(&format!(
                "stopped after {} of {} steps; to go on: wikigpt train --resume {}",
                self.position.step,
                self.settings.steps,
                self.run.path().display()
            ));
            return Ok(());
        }
        self.validate()?;
        checkpoint::remove_old(&self.run.checkpoints(), self.settings.keep)?;
        if self.settings.sample_every > 0 {
            self.sample()?;
        }
        self.events.flush()?;
        self.farewell(&checkpoint, begun, last_loss);
        Ok(())
    }

    /// What is due before the next step. A checkpoint comes before the validation of its step.
    fn between_steps(&mut self) -> Result<()> {
        let step = self.position.step;
        let due = |every: u64| every > 0 && step.is_multiple_of(every);
        if due(self.settings.checkpoint_every) && step > self.first {
            self.save()?;
        }
        if due(self.settings.eval_every) {
            self.validate()?;
        }
        if due(self.settings.sample_every) && step > 0 && !signals::stop_requested() {
            self.sample()?;
        }
        Ok(())
    }

    /// One step: gradients of all micro-batches, one update. Returns the loss.
    fn step(&mut self) -> Result<f64> {
        let begun = Instant::now();
        let settings = self.settings;
        let step = self.position.step;
        let mut loss = 0.0;
        for index in 0..settings.grad_accum {
            self.batches.fill(self.position.micro_batches, &mut self.inputs, &mut self.targets)?;
            // Every micro-batch has a number of its own, so dropout differs and resuming repeats it.
            let seed = mix(settings.seed, self.position.micro_batches);
            let micro = Micro { index, count: settings.grad_accum, seed };
            loss += f64::from(self.gpt.accumulate(&self.inputs, &self.targets, micro)?);
            self.position.micro_batches += 1;
        }
        loss /= settings.grad_accum as f64;
        self.check_finite("loss", loss)?;
        if self.saved == Some(step) {
            // Only now is the newest checkpoint known to be good.
            checkpoint::remove_old(&self.run.checkpoints(), self.settings.keep)?;
        }
        let lr = settings.schedule.at(step);
        let grad_norm = f64::from(self.gpt.update(&Hyper {
            lr: lr as f32,
            beta1: settings.beta1 as f32,
            beta2: settings.beta2 as f32,
            eps: 1e-8,
            weight_decay: settings.weight_decay as f32,
            clip: (settings.grad_clip > 0.0).then_some(settings.grad_clip as f32),
        })?);
        self.check_finite("gradient norm", grad_norm)?;
        let seconds = begun.elapsed().as_secs_f64();
        let tokens = settings.step_tokens();
        let line = metrics::Train {
            step,
            loss,
            lr,
            grad_norm,
            tokens,
            step_ms: seconds * 1e3,
            tokens_per_second: tokens as f64 / seconds,
            mfu: None,
        };
        self.position.step += 1;
        self.position.tokens += tokens;
        self.log(&line)?;
        Ok(loss)
    }

    fn log(&mut self, line: &metrics::Train) -> Result<()> {
        self.metrics.write(&Line::Train(line.clone()))?;
        let scalars = [
            ("train/loss", line.loss),
            ("train/grad_norm", line.grad_norm),
            ("train/tok_per_sec", line.tokens_per_second),
            ("train/step_ms", line.step_ms),
            ("lr", line.lr),
        ];
        self.events.scalars(line.step, &scalars)?;
        self.progress.step(line);
        Ok(())
    }

    /// A run that has left the numbers behind is stopped, and a checkpoint of its last state set aside.
    fn check_finite(&self, what: &str, value: f64) -> Result<()> {
        if value.is_finite() {
            return Ok(());
        }
        let (step, checkpoints) = (self.position.step, self.run.checkpoints());
        if step > self.first {
            checkpoint::set_aside_from(&checkpoints, step)?;
        }
        let good = match checkpoint::list(&checkpoints)?.last() {
            Some((_, path)) => format!("the last good checkpoint is {}", path.display()),
            None => "there is no checkpoint yet".to_owned(),
        };
        bail!("the {what} of step {step} is not finite ({value}): try a smaller --lr; {good}")
    }

    fn validate(&mut self) -> Result<()> {
        let Some(validation) = &mut self.validation else { return Ok(()) };
        let Some(line) = validation.run(&mut self.gpt, self.position.step)? else { return Ok(()) };
        self.check_finite("validation loss", line.loss)?;
        self.metrics.write(&Line::Valid(line.clone()))?;
        self.events.scalars(line.step, &[("val/loss", line.loss)])?;
        self.events.flush()?;
        self.progress.valid(&line);
        Ok(())
    }

    /// Saves unless this step's checkpoint is there already; where it is.
    fn save(&mut self) -> Result<PathBuf> {
        let step = self.position.step;
        if self.saved != Some(step) {
            save::save(&mut self.gpt, &self.run.checkpoints(), &self.position, self.dataset)?;
            self.saved = Some(step);
        }
        Ok(self.checkpoint_name(step))
    }

    fn checkpoint_name(&self, step: u64) -> PathBuf {
        checkpoint::path(&self.run.checkpoints(), step)
    }

    fn sample(&mut self) -> Result<()> {
        let text = super::sample::sample(&mut self.gpt, self.dataset, self.settings)?;
        self.progress.say(&format!("--- sample after {} steps\n{text}\n---", self.position.step));
        Ok(())
    }

    /// Where the run is and what to try next.
    fn farewell(&self, checkpoint: &Path, begun: Instant, last_loss: Option<f64>) {
        let run = self.run.path().display();
        let time = crate::progress::duration(begun.elapsed().as_secs_f64());
        let loss = last_loss.map(|loss| format!(", loss {loss:.4}")).unwrap_or_default();
        let mut text = format!("done: step {} in {time}{loss}\n", self.position.step);
        text += &format!("the run is in {run}, its model in {}\n", checkpoint.display());
        text += "next:\n";
        text += &format!("  wikigpt generate {run} --prompt \"The river\"\n");
        if self.settings.flags.data.is_none() {
            text += "  wikigpt prepare wikitext-2 --tokenizer gpt2 --out data/wikitext-2      (real text: 4.7 MB to download)\n";
            text += "  wikigpt train --data data/wikitext-2\n";
        } else {
            text += &format!(
                "  wikigpt train --resume {run} --steps {}\n",
                self.settings.steps.saturating_mul(2)
            );
        }
        text += "  wikigpt plan --preset gpt2                                              (what a larger model takes)";
        self.progress.say(&text);
    }
}

/// A seed for micro-batch `index`: SplitMix64's mixing of both.
fn mix(seed: u64, index: u64) -> u64 {
    let mut z = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
