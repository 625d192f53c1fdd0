//! Beam search: the texts that the model finds likeliest, as far as a beam of so many sees.

use wikigpt_ops::Ops;

use crate::sampler::damaged;
use crate::{Error, Generator, Result};

/// How a beam search goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Beam {
    /// Texts that are kept at each length, and found in the end: as many slots are in use.
    pub width: usize,
    /// The most tokens to write.
    pub most: usize,
    /// A text ends with it.
    pub end: Option<u32>,
    /// A text's score is log p / length^this: 0 favours short texts, 1 compares the mean of a token.
    pub length_penalty: f64,
}

/// A text that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// What was written, [`Beam::end`] included where it ends with that.
    pub tokens: Vec<u32>,
    /// log p of the tokens, given the prompt.
    pub log_probability: f64,
    /// What it was compared by.
    pub score: f64,
}

/// A text that goes on, in the slot of its number.
#[derive(Clone, Default)]
struct Running {
    tokens: Vec<u32>,
    log_probability: f64,
}

/// A running text and a token after it.
#[derive(Clone, Copy)]
struct Step {
    parent: usize,
    token: u32,
    log_probability: f64,
}

impl Beam {
    /// Refuses what no search can do.
    fn check(&self, slots: usize) -> Result {
        let refuse = |message: String| Err(Error::Config(message));
        if self.width == 0 {
            return refuse("a beam needs a width of at least 1".into());
        }
        if self.width > slots {
            return refuse(format!("a beam of {} needs as many slots, and there are {slots}", self.width));
        }
        if !self.length_penalty.is_finite() {
            return refuse(format!("the length penalty must be finite, got {}", self.length_penalty));
        }
        Ok(())
    }

    fn score(&self, log_probability: f64, length: usize) -> f64 {
        log_probability / (length as f64).powf(self.length_penalty)
    }

    /// The likeliest texts after a prompt, the best score first; of `width` texts, or fewer where there are no more.
    ///
    /// At each length the continuations of all running texts are compared by log p; of the best 2·width, those that end are set aside,
    /// and the best `width` of the others run on. It is over when `width` have ended and the best that runs has no better score at its
    /// present length than the worst of those; or when there are `most` tokens, and then what still runs counts as it stands.
    ///
    /// # Errors
    /// [`Error::Config`] when the width is 0 or more than the generator's slots, the penalty is not finite, or a logit is not a
    /// number; those of [`Generator::prefill`] and [`Generator::step`].
    pub fn search<O: Ops>(&self, generator: &mut Generator<O>, prompt: &[u32]) -> Result<Vec<Found>> {
        self.check(generator.slots())?;
        let mut ended: Vec<Found> = Vec::new();
        generator.prefill(0, prompt)?;
        let mut running = vec![Running::default()];
        for length in 1..=self.most {
            let steps = self.best(generator, &running)?;
            let mut kept = Vec::new();
            for (rank, step) in steps.into_iter().enumerate() {
                if Some(step.token) != self.end {
                    kept.push(step);
                } else if rank < self.width {
                    let tokens = [&running[step.parent].tokens[..], &[step.token]].concat();
                    let score = self.score(step.log_probability, length);
                    ended.push(Found { tokens, log_probability: step.log_probability, score });
                }
            }
            kept.truncate(self.width);
            ended.sort_by(|a, b| b.score.total_cmp(&a.score));
            ended.truncate(self.width);
            let Some(best) = kept.first() else {
                running.clear();
                break;
            };
            let hopeless = ended.len() == self.width
                && self.score(best.log_probability, length) <= ended[self.width - 1].score;
            running = self.go_on(generator, &running, &kept, length < self.most && !hopeless)?;
            if hopeless {
                running.clear();
                break;
            }
        }
        let standing = running.into_iter().filter(|running| !running.tokens.is_empty()).map(|running| {
            let Running { tokens, log_probability } = running;
            Found { score: self.score(log_probability, tokens.len()), tokens, log_probability }
        });
        ended.extend(standing);
        ended.sort_by(|a, b| b.score.total_cmp(&a.score));
        ended.truncate(self.width);
        Ok(ended)
    }

    /// The best 2·width continuations, the likeliest first; of equal ones that of the earlier text and the smaller token.
    fn best<O: Ops>(&self, generator: &mut Generator<O>, running: &[Running]) -> Result<Vec<Step>> {
        let most = 2 * self.width;
        let mut steps = Vec::new();
        let alive = |text: &&Running| text.log_probability > f64::NEG_INFINITY;
        for (parent, text) in running.iter().enumerate().filter(|(_, text)| alive(text)) {
            let logits = generator.logits(parent)?;
            let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            if let Some(error) = damaged(logits) {
                return Err(error);
            }
            let sum: f64 = logits.iter().map(|logit| f64::from(logit - largest).exp()).sum();
            let lse = f64::from(largest) + sum.ln();
            let mut own: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
            let by_size = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
            if own.len() > most {
                own.select_nth_unstable_by(most - 1, by_size);
                own.truncate(most);
            }
            own.sort_unstable_by(by_size);
            steps.extend(own.into_iter().filter(|(_, logit)| *logit > f32::NEG_INFINITY).map(
                |(token, logit)| Step {
                    parent,
                    token,
                    log_probability: text.log_probability + f64::from(logit) - lse,
                },
            ));
        }
        // Stable: equal ones stay in the order of texts and tokens.
        steps.sort_by(|a, b| b.log_probability.total_cmp(&a.log_probability));
        steps.truncate(most);
        Ok(steps)
    }

    /// The running texts, each with its step, in the slots of their new numbers; with their next logits if `compute` says so.
    ///
    /// A text that goes on once stays in its slot; more of the same go to the slots of those that do not go on.
    fn go_on<O: Ops>(
        &self,
        generator: &mut Generator<O>,
        running: &[Running],
        kept: &[Step],
        compute: bool,
    ) -> Result<Vec<Running>> {
        let mut slots: Vec<Option<Step>> = vec![None; self.width];
        let mut others = Vec::new();
        for step in kept {
            let own = &mut slots[step.parent];
            if own.is_none() { *own = Some(*step) } else { others.push(*step) }
        }
        for step in others {
            let free = slots.iter().position(Option::is_none).expect("no more texts than slots");
            if compute {
                generator.fork(step.parent, free)?;
            }
            slots[free] = Some(step);
        }
        // Numbers are slots: what has none is a text that nothing follows.
        let mut texts = vec![Running { tokens: Vec::new(), log_probability: f64::NEG_INFINITY }; self.width];
        let mut next = Vec::new();
        for (slot, step) in slots.iter().enumerate() {
            let Some(step) = step else { continue };
            let tokens = [&running[step.parent].tokens[..], &[step.token]].concat();
            texts[slot] = Running { tokens, log_probability: step.log_probability };
            next.push((slot, step.token));
        }
        if compute {
            generator.step(&next)?;
        }
        Ok(texts)
    }
}
