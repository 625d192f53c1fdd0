//! The loop.

use std::time::Instant;

use anyhow::{Result, bail};
use wikigpt_gpt::files::{Base, Checkpoints, Found};
use wikigpt_gpt::{Regularize, Trainer};
use wikigpt_ops::{AdamW, Ops, Rounding, Update};

use super::state::Best;
use super::{Batch, Settings, State, Task};
use crate::log::Log;
use crate::run_folder::RunFolder;
use crate::seed::mix;
use crate::train::save::save;
use crate::{metrics, progress, signals};

/// Steps in a row that may be skipped because their gradients are not finite.
const MOST_SKIPPED: u64 = 10;

/// A run under way.
pub struct Tuning<'a, O: Ops, K: Task> {
    trainer: Trainer<O>,
    /// The model that adapters are for, if it is such that are trained.
    base: Option<Base>,
    task: &'a mut K,
    settings: &'a Settings,
    run: &'a RunFolder,
    checkpoints: Checkpoints,
    log: Log,
    /// A step's micro-batches.
    batches: Vec<Batch>,
    state: State,
    /// The step whose checkpoint is on disk.
    saved: Option<u64>,
    /// Steps skipped in a row up to now.
    skipped: u64,
    /// The step that the device may not have done yet.
    under_way: Option<UnderWay>,
    /// When the last step was done, or what came between steps.
    clock: Instant,
}

/// What is known of a step before its report.
struct UnderWay {
    step: u64,
    lr: f64,
    tokens: u64,
    /// When the one before it was done.
    begun: Instant,
}

impl<'a, O: Ops, K: Task> Tuning<'a, O, K> {
    /// Opens the run's logs; `state` is that of the checkpoint that the trainer holds, or none for a new run.
    pub fn new(
        trainer: Trainer<O>,
        base: Option<Base>,
        task: &'a mut K,
        settings: &'a Settings,
        run: &'a RunFolder,
        state: Option<State>,
    ) -> Result<Self> {
        let saved = state.as_ref().map(|state| state.step);
        let state = state.unwrap_or_default();
        let (first, measured) = (state.step, state.is_measured());
        Ok(Tuning {
            checkpoints: Checkpoints::of(run.path()),
            log: Log::open(run.path(), first, measured, settings.schedule.steps, settings.log_every)?,
            trainer,
            base,
            task,
            settings,
            run,
            batches: Vec::new(),
            state,
            saved,
            skipped: 0,
            under_way: None,
            clock: Instant::now(),
        })
    }

    /// Trains to the last step, until it becomes no better, or until a signal; then finishes with the best.
    pub fn run(mut self) -> Result<()> {
        signals::catch()?;
        let begun = Instant::now();
        self.clock = begun;
        let (steps, patience) = (self.settings.schedule.steps, self.settings.patience);
        loop {
            self.between_steps()?;
            if signals::stop_requested() || self.state.step == steps {
                break;
            }
            if self.state.is_enough(patience) {
                self.log.say(&format!("stopped early: {patience} validations without a better one"));
                break;
            }
            self.train()?;
        }
        self.settle()?;
        if !self.state.is_measured() && !signals::stop_requested() {
            self.measure()?;
        }
        self.finish(begun)
    }

    /// What is due after a step. A model is saved with what its validation says.
    fn between_steps(&mut self) -> Result<()> {
        let step = self.state.step;
        let due = |every: u64| every > 0 && step > 0 && step.is_multiple_of(every);
        if due(self.settings.eval_every) && !self.state.is_measured() {
            return self.measure();
        }
        if due(self.settings.checkpoint_every) {
            self.settle()?;
            // While steps are skipped the parameters do not change, and may be what is wrong.
            if self.skipped == 0 {
                self.save()?;
                self.clock = Instant::now();
            }
        }
        Ok(())
    }

    /// One step: gradients of its micro-batches, one update. As in pretraining, a device that works on its own is not waited for.
    fn train(&mut self) -> Result<()> {
        let settings = self.settings;
        let step = self.state.step;
        let (epoch, within) = (step / settings.epoch_steps, step % settings.epoch_steps);
        let first = within * settings.grad_accum;
        let end = (first + settings.grad_accum).min(self.task.batches());
        self.batches.resize_with((end - first) as usize, Batch::default);
        for (index, batch) in (first..end).zip(&mut self.batches) {
            self.task.batch(epoch, index, batch)?;
        }
        let weight: f64 = self.batches.iter().map(Batch::weight).sum();
        let scale = (1.0 / weight.max(f64::MIN_POSITIVE)) as f32;
        for (i, batch) in self.batches.iter().enumerate() {
            let seed = mix(settings.seed, self.state.micro_batches);
            let regularize = Regularize { dropout: settings.dropout as f32, seed };
            let update = if i == 0 { Update::Set } else { Update::Add };
            self.trainer.reshape(batch.B, batch.T)?;
            self.trainer.accumulate(batch.view(), scale, regularize, update)?;
            self.state.micro_batches += 1;
        }
        // The update's number depends on whether the one before was skipped.
        self.settle()?;
        let lr = settings.schedule.at(step);
        self.trainer.update(AdamW {
            lr: lr as f32,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: settings.weight_decay as f32,
            step: self.state.updates + 1,
            clip: (settings.grad_clip > 0.0).then_some(settings.grad_clip as f32),
            rounding: Rounding::Nearest,
        })?;
        let tokens = self.batches.iter().map(|batch| batch.tokens as u64).sum();
        self.under_way = Some(UnderWay { step, lr, tokens, begun: self.clock });
        self.state.step += 1;
        if self.trainer.report_is_there()? { self.settle() } else { Ok(()) }
    }

