//! What there is under which address.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::sse::{KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_core::Stream;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use wikigpt_dataset::Tokenizer;
use wikigpt_gpt::Sampling;

use super::Limits;
use super::ask::{Completion, Prompt, texts};
use super::guard::Guard;
use super::labeller::Texts;
use super::outbox::outbox;
use super::problem::{Problem, called};
use super::reply::Reply;
use super::sequence::{Event, Order};
use crate::fault::sentence;
use crate::seed;

/// What the model does, and who is asked for it.
pub enum Head {
    /// It writes.
    Language(Sender<Order>),
    /// It labels.
    Classifier(Sender<Texts>, Vec<String>),
}

/// What is told of the model.
pub struct Model {
    pub name: String,
    pub context: usize,
    pub vocab_size: usize,
}

/// What all requests share.
pub struct App {
    head: Head,
    model: Model,
    tokenizer: Arc<Tokenizer>,
    limits: Limits,
    guard: Guard,
    /// A permit for each text that may run or wait.
    places: Arc<Semaphore>,
    created: u64,
    requests: AtomicU64,
}

type Shared = State<Arc<App>>;
type Answer = Result<Response, Problem>;

impl App {
    /// Nobody has asked for anything yet.
    pub fn new(head: Head, model: Model, tokenizer: Arc<Tokenizer>, limits: Limits, guard: Guard) -> App {
        let places = Arc::new(Semaphore::new(limits.choices));
        App { head, model, tokenizer, limits, guard, places, created: now(), requests: AtomicU64::new(0) }
    }

    /// The limits that it was made with.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// All addresses.
    pub fn router(self) -> Router {
        let app = Arc::new(self);
        Router::new()
            .route("/", get(page))
            .route("/v1/completions", post(completions))
            .route("/v1/models", get(models))
            .route("/v1/models/{*name}", get(model))
            .route("/classify", post(classify))
            .route("/healthz", get(healthz))
            .fallback(nowhere)
            .method_not_allowed_fallback(wrong_method)
            .layer(from_fn_with_state(app.clone(), guarded))
            .with_state(app)
    }

    /// So many places, or the news that there are none.
    fn places(&self, count: usize) -> Result<OwnedSemaphorePermit, Problem> {
        // No more than `choices` are ever asked for, which is far below 2^32.
        self.places.clone().try_acquire_many_owned(count as u32).map_err(|_| {
            let message = "as many requests run and wait as the server takes: try again in a moment";
            Problem::new(StatusCode::TOO_MANY_REQUESTS, message).coded("queue_full")
        })
    }

    fn check_name(&self, name: &str) -> Result<(), Problem> {
        if name == self.model.name {
            return Ok(());
        }
        let message =
            format!("there is no model `{}` here: the one there is is `{}`", called(name), self.model.name);
        Err(Problem { param: Some("model".into()), ..Problem::new(StatusCode::NOT_FOUND, message) }
            .coded("model_not_found"))
    }

    /// A prompt's tokens: what `wikigpt generate` begins with too.
    fn tokens(&self, prompt: Prompt) -> Result<Vec<u32>, Problem> {
        let ids = match prompt {
            Prompt::Ids(ids) => ids,
            Prompt::Text(text) => self.encode(&text)?,
        };
        let ids = match (ids.is_empty(), self.tokenizer.end_of_text()) {
            (false, _) => ids,
            (true, Some(token)) => vec![token],
            (true, None) => self.encode("\n")?,
        };
        let (rows, most) = (self.model.vocab_size, self.limits.prompt_tokens);
        if let Some(token) = ids.iter().find(|token| **token as usize >= rows) {
            let message = format!("`prompt` has token {token}: those of the model are 0 to {}", rows - 1);
            return Err(Problem::field("prompt", message));
        }
        if ids.len() > most {
            let message = format!("`prompt` has {} tokens: at most {most} are taken here", ids.len());
            return Err(Problem::field("prompt", message).coded("context_length_exceeded"));
        }
        if ids.is_empty() {
            return Err(Problem::field(
                "prompt",
                "`prompt` has no token: say what the text is to begin with",
            ));
        }
        Ok(ids)
    }

