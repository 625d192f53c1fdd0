//! The loop of training steps, and everything that happens between them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use wikigpt_dataset::{Batches, Dataset, Order, Tokens};
use wikigpt_gpt::files::Checkpoints;
use wikigpt_gpt::{Batch, Regularize, StepReport, Trainer};
use wikigpt_ops::{AdamW, Ops, Update};

use super::save::{self, Place};
use super::validate::Validation;
use crate::flags::OrderName;
use crate::log::Log;
use crate::run_folder::RunFolder;
use crate::seed::mix;
use crate::settings::Settings;
use crate::{metrics, progress, signals};

/// Steps in a row that may be skipped because their gradients are not finite: one batch may be to blame for one, but
/// parameters that have left the numbers behind do not come back.
const MOST_SKIPPED: u64 = 10;

/// A run under way.
pub struct Training<'a, O: Ops> {
    trainer: Trainer<O>,
    settings: &'a Settings,
    dataset: &'a Dataset,
    run: &'a RunFolder,
    checkpoints: Checkpoints,
    batches: Batches,
    /// A micro-batch's tokens (B,T).
    inputs: Vec<u32>,
    /// Each the token after the input's (B,T).
    targets: Vec<u32>,
    validation: Option<Validation>,
    log: Log,
    place: Place,
    /// The step whose checkpoint is on disk.
    saved: Option<u64>,
    /// The step that this process began with.
    first: u64,
    /// Steps skipped in a row up to now.
    skipped: u64,
    /// The step that the device may not have done yet, and its learning rate.
    under_way: Option<(u64, f64)>,
    /// When the last step was done, or what came between steps.
    clock: Instant,
    last_loss: Option<f64>,
}

impl<'a, O: Ops> Training<'a, O> {
    /// Opens the run's logs; `place` is that of the checkpoint that the trainer holds, or none for a new run.
    pub fn new(
        trainer: Trainer<O>,
        settings: &'a Settings,
        dataset: &'a Dataset,
        tokens: &Tokens,
        run: &'a RunFolder,
        place: Option<Place>,
    ) -> Result<Self> {
        let order = match settings.order {
            OrderName::Sequential => Order::Sequential,
            OrderName::Shuffled => Order::Shuffled,
        };
        let saved = place.map(|place| place.step);
        let place = place.unwrap_or_default();
        let mut batches = Batches::new(tokens, settings.batch, settings.context, order, settings.seed, 0, 1)?;
        batches.seek(place.position)?;
        Ok(Training {
            batches,
            inputs: vec![0; settings.micro_tokens()],
            targets: vec![0; settings.micro_tokens()],
            validation: Validation::new(settings, dataset)?,
            log: Log::open(run.path(), place.step, false, settings.steps, settings.log_every)?,
            first: place.step,
            checkpoints: Checkpoints::of(run.path()),
            skipped: 0,
            under_way: None,
            clock: Instant::now(),
            last_loss: None,
            trainer,
            settings,
            dataset,
            run,
            place,
            saved,
        })
    }

    /// Trains to the last step, or until a signal; saves at the end.
    pub fn run(mut self) -> Result<()> {
        signals::catch()?;
        let begun = Instant::now();
        self.clock = begun;
        while self.place.step < self.settings.steps && !signals::stop_requested() {
            self.between_steps()?;
            if signals::stop_requested() {
                break;
            }
            self.step()?;
        }
        self.settle()?;
        // Before the last validation: what was trained is kept, whatever happens then.
        let checkpoint = self.save()?;
        self.log.flush()?;
        if self.place.step < self.settings.steps {
            self.log.say(&format!(
                "stopped after {} of {} steps; to go on: wikigpt train --resume {}",
                self.place.step,
                self.settings.steps,
                self.run.path().display()
            ));
            return Ok(());
        }
        self.validate()?;
        self.prune()?;
        if self.settings.sample_every > 0 {
            self.sample()?;
        }
        self.log.flush()?;
        self.farewell(&checkpoint, begun);
        Ok(())
    }

    /// What is due before the next step. A checkpoint comes before the validation of its step, so that a run that goes
    /// on from it writes the same lines.
    fn between_steps(&mut self) -> Result<()> {
        let step = self.place.step;
        let due = |every: u64| every > 0 && step.is_multiple_of(every);
        let settings = self.settings;
        let (save, validate) =
            (due(settings.checkpoint_every) && step > self.first, due(settings.eval_every));
        let sample = due(settings.sample_every) && step > 0;
        if !(save || validate || sample) {
            return Ok(());
        }
        self.settle()?;
        // While steps are skipped the parameters do not change, and may be what is wrong.
        if save && self.skipped == 0 {
            self.save()?;
        }
        if validate {
            self.validate()?;
        }
        if sample && !signals::stop_requested() {
            self.sample()?;
        }
        self.clock = Instant::now();
        Ok(())
    }

