//! A server under test, and what speaks to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::wikigpt;

/// `wikigpt serve`, running.
pub struct Server {
    pub child: Child,
    address: String,
    /// What it has told people.
    pub log: Arc<Mutex<String>>,
}

impl Server {
    /// Starts one for a model and waits until it answers.
    pub fn start(model: &Path, flags: &str) -> Server {
        Server::launch(wikigpt("serve"), model, flags)
    }

    /// The same by a command that is `wikigpt serve`.
    pub fn launch(mut command: Command, model: &Path, flags: &str) -> Server {
        command.args(["--port", "0", "--threads", "1"]).args(flags.split_whitespace());
        let mut child = command.arg(model).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        let address = loop {
            let mut line = String::new();
            assert!(stderr.read_line(&mut line).unwrap() > 0, "the server ended: {said}");
            said += &line;
            if let Some((_, rest)) = line.split_once("http://") {
                break rest.split_whitespace().next().unwrap().to_owned();
            }
        };
        let log = Arc::new(Mutex::new(said));
        let log_too = log.clone();
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                *log_too.lock().unwrap() += &(line + "\n");
            }
        });
        Server { child, address, log }
    }

    pub fn port(&self) -> &str {
        self.address.rsplit(':').next().unwrap()
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    /// Sends bytes as they are, and perhaps says that there will be no more; what comes back until the server hangs up, which may be
    /// nothing. Who has said so need not be answered: clients that go away say the same.
    pub fn raw(&self, bytes: &[u8], no_more: bool) -> Vec<u8> {
        let mut stream = self.connect();
        // The server need not hear all of it.
        let _ = stream.write_all(bytes);
        if no_more {
            let _ = stream.shutdown(Shutdown::Write);
        }
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        answer
    }

    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], b"")
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, &[("Content-Type", "application/json")], body.to_string().as_bytes())
    }

    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut stream = self.connect();
        stream.write_all(&request(method, path, headers, body)).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        Answer::parse(&answer).unwrap_or_else(|| panic!("no HTTP: {}", String::from_utf8_lossy(&answer)))
    }

    /// Asks for completions, which must succeed.
    #[track_caller]
    pub fn complete(&self, body: Value) -> Value {
        let answer = self.post("/v1/completions", &body);
        assert_eq!(answer.status, 200, "{body}: {}", answer.body);
        answer.json()
    }

    /// Sends a request for completions and does not wait.
    pub fn begin(&self, body: &Value) -> TcpStream {
        let mut stream = self.connect();
        let headers = [("Content-Type", "application/json")];
        let bytes = request("POST", "/v1/completions", &headers, body.to_string().as_bytes());
        stream.write_all(&bytes).unwrap();
        stream
    }

    /// Texts that run and wait.
    pub fn busy(&self) -> u64 {
        self.get("/healthz").json()["busy"].as_u64().unwrap()
    }

    /// Waits until so many texts run and wait.
    #[track_caller]
    pub fn wait_until_busy(&self, count: u64) {
        let start = Instant::now();
        while self.busy() != count {
            assert!(start.elapsed() < Duration::from_secs(60), "{} instead of {count}", self.busy());
            sleep(Duration::from_millis(2));
        }
    }

    /// Asks it to stop, as `kill` does, and waits until it has.
    pub fn terminate(&mut self) -> ExitStatus {
        // SAFETY: the child is ours and not waited for yet, so that its number stands for it.
        assert_eq!(unsafe { libc::kill(self.child.id() as i32, libc::SIGTERM) }, 0);
        self.child.wait().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A request after which the connection is closed; it is for `localhost` if it names no host.
pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "Host") {
        head += "Host: localhost\r\n";
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// What the server answered.
pub struct Answer {
    pub status: u16,
    /// In small letters.
    pub head: String,
    pub body: String,
}

impl Answer {
    /// Nothing where it is no HTTP.
    pub fn parse(bytes: &[u8]) -> Option<Answer> {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
        let head = head.to_lowercase();
        let body =
            if head.contains("transfer-encoding: chunked") { dechunked(body)? } else { body.to_owned() };
        Some(Answer { status, head, body })
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The data of server-sent events, which end in `[DONE]`.
    #[track_caller]
    pub fn events(&self) -> Vec<Value> {
        assert!(self.head.contains("content-type: text/event-stream"), "{}", self.head);
        let mut data: Vec<&str> =
            self.body.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).collect();
        assert_eq!(data.pop(), Some("[DONE]"), "{}", self.body);
        data.iter().map(|data| serde_json::from_str(data).unwrap()).collect()
    }

    /// Checks an error's form; gives its sentence.
    #[track_caller]
    pub fn error(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.body);
        let error = &self.json()["error"];
        let message = error["message"].as_str().unwrap();
        assert!(!message.is_empty() && message.len() < 600 && !message.contains('\n'), "{error}");
        assert!(error["type"].is_string(), "{error}");
        message.to_owned()
    }
}

/// The contents of chunks.
fn dechunked(mut body: &str) -> Option<String> {
    let mut whole = String::new();
    loop {
        let (size, rest) = body.split_once("\r\n")?;
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            return Some(whole);
        }
        whole += rest.get(..size)?;
        body = rest.get(size..)?.strip_prefix("\r\n")?;
    }
}

/// What a stream's chunks come to, in the form of an answer that comes whole.
pub fn joined(events: &[Value]) -> Value {
    let mut whole = events[0].clone();
    let mut choices: Vec<Value> = Vec::new();
    for choice in events.iter().flat_map(|event| event["choices"].as_array().unwrap()) {
        let index = choice["index"].as_u64().unwrap() as usize;
        while choices.len() <= index {
            choices
                .push(json!({"index": choices.len(), "text": "", "finish_reason": null, "logprobs": null}));
        }
        let so_far = &mut choices[index];
        so_far["text"] =
            (so_far["text"].as_str().unwrap().to_owned() + choice["text"].as_str().unwrap()).into();
        assert!(so_far["finish_reason"].is_null(), "it goes on after its end: {choice}");
        so_far["finish_reason"] = choice["finish_reason"].clone();
        if let Some(lists) = choice["logprobs"].as_object() {
            for (name, list) in lists {
                let known = so_far["logprobs"][name].as_array().cloned().unwrap_or_default();
                so_far["logprobs"][name] = [known, list.as_array().unwrap().clone()].concat().into();
            }
        }
    }
    whole["choices"] = choices.into();
    whole
}