    fn encode(&self, text: &str) -> Result<Vec<u32>, Problem> {
        let encoded = self.tokenizer.encode(text).context("`prompt` cannot be turned into tokens");
        encoded.map_err(|error| Problem::field("prompt", sentence(&error)))
    }

    /// The JSON that a request brings.
    async fn body(&self, request: Request) -> Result<Vec<u8>, Problem> {
        let (head, body) = request.into_parts();
        // A page from elsewhere may send other types without asking the browser first, but not this.
        let kind = head.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/json") {
            let message = "the body must be JSON and the header say `Content-Type: application/json`";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
        }
        match timeout(self.limits.reading, read(body, self.limits.body)).await {
            Ok(result) => result,
            Err(_) => {
                let message = format!("the body did not come within {} s", self.limits.reading.as_secs());
                Err(Problem::new(StatusCode::REQUEST_TIMEOUT, message))
            }
        }
    }
}

/// A body of at most so many bytes.
async fn read(body: Body, most: usize) -> Result<Vec<u8>, Problem> {
    let mut stream = body.into_data_stream();
    let (mut bytes, mut seen) = (Vec::new(), 0);
    while let Some(data) = poll_fn(|context| Pin::new(&mut stream).poll_next(context)).await {
        let broken =
            |_| Problem::new(StatusCode::BAD_REQUEST, "the body broke off or was not as its head says");
        let data = data.map_err(broken)?;
        seen += data.len();
        if seen <= most {
            bytes.extend_from_slice(&data);
        } else if seen > 8 * most {
            // A client that is still sending may not hear an answer, so that a little more than is taken is heard out.
            break;
        }
    }
    if seen > most {
        let message = format!("the body has more than the {most} bytes that the server takes");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, message));
    }
    Ok(bytes)
}

/// What stands before every address.
async fn guarded(State(app): Shared, request: Request, next: Next) -> Answer {
    app.guard.check(&request)?;
    Ok(next.run(request).await)
}

async fn completions(State(app): Shared, request: Request) -> Answer {
    let deadline = Instant::now() + app.limits.time;
    let body = app.body(request).await?;
    let Head::Language(engine) = &app.head else {
        let message = "the model is a classifier, which does not write: `POST /classify` labels texts";
        return Err(Problem::new(StatusCode::BAD_REQUEST, message));
    };
    let asked = Completion::read(&body, &app.limits)?;
    if let Some(name) = &asked.model {
        app.check_name(name)?;
    }
    let count = asked.prompts.len() * asked.n;
    let mut places = app.places(count)?;
    let (app_too, asked) = (app.clone(), Arc::new(asked));
    let asked_too = asked.clone();
    let prompts = spawn_blocking(move || {
        asked_too.prompts.iter().map(|prompt| app_too.tokens(prompt.clone())).collect::<Result<Vec<_>, _>>()
    });
    let prompts =
        prompts.await.map_err(|_| Problem::failed("`prompt` could not be turned into tokens"))??;
    let number = app.requests.fetch_add(1, Ordering::Relaxed);
    let id = seed::mix(now_in_nanoseconds(), number);
    let reply = Reply {
        id: format!("cmpl-{id:016x}"),
        created: now(),
        model: app.model.name.clone(),
        prompt_tokens: prompts.iter().map(Vec::len).sum(),
        choices: count,
        logprobs: asked.logprobs.is_some(),
        attention: asked.attention,
    };
    let (answers, mut events) = outbox();
    let own_seed = asked.seed.unwrap_or(id);
    for choice in 0..count {
        let (prompt, sample) = (choice / asked.n, choice % asked.n);
        // As `wikigpt generate --samples` has it: the first of a prompt's texts is what it would be alone.
        let seed = own_seed.wrapping_add(sample as u64);
        let order = Order {
            choice,
            prompt: prompts[prompt].clone(),
            max_tokens: asked.max_tokens,
            sampling: Sampling {
                temperature: asked.temperature,
                top_k: asked.top_k,
                top_p: asked.top_p,
                repetition_penalty: asked.repetition_penalty,
                seed,
            },
            stop: asked.stop.clone(),
            logprobs: asked.logprobs,
            echo: asked.echo,
            attention: asked.attention,
            deadline,
            answers: answers.clone(),
            _place: places.split(1),
        };
        engine.send(order).map_err(|_| Problem::stopping())?;
    }
    drop(answers);
    if !asked.stream {
        return Ok(json_answer(&reply.whole(events).await?));
    }
    // What fails before it begins has a status of its own.
    match events.recv().await {
        None => Err(Problem::stopping()),
        Some(Event::Failed(problem)) => Err(problem),
        Some(first) => {
            let chunks = reply.stream(first, events, asked.include_usage);
            Ok(Sse::new(chunks).keep_alive(KeepAlive::default()).into_response())
        }
    }
}

