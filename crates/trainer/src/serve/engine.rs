//! The one who writes: sequences of all requests, a token each a step.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::Receiver;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use axum::http::StatusCode;
use wikigpt_dataset::Tokenizer;
use wikigpt_gpt::{Error, Generator, Sampler};
use wikigpt_ops::Ops;

use super::problem::Problem;
use super::sequence::{Event, Order, Sequence};
use crate::fault::sentence;
use crate::output;

/// Tokens of prompts that are read between two steps of the texts that are written: a long prompt does not hold those up.
const READ: usize = 64;
/// How often it is looked whether clients have caught up, where all are behind.
const REST: Duration = Duration::from_millis(2);

/// A token, or why there is none.
type Drawn = wikigpt_gpt::Result<u32>;

/// What writes in slots: a generator, but for tests.
pub trait Writer {
    /// How many sequences at once.
    fn slots(&self) -> usize;
    /// Begins one.
    fn prefill(&mut self, slot: usize, tokens: &[u32]) -> wikigpt_gpt::Result;
    /// Goes on in one with more of its prompt.
    fn extend(&mut self, slot: usize, tokens: &[u32]) -> wikigpt_gpt::Result;
    /// Goes on with a token in each of some slots.
    fn step(&mut self, next: &[(usize, u32)]) -> wikigpt_gpt::Result;
    /// Draws what comes next in some slots of the last pass.
    fn draw(&mut self, samplers: &mut [(usize, &mut Sampler)]) -> wikigpt_gpt::Result<Vec<Drawn>>;
    /// The logits of what comes next in a slot of the last pass.
    fn logits(&mut self, slot: usize) -> wikigpt_gpt::Result<&[f32]>;
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

    fn extend(&mut self, slot: usize, tokens: &[u32]) -> wikigpt_gpt::Result {
        Generator::extend(self, slot, tokens)
    }

    fn step(&mut self, next: &[(usize, u32)]) -> wikigpt_gpt::Result {
        Generator::step(self, next)
    }

    fn draw(&mut self, samplers: &mut [(usize, &mut Sampler)]) -> wikigpt_gpt::Result<Vec<Drawn>> {
        Generator::draw_each(self, samplers)
    }

    fn logits(&mut self, slot: usize) -> wikigpt_gpt::Result<&[f32]> {
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
    let mut engine = Engine { tokenizer, waiting: VecDeque::new(), reading: None, slots };
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

/// A sequence whose prompt the model is still being shown, in a slot that is nobody else's.
struct Reading<'a> {
    sequence: Sequence<'a>,
    slot: usize,
    prompt: Vec<u32>,
    /// How much of it the model has seen.
    read: usize,
}

struct Engine<'a> {
    tokenizer: &'a Tokenizer,
    waiting: VecDeque<Order>,
    /// One prompt is read at a time, so that each is read as soon as it can be.
    reading: Option<Reading<'a>>,
    slots: Vec<Option<Running<'a>>>,
}

