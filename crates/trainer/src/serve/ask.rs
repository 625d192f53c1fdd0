//! What a client asks for, read from the body of its request.

use axum::http::StatusCode;
use serde_json::{Map, Value};

use super::Limits;
use super::problem::{Problem, called};

/// Stop strings of a request, at most, and bytes of one.
const STOPS: (usize, usize) = (16, 256);
/// Alternatives to a token that are told, at most.
const ALTERNATIVES: u64 = 20;

/// Tokens whose attention one answer tells, at most.
const ATTENTIVE: usize = 1024;

/// What a text begins with.
#[derive(Clone, Debug, PartialEq)]
pub enum Prompt {
    /// In words.
    Text(String),
    /// As numbers of tokens.
    Ids(Vec<u32>),
}

/// A body of `POST /v1/completions`.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// Which model; nothing for the one there is.
    pub model: Option<String>,
    /// Texts to go on from, one at least.
    pub prompts: Vec<Prompt>,
    /// Continuations of each.
    pub n: usize,
    /// Tokens of each, at most.
    pub max_tokens: usize,
    /// As in `wikigpt_gpt::Sampling`.
    pub temperature: f64,
    pub top_k: Option<usize>,
    pub top_p: Option<f64>,
    pub repetition_penalty: f64,
    pub seed: Option<u64>,
    /// Strings before which a text ends.
    pub stop: Vec<String>,
    /// How many alternatives to tell of each token; nothing for no probabilities at all.
    pub logprobs: Option<usize>,
    /// Whether the prompt comes back before the text.
    pub echo: bool,
    /// Whether each token tells which tokens before it the model looked at.
    pub attention: bool,
    /// Whether the text is sent as it comes.
    pub stream: bool,
    /// Whether a stream ends in a count of tokens.
    pub include_usage: bool,
}

impl Completion {
    /// Reads a body.
    ///
    /// # Errors
    /// What is wrong with it, by its field.
    pub fn read(body: &[u8], limits: &Limits) -> Result<Completion, Problem> {
        let mut fields = Fields::read(body)?;
        let completion = Completion {
            model: fields.take("model", "a string", string)?,
            prompts: fields.take("prompt", PROMPTS, prompts)?.unwrap_or(vec![Prompt::Text(String::new())]),
            n: fields.take("n", "a whole number from 1 up", |value| count(value, 1))?.unwrap_or(1),
            max_tokens: fields.max_tokens(limits.max_tokens)?,
            temperature: fields
                .take("temperature", "a number from 0 up", |value| value.as_f64().filter(|x| *x >= 0.0))?
                .unwrap_or(1.0),
            top_k: fields.take("top_k", "a whole number from 1 up", |value| count(value, 1))?,
            top_p: fields.take("top_p", "a number above 0 and at most 1", |value| {
                value.as_f64().filter(|p| *p > 0.0 && *p <= 1.0)
            })?,
            repetition_penalty: fields
                .take("repetition_penalty", "a number above 0", |value| value.as_f64().filter(|x| *x > 0.0))?
                .unwrap_or(1.0),
            seed: fields.take("seed", "a whole number of 64 bits", |value| {
                value.as_u64().or(value.as_i64().map(|seed| seed as u64))
            })?,
            stop: fields
                .take("stop", "a string or up to 16 strings of 1 to 256 bytes", stops)?
                .unwrap_or_default(),
            logprobs: fields.take("logprobs", "a whole number from 0 to 20", |value| {
                value.as_u64().filter(|k| *k <= ALTERNATIVES).map(|k| k as usize)
            })?,
            echo: fields.flag("echo")?,
            attention: fields.flag("attention")?,
            stream: fields.flag("stream")?,
            include_usage: fields.stream_options()?,
        };
        fields.take("user", "a string", string)?;
        for penalty in ["presence_penalty", "frequency_penalty"] {
            fields.take(penalty, "0 or left out: there are no such penalties here", |value| {
                (value.as_f64() == Some(0.0)).then_some(())
            })?;
        }
        fields.take("best_of", "1 or as many as `n`, or left out", |value| {
            let best = value.as_u64()?;
            (best == completion.n as u64).then_some(())
        })?;
        fields.take("suffix", "left out: the model writes forwards only", |value| {
            (value.as_str() == Some("")).then_some(())
        })?;
        fields.take("logit_bias", "empty or left out: there is no bias of tokens here", |value| {
            value.as_object().filter(|biases| biases.is_empty()).map(|_| ())
        })?;
        fields.no_more()?;
        let choices = completion.prompts.len().saturating_mul(completion.n);
        if completion.attention && completion.logprobs.is_none() {
            return Err(Problem::field(
                "attention",
                "`attention` is told with `logprobs` only: ask for them too",
            ));
        }
        let tokens = choices.saturating_mul(completion.max_tokens);
        if completion.attention && !completion.stream && tokens > ATTENTIVE {
            let message = format!(
                "`attention` of up to {tokens} tokens is too much for one answer, which holds {ATTENTIVE}: ask for `stream`"
            );
            return Err(Problem::field("attention", message));
        }
        if choices > limits.choices {
            let message = format!(
                "`prompt` and `n` ask for {choices} texts at once: at most {} can run and wait here",
                limits.choices
            );
            return Err(Problem::field("n", message));
        }
        Ok(completion)
    }
}