async fn classify(State(app): Shared, request: Request) -> Answer {
    let deadline = Instant::now() + app.limits.time;
    let body = app.body(request).await?;
    let Head::Classifier(labeller, names) = &app.head else {
        let message = "the model has no head that tells labels apart: `POST /v1/completions` lets it write";
        return Err(Problem::new(StatusCode::BAD_REQUEST, message));
    };
    let (texts, model) = texts(&body, &app.limits)?;
    if let Some(name) = model {
        app.check_name(&name)?;
    }
    let place = app.places(1)?;
    let app_too = app.clone();
    let encoded =
        spawn_blocking(move || texts.iter().map(|text| app_too.encode(text)).collect::<Result<Vec<_>, _>>());
    let mut tokens =
        encoded.await.map_err(|_| Problem::failed("`input` could not be turned into tokens"))??;
    let most = app.limits.prompt_tokens;
    let cut: Vec<bool> = tokens.iter().map(|tokens| tokens.len() > most).collect();
    tokens.iter_mut().for_each(|tokens| tokens.truncate(most));
    if tokens.iter().any(Vec::is_empty) {
        return Err(Problem::field("input", "`input` has a text without a token"));
    }
    let (answer, predictions) = oneshot::channel();
    let texts = Texts { tokens, deadline, answer, place: Some(place) };
    labeller.send(texts).map_err(|_| Problem::stopping())?;
    let predictions = predictions.await.map_err(|_| Problem::stopping())??;
    let data = predictions.iter().zip(cut).map(|(prediction, cut)| {
        let probabilities = names.iter().zip(&prediction.probabilities);
        let probabilities: serde_json::Map<_, _> =
            probabilities.map(|(name, probability)| (name.clone(), json!(probability))).collect();
        json!({"label": names[prediction.label], "probabilities": probabilities, "truncated": cut})
    });
    Ok(json_answer(&json!({"model": app.model.name, "data": data.collect::<Vec<_>>()})))
}

async fn models(State(app): Shared) -> Response {
    json_answer(&json!({"object": "list", "data": [app.card()]}))
}

async fn model(State(app): Shared, Path(name): Path<String>) -> Answer {
    app.check_name(&name)?;
    Ok(json_answer(&app.card()))
}

impl App {
    /// What is told of the model.
    fn card(&self) -> Value {
        let Model { name, context, vocab_size } = &self.model;
        let mut card = json!({
            "id": name,
            "object": "model",
            "created": self.created,
            "owned_by": "wikigpt",
            "context": context,
            "vocab_size": vocab_size,
            "max_tokens": self.limits.max_tokens,
        });
        if let Head::Classifier(_, labels) = &self.head {
            card["labels"] = json!(labels);
        }
        card
    }
}

/// The page to try a model in: it speaks to this server and to no other.
async fn page() -> Response {
    const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                          connect-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, include_str!("page.html")).into_response()
}

/// That the server answers, and how much of it is free.
async fn healthz(State(app): Shared) -> Response {
    let busy = app.limits.choices - app.places.available_permits();
    json_answer(&json!({"status": "ok", "busy": busy, "places": app.limits.choices}))
}

async fn nowhere(request: Request) -> Problem {
    let message = format!("there is nothing at {}", called(request.uri().path()));
    Problem::new(StatusCode::NOT_FOUND, message)
}

async fn wrong_method(request: Request) -> Problem {
    let (path, method) = (called(request.uri().path()), called(request.method().as_str()));
    let message = format!("{path} does not answer to {method}");
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, message)
}

fn json_answer(value: &Value) -> Response {
    ([(CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn now_in_nanoseconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64
}
