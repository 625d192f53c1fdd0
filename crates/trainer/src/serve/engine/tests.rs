use std::sync::mpsc::{Sender, channel};
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
}

impl Alphabet {
    fn new(slots: usize) -> Alphabet {
        Alphabet { logits: vec![[0.0; 256]; slots], fails: None, broken_after: 0, over: None }
    }

    fn pass(&mut self) -> wikigpt_gpt::Result {
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
        self.pass()?;
        self.look(slot, *tokens.last().unwrap());
        Ok(())
    }

    fn step(&mut self, next: &[(usize, u32)]) -> wikigpt_gpt::Result {
        if next.is_empty() {
            return Ok(());
        }
        self.pass()?;
        next.iter().for_each(|(slot, token)| self.look(*slot, *token));
        Ok(())
    }

    fn logits(&self, slot: usize) -> &[f32] {
        &self.logits[slot]
    }

    fn attention(&mut self, _: usize) -> wikigpt_gpt::Result<Vec<f32>> {
        Ok(Vec::new())
    }
}

/// Orders a text that begins with a letter.
fn order(orders: &Sender<Order>, letter: u8, max_tokens: usize, time: Duration) -> Events {
    let (answers, events) = outbox();
    let order = Order {
        choice: 0,
        prompt: vec![u32::from(letter)],
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