    /// Waits for the step under way, if there is one, and looks at what came of it.
    fn settle(&mut self) -> Result<()> {
        let Some(UnderWay { step, lr, tokens, begun }) = self.under_way.take() else { return Ok(()) };
        let Some(report) = self.trainer.report()? else { return Ok(()) };
        self.clock = Instant::now();
        let seconds = (self.clock - begun).as_secs_f64();
        self.log.train(&metrics::Train::new(step, &report, lr, tokens, seconds))?;
        if !report.skipped {
            self.state.updates += 1;
            self.skipped = 0;
            // After a good step the checkpoint before it is known to be good.
            return if self.saved == Some(step) { self.prune() } else { Ok(()) };
        }
        self.skipped += 1;
        self.log.say(&format!("warning: step {step} was skipped, because its gradient is not finite"));
        if self.skipped == MOST_SKIPPED {
            bail!("{MOST_SKIPPED} steps in a row have had a gradient that is not finite: try a smaller --lr");
        }
        Ok(())
    }

    /// Measures the model and saves it: the best so far, or what to go on from.
    fn measure(&mut self) -> Result<()> {
        self.settle()?;
        let Some(score) = self.task.evaluate(&mut self.trainer)? else { return Ok(()) };
        let line = metrics::Valid {
            step: self.state.step,
            loss: score.loss,
            tokens: score.targets,
            scores: score.scores.clone(),
        };
        self.log.valid(&line)?;
        self.state.judge(&score);
        // What has diverged is of no use.
        if score.loss.is_finite() {
            self.saved = None;
            self.save()?;
        }
        self.clock = Instant::now();
        Ok(())
    }

    /// Saves unless this step's checkpoint is there already.
    fn save(&mut self) -> Result<()> {
        let step = self.state.step;
        if self.saved != Some(step) {
            let best = self.state.best.map(|best| best.step);
            let (base, tokenizer) = (self.base.as_ref(), self.task.tokenizer());
            save(&mut self.trainer, &self.checkpoints, step, best, base, &self.state, tokenizer)?;
            self.saved = Some(step);
        }
        Ok(())
    }

    /// Removes the checkpoints that are neither the best nor the last.
    fn prune(&self) -> Result<()> {
        Ok(self.checkpoints.prune(1)?)
    }

    /// Puts the best back and lets the task do what is left.
    fn finish(mut self, begun: Instant) -> Result<()> {
        self.log.flush()?;
        let run = self.run.path().display();
        let (step, steps) = (self.state.step, self.settings.schedule.steps);
        let best = self.state.best.map(|Best { step, .. }| (step, self.checkpoints.path(step)));
        let go_on = format!("to go on: wikigpt finetune {} --resume {run}", K::NAME);
        if best.is_none() && self.state.measured.is_some() {
            bail!("the validation's figures are no numbers: the model has diverged; try a smaller --lr");
        }
        if signals::stop_requested() {
            self.save()?;
            let model = match best {
                Some((best, path)) => {
                    format!("the best model so far, of step {best}, is in {}", path.display())
                }
                None => format!("before the first validation; the model as it is now is in {run}"),
            };
            self.log.say(&format!("stopped after {step} of {steps} steps; {model}\n{go_on}"));
            return Ok(());
        }
        let (mut best, mut path) = best.expect("a model that was measured, with figures that are numbers");
        let time = progress::duration(begun.elapsed().as_secs_f64());
        self.prune()?;
        if best != step {
            // A damaged one is passed over, as by everyone who is given the run.
            let Some(Found { checkpoint, warnings }) = self.checkpoints.best_good()? else {
                bail!("{run}: its checkpoints are gone");
            };
            for warning in warnings {
                self.log.say(&format!("warning: {warning}"));
            }
            checkpoint.read(|array, start, values| self.trainer.write(array, start, values))?;
            (best, path) = (checkpoint.step(), checkpoint.folder().to_path_buf());
        }
        let Some(text) = self.task.finish(&mut self.trainer, self.run.path())? else {
            self.log.say(&format!(
                "stopped after training, before the best model was tested; it is that of step {best}, in {}\n{go_on}",
                path.display()
            ));
            return Ok(());
        };
        self.log.say(&format!(
            "done: {step} steps in {time}; the best was that of step {best}\nthe run is in {run}, its model in {}\n{text}",
            path.display()
        ));
        Ok(())
    }
}
