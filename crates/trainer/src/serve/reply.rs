//! Answers in OpenAI's form.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::response::sse;
use futures_core::Stream;
use serde_json::{Map, Value, json};

use super::outbox::Events;
use super::problem::Problem;
use super::scores::Scored;
use super::sequence::Event;

/// What all answers to a request have in common, and what is known of its texts so far.
pub struct Reply {
    /// The request's own name.
    pub id: String,
    /// Seconds since 1970.
    pub created: u64,
    /// The model's name.
    pub model: String,
    /// Tokens of all its prompts.
    pub prompt_tokens: usize,
    /// Texts that it has.
    pub choices: usize,
    /// Whether tokens come with their probabilities, and with what the model looked at.
    pub logprobs: bool,
    pub attention: bool,
}

impl Reply {
    /// The whole answer, when all of it has come.
    pub async fn whole(self, mut events: Events) -> Result<Value, Problem> {
        let mut texts = vec![(String::new(), Vec::new(), Value::Null); self.choices];
        let (mut ended, mut written_in_all) = (0, 0);
        while ended < self.choices {
            match events.recv().await {
                Some(Event::Piece { choice, text, tokens }) => {
                    texts[choice].0 += &text;
                    texts[choice].1.extend(tokens);
                }
                Some(Event::End { choice, finish, written }) => {
                    texts[choice].2 = finish.name().into();
                    ended += 1;
                    written_in_all += written;
                }
                Some(Event::Failed(problem)) => return Err(problem),
                None => return Err(Problem::stopping()),
            }
        }
        let choices = (0..)
            .zip(texts)
            .map(|(index, (text, tokens, finish))| self.choice(index, &text, &tokens, finish));
        let choices = choices.collect();
        Ok(self.object(choices, Some(self.usage(written_in_all))))
    }

    /// The answer as it comes, of which the first event has come already.
    pub fn stream(self, first: Event, events: Events, include_usage: bool) -> Chunks {
        Chunks {
            reply: self,
            first: Some(first),
            events,
            include_usage,
            ended: 0,
            written: 0,
            left: Left::Text,
        }
    }

    fn object(&self, choices: Vec<Value>, usage: Option<Value>) -> Value {
        let mut object = json!({
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.model,
            "choices": choices,
        });
        if let Some(usage) = usage {
            object["usage"] = usage;
        }
        object
    }

    fn usage(&self, written: usize) -> Value {
        json!({
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": written,
            "total_tokens": self.prompt_tokens + written,
        })
    }

    fn choice(&self, index: usize, text: &str, tokens: &[Scored], finish: Value) -> Value {
        let mut choice = json!({"index": index, "text": text, "logprobs": null, "finish_reason": finish});
        if self.logprobs {
            choice["logprobs"] = logprobs(tokens);
        }
        if self.attention {
            choice["attention"] = tokens.iter().map(|token| json!(token.attention)).collect();
        }
        choice
    }
}

fn logprobs(tokens: &[Scored]) -> Value {
    let top = |token: &Scored| match token.logprob {
        None => Value::Null,
        Some(_) => {
            let top = token.top.iter().map(|(name, logprob)| (name.clone(), json!(logprob)));
            Value::Object(top.collect::<Map<_, _>>())
        }
    };
    json!({
        "tokens": tokens.iter().map(|token| &token.text).collect::<Vec<_>>(),
        "token_logprobs": tokens.iter().map(|token| token.logprob).collect::<Vec<_>>(),
        "top_logprobs": tokens.iter().map(top).collect::<Vec<_>>(),
        "text_offset": tokens.iter().map(|token| token.offset).collect::<Vec<_>>(),
    })
}

/// What a stream has still to say.
#[derive(Clone, Copy, PartialEq)]
enum Left {
    Text,
    Usage,
    Done,
    Nothing,
}

/// An answer as server-sent events.
pub struct Chunks {
    reply: Reply,
    first: Option<Event>,
    events: Events,
    include_usage: bool,
    ended: usize,
    written: usize,
    left: Left,
}

impl Chunks {
    fn chunk(&mut self, event: Event) -> Value {
        let choice = match event {
            Event::Piece { choice, text, tokens } => self.reply.choice(choice, &text, &tokens, Value::Null),
            Event::End { choice, finish, written } => {
                self.ended += 1;
                self.written += written;
                if self.ended == self.reply.choices {
                    self.left = if self.include_usage { Left::Usage } else { Left::Done };
                }
                self.reply.choice(choice, "", &[], finish.name().into())
            }
            Event::Failed(problem) => {
                self.left = Left::Done;
                return problem.json();
            }
        };
        self.reply.object(vec![choice], self.include_usage.then_some(Value::Null))
    }
}

impl Stream for Chunks {
    type Item = Result<sse::Event, std::convert::Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let data = match self.left {
            Left::Text => {
                let event = match self.first.take() {
                    Some(event) => event,
                    None => match self.events.poll_recv(context) {
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(event) => event.unwrap_or(Event::Failed(Problem::stopping())),
                    },
                };
                self.chunk(event).to_string()
            }
            Left::Usage => {
                self.left = Left::Done;
                let usage = self.reply.usage(self.written);
                self.reply.object(Vec::new(), Some(usage)).to_string()
            }
            Left::Done => {
                self.left = Left::Nothing;
                "[DONE]".into()
            }
            Left::Nothing => return Poll::Ready(None),
        };
        Poll::Ready(Some(Ok(sse::Event::default().data(data))))
    }
}
