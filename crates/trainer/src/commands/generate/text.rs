//! A text that is being written: its tokens come, its end is seen.

use std::ops::ControlFlow;

use serde::Serialize;
use wikigpt_dataset::{StreamDecoder, Tokenizer};

use super::prompts::Prompt;
use crate::stop::Stops;

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// It has as many tokens as were asked for.
    Length,
    /// It came to an end of text.
    EndOfText,
    /// It came to a string of `--stop`.
    Stop,
}

/// A text, and what of it was written.
pub struct Text<'a> {
    pub prompt: Prompt,
    pub seed: u64,
    pub ids: Vec<u32>,
    /// The prompt and what was written.
    pub text: String,
    pub finish: Finish,
    /// The token that ends it, if one does.
    end: Option<u32>,
    decoder: StreamDecoder<'a>,
    stops: Stops,
}

impl<'a> Text<'a> {
    /// With nothing written.
    pub fn new(
        tokenizer: &'a Tokenizer,
        prompt: Prompt,
        seed: u64,
        end: Option<u32>,
        stops: Stops,
    ) -> Text<'a> {
        let text = prompt.text.clone();
        let decoder = StreamDecoder::new(tokenizer);
        Text { prompt, seed, ids: Vec::new(), text, finish: Finish::Length, end, decoder, stops }
    }

    /// Takes a token; gives what can be shown now, and whether the text goes on.
    pub fn push(&mut self, token: u32) -> (String, ControlFlow<()>) {
        self.ids.push(token);
        if Some(token) == self.end {
            self.finish = Finish::EndOfText;
            return (String::new(), ControlFlow::Break(()));
        }
        let shown = self.stops.push(&self.decoder.push(token));
        self.text.push_str(&shown);
        if self.stops.found() {
            self.finish = Finish::Stop;
            return (shown, ControlFlow::Break(()));
        }
        (shown, ControlFlow::Continue(()))
    }

    /// What was held back until the end.
    pub fn finish(&mut self) -> String {
        let mut shown = self.stops.push(&self.decoder.finish());
        if self.stops.found() {
            self.finish = Finish::Stop;
        } else {
            shown += &self.stops.finish();
        }
        self.text.push_str(&shown);
        shown
    }
}