/// A body of `POST /classify`: texts to label, one at least, and which model.
pub fn texts(body: &[u8], limits: &Limits) -> Result<(Vec<String>, Option<String>), Problem> {
    let mut fields = Fields::read(body)?;
    let what = "a string or a list of strings, none of them empty";
    let some = |text: &Value| string(text).filter(|text| !text.trim().is_empty());
    let texts: Option<Vec<String>> = fields.take("input", what, |value| match value {
        Value::Array(texts) if !texts.is_empty() => texts.iter().map(some).collect(),
        value => Some(vec![some(value)?]),
    })?;
    let model = fields.take("model", "a string", string)?;
    fields.no_more()?;
    let texts =
        texts.ok_or_else(|| Problem::field("input", format!("`input` is missing: it must be {what}")))?;
    if texts.len() > limits.texts {
        let message =
            format!("`input` has {} texts: at most {} are labelled at once", texts.len(), limits.texts);
        return Err(Problem::field("input", message));
    }
    Ok((texts, model))
}

/// The fields of a body that nobody has asked for yet.
struct Fields(Map<String, Value>);

impl Fields {
    fn read(body: &[u8]) -> Result<Fields, Problem> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Ok(Fields(fields)),
            Ok(other) => {
                let message = format!("the body must be a JSON object, got {}", shown(&other));
                Err(Problem::new(StatusCode::BAD_REQUEST, message))
            }
            Err(error) => {
                Err(Problem::new(StatusCode::BAD_REQUEST, format!("the body is not JSON: {error}")))
            }
        }
    }

    /// A field, if it is there and not null.
    fn take<T>(
        &mut self,
        name: &str,
        what: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>, Problem> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match read(&value) {
                Some(read) => Ok(Some(read)),
                None => Err(Problem::field(name, format!("`{name}` must be {what}, got {}", shown(&value)))),
            },
        }
    }

    fn flag(&mut self, name: &str) -> Result<bool, Problem> {
        Ok(self.take(name, "true or false", Value::as_bool)?.unwrap_or(false))
    }

    /// 16 where nothing else is asked for, as OpenAI has it.
    fn max_tokens(&mut self, most: usize) -> Result<usize, Problem> {
        let what = format!("a whole number from 0 to {most}, the most that this server writes");
        let asked = self.take("max_tokens", &what, |value| count(value, 0).filter(|asked| *asked <= most))?;
        Ok(asked.unwrap_or(16.min(most)))
    }

    fn stream_options(&mut self) -> Result<bool, Problem> {
        let what = "an object with `include_usage`, true or false";
        let usage = self.take("stream_options", what, |value| {
            let options = value.as_object()?;
            let known = options.keys().all(|key| key == "include_usage");
            known.then(|| options.get("include_usage").map_or(Some(false), Value::as_bool)).flatten()
        })?;
        Ok(usage.unwrap_or(false))
    }

    /// A misspelt field must not pass for one that was left out.
    fn no_more(&self) -> Result<(), Problem> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => {
                let name = called(name);
                Err(Problem::field(&name, format!("`{name}` is no field that this server knows")))
            }
        }
    }
}

