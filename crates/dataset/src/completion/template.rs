//! What stands around a prompt.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Where the prompt goes.
const PROMPT: &str = "{prompt}";
/// Where the completion goes: at the end.
const COMPLETION: &str = "{completion}";

/// Templates with names.
const NAMED: [(&str, &str); 3] = [
    ("translate", "{prompt}\nTranslation: {completion}"),
    ("summarise", "{prompt}\nTL;DR: {completion}"),
    ("answer", "{prompt}\nAnswer: {completion}"),
];

/// What stands before a prompt, and between it and its completion: `translate`, `summarise`, `answer`, or a text with
/// `{prompt}` in it. What follows it stands between; `{completion}` may say where that ends.
///
/// Spaces before the completion belong to it, because that is how tokenizers cut text. `\n` written as two characters is a line end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Template {
    written: String,
    before: String,
    between: String,
    /// Spaces that begin a completion.
    lead: String,
}

impl Template {
    /// The names that stand for templates.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMED.iter().map(|(name, _)| *name)
    }

    /// What stands before the prompt.
    pub fn before(&self) -> &str {
        &self.before
    }

    /// What stands between the prompt and the completion, without the spaces at its end.
    pub fn between(&self) -> &str {
        &self.between
    }

    /// The spaces that begin a completion.
    pub fn lead(&self) -> &str {
        &self.lead
    }
}

impl Default for Template {
    /// Nothing stands around a prompt.
    fn default() -> Self {
        PROMPT.parse().expect("it has a prompt")
    }
}

impl FromStr for Template {
    type Err = Error;

    fn from_str(written: &str) -> Result<Self, Error> {
        let wrong = |message: &str| {
            let names: Vec<_> = Template::names().collect();
            Error::argument(format!(
                "template `{written}`: {message}; give {} or a text with {PROMPT} in it",
                names.join(", ")
            ))
        };
        let named = NAMED.iter().find(|(name, _)| *name == written);
        let text = named.map_or(written, |(_, text)| text).replace("\\n", "\n");
        let (before, after) = text.split_once(PROMPT).ok_or_else(|| wrong("there is no {prompt} in it"))?;
        let (between, rest) = after.split_once(COMPLETION).unwrap_or((after, ""));
        if !rest.is_empty() {
            return Err(wrong("something stands after {completion}, which ends the text"));
        }
        if [before, between].iter().any(|part| part.contains(PROMPT) || part.contains(COMPLETION)) {
            return Err(wrong("{prompt} and {completion} stand there once, in this order"));
        }
        let kept = between.trim_end_matches(' ');
        Ok(Template {
            written: written.to_owned(),
            before: before.to_owned(),
            between: kept.to_owned(),
            lead: between[kept.len()..].to_owned(),
        })
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

impl TryFrom<String> for Template {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Template> for String {
    fn from(template: Template) -> String {
        template.written
    }
}
