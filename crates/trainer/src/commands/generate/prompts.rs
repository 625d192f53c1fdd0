//! What texts begin with.

use anyhow::Result;
use wikigpt_dataset::{Tokenizer, read_text};
use wikigpt_gpt::Config;

use super::Arguments;
use crate::fault::bad_input;
use crate::output;

/// What a text begins with.
#[derive(Clone)]
pub struct Prompt {
    /// Printed before what the model writes.
    pub text: String,
    /// Seen by the model.
    pub ids: Vec<u32>,
}

/// All prompts that the arguments name; at least one.
pub fn prompts(arguments: &Arguments, tokenizer: &Tokenizer, config: &Config) -> Result<Vec<Prompt>> {
    if let Some(list) = &arguments.prompt_ids {
        let ids = token_ids(list, config.vocab_size)?;
        let text = String::from_utf8_lossy(&tokenizer.decode(&ids)).into_owned();
        return Ok(vec![checked(text, ids, tokenizer, config)?]);
    }
    let texts = match (&arguments.prompt_file, &arguments.prompts) {
        (Some(path), _) => vec![read_text(path)?],
        (_, Some(path)) => {
            let text = read_text(path)?;
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            if lines.is_empty() {
                bad_input!("--prompts {}: it has no lines", path.display());
            }
            lines
        }
        _ if arguments.prompt.is_empty() => vec![String::new()],
        _ => arguments.prompt.clone(),
    };
    texts
        .into_iter()
        .map(|text| {
            let ids = tokenizer.encode(&text)?;
            checked(text, ids, tokenizer, config)
        })
        .collect()
}

/// A prompt longer than the context keeps its end. A model has to begin somewhere: without a prompt, after an end of text, or a
/// line break where there is none.
fn checked(text: String, mut ids: Vec<u32>, tokenizer: &Tokenizer, config: &Config) -> Result<Prompt> {
    if ids.is_empty() {
        ids = match tokenizer.end_of_text() {
            Some(token) => vec![token],
            None => tokenizer.encode("\n")?,
        };
    }
    if let Some(token) = ids.iter().find(|token| **token as usize >= config.vocab_size) {
        bad_input!("the prompt has token {token}, but the model's vocabulary {} tokens", config.vocab_size);
    }
    if ids.is_empty() {
        bad_input!("the prompt has no tokens: say what the text is to begin with");
    }
    let context = config.context;
    if ids.len() > context {
        output::note(&format!(
            "the prompt has {} tokens, the model's context {context}: the model sees its end",
            ids.len()
        ));
        ids.drain(..ids.len() - context);
    }
    Ok(Prompt { text, ids })
}

fn token_ids(list: &str, vocab_size: usize) -> Result<Vec<u32>> {
    let mut ids = Vec::new();
    for word in list.split_whitespace() {
        match word.parse() {
            Ok(id) if (id as usize) < vocab_size => ids.push(id),
            _ => bad_input!(
                "--prompt-ids: {word} is not a token of the model, which are 0 to {}",
                vocab_size - 1
            ),
        }
    }
    Ok(ids)
}
