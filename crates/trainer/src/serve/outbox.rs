//! Events on their way to a client, counted: a text waits for a client that does not take what it has been told.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::sequence::Event;

/// So many events wait for a client before its texts wait too: tokens as a rule, with all that is told of them.
pub const MOST: usize = 256;

/// Where the texts of a request go.
#[derive(Clone)]
pub struct Outbox {
    sender: UnboundedSender<Event>,
    waiting: Arc<AtomicUsize>,
}

/// Where they come from.
pub struct Events {
    receiver: UnboundedReceiver<Event>,
    waiting: Arc<AtomicUsize>,
}

/// Both ends.
pub fn outbox() -> (Outbox, Events) {
    let (sender, receiver) = unbounded_channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    (Outbox { sender, waiting: waiting.clone() }, Events { receiver, waiting })
}

impl Outbox {
    /// Sends an event; nobody may be there any more. It is for the texts to wait while the outbox is full: what ends one is
    /// always sent.
    pub fn send(&self, event: Event) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _ = self.sender.send(event);
    }

    /// Whether the client has gone away.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Whether so much waits for the client that nothing should be added.
    pub fn is_full(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) >= MOST
    }
}

impl Events {
    /// The next event, or the news that there will be none.
    pub async fn recv(&mut self) -> Option<Event> {
        poll_fn(|context| self.poll_recv(context)).await
    }

    /// The same for a stream.
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Option<Event>> {
        let event = ready!(self.receiver.poll_recv(context));
        Poll::Ready(self.taken(event))
    }

    /// The same where nothing else has to be done meanwhile.
    #[cfg(test)]
    pub fn blocking_recv(&mut self) -> Option<Event> {
        let event = self.receiver.blocking_recv();
        self.taken(event)
    }

    fn taken(&self, event: Option<Event>) -> Option<Event> {
        if event.is_some() {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        event
    }

    /// How many wait.
    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.receiver.len()
    }
}