impl<'a> Engine<'a> {
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.reading.is_none() && self.slots.iter().all(Option::is_none)
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
        let over = |sequence: &Sequence| sequence.is_forsaken() || sequence.is_late(now);
        let reading = self.reading.take_if(|reading| over(&reading.sequence));
        let written =
            self.slots.iter_mut().filter_map(|slot| slot.take_if(|running| over(&running.sequence)));
        let written = written.map(|running| running.sequence);
        // Of those that are forsaken nobody hears it.
        reading
            .map(|reading| reading.sequence)
            .into_iter()
            .chain(written)
            .for_each(|sequence| sequence.fail(too_late()));
    }

    /// Goes on by a token in each slot whose client keeps up, then reads some of the prompts of those that wait. Whether there was
    /// anything to do.
    ///
    /// # Errors
    /// What the device has to say: what the slots hold is not to be trusted then.
    fn advance(&mut self, writer: &mut impl Writer) -> wikigpt_gpt::Result<bool> {
        let keeps_up = self.running().filter(|(_, running)| !running.sequence.is_ahead());
        let next: Vec<(usize, u32)> = keeps_up.map(|(slot, running)| (slot, running.next)).collect();
        let mut busy = !next.is_empty();
        writer.step(&next)?;
        let passed: Vec<usize> = next.iter().map(|(slot, _)| *slot).collect();
        self.go_on(writer, &passed)?;
        let mut most = READ;
        // As many prompts as there are slots: who asks for single tokens does not hold up those whose texts go on.
        for _ in 0..self.slots.len() {
            if most == 0 || !self.begin() {
                break;
            }
            most -= self.read(writer, most)?;
            busy = true;
        }
        Ok(busy)
    }

    fn running(&self) -> impl Iterator<Item = (usize, &Running<'a>)> {
        self.slots.iter().enumerate().filter_map(|(slot, running)| Some((slot, running.as_ref()?)))
    }

    /// Gives a free slot to the first of those that wait, unless a prompt is being read already. Whether there is one to read.
    fn begin(&mut self) -> bool {
        while self.reading.is_none() {
            let Some(slot) = self.slots.iter().position(Option::is_none) else { return false };
            let Some(order) = self.waiting.pop_front() else { return false };
            let answers = order.answers.clone();
            match Sequence::begin(order, self.tokenizer) {
                Ok((_, prompt)) if prompt.is_empty() => {}
                Ok((sequence, prompt)) => self.reading = Some(Reading { sequence, slot, prompt, read: 0 }),
                Err(error) => answers.send(Event::Failed(failed(error))),
            }
        }
        true
    }

    /// Shows the model more of the prompt that is being read, so many tokens at most; gives how many. After the last the sequence
    /// is written.
    fn read(&mut self, writer: &mut impl Writer, most: usize) -> wikigpt_gpt::Result<usize> {
        let Some(mut reading) = self.reading.take() else { return Ok(0) };
        let Reading { slot, read, .. } = reading;
        let end = reading.prompt.len().min(read + most);
        let piece = &reading.prompt[read..end];
        let shown = if read == 0 { writer.prefill(slot, piece) } else { writer.extend(slot, piece) };
        match shown {
            Ok(()) if end < reading.prompt.len() => {
                reading.read = end;
                self.reading = Some(reading);
            }
            Ok(()) => {
                self.slots[slot] = Some(Running { sequence: reading.sequence, next: 0 });
                self.go_on(writer, &[slot])?;
            }
            Err(error) => fail(reading.sequence, error)?,
        }
        Ok(end - read)
    }

    /// Draws what comes next in the sequences of the last pass, all at once, and takes it.
    fn go_on(&mut self, writer: &mut impl Writer, passed: &[usize]) -> wikigpt_gpt::Result {
        let mut samplers: Vec<(usize, &mut Sampler)> = Vec::new();
        for (slot, running) in self.slots.iter_mut().enumerate().filter(|(slot, _)| passed.contains(slot)) {
            let sampler = running.as_mut().and_then(|running| running.sequence.draws());
            samplers.extend(sampler.map(|sampler| (slot, sampler)));
        }
        let drawn = writer.draw(&mut samplers)?;
        let slots: Vec<usize> = samplers.into_iter().map(|(slot, _)| slot).collect();
        let mut drawn: BTreeMap<usize, Drawn> = slots.into_iter().zip(drawn).collect();
        for slot in passed {
            if let Some(running) = self.slots[*slot].take() {
                self.slots[*slot] = take(running, writer, *slot, drawn.remove(slot))?;
            }
        }
        Ok(())
    }

    /// Ends what runs after the device has failed, and tries whether it works again.
    fn recover(&mut self, writer: &mut impl Writer, error: Error) -> Result<()> {
        let told = device_failed(&error);
        output::warn(&told);
        let reading = self.reading.take().map(|reading| reading.sequence);
        let written = self.slots.iter_mut().filter_map(Option::take).map(|running| running.sequence);
        for sequence in reading.into_iter().chain(written) {
            sequence.fail(Problem::failed(told.clone()));
        }
        // The logits are waited for, and with them the device.
        let tried = writer.prefill(0, &[0]).and_then(|()| writer.logits(0).map(drop));
        let Err(again) = tried else { return Ok(()) };
        for order in self.waiting.drain(..) {
            order.answers.send(Event::Failed(Problem::failed(told.clone())));
        }
        Err(again).context("the device failed and does not recover: the server ends")
    }
}

/// Takes what comes next in a sequence, which was drawn if it draws; gives it back if it goes on.
///
/// # Errors
/// What the device has to say, which the sequence's client has heard.
fn take<'a>(
    mut running: Running<'a>,
    writer: &mut impl Writer,
    slot: usize,
    drawn: Option<Drawn>,
) -> wikigpt_gpt::Result<Option<Running<'a>>> {
    let sequence = &mut running.sequence;
    let attention = if sequence.wants_attention() { writer.attention(slot) } else { Ok(Vec::new()) };
    let taken = attention.and_then(|attention| {
        let logits = if sequence.wants_logits() { writer.logits(slot)? } else { &[] };
        Ok(sequence.take(drawn.transpose()?, logits, attention))
    });
    match taken {
        Ok(next) => Ok(next.map(|next| Running { next, ..running })),
        Err(error) => fail(running.sequence, error).map(|()| None),
    }
}

/// Ends a sequence; hands on what is about the device and not about it alone.
fn fail(sequence: Sequence<'_>, error: Error) -> wikigpt_gpt::Result {
    if let Error::Ops(_) = error {
        sequence.fail(Problem::failed(device_failed(&error)));
        return Err(error);
    }
    sequence.fail(failed(error));
    Ok(())
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
