//! The loop.

use std::time::Instant;

use anyhow::{Result, bail};
use wikigpt_gpt::{Regularize, Trainer};
use wikigpt_ops::{AdamW, Ops, Rounding, Update};

use super::best::{Best, State};
use super::{Batch, Score, Settings, Task};
use crate::log::Log;
use crate::run_folder::RunFolder;
use crate::seed::mix;
use crate::{metrics, progress, signals};

/// Steps in a row that may be skipped because their gradients are not finite.
const MOST_SKIPPED: u64 = 10;

/// A run under way.
pub struct Tuning<'a, O: Ops, K: Task> {
    trainer: Trainer<O>,
    task: &'a mut K,
    settings: &'a Settings,
    run: &'a RunFolder,
    best: Best,
    log: Log,
    /// A step's micro-batches.
    batches: Vec<Batch>,
    /// Steps done.
    step: u64,
    /// Updates made.
    updates: u64,
    /// Micro-batches done.
    micro_batches: u64,
    /// Steps skipped in a row up to now.
    skipped: u64,
    /// The step after which the model was measured last.
    measured: Option<u64>,
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
    /// Opens the run's logs.
    pub fn new(
        trainer: Trainer<O>,
        task: &'a mut K,
        settings: &'a Settings,
        run: &'a RunFolder,
    ) -> Result<Self> {
        Ok(Tuning {
            best: Best::new(run, settings.patience),
            log: Log::open(run.path(), 0, settings.schedule.steps, settings.log_every)?,
            trainer,
            task,
            settings,
            run,
            batches: Vec::new(),
            step: 0,
            updates: 0,
            micro_batches: 0,
            skipped: 0,
            measured: None,
            under_way: None,
            clock: Instant::now(),
        })
    }

    /// Trains to the last step, until it becomes no better, or until a signal; then finishes with the best.
    pub fn run(mut self) -> Result<()> {
        signals::catch()?;
        let begun = Instant::now();
        self.clock = begun;
        while self.step < self.settings.schedule.steps && !signals::stop_requested() {
            self.train()?;
            if self.step.is_multiple_of(self.settings.eval_every) {
                self.measure()?;
                if self.best.is_enough() && self.step < self.settings.schedule.steps {
                    self.log.say(&format!(
                        "stopped early: {} validations without a better one",
                        self.settings.patience
                    ));
                    break;
                }
            }
        }
        self.settle()?;
        if self.measured != Some(self.step) && !signals::stop_requested() {
            self.measure()?;
        }
        self.finish(begun)
    }

    /// One step: gradients of its micro-batches, one update. As in pretraining, a device that works on its own is not waited for.
    fn train(&mut self) -> Result<()> {
        let settings = self.settings;
        let (epoch, within) = (self.step / settings.epoch_steps, self.step % settings.epoch_steps);
        let first = within * settings.grad_accum;
        let end = (first + settings.grad_accum).min(self.task.batches());
        self.batches.resize_with((end - first) as usize, Batch::default);
        for (index, batch) in (first..end).zip(&mut self.batches) {
            self.task.batch(epoch, index, batch)?;
        }
        let weight: f64 = self.batches.iter().map(Batch::weight).sum();
        let scale = (1.0 / weight.max(f64::MIN_POSITIVE)) as f32;
        for (i, batch) in self.batches.iter().enumerate() {
            let seed = mix(settings.seed, self.micro_batches);
            let regularize = Regularize { dropout: settings.dropout as f32, seed };
            let update = if i == 0 { Update::Set } else { Update::Add };
            self.trainer.reshape(batch.B, batch.T)?;
            self.trainer.accumulate(batch.view(), scale, regularize, update)?;
            self.micro_batches += 1;
        }
        // The update's number depends on whether the one before was skipped.
        self.settle()?;
        let lr = settings.schedule.at(self.step);
        self.trainer.update(AdamW {
            lr: lr as f32,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: settings.weight_decay as f32,
            step: self.updates + 1,
            clip: (settings.grad_clip > 0.0).then_some(settings.grad_clip as f32),
            rounding: Rounding::Nearest,
        })?;
        let tokens = self.batches.iter().map(|batch| batch.tokens as u64).sum();
        self.under_way = Some(UnderWay { step: self.step, lr, tokens, begun: self.clock });
        self.step += 1;
        if self.trainer.report_is_there()? { self.settle() } else { Ok(()) }
    }

    /// Waits for the step under way, if there is one, and looks at what came of it.
    fn settle(&mut self) -> Result<()> {
        let Some(UnderWay { step, lr, tokens, begun }) = self.under_way.take() else { return Ok(()) };
        let Some(report) = self.trainer.report()? else { return Ok(()) };
        self.clock = Instant::now();
        let seconds = (self.clock - begun).as_secs_f64();
        self.log.train(&metrics::Train {
            step,
            loss: report.loss,
            lr,
            grad_norm: report.grad_norm,
            tokens,
            step_ms: seconds * 1e3,
            tokens_per_second: tokens as f64 / seconds,
            mfu: None,
        })?;
        if !report.skipped {
            self.updates += 1;
            self.skipped = 0;
            return Ok(());
        }
        self.skipped += 1;
        self.log.say(&format!("warning: step {step} was skipped, because its gradient is not finite"));
        if self.skipped == MOST_SKIPPED {
            bail!("{MOST_SKIPPED} steps in a row have had a gradient that is not finite: try a smaller --lr");
        }
        Ok(())
    }

    /// Measures the model, and keeps it if it is the best so far.
    fn measure(&mut self) -> Result<()> {
        self.settle()?;
        let Some(score) = self.task.evaluate(&mut self.trainer)? else { return Ok(()) };
        self.measured = Some(self.step);
        let Score { loss, targets, scores, .. } = score.clone();
        self.log.valid(&metrics::Valid { step: self.step, loss, tokens: targets, scores: scores.clone() })?;
        let state = State { step: self.step, updates: self.updates, loss: Some(loss), scores };
        self.best.judge(&mut self.trainer, &state, &score, self.task.tokenizer())?;
        self.clock = Instant::now();
        Ok(())
    }

    /// Puts the best back and lets the task do what is left.
    fn finish(mut self, begun: Instant) -> Result<()> {
        self.log.flush()?;
        let run = self.run.path().display();
        let time = progress::duration(begun.elapsed().as_secs_f64());
        let Some((best, _)) = self.best.best() else {
            if self.measured.is_some() {
                bail!("the validation's figures are no numbers: the model has diverged; try a smaller --lr");
            }
            let state =
                State { step: self.step, updates: self.updates, loss: None, scores: Default::default() };
            self.best.save(&mut self.trainer, &state, self.task.tokenizer())?;
            self.log.say(&format!(
                "stopped after {} of {} steps, before the first validation: the model as it is now is in {run}",
                self.step, self.settings.schedule.steps
            ));
            return Ok(());
        };
        let checkpoint = self.best.path(best);
        if signals::stop_requested() {
            self.log.say(&format!(
                "stopped after {} of {} steps; the best model, of step {best}, is in {}",
                self.step,
                self.settings.schedule.steps,
                checkpoint.display()
            ));
            return Ok(());
        }
        if best != self.step {
            self.best.load(&mut self.trainer, best)?;
        }
        let text = self.task.finish(&mut self.trainer, self.run.path())?;
        self.log.say(&format!(
            "done: {} steps in {time}; the best was that of step {best}\nthe run is in {run}, its model in {}\n{text}",
            self.step,
            checkpoint.display()
        ));
        Ok(())
    }
}
