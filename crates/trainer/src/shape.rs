//! The model's shape: from flags, from a preset's name, or from the model that training starts from.

use anyhow::{Context, Result};
use wikigpt_gpt::Config;

use crate::fault::bad_input;
use crate::flags::Flags;
use crate::settings::positive;

/// The model's configuration, and T.
pub fn resolve(flags: &Flags, vocab_size: usize, initial: Option<&Config>) -> Result<(Config, usize)> {
    let mut config = match (initial, &flags.preset) {
        (Some(initial), _) => {
            agree(flags, initial)?;
            initial.clone()
        }
        (None, Some(name)) => Config::preset(name, vocab_size).with_context(|| format!("--preset {name}"))?,
        (None, None) => from_scratch(flags, vocab_size)?,
    };
    let context = flags.context.unwrap_or(config.context);
    match initial {
        None => config.context = context,
        Some(_) if context > config.context => {
            bad_input!(
                "--context {context}: the model to start from has a context of {} only",
                config.context
            )
        }
        Some(_) => {}
    }
    positive("context", context)?;
    for (name, value) in [("n-layer", config.n_layer), ("n-head", config.n_head), ("n-embd", config.n_embd)] {
        positive(name, value)?;
    }
    if initial.is_none() {
        config.bias = flags.bias.unwrap_or(config.bias);
        config.tied = flags.tied.unwrap_or(config.tied);
    }
    if config.n_embd % config.n_head != 0 {
        let (heads, channels) = (config.n_head, config.n_embd);
        bad_input!("--n-embd {channels} does not divide by --n-head {heads}: each head takes an equal share");
    }
    if config.vocab_size != vocab_size {
        bad_input!(
            "the model has a vocabulary of {} tokens, but the data one of {vocab_size}: prepare the data with the \
             model's tokenizer",
            config.vocab_size
        );
    }
    config.validate()?;
    Ok((config, context))
}

/// By default the preset `small`; flags change its parts.
fn from_scratch(flags: &Flags, vocab_size: usize) -> Result<Config> {
    let small = Config::preset("small", vocab_size)?;
    Ok(Config {
        n_layer: flags.n_layer.unwrap_or(small.n_layer),
        n_head: flags.n_head.unwrap_or(small.n_head),
        n_embd: flags.n_embd.unwrap_or(small.n_embd),
        ..small
    })
}

/// Flags that describe the model must agree with the one that training starts from.
fn agree(flags: &Flags, initial: &Config) -> Result<()> {
    if let Some(preset) = &flags.preset {
        bad_input!("--preset {preset} does not go with --init: the model's shape comes with its weights");
    }
    let shape = [
        ("n-layer", flags.n_layer, initial.n_layer),
        ("n-head", flags.n_head, initial.n_head),
        ("n-embd", flags.n_embd, initial.n_embd),
    ];
    for (name, asked, has) in shape {
        if let Some(asked) = asked.filter(|asked| *asked != has) {
            bad_input!("--{name} {asked}: the model to start from has {has}");
        }
    }
    for (name, asked, has) in [("bias", flags.bias, initial.bias), ("tied", flags.tied, initial.tied)] {
        if let Some(asked) = asked.filter(|asked| *asked != has) {
            bad_input!("--{name} {asked}: the model to start from has {has}");
        }
    }
    Ok(())
}