fn string(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn count(value: &Value, least: usize) -> Option<usize> {
    value.as_u64().and_then(|count| usize::try_from(count).ok()).filter(|count| *count >= least)
}

fn stops(value: &Value) -> Option<Vec<String>> {
    let (most, longest) = STOPS;
    let stop = |value: &Value| string(value).filter(|stop| (1..=longest).contains(&stop.len()));
    match value {
        Value::Array(stops) if stops.len() <= most => stops.iter().map(stop).collect(),
        value => Some(vec![stop(value)?]),
    }
}

const PROMPTS: &str = "a string, a list of strings, a list of token numbers, or a list of such lists";

fn prompts(value: &Value) -> Option<Vec<Prompt>> {
    let ids = |list: &[Value]| -> Option<Prompt> {
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        Some(Prompt::Ids(list.iter().map(id).collect::<Option<_>>()?))
    };
    match value {
        Value::String(text) => Some(vec![Prompt::Text(text.clone())]),
        Value::Array(list) => match list.first()? {
            Value::Number(_) => Some(vec![ids(list)?]),
            Value::String(_) => list.iter().map(|text| Some(Prompt::Text(string(text)?))).collect(),
            _ => list.iter().map(|list| ids(list.as_array()?)).collect(),
        },
        _ => None,
    }
}

/// A value, short enough to be shown in a sentence.
fn shown(value: &Value) -> String {
    const LONGEST: usize = 60;
    let text = match value {
        Value::Array(list) if list.len() > 3 => return format!("a list of {}", list.len()),
        Value::Object(_) => return "an object".into(),
        value => value.to_string(),
    };
    match text.char_indices().nth(LONGEST) {
        None => text,
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Completion, Problem> {
        Completion::read(body.as_bytes(), &Limits { max_tokens: 100, choices: 6, ..Limits::for_tests() })
    }

    #[test]
    fn what_is_left_out_is_as_openai_has_it() {
        let empty = read("{}").unwrap();
        assert_eq!(empty.prompts, [Prompt::Text(String::new())]);
        assert_eq!((empty.n, empty.max_tokens, empty.temperature), (1, 16, 1.0));
        let nulls =
            r#"{"prompt": null, "stop": null, "seed": null, "n": null, "suffix": null, "logprobs": null}"#;
        assert_eq!(read(nulls).unwrap(), empty);
        let unasked = r#"{"presence_penalty": 0, "frequency_penalty": 0.0, "best_of": 1, "logit_bias": {}, "user": "me"}"#;
        assert_eq!(read(unasked).unwrap(), empty);
    }

    #[test]
    fn what_a_client_calls_a_field_stays_on_one_line() {
        let problem = read(r#"{"attenti\n": 1}"#).unwrap_err();
        assert_eq!(problem.message, r"`attenti\n` is no field that this server knows");
        let long = read(&format!(r#"{{"{}": 1}}"#, "\u{e9}\u{7}".repeat(1000))).unwrap_err();
        assert!(long.message.len() < 200, "{}", long.message);
    }

    #[test]
    fn attention_is_told_in_measure() {
        let limits = Limits { max_tokens: 2000, ..Limits::for_tests() };
        let read = |body: &str| Completion::read(body.as_bytes(), &limits);
        let refused = |body: &str| read(body).unwrap_err().param.as_deref() == Some("attention");
        assert!(refused(r#"{"attention": true}"#));
        assert!(read(r#"{"attention": true, "logprobs": 0}"#).is_ok());
        assert!(refused(r#"{"attention": true, "logprobs": 0, "max_tokens": 1025}"#));
        assert!(read(r#"{"attention": true, "logprobs": 0, "max_tokens": 1025, "stream": true}"#).is_ok());
    }

    #[test]
    fn prompts_come_in_four_forms() {
        let prompts = |prompt: &str| read(&format!(r#"{{"prompt": {prompt}}}"#)).map(|asked| asked.prompts);
        let text = |text: &str| Prompt::Text(text.into());
        assert_eq!(prompts(r#""a""#).unwrap(), [text("a")]);
        assert_eq!(prompts(r#"["a", ""]"#).unwrap(), [text("a"), text("")]);
        assert_eq!(prompts("[1, 2]").unwrap(), [Prompt::Ids(vec![1, 2])]);
        assert_eq!(prompts("[[1], []]").unwrap(), [Prompt::Ids(vec![1]), Prompt::Ids(vec![])]);
        for wrong in
            ["[]", "{}", "1", "true", r#"["a", 1]"#, "[1, -1]", "[1.5]", "[[1], 2]", "[null]", "[4294967296]"]
        {
            assert_eq!(prompts(wrong).unwrap_err().param.as_deref(), Some("prompt"), "{wrong}");
        }
    }

    #[test]
    fn each_wrong_field_is_named() {
        let cases = [
            (r#"{"max_tokens": 101}"#, "max_tokens", "0 to 100"),
            (r#"{"max_tokens": -1}"#, "max_tokens", "-1"),
            (r#"{"temperature": -0.1}"#, "temperature", "-0.1"),
            (r#"{"temperature": "hot"}"#, "temperature", "\"hot\""),
            (r#"{"top_p": 0}"#, "top_p", "above 0"),
            (r#"{"top_k": 0}"#, "top_k", "from 1"),
            (r#"{"repetition_penalty": 0}"#, "repetition_penalty", "above 0"),
            (r#"{"n": 0}"#, "n", "from 1"),
            (r#"{"n": 7}"#, "n", "7 texts"),
            (r#"{"n": 2, "prompt": ["a", "b", "c", "d"]}"#, "n", "8 texts"),
            (r#"{"n": 18446744073709551615, "prompt": ["a", "b"]}"#, "n", "texts"),
            (r#"{"n": 2, "best_of": 3}"#, "best_of", "as many as `n`"),
            (r#"{"seed": 1.5}"#, "seed", "1.5"),
            (r#"{"stop": ""}"#, "stop", "1 to 256"),
            (r#"{"stop": ["a", 1]}"#, "stop", "strings"),
            (r#"{"logprobs": 21}"#, "logprobs", "0 to 20"),
            (r#"{"logprobs": true}"#, "logprobs", "true"),
            (r#"{"echo": 1}"#, "echo", "true or false"),
            (r#"{"stream_options": {"usage": true}}"#, "stream_options", "include_usage"),
            (r#"{"suffix": "x"}"#, "suffix", "forwards"),
            (r#"{"frequency_penalty": 1}"#, "frequency_penalty", "no such"),
            (r#"{"logit_bias": {"1": 2}}"#, "logit_bias", "no bias"),
            (r#"{"temprature": 1}"#, "temprature", "no field"),
        ];
        for (body, field, part) in cases {
            let problem = read(body).unwrap_err();
            assert_eq!(problem.param.as_deref(), Some(field), "{body}: {problem:?}");
            assert!(problem.message.contains(part) && problem.message.contains(field), "{body}: {problem:?}");
            assert!(problem.message.len() < 200, "{problem:?}");
        }
        let long = format!(r#"{{"prompt": {{}}, "x{}": 1}}"#, "é".repeat(1000));
        assert!(read(&long).unwrap_err().message.len() < 200);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for body in ["", "{", "[]", "1", "null", "\"a\"", "{\"a\":1}{", "\u{0}", &"[".repeat(9999)] {
            let problem = read(body).unwrap_err();
            assert_eq!(problem.status, StatusCode::BAD_REQUEST);
            assert!(problem.message.starts_with("the body "), "{problem:?}");
        }
        assert!(Completion::read(b"{\"prompt\": \"\xff\"}", &Limits::for_tests()).is_err());
    }

    #[test]
    fn texts_to_label_are_there() {
        let read = |body: &str| texts(body.as_bytes(), &Limits { texts: 2, ..Limits::for_tests() });
        assert_eq!(read(r#"{"input": "a"}"#).unwrap(), (vec!["a".into()], None));
        let both = r#"{"input": ["a", "b"], "model": "m"}"#;
        assert_eq!(read(both).unwrap(), (vec!["a".into(), "b".into()], Some("m".into())));
        for wrong in
            ["{}", r#"{"input": []}"#, r#"{"input": " "}"#, r#"{"input": ["a", ""]}"#, r#"{"input": 1}"#]
        {
            assert_eq!(read(wrong).unwrap_err().param.as_deref(), Some("input"), "{wrong}");
        }
        assert!(read(r#"{"input": ["a", "b", "c"]}"#).unwrap_err().message.contains("at most 2"));
    }
}
