//! Many texts at once, over the slots of a generator.

use std::ops::ControlFlow;

use wikigpt_ops::Ops;

use crate::{Generator, Result, Sampler, Sampling};

/// A text to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// What it begins with: from one token to the model's context.
    pub prompt: Vec<u32>,
    /// How its tokens are drawn.
    pub sampling: Sampling,
    /// The most tokens to write.
    pub most: usize,
}

/// A job in a slot.
struct Writing {
    /// The job's number.
    job: usize,
    slot: usize,
    sampler: Sampler,
    /// The last token drawn.
    last: u32,
    /// How many may still be drawn.
    left: usize,
}

/// Writes all of `jobs`: as many at a time as `generator` has slots, the next beginning as soon as one has ended. Each token is
/// given to `each` with its job's number, and a job ends when that breaks or its tokens are used up. What is drawn for a job does not depend on
/// the jobs beside it, but for the rounding of products on devices that choose their tiles by the number of rows.
///
/// # Errors
/// Those of [`Sampler::new`], [`Sampler::sample`], [`Generator::prefill`] and [`Generator::step`].
pub fn write<O: Ops>(
    generator: &mut Generator<O>,
    jobs: impl IntoIterator<Item = Job>,
    mut each: impl FnMut(usize, u32) -> ControlFlow<()>,
) -> Result {
    let mut jobs = jobs.into_iter().enumerate().filter(|(_, job)| job.most > 0);
    let mut free: Vec<usize> = (0..generator.slots()).rev().collect();
    let mut all: Vec<Writing> = Vec::new();
    let mut next = Vec::new();
    loop {
        while let Some(slot) = free.pop() {
            let Some((job, Job { prompt, sampling, most })) = jobs.next() else {
                free.push(slot);
                break;
            };
            let mut sampler = Sampler::new(sampling)?;
            sampler.see(&prompt);
            generator.prefill(slot, &prompt)?;
            all.push(Writing { job, slot, sampler, last: 0, left: most });
        }
        if all.is_empty() {
            return Ok(());
        }
        let mut wrong = None;
        all.retain_mut(|writing| {
            let Writing { job, slot, sampler, last, left } = writing;
            match sampler.sample(generator.logits(*slot)) {
                Ok(token) => (*last, *left) = (token, *left - 1),
                Err(error) => wrong = Some(error),
            }
            let goes_on = wrong.is_none() && each(*job, *last).is_continue() && *left > 0;
            if !goes_on {
                free.push(*slot);
            }
            goes_on
        });
        if let Some(error) = wrong {
            return Err(error);
        }
        next.clear();
        next.extend(all.iter().map(|writing| (writing.slot, writing.last)));
        if !next.is_empty() {
            generator.step(&next)?;
        }
    }
}
