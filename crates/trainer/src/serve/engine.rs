//! The one who writes: sequences of all requests, a token each a step.

use std::collections::VecDeque;
use std::sync::mpsc::Receiver;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use axum::http::StatusCode;
use wikigpt_dataset::Tokenizer;
use wikigpt_gpt::{Error, Generator};
use wikigpt_ops::Ops;

use super::problem::Problem;
use super::sequence::{Event, Order, Sequence};
use crate::fault::sentence;
use crate::output;

/// How often it is looked whether clients have caught up, where all are behind.
const REST: Duration = Duration::from_millis(2);

/// What writes in slots: a generator, but for tests.
pub trait Writer {
    /// How many sequences at once.
    fn slots(&self) -> usize;
    /// Begins one.
    fn prefill(&mut self, slot: usize, tokens: &[u32]) -> wikigpt_gpt::Result;
    /// Goes on with a token in each of some slots.
    fn step(&mut self, next: &[(usize, u32)]) -> wikigpt_gpt::Result;
    /// The logits of what comes next in a slot.
    fn logits(&self, slot: usize) -> &[f32];
    /// What the last token in a slot of the last pass looks at.
    fn attention(&mut self, slot: usize) -> wikigpt_gpt::Result<Vec<f32>>;
}

impl<O: Ops> Writer for Generator<'_, O> {
    fn slots(&self) -> usize {
        Generator::slots(self)
    }

    fn prefill(&mut self, slot: usize, tokens: &[u32]) -> wikigpt_gpt::Result {
        Generator::prefill(self, slot, tokens)
    }

    fn step(&mut self, next: &[(usize, u32)]) -> wikigpt_gpt::Result {
        Generator::step(self, next)
    }

    fn logits(&self, slot: usize) -> &[f32] {
        Generator::logits(self, slot)
    }

    fn attention(&mut self, slot: usize) -> wikigpt_gpt::Result<Vec<f32>> {
        Generator::attention(self, slot)
    }
}

/// Writes what is ordered until nobody is left to order.
///
/// # Errors
/// When the device fails and does not recover.
pub fn run(mut writer: impl Writer, tokenizer: &Tokenizer, orders: &Receiver<Order>) -> Result<()> {
    let slots = (0..writer.slots()).map(|_| None).collect();
    let mut engine = Engine { tokenizer, waiting: VecDeque::new(), slots };
    loop {
        if engine.is_idle() {
            match orders.recv() {
                Ok(order) => engine.waiting.push_back(order),
                Err(_) => return Ok(()),
            }
        }
        engine.waiting.extend(orders.try_iter());
        engine.dismiss();
        match engine.advance(&mut writer) {
            Ok(true) => {}
            // All wait for their clients.
            Ok(false) => sleep(REST),
            Err(error) => engine.recover(&mut writer, error)?,
        }
    }
}

/// A sequence in its slot, and the token that the model is to see next.
struct Running<'a> {
    sequence: Sequence<'a>,
    next: u32,
}

struct Engine<'a> {
    tokenizer: &'a Tokenizer,
    waiting: VecDeque<Order>,
    slots: Vec<Option<Running<'a>>>,
}

