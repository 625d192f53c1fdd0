//! Where a run's figures go: `metrics.jsonl`, TensorBoard's events, and a person.

use std::path::Path;

use anyhow::Result;

use crate::metrics::{self, Line, Metrics};
use crate::progress::Progress;
use crate::tensorboard::EventWriter;

/// All three of a run.
pub struct Log {
    metrics: Metrics,
    events: EventWriter,
    progress: Progress,
}

impl Log {
    /// Opens them in a run folder, for a run that goes from step `first`, where it may have been `measured`, to step `steps`.
    pub fn open(run: &Path, first: u64, measured: bool, steps: u64, log_every: u64) -> Result<Self> {
        Ok(Log {
            metrics: Metrics::from_step(run, first, measured)?,
            events: EventWriter::create(run)?,
            progress: Progress::new(first, steps, log_every),
        })
    }

    /// A step.
    pub fn train(&mut self, line: &metrics::Train) -> Result<()> {
        self.metrics.write(&Line::Train(line.clone()))?;
        let scalars = [
            ("train/loss", line.loss),
            ("lr", line.lr),
            ("grad_norm", line.grad_norm),
            ("tokens_per_second", line.tokens_per_second),
        ];
        self.events.scalars(line.step, scalars.iter().filter(|(_, value)| value.is_finite()))?;
        self.progress.step(line);
        Ok(())
    }

    /// A validation.
    pub fn valid(&mut self, line: &metrics::Valid) -> Result<()> {
        self.metrics.write(&Line::Valid(line.clone()))?;
        let names: Vec<String> = line.scores.keys().map(|name| format!("val/{name}")).collect();
        let scores = names.iter().map(String::as_str).zip(line.scores.values().copied());
        let scalars: Vec<(&str, f64)> = [("val/loss", line.loss)].into_iter().chain(scores).collect();
        self.events.scalars(line.step, scalars.iter().filter(|(_, value)| value.is_finite()))?;
        self.events.flush()?;
        self.progress.valid(line);
        Ok(())
    }

    /// Something to be read by a person.
    pub fn say(&self, text: &str) {
        self.progress.say(text);
    }

    /// Makes everything visible to readers.
    pub fn flush(&mut self) -> Result<()> {
        Ok(self.events.flush()?)
    }
}
