//! `wikigpt serve`.

use std::net::{IpAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::http::uri::Authority;
use clap::Args;
use wikigpt_dataset::Tokenizer;
use wikigpt_gpt::{Config, Evaluator, Generator};

use crate::device::{MachineFlags, with_backend};
use crate::fault::bad_input;
use crate::serve::{self, App, Guard, Head, Limits, Server};
use crate::settings::positive;
use crate::{corpus, model, output, signals};

/// What `--help` ends with.
pub const EXAMPLES: &str = "\
Examples:
  wikigpt serve runs/001
  wikigpt serve gpt2/ --port 9000 --slots 8 --device cuda
  curl http://127.0.0.1:8080/v1/completions -H 'Content-Type: application/json' -d '{\"prompt\": \"The river\"}'

OpenAI's clients work with the base URL http://127.0.0.1:8080/v1, and any key if none is set. A classifier answers POST /classify with \
{\"input\": [\"a text\"]}. With a key (better in the environment, WIKIGPT_API_KEY, than on the command line, where other users see it) \
everything but the page and /healthz wants `Authorization: Bearer KEY`. Ctrl-C stops the server when the requests at hand have \
their answers, after 10 seconds at most; a second one stops it at once.";

/// Flags of `wikigpt serve`.
#[derive(Args)]
pub struct Arguments {
    /// A run folder, a checkpoint or a Hugging Face folder
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Address to listen at; 0.0.0.0 lets other machines in
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1")]
    host: String,
    /// Port to listen at; 0 for any that is free
    #[arg(long, value_name = "N", default_value_t = 8080)]
    port: u16,
    /// A name by which requests may call the server, besides localhost and IP addresses; may be given several times
    #[arg(long, value_name = "NAME")]
    allow_host: Vec<String>,
    /// Key that requests have to bring
    #[arg(long, value_name = "KEY", env = "WIKIGPT_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// What requests call the model [default: the folder's name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Texts written at once
    #[arg(long, value_name = "N", default_value_t = 4)]
    slots: usize,
    /// Texts that may wait; further requests are answered 429
    #[arg(long, value_name = "N", default_value_t = 64)]
    queue: usize,
    /// Seconds that a request may take, waiting included
    #[arg(long, value_name = "S", default_value_t = 300)]
    timeout: u64,
    /// Seconds that a request's head may take to come, and its body, and that an answer waits for a client that takes none of it
    #[arg(long, value_name = "S", default_value_t = 10)]
    read_timeout: u64,
    /// Tokens written for a text, at most
    #[arg(long, value_name = "N", default_value_t = 4096)]
    max_tokens: usize,
    /// Tokens of a prompt, at most [default: the model's context]
    #[arg(long, value_name = "N")]
    max_prompt_tokens: Option<usize>,
    /// Bytes of a request's body, at most
    #[arg(long, value_name = "N", default_value_t = 1 << 20)]
    max_body: usize,
    #[command(flatten)]
    machine: MachineFlags,
}

/// Answers until a signal comes.
pub fn run(arguments: Arguments) -> Result<()> {
    let machine = arguments.machine.resolve()?;
    positive("slots", arguments.slots)?;
    let model = model::open(&arguments.model)?;
    let config = model.config.clone();
    let limits = limits(&arguments, &config)?;
    let tokenizer = Arc::new(corpus::tokenizer_of(&model.folder, &config)?);
    let name = arguments.name.clone().unwrap_or_else(|| name(&arguments.model));
    let names = arguments.allow_host.iter().map(|name| host_name(name)).collect::<Result<_>>()?;
    let key = arguments.api_key.clone().map(checked_key).transpose()?;
    let listener = serve::bind(&arguments.host, arguments.port)?;
    let guard = guard(&arguments.host, &listener, names, key)?;
    let about = serve::Model { name, context: config.context, vocab_size: config.vocab_size };
    let start = |head: Head, tokenizer: &Arc<Tokenizer>| -> Result<Server> {
        signals::catch_saying(
            "stopping when the requests at hand are answered, in 10 s at most (a second signal stops at once)",
        )?;
        let called = about.name.clone();
        let (server, address) =
            Server::start(listener, App::new(head, about, tokenizer.clone(), limits, guard))?;
        output::note(&format!("{called} is at http://{address} (Ctrl-C stops it)"));
        Ok(server)
    };
    let (server, ended) = with_backend!(machine.open()?, ops => {
        if config.is_classifier() {
            let B = (4096 / config.context).max(1);
            let evaluator = Evaluator::new(ops, &config, &model.params, B, config.context)?;
            drop(model);
            let (texts, asked) = channel();
            let server = start(Head::Classifier(texts, config.labels.clone()), &tokenizer)?;
            (server, serve::label(evaluator, B, &asked))
        } else {
            let generator = Generator::new(ops, &config, &model.params, arguments.slots)?;
            drop(model);
            let (orders, asked) = channel();
            let server = start(Head::Language(orders), &tokenizer)?;
            (server, serve::write(generator, &tokenizer, &asked))
        }
    });
    // Why nothing is computed any more comes before what the connections have to say of it.
    let stopped = server.stop();
    ended.and(stopped)
}

fn limits(arguments: &Arguments, config: &Config) -> Result<Limits> {
    let prompt_tokens = arguments.max_prompt_tokens.unwrap_or(config.context);
    if !(1..=config.context).contains(&prompt_tokens) {
        bad_input!(
            "--max-prompt-tokens {prompt_tokens}: must be at least 1 and at most the model's context of {}",
            config.context
        );
    }
    positive("max-tokens", arguments.max_tokens)?;
    positive("max-body", arguments.max_body)?;
    let choices = match arguments.slots.checked_add(arguments.queue) {
        Some(choices) if choices <= 1 << 20 => choices,
        _ => bad_input!("--slots {} --queue {}: more than a million", arguments.slots, arguments.queue),
    };
    let seconds = |flag: &str, seconds: u64| -> Result<Duration> {
        if !(1..=1_000_000).contains(&seconds) {
            bad_input!("--{flag} {seconds}: must be 1 to 1000000 seconds");
        }
        Ok(Duration::from_secs(seconds))
    };
    Ok(Limits {
        body: arguments.max_body,
        prompt_tokens,
        max_tokens: arguments.max_tokens,
        choices,
        texts: 256,
        time: seconds("timeout", arguments.timeout)?,
        reading: seconds("read-timeout", arguments.read_timeout)?,
        connections: 512,
    })
}

/// What is asked of requests to an address; warns where nothing is.
fn guard(host: &str, listener: &TcpListener, mut names: Vec<String>, key: Option<String>) -> Result<Guard> {
    let address = listener.local_addr().context("cannot listen")?;
    let local = address.ip().is_loopback();
    if !local && key.is_none() {
        output::warn(&format!("whoever reaches {address} can use the model: --api-key asks for a key"));
    }
    // Whoever starts it by a name means it to be called so.
    names.extend((host.parse::<IpAddr>().is_err()).then(|| host.to_owned()));
    Ok(Guard { local, names, key })
}

/// A host's name without a port, as requests have it.
fn host_name(name: &str) -> Result<String> {
    match name.parse::<Authority>() {
        Ok(authority) if authority.host() == name => Ok(name.to_owned()),
        _ => bad_input!("--allow-host {name}: not the name of a host: leave out http:// and the port"),
    }
}

/// A key that fits into a header.
fn checked_key(key: String) -> Result<String> {
    if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        // Not shown: it is a secret.
        bad_input!(
            "--api-key (or WIKIGPT_API_KEY): a key is one visible ASCII character at least, without spaces"
        );
    }
    Ok(key)
}

/// The last part of a path that says something.
fn name(path: &Path) -> String {
    let whole = path.canonicalize();
    let path = whole.as_deref().unwrap_or(path);
    path.file_name().map_or_else(|| "wikigpt".into(), |name| name.to_string_lossy().into_owned())
}
