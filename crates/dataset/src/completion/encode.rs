//! Examples as tokens, no longer than a model's context.

use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;

use super::{Example, Template};

/// Which end of a prompt that is too long is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Its beginning: an article says first what it is about.
    Start,
    /// Its end: the question stands behind its context.
    End,
}

/// The tokens of an example: the prompt in its template, the completion, an end of text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// All of them.
    pub tokens: Vec<u32>,
    /// How many are the prompt's: at least 1. Those after them are learned.
    pub prompt: usize,
}

impl Sequence {
    /// Positions that it takes in a row: each but the last token predicts the next.
    pub fn positions(&self) -> usize {
        self.tokens.len() - 1
    }
}

/// How many texts were too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shortened {
    /// Prompts of which a part is missing.
    pub prompts: usize,
    /// Completions of which the end is missing, and so the end of text.
    pub completions: usize,
}

/// Makes tokens of examples.
#[derive(Debug)]
pub struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    lead: &'a str,
    before: Vec<u32>,
    between: Vec<u32>,
    end: Vec<u32>,
    keep: Keep,
    /// What was shortened so far.
    pub shortened: Shortened,
}

impl<'a> Encoder<'a> {
    /// An encoder for a template. Completions end in the tokenizer's end of text, or in a line end where it has none.
    ///
    /// # Errors
    /// A tokenizer that cannot encode the template.
    pub fn new(tokenizer: &'a Tokenizer, template: &'a Template, keep: Keep) -> Result<Self> {
        let end = match tokenizer.end_of_text() {
            Some(token) => vec![token],
            None => tokenizer.encode("\n")?,
        };
        Ok(Encoder {
            tokenizer,
            lead: template.lead(),
            before: tokenizer.encode(template.before())?,
            between: tokenizer.encode(template.between())?,
            end,
            keep,
            shortened: Shortened::default(),
        })
    }

    /// The token that ends a completion.
    pub fn end(&self) -> u32 {
        *self.end.last().expect("an end of text has a token")
    }

    /// A prompt in its template, in at most `most` tokens: of a longer one a part is left out.
    ///
    /// # Errors
    /// A template that leaves no room for a prompt.
    pub fn prompt(&mut self, prompt: &str, most: usize) -> Result<Vec<u32>> {
        let (tokens, shortened) = self.fitted(self.tokenizer.encode(prompt)?, most)?;
        self.shortened.prompts += usize::from(shortened);
        Ok(tokens)
    }

    /// An example, and whether all of it is there. Of one that takes more than `context` positions the prompt loses what `keep` does
    /// not keep, all but one token of it at most; then the completion its end.
    ///
    /// # Errors
    /// As [`Encoder::prompt`].
    pub fn example(&mut self, example: &Example, context: usize) -> Result<(Sequence, bool)> {
        // The last token is no input.
        let room = context + 1;
        let prompt = self.tokenizer.encode(&example.prompt)?;
        let mut completion = self.tokenizer.encode(&format!("{}{}", self.lead, example.completion))?;
        completion.extend(&self.end);
        let around = self.before.len() + self.between.len();
        let least = around + usize::from(!prompt.is_empty());
        let cut_completion = completion.len() + least > room;
        if cut_completion {
            completion.truncate(room.saturating_sub(least));
        }
        let (mut tokens, cut_prompt) = self.fitted(prompt, room - completion.len())?;
        if completion.is_empty() {
            return Err(Error::argument(self.no_room(context)));
        }
        if tokens.is_empty() {
            return Err(Error::argument("a prompt without tokens: something must stand before a completion"));
        }
        self.shortened.prompts += usize::from(cut_prompt);
        self.shortened.completions += usize::from(cut_completion);
        let prompt = tokens.len();
        tokens.extend(completion);
        Ok((Sequence { tokens, prompt }, !cut_prompt && !cut_completion))
    }

    /// The prompt in its template, and whether a part of it is missing.
    fn fitted(&self, mut prompt: Vec<u32>, most: usize) -> Result<(Vec<u32>, bool)> {
        let around = self.before.len() + self.between.len();
        if around + usize::from(!prompt.is_empty()) > most {
            return Err(Error::argument(self.no_room(most)));
        }
        let room = most - around;
        let shortened = prompt.len() > room;
        if shortened {
            match self.keep {
                Keep::Start => prompt.truncate(room),
                Keep::End => _ = prompt.drain(..prompt.len() - room),
            }
        }
        Ok(([&self.before[..], &prompt, &self.between].concat(), shortened))
    }

    fn no_room(&self, context: usize) -> String {
        format!(
            "the template takes {} tokens, which leaves no room for a prompt and a completion in a context of {context}: \
             use a shorter template or a model with a longer context",
            self.before.len() + self.between.len()
        )
    }
}
