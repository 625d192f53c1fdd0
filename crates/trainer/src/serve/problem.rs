//! What a client is told when it does not get what it asked for.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// A status and one sentence, sent in the form that OpenAI's clients read.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// What HTTP calls it.
    pub status: StatusCode,
    /// The field that is wrong.
    pub param: Option<String>,
    /// What a program can tell it by.
    pub code: Option<&'static str>,
    /// What is wrong, where, and what to do.
    pub message: String,
}

/// What a client called something, fit for a sentence: short, and on one line.
pub fn called(name: &str) -> String {
    name.escape_debug().take(60).collect()
}

impl Problem {
    /// A problem that has no field.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Problem {
        Problem { status, param: None, code: None, message: message.into() }
    }

    /// A field that is not what it should be.
    pub fn field(name: &str, message: impl Into<String>) -> Problem {
        Problem { param: Some(name.into()), ..Problem::new(StatusCode::BAD_REQUEST, message) }
    }

    /// Something that failed here, and is not the client's fault.
    pub fn failed(message: impl Into<String>) -> Problem {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    /// The server is about to end.
    pub fn stopping() -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping")
    }

    /// The same with what a program can tell it by.
    pub fn coded(self, code: &'static str) -> Problem {
        Problem { code: Some(code), ..self }
    }

    /// The body that says so.
    pub fn json(&self) -> Value {
        let kind = match self.status {
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        json!({"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}})
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response =
            (self.status, [(CONTENT_TYPE, "application/json")], self.json().to_string()).into_response();
        let more = match self.status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Some((RETRY_AFTER, "1")),
            StatusCode::UNAUTHORIZED => Some((WWW_AUTHENTICATE, "Bearer")),
            _ => None,
        };
        if let Some((name, value)) = more {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}
