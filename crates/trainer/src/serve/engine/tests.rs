use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use wikigpt_dataset::TokenizerSpec;
use wikigpt_gpt::Sampling;

use super::*;
use crate::serve::outbox::{Events, MOST, outbox};
use crate::serve::sequence::Finish;

/// Writes the alphabet on from a prompt's last letter, and fails when told.
struct Alphabet {
    /// The letter that comes next in each slot.
    logits: Vec<[f32; 256]>,
    /// Passes until the device fails, and whether it stays so.
    fails: Option<(usize, bool)>,
    /// After this letter comes none.
    broken_after: u8,
    /// After this letter it comes again.
    over: Option<u8>,
    /// What was done, and how long each pass takes.
    passes: Arc<Mutex<Vec<Pass>>>,
    time: Duration,
}

#[derive(Clone, Debug, PartialEq)]
enum Pass {
    Prefill(usize, Vec<u32>),
    Extend(usize, Vec<u32>),
    Step(Vec<usize>),
}

impl Alphabet {
    fn new(slots: usize) -> Alphabet {
        Alphabet {
            logits: vec![[0.0; 256]; slots],
            fails: None,
            broken_after: 0,
            over: None,
            passes: Arc::default(),
            time: Duration::ZERO,
        }
    }

    fn pass(&mut self, pass: Pass) -> wikigpt_gpt::Result {
        sleep(self.time);
        self.passes.lock().unwrap().push(pass);
        match &mut self.fails {
            Some((0, stays)) => {
                if !*stays {
                    self.fails = None;
                }
                Err(wikigpt_ops::Error::Device { op: "gelu", device: "dev".into(), message: "gone".into() }
                    .into())
            }
            Some((left, _)) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn look(&mut self, slot: usize, token: u32) {
        let filler = if token == u32::from(self.broken_after) { f32::NAN } else { 0.0 };
        self.logits[slot] = [filler; 256];
        let next = if self.over.map(u32::from) == Some(token) { token } else { token + 1 };
        self.logits[slot][next as usize] = 9.0;
    }
}

impl Writer for Alphabet {
    fn slots(&self) -> usize {
        self.logits.len()
    }

    fn prefill(&mut self, slot: usize, tokens: &[u32]) -> wikigpt_gpt::Result {
        self.pass(Pass::Prefill(slot, tokens.to_vec()))?;
        self.look(slot, *tokens.last().unwrap());
        Ok(())
    }

    fn extend(&mut self, slot: usize, tokens: &[u32]) -> wikigpt_gpt::Result {
        self.pass(Pass::Extend(slot, tokens.to_vec()))?;
        self.look(slot, *tokens.last().unwrap());
        Ok(())
    }

    fn step(&mut self, next: &[(usize, u32)]) -> wikigpt_gpt::Result {
        if next.is_empty() {
            return Ok(());
        }
        self.pass(Pass::Step(next.iter().map(|(slot, _)| *slot).collect()))?;
        next.iter().for_each(|(slot, token)| self.look(*slot, *token));
        Ok(())
    }

    /// The likeliest, whatever the sampler.
    fn draw(&mut self, samplers: &mut [(usize, &mut Sampler)]) -> wikigpt_gpt::Result<Vec<Drawn>> {
        let draw = |(slot, _): &(usize, &mut Sampler)| {
            let logits = &self.logits[*slot];
            if logits[0].is_nan() {
                return Err(Error::Config("the logit of token 0 is NaN".into()));
            }
            Ok(logits.iter().position(|logit| *logit == 9.0).expect("there is a likeliest") as u32)
        };
        Ok(samplers.iter().map(draw).collect())
    }

    fn logits(&mut self, slot: usize) -> wikigpt_gpt::Result<&[f32]> {
        Ok(&self.logits[slot])
    }

    fn attention(&mut self, _: usize) -> wikigpt_gpt::Result<Vec<f32>> {
        Ok(Vec::new())
    }
}

/// Orders a text that begins with a letter.
fn order(orders: &Sender<Order>, letter: u8, max_tokens: usize, time: Duration) -> Events {
    order_after(orders, vec![u32::from(letter)], max_tokens, time)
}

/// Orders a text that begins with a prompt.
fn order_after(orders: &Sender<Order>, prompt: Vec<u32>, max_tokens: usize, time: Duration) -> Events {
    let (answers, events) = outbox();
    let order = Order {
        choice: 0,
        prompt,
        max_tokens,
        sampling: Sampling::GREEDY,
        stop: Vec::new(),
        logprobs: None,
        echo: false,
        attention: false,
        deadline: Instant::now() + time,
        answers,
        _place: None,
    };
    orders.send(order).unwrap();
    events
}

const LONG: Duration = Duration::from_secs(600);

/// The text, and how it ended.
fn text(mut events: Events) -> (String, Result<Finish, Problem>) {
    let mut whole = String::new();
    loop {
        match events.blocking_recv().expect("it ends in a word") {
            Event::Piece { text, .. } => whole += &text,
            Event::End { finish, .. } => return (whole, Ok(finish)),
            Event::Failed(problem) => return (whole, Err(problem)),
        }
    }
}

/// Runs a writer on orders that are all there when it begins; how it ended.
fn write(writer: Alphabet, orders: Receiver<Order>) -> Result<()> {
    run(writer, &Tokenizer::build(&TokenizerSpec::Bytes, "").unwrap(), &orders)
}

#[test]
fn more_texts_than_slots() {
    let (sender, orders) = channel();
    let events: Vec<_> = (0..7).map(|i| order(&sender, b'a' + i, 3 + usize::from(i) % 3, LONG)).collect();
    drop(sender);
    write(Alphabet::new(2), orders).unwrap();
    let texts: Vec<_> = events.into_iter().map(text).collect();
    let expected = ["bcd", "cdef", "defgh", "efg", "fghi", "ghijk", "hij"];
    assert_eq!(texts.iter().map(|(text, _)| text).collect::<Vec<_>>(), expected);
    assert!(texts.iter().all(|(_, end)| *end == Ok(Finish::Length)));
}

#[test]
fn what_nobody_waits_for_is_not_written() {
    let (sender, orders) = channel();
    // Endless, but forsaken: both in its slot and in the queue.
    let running = order(&sender, b'A', usize::MAX, LONG);
    let waiting = order(&sender, b'A', usize::MAX, LONG);
    let late = order(&sender, b'a', 3, Duration::ZERO);
    let last = order(&sender, b'a', 3, LONG);
    drop((sender, running, waiting));
    let writing = thread::spawn(|| write(Alphabet::new(1), orders));
    assert_eq!(text(last).0, "bcd");
    let (nothing, problem) = text(late);
    assert_eq!((nothing.as_str(), problem.unwrap_err().status), ("", StatusCode::GATEWAY_TIMEOUT));
    writing.join().unwrap().unwrap();
}

#[test]
fn a_text_waits_for_a_client_that_does_not_read() {
    let (sender, orders) = channel();
    let mut slow = order(&sender, b'A', 4 * MOST, LONG);
    let others: Vec<_> = (0..20).map(|_| order(&sender, b'a', 20, LONG)).collect();
    let writing = thread::spawn(|| write(Alphabet { over: Some(b'A'), ..Alphabet::new(2) }, orders));
    // Whoever reads is not kept waiting.
    for events in others {
        assert_eq!(text(events).1, Ok(Finish::Length));
    }
    let patience = Instant::now() + Duration::from_secs(60);
    while slow.waiting() < MOST && Instant::now() < patience {
        sleep(Duration::from_millis(1));
    }
    for _ in 0..5 {
        assert_eq!(slow.waiting(), MOST);
        sleep(Duration::from_millis(10));
    }
    // It goes on where some is taken, and nothing of it is lost.
    for _ in 0..10 {
        assert!(matches!(slow.blocking_recv(), Some(Event::Piece { .. })));
    }
    while slow.waiting() < MOST && Instant::now() < patience {
        sleep(Duration::from_millis(1));
    }
    assert_eq!(slow.waiting(), MOST);
    assert_eq!(text(slow), ("A".repeat(4 * MOST - 10), Ok(Finish::Length)));
    // One that is forsaken while it waits makes room.
    let forsaken = order(&sender, b'A', usize::MAX, LONG);
    while forsaken.waiting() < MOST && Instant::now() < patience {
        sleep(Duration::from_millis(1));
    }
    drop((forsaken, sender));
    writing.join().unwrap().unwrap();
}

/// A prompt of so many tokens, no two pieces of which are alike; the letter `c` comes next.
fn long_prompt(tokens: usize) -> Vec<u32> {
    (0..tokens as u32)
        .rev()
        .map(|i| if i == 0 { u32::from(b'b') } else { i % 251 * (i % 239) % 251 })
        .collect()
}

#[test]
fn a_long_prompt_does_not_hold_up_the_others() {
    let (sender, orders) = channel();
    let prompt = long_prompt(10 * READ + 5);
    let short = order(&sender, b'a', 20, LONG);
    let long = order_after(&sender, prompt.clone(), 3, LONG);
    // It comes last and is read last, though there is a slot for it.
    let last = order_after(&sender, long_prompt(READ), 2, LONG);
    drop(sender);
    let writer = Alphabet::new(3);
    let passes = writer.passes.clone();
    write(writer, orders).unwrap();
    assert_eq!(text(short), ("bcdefghijklmnopqrstu".into(), Ok(Finish::Length)));
    assert_eq!(text(long), ("cde".into(), Ok(Finish::Length)));
    assert_eq!(text(last), ("cd".into(), Ok(Finish::Length)));

    let passes = passes.lock().unwrap();
    let mut seen: [Vec<u32>; 3] = Default::default();
    // From step to step no more than is stated is read, in the order in which the prompts came; and the one text goes on.
    let (mut read, mut steps) = (0, 0);
    for pass in passes.iter() {
        match pass {
            Pass::Step(slots) => {
                assert!(slots.contains(&0) || steps >= 19, "{slots:?}");
                (read, steps) = (0, steps + 1);
            }
            Pass::Prefill(slot, piece) | Pass::Extend(slot, piece) => {
                assert_eq!(seen[*slot].is_empty(), matches!(pass, Pass::Prefill(..)));
                assert!(*slot < 2 || seen[1].len() == prompt.len());
                seen[*slot].extend(piece);
                read += piece.len();
                assert!(read <= READ, "{read} tokens between two steps");
            }
        }
    }
    assert_eq!(seen, [vec![u32::from(b'a')], prompt, long_prompt(READ)]);
    assert_eq!(steps, 19);
}

#[test]
fn a_prompt_that_nobody_waits_for_is_not_read_on() {
    const PIECES: usize = 5000;
    let prompt = long_prompt(PIECES * READ);
    let writer = Alphabet { time: Duration::from_millis(1), ..Alphabet::new(1) };
    let passes = writer.passes.clone();
    let (sender, orders) = channel();
    let writing = thread::spawn(|| write(writer, orders));
    let late = order_after(&sender, prompt.clone(), 3, Duration::from_millis(200));
    let forsaken = order_after(&sender, prompt, 3, LONG);
    let last = order(&sender, b'a', 3, LONG);
    drop(sender);
    assert_eq!(text(late).1.unwrap_err().status, StatusCode::GATEWAY_TIMEOUT);
    let prefills = || passes.lock().unwrap().iter().filter(|pass| matches!(pass, Pass::Prefill(..))).count();
    while prefills() < 2 {
        sleep(Duration::from_millis(1));
    }
    drop(forsaken);
    assert_eq!(text(last).0, "bcd");
    writing.join().unwrap().unwrap();
    assert!(passes.lock().unwrap().len() < PIECES);
}

#[test]
fn a_text_that_fails_fails_alone() {
    let (sender, orders) = channel();
    let events = [order(&sender, b'a', 9, LONG), order(&sender, b'm', 9, LONG)];
    drop(sender);
    write(Alphabet { broken_after: b'd', ..Alphabet::new(2) }, orders).unwrap();
    let [(broken, problem), (whole, _)] = events.map(text);
    let problem = problem.unwrap_err();
    assert_eq!((broken.as_str(), problem.status.as_u16()), ("bcd", 500));
    assert!(problem.message.contains("NaN"), "{problem:?}");
    assert_eq!(whole, "nopqrstuv");
}

#[test]
fn a_device_that_fails_once_ends_what_runs_and_goes_on() {
    for at in 0..5 {
        let (sender, orders) = channel();
        let events: Vec<_> = (0..5).map(|i| order(&sender, b'a' + i, 3, LONG)).collect();
        drop(sender);
        write(Alphabet { fails: Some((at, false)), ..Alphabet::new(2) }, orders).unwrap();
        let ends: Vec<_> = events.into_iter().map(text).collect();
        let failed: Vec<_> = ends.iter().filter_map(|(_, end)| end.as_ref().err()).collect();
        assert!((1..=2).contains(&failed.len()), "{at}: {ends:?}");
        assert!(
            failed.iter().all(|problem| problem.status == 500 && problem.message.contains("gone")),
            "{failed:?}"
        );
        assert_eq!(ends[4], ("fgh".into(), Ok(Finish::Length)));
    }
}

#[test]
fn a_device_that_fails_ends_the_prompt_that_is_read() {
    // After both have begun: now in the piece of a prompt, now in the other's step.
    for at in 2..8 {
        let (sender, orders) = channel();
        let short = order(&sender, b'a', 20, LONG);
        let long = order_after(&sender, long_prompt(10 * READ), 3, LONG);
        let last = order(&sender, b'a', 3, LONG);
        drop(sender);
        write(Alphabet { fails: Some((at, false)), ..Alphabet::new(2) }, orders).unwrap();
        for events in [short, long] {
            let problem = text(events).1.unwrap_err();
            assert!(problem.status == 500 && problem.message.contains("gone"), "{at}: {problem:?}");
        }
        assert_eq!(text(last).0, "bcd");
    }
}

#[test]
fn a_device_that_is_lost_ends_the_server() {
    let (sender, orders) = channel();
    let events: Vec<_> = (0..4).map(|i| order(&sender, b'a' + i, 9, LONG)).collect();
    let error = write(Alphabet { fails: Some((3, true)), ..Alphabet::new(2) }, orders).unwrap_err();
    assert!(sentence(&error).contains("does not recover"), "{error:#}");
    assert_eq!(crate::fault::exit_status(&error), 1);
    for events in events {
        assert_eq!(text(events).1.unwrap_err().status, StatusCode::INTERNAL_SERVER_ERROR);
    }
}