    /// One step: gradients of all micro-batches, one update. A device that works on its own is given it and may not have done
    /// it yet: its report is looked at in the next step, when that one's gradients are on their way, so that the device never waits.
    fn step(&mut self) -> Result<()> {
        let settings = self.settings;
        for index in 0..settings.grad_accum {
            self.batches.next(&mut self.inputs, &mut self.targets);
            // Every micro-batch has a seed of its own, so masks differ, and resuming repeats them.
            let seed = mix(settings.seed, self.place.micro_batches);
            let regularize = Regularize { dropout: settings.dropout as f32, seed };
            let scale = 1.0 / settings.step_tokens() as f32;
            let update = if index == 0 { Update::Set } else { Update::Add };
            self.trainer.accumulate(Batch::new(&self.inputs, &self.targets), scale, regularize, update)?;
            self.place.micro_batches += 1;
        }
        // The update's number depends on whether the one before was skipped.
        self.settle()?;
        let lr = settings.schedule.at(self.place.step);
        self.trainer.update(AdamW {
            lr: lr as f32,
            beta1: settings.beta1 as f32,
            beta2: settings.beta2 as f32,
            eps: 1e-8,
            weight_decay: settings.weight_decay as f32,
            step: self.place.updates + 1,
            clip: (settings.grad_clip > 0.0).then_some(settings.grad_clip as f32),
            rounding: settings.rounding,
        })?;
        self.under_way = Some((self.place.step, lr));
        self.place.position = self.batches.position();
        self.place.step += 1;
        self.place.tokens += settings.step_tokens();
        if self.trainer.report_is_there()? { self.settle() } else { Ok(()) }
    }

    /// Waits for the step under way, if there is one, and looks at what came of it.
    fn settle(&mut self) -> Result<()> {
        let Some((step, lr)) = self.under_way.take() else { return Ok(()) };
        let Some(report) = self.trainer.report()? else { return Ok(()) };
        let seconds = self.clock.elapsed().as_secs_f64();
        self.clock = Instant::now();
        self.last_loss = Some(report.loss);
        let tokens = self.settings.step_tokens();
        self.log.train(&metrics::Train::new(step, &report, lr, tokens, seconds))?;
        self.judge(step, report)
    }

    /// After a good step the checkpoint before it is known to be good; too many bad ones end the run.
    fn judge(&mut self, step: u64, report: StepReport) -> Result<()> {
        if !report.skipped {
            self.place.updates += 1;
            self.skipped = 0;
            if self.saved == Some(step) {
                self.prune()?;
            }
            return Ok(());
        }
        self.skipped += 1;
        let (loss, norm) = (report.loss, report.grad_norm);
        self.log.say(&format!(
            "warning: step {step} was skipped, because its gradient is not finite (loss {loss}, norm {norm})"
        ));
        if self.skipped < MOST_SKIPPED {
            return Ok(());
        }
        let bad = step + 1 - self.skipped;
        if self.saved == Some(bad) && bad > self.first {
            self.set_aside(bad)?;
        }
        let good = match self.checkpoints.list()?.last() {
            Some((_, path)) => format!("the last good checkpoint is {}", path.display()),
            None => "there is no checkpoint yet".to_owned(),
        };
        bail!(
            "{MOST_SKIPPED} steps in a row have had a gradient that is not finite: try a smaller --lr; {good}"
        )
    }

    /// Takes its name from a checkpoint whose parameters are of no use, so that it is not the one to go on from.
    fn set_aside(&self, step: u64) -> Result<()> {
        let path = self.checkpoints.path(step);
        let aside = path.with_extension("diverged");
        let renamed = match fs::remove_dir_all(&aside) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => fs::rename(&path, &aside),
        };
        renamed.with_context(|| format!("cannot rename {}", path.display()))
    }

    fn validate(&mut self) -> Result<()> {
        let Some(validation) = &mut self.validation else { return Ok(()) };
        let Some(line) = validation.run(&mut self.trainer, self.place.step)? else { return Ok(()) };
        self.log.valid(&line)
    }

    /// Saves unless this step's checkpoint is there already; where it is.
    fn save(&mut self) -> Result<PathBuf> {
        let step = self.place.step;
        if self.saved != Some(step) {
            let (place, tokenizer) = (&self.place, self.dataset.tokenizer());
            save::save(&mut self.trainer, &self.checkpoints, step, None, None, place, tokenizer)?;
            self.saved = Some(step);
        }
        Ok(self.checkpoints.path(step))
    }

    /// Removes the checkpoints that are not to be kept.
    fn prune(&self) -> Result<()> {
        if self.settings.keep > 0 && self.skipped == 0 {
            self.checkpoints.prune(self.settings.keep)?;
        }
        Ok(())
    }

    fn sample(&mut self) -> Result<()> {
        let text = super::sample::sample(&mut self.trainer, self.dataset.tokenizer(), self.settings)?;
        self.log.say(&format!("--- sample after {} steps\n{text}\n---", self.place.step));
        Ok(())
    }

    /// Where the run is and what to try next.
    fn farewell(&self, checkpoint: &Path, begun: Instant) {
        let run = self.run.path().display();
        let time = progress::duration(begun.elapsed().as_secs_f64());
        let loss = self.last_loss.map(|loss| format!(", loss {loss:.4}")).unwrap_or_default();
        let mut text = format!("done: step {} in {time}{loss}\n", self.place.step);
        text += &format!("the run is in {run}, its model in {}\n", checkpoint.display());
        text += "next:\n";
        text += &format!("  wikigpt generate {run} --prompt \"The river\"\n");
        match &self.settings.flags.data {
            None => {
                text += "  wikigpt prepare wikitext-2 --tokenizer gpt2 --out data/wikitext-2      (real text: 4.7 MB to download)\n";
                text += "  wikigpt train --data data/wikitext-2 --out runs/wikitext-2\n";
            }
            Some(data) => {
                let steps = self.settings.steps.saturating_mul(2);
                text += &format!("  wikigpt eval {run} --data {}\n", data.display());
                text += &format!("  wikigpt train --resume {run} --steps {steps}\n");
            }
        }
        text += "  wikigpt plan --preset gpt2                                              (what a larger model takes: a GPU)";
        self.log.say(&text);
    }
}
