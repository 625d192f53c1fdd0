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
/// Those of [`Sampler::new`], [`Generator::prefill`], [`Generator::step`] and [`Generator::draw`].
pub fn write<O: Ops>(
    generator: &mut Generator<O>,
    jobs: impl IntoIterator<Item = Job>,
    mut each: impl FnMut(usize, u32) -> ControlFlow<()>,
) -> Result {
    let mut jobs = jobs.into_iter().enumerate().filter(|(_, job)| job.most > 0);
    let mut free: Vec<usize> = (0..generator.slots()).rev().collect();
    let mut all: Vec<Writing> = Vec::new();
    loop {
        while let Some(slot) = free.pop() {
            let Some((job, Job { prompt, sampling, most })) = jobs.next() else {
                free.push(slot);
                break;
            };
            let mut sampler = Sampler::new(sampling)?;
            generator.prefill(slot, &prompt)?;
            let last = generator.draw(slot, &mut sampler)?;
            if each(job, last).is_continue() && most > 1 {
                all.push(Writing { job, slot, sampler, last, left: most - 1 });
            } else {
                free.push(slot);
            }
        }
        if all.is_empty() {
            return Ok(());
        }
        let next: Vec<_> = all.iter().map(|writing| (writing.slot, writing.last)).collect();
        generator.step(&next)?;
        let mut samplers: Vec<_> =
            all.iter_mut().map(|writing| (writing.slot, &mut writing.sampler)).collect();
        let drawn: Result<Vec<u32>> = generator.draw_each(&mut samplers)?.into_iter().collect();
        let mut drawn = drawn?.into_iter();
        all.retain_mut(|writing| {
            let Some(token) = drawn.next() else { return false };
            (writing.last, writing.left) = (token, writing.left - 1);
            let goes_on = each(writing.job, token).is_continue() && writing.left > 0;
            if !goes_on {
                free.push(writing.slot);
            }
            goes_on
        });
    }
}
