//! A text that is being written.

use std::collections::VecDeque;
use std::time::Instant;

use tokio::sync::OwnedSemaphorePermit;
use wikigpt_dataset::{StreamDecoder, Tokenizer};
use wikigpt_gpt::{Result, Sampler, Sampling};

use super::outbox::Outbox;
use super::problem::Problem;
use super::scores::{Scored, Scorer};
use crate::stop::Stops;

/// A text that is asked for.
pub struct Order {
    /// Which of its request's texts it is.
    pub choice: usize,
    /// What it begins with: one token at least.
    pub prompt: Vec<u32>,
    /// Tokens to write, at most.
    pub max_tokens: usize,
    pub sampling: Sampling,
    pub stop: Vec<String>,
    /// How many alternatives to tell of each token; nothing for no probabilities at all.
    pub logprobs: Option<usize>,
    /// Whether the prompt comes first; with `logprobs` token by token, for the model has to see it so.
    pub echo: bool,
    /// Whether each token tells what the model looked at.
    pub attention: bool,
    /// When it is too late.
    pub deadline: Instant,
    /// Where the text goes; nobody may be there any more.
    pub answers: Outbox,
    /// Its place among those that run and wait: given back when this is dropped.
    pub _place: Option<OwnedSemaphorePermit>,
}

/// What becomes of a text.
#[derive(Debug, PartialEq)]
pub enum Event {
    /// It goes on.
    Piece { choice: usize, text: String, tokens: Vec<Scored> },
    /// It is complete.
    End { choice: usize, finish: Finish, written: usize },
    /// There will be none of it, or no more.
    Failed(Problem),
}

/// Why a text is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model ended it, or it came to a stop string.
    Stop,
    /// It has as many tokens as were asked for.
    Length,
}

impl Finish {
    /// What OpenAI calls it.
    pub fn name(self) -> &'static str {
        match self {
            Finish::Stop => "stop",
            Finish::Length => "length",
        }
    }
}

/// A text under way.
pub struct Sequence<'a> {
    order: Order,
    tokenizer: &'a Tokenizer,
    sampler: Sampler,
    decoder: StreamDecoder<'a>,
    stops: Stops,
    scorer: Scorer<'a>,
    /// The prompt's tokens that are still to be shown to the model, one at a time.
    prompt: VecDeque<u32>,
    written: usize,
}

impl<'a> Sequence<'a> {
    /// Begins a text; gives what the model is to see first. Nothing is left to see where nothing is to be written.
    pub fn begin(mut order: Order, tokenizer: &'a Tokenizer) -> Result<(Sequence<'a>, Vec<u32>)> {
        let sampler = Sampler::new(order.sampling)?;
        let mut prompt = std::mem::take(&mut order.prompt);
        let stops = Stops::new(std::mem::take(&mut order.stop));
        let mut sequence = Sequence {
            sampler,
            decoder: StreamDecoder::new(tokenizer),
            stops,
            scorer: Scorer::new(tokenizer, order.logprobs),
            prompt: VecDeque::new(),
            written: 0,
            tokenizer,
            order,
        };
        if sequence.order.echo {
            if sequence.order.logprobs.is_some() {
                sequence.prompt = prompt.split_off(1).into();
                sequence.scorer.first(prompt[0]);
                sequence.tell_prompt(prompt[0]);
            } else {
                let text = String::from_utf8_lossy(&tokenizer.decode(&prompt)).into_owned();
                sequence.tell(text, Vec::new());
            }
        }
        let nothing_to_do = sequence.order.max_tokens == 0 && sequence.prompt.is_empty();
        if nothing_to_do {
            sequence.end(Finish::Length);
            prompt.clear();
        }
        Ok((sequence, prompt))
    }

    /// Whether whoever asked has gone away.
    pub fn is_forsaken(&self) -> bool {
        self.order.answers.is_closed()
    }

    /// Whether it has to wait until its client takes what it was told.
    pub fn is_ahead(&self) -> bool {
        self.order.answers.is_full()
    }

    /// Whether it takes longer than it may.
    pub fn is_late(&self, now: Instant) -> bool {
        now >= self.order.deadline
    }

    /// Whether it tells what the model looked at.
    pub fn wants_attention(&self) -> bool {
        self.order.attention
    }

    /// Whether it tells how probable tokens are.
    pub fn wants_logits(&self) -> bool {
        self.order.logprobs.is_some()
    }

    /// Who draws what comes next, unless it is the prompt's.
    pub fn draws(&mut self) -> Option<&mut Sampler> {
        self.prompt.is_empty().then_some(&mut self.sampler)
    }

    /// Takes what was drawn, if it [draws](Sequence::draws); the logits of what comes next, and what the model looked at for them, as far
    /// as they are wanted. Gives the token that comes, if any does.
    pub fn take(&mut self, drawn: Option<u32>, logits: &[f32], attention: Vec<f32>) -> Option<u32> {
        if let Some(token) = self.prompt.pop_front() {
            self.scorer.score(token, logits, attention);
            self.tell_prompt(token);
            if self.prompt.is_empty() {
                // What is written is decoded as if it stood alone, whether the prompt is told or not.
                self.decoder = StreamDecoder::new(self.tokenizer);
                if self.order.max_tokens == 0 {
                    self.end(Finish::Length);
                    return None;
                }
            }
            return Some(token);
        }
        let token = drawn?;
        self.written += 1;
        if Some(token) == self.tokenizer.end_of_text() {
            self.end(Finish::Stop);
            return None;
        }
        self.scorer.score(token, logits, attention);
        let decoded = self.decoder.push(token);
        self.scorer.decoded(&decoded);
        let text = self.stops.push(&decoded);
        let stopped = self.stops.found();
        let tokens = if stopped { self.scorer.stopped(&text) } else { self.scorer.shown(&text) };
        self.tell(text, tokens);
        if stopped {
            self.end(Finish::Stop);
        } else if self.written == self.order.max_tokens {
            self.end(Finish::Length);
        } else {
            return Some(token);
        }
        None
    }

    /// Says that there will be no more of it.
    pub fn fail(self, problem: Problem) {
        self.order.answers.send(Event::Failed(problem));
    }

    fn tell_prompt(&mut self, token: u32) {
        let mut text = self.decoder.push(token);
        if self.prompt.is_empty() {
            text += &self.decoder.finish();
        }
        self.scorer.decoded(&text);
        let tokens = self.scorer.shown(&text);
        self.tell(text, tokens);
    }

    fn tell(&self, text: String, tokens: Vec<Scored>) {
        if !text.is_empty() || !tokens.is_empty() {
            // That nobody is there any more is seen before the next token.
            self.order.answers.send(Event::Piece { choice: self.order.choice, text, tokens });
        }
    }

    /// Tells what was held back, and that this is all.
    fn end(&mut self, finish: Finish) {
        if !self.stops.found() {
            let last = self.decoder.finish();
            let mut text = self.stops.push(&last);
            text += &self.stops.finish();
            self.scorer.decoded(&last);
            let tokens = self.scorer.rest(&text);
            self.tell(text, tokens);
        }
        self.order.answers.send(Event::End { choice: self.order.choice, finish, written: self.written });
    }
}
