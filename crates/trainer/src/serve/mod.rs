//! A model behind HTTP: OpenAI's completions, labels of a classifier, and a page to try it in.
//!
//! Two threads share the work. The one that opened the device computes ([`engine`], or [`labeller`] where the model classifies): it
//! takes orders from a channel and answers each on a channel of its own. The other has all connections ([`listen`], [`routes`]).
//! Neither waits for the other, but texts for clients that do not read ([`outbox`]), and a client that goes away is seen by its
//! channel being closed. [`guard`] says who is let in.

mod ask;
mod engine;
mod guard;
mod labeller;
mod listen;
mod outbox;
mod problem;
mod reply;
mod routes;
mod scores;
mod sequence;

use std::time::Duration;

pub use engine::run as write;
pub use guard::Guard;
pub use labeller::run as label;
pub use listen::{Server, bind};
pub use routes::{App, Head, Model};

/// What a client may ask for.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a body.
    pub body: usize,
    /// Tokens of a prompt.
    pub prompt_tokens: usize,
    /// Tokens written for one.
    pub max_tokens: usize,
    /// Texts that run and wait at once, of all requests.
    pub choices: usize,
    /// Texts that a request has labelled.
    pub texts: usize,
    /// How long a request may take, all in all.
    pub time: Duration,
    /// How long its head may take to come, and its body, and how long an answer may wait for a client that takes none of it.
    pub reading: Duration,
    /// Connections at once.
    pub connections: usize,
}

#[cfg(test)]
impl Limits {
    fn for_tests() -> Limits {
        Limits {
            body: 10_000,
            prompt_tokens: 16,
            max_tokens: 100,
            choices: 6,
            texts: 4,
            time: Duration::from_secs(60),
            reading: Duration::from_secs(5),
            connections: 64,
        }
    }
}