impl<'a> Engine<'a> {
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.slots.iter().all(Option::is_none)
    }

    /// Drops what nobody waits for any more, and what is late.
    fn dismiss(&mut self) {
        let now = Instant::now();
        self.waiting.retain(|order| {
            let late = now >= order.deadline;
            if late {
                order.answers.send(Event::Failed(too_late()));
            }
            !late && !order.answers.is_closed()
        });
        for slot in &mut self.slots {
            if slot.as_ref().is_some_and(|running| running.sequence.is_forsaken()) {
                *slot = None;
            }
            if let Some(running) = slot.take_if(|running| running.sequence.is_late(now)) {
                running.sequence.fail(too_late());
            }
        }
    }

    /// Goes on by a token in each slot whose client keeps up, then gives free slots to those that wait. Whether there was anything
    /// to do.
    ///
    /// # Errors
    /// What the device has to say: what the slots hold is not to be trusted then.
    fn advance(&mut self, writer: &mut impl Writer) -> wikigpt_gpt::Result<bool> {
        let keeps_up = self.running().filter(|(_, running)| !running.sequence.is_ahead());
        let next: Vec<(usize, u32)> = keeps_up.map(|(slot, running)| (slot, running.next)).collect();
        let mut busy = !next.is_empty();
        writer.step(&next)?;
        for (slot, _) in next {
            if let Some(running) = self.slots[slot].take() {
                self.slots[slot] = go_on(running.sequence, writer, slot)?;
            }
        }
        for slot in 0..self.slots.len() {
            // One a round: who asks for single tokens does not hold up those whose texts go on.
            if self.slots[slot].is_none() {
                let Some(order) = self.waiting.pop_front() else { break };
                self.begin(writer, slot, order)?;
                busy = true;
            }
        }
        Ok(busy)
    }

    fn running(&self) -> impl Iterator<Item = (usize, &Running<'a>)> {
        self.slots.iter().enumerate().filter_map(|(slot, running)| Some((slot, running.as_ref()?)))
    }

    /// Begins a sequence in a free slot.
    fn begin(&mut self, writer: &mut impl Writer, slot: usize, order: Order) -> wikigpt_gpt::Result {
        let answers = order.answers.clone();
        let (sequence, seen) = match Sequence::begin(order, self.tokenizer) {
            Ok(begun) => begun,
            Err(error) => {
                answers.send(Event::Failed(failed(error)));
                return Ok(());
            }
        };
        if seen.is_empty() {
            return Ok(());
        }
        self.slots[slot] = match writer.prefill(slot, &seen) {
            Ok(()) => go_on(sequence, writer, slot)?,
            Err(error) => fail(sequence, error)?,
        };
        Ok(())
    }

    /// Ends what runs after the device has failed, and tries whether it works again.
    fn recover(&mut self, writer: &mut impl Writer, error: Error) -> Result<()> {
        let told = device_failed(&error);
        output::warn(&told);
        for running in self.slots.iter_mut().filter_map(Option::take) {
            running.sequence.fail(Problem::failed(told.clone()));
        }
        let Err(again) = writer.prefill(0, &[0]) else { return Ok(()) };
        for order in self.waiting.drain(..) {
            order.answers.send(Event::Failed(Problem::failed(told.clone())));
        }
        Err(again).context("the device failed and does not recover: the server ends")
    }
}

/// Draws the next token of a sequence; gives it back if it goes on.
///
/// # Errors
/// What the device has to say, which the sequence's client has heard.
fn go_on<'a>(
    mut sequence: Sequence<'a>,
    writer: &mut impl Writer,
    slot: usize,
) -> wikigpt_gpt::Result<Option<Running<'a>>> {
    let attention = if sequence.wants_attention() { writer.attention(slot) } else { Ok(Vec::new()) };
    match attention.and_then(|attention| sequence.take(writer.logits(slot), attention)) {
        Ok(next) => Ok(next.map(|next| Running { sequence, next })),
        Err(error) => fail(sequence, error),
    }
}

/// Ends a sequence; hands on what is about the device and not about it alone.
fn fail<'a>(sequence: Sequence<'_>, error: Error) -> wikigpt_gpt::Result<Option<Running<'a>>> {
    if let Error::Ops(_) = error {
        sequence.fail(Problem::failed(device_failed(&error)));
        return Err(error);
    }
    sequence.fail(failed(error));
    Ok(None)
}

/// What a client is told whose time is over.
pub fn too_late() -> Problem {
    let message = "the request took longer than the server gives one (`--timeout`): ask for fewer tokens";
    Problem::new(StatusCode::GATEWAY_TIMEOUT, message).coded("timeout")
}

fn failed(error: Error) -> Problem {
    Problem::failed(sentence(&error.into()))
}

fn device_failed(error: &Error) -> String {
    format!("the device failed while the text was written: {error}")
}

#[cfg(test)]
mod tests;
