//! What the server does not take.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::json;

use super::client::{Answer, Server, request};
use crate::common::train_tiny;

fn tiny(top: &tempfile::TempDir) -> PathBuf {
    let model = top.path().join("tiny");
    train_tiny(&model, "--steps 1 --eval-every 0 --sample-every 0");
    model
}

#[test]
fn a_full_queue_is_said_and_a_client_that_goes_away_frees_its_slot() {
    let top = tempfile::tempdir().unwrap();
    let server = Server::start(&tiny(&top), "--slots 1 --queue 1 --max-tokens 1000000000");
    let endless = |stream: bool| json!({"prompt": "A", "max_tokens": 1_000_000_000, "stream": stream});
    // One that runs and is read as it comes, and one that waits.
    let mut running = server.begin(&endless(true));
    // A place is taken before the text is in its slot: it is there when some of it has come.
    let mut some = [0; 400];
    running.read_exact(&mut some).unwrap();
    assert!(some.starts_with(b"HTTP/1.1 200 "));
    assert_eq!(server.busy(), 1);
    let waiting = server.begin(&endless(false));
    server.wait_until_busy(2);
    let full = server.post("/v1/completions", &json!({"prompt": "B"}));
    assert!(full.error(429).contains("try again"), "{}", full.body);
    assert!(full.head.contains("retry-after: 1"), "{}", full.head);
    assert!(server.post("/v1/completions", &json!({"n": 3})).error(400).contains("3 texts"));

    drop(running);
    server.wait_until_busy(1);
    drop(waiting);
    server.wait_until_busy(0);
    server.complete(json!({"prompt": "B"}));
}

#[test]
fn a_client_that_does_not_read_is_let_go() {
    let top = tempfile::tempdir().unwrap();
    let server = Server::start(
        &tiny(&top),
        "--slots 2 --queue 1 --read-timeout 3 --timeout 1000 --max-tokens 1000000000",
    );
    let endless = json!({"prompt": "A", "max_tokens": 1_000_000_000, "stream": true, "logprobs": 20});
    let mut deaf = server.begin(&endless);
    let mut slow = server.begin(&endless);
    server.wait_until_busy(2);
    // Whoever takes a little now and then is served, whoever takes nothing is not.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(12) {
        slow.read_exact(&mut [0; 8192]).unwrap();
        sleep(Duration::from_millis(50));
    }
    assert_eq!(server.busy(), 1);
    let mut rest = Vec::new();
    let _ = deaf.read_to_end(&mut rest);
    assert!(rest.starts_with(b"HTTP/1.1 200 ") && !rest.windows(6).any(|part| part == b"[DONE]"));
    server.complete(json!({"prompt": "B"}));
    drop(slow);
    server.wait_until_busy(0);
}

#[test]
fn each_request_has_its_time() {
    let top = tempfile::tempdir().unwrap();
    let server = Server::start(&tiny(&top), "--slots 1 --timeout 3 --max-tokens 1000000000");
    let endless = json!({"prompt": "A", "max_tokens": 1_000_000_000});
    let late = server.post("/v1/completions", &endless);
    assert!(late.error(504).contains("--timeout"));
    let mut streamed = endless.clone();
    streamed["stream"] = true.into();
    let events = server.post("/v1/completions", &streamed).events();
    let last = &events.last().unwrap()["error"];
    assert_eq!(last["code"], "timeout", "{last}");
    // One that waited too long.
    let _running = server.begin(&endless);
    server.wait_until_busy(1);
    server.post("/v1/completions", &endless).error(504);
    server.wait_until_busy(0);
}

#[test]
fn sizes_methods_and_types() {
    let top = tempfile::tempdir().unwrap();
    let server =
        Server::start(&tiny(&top), "--max-body 2000 --max-tokens 50 --read-timeout 3 --max-prompt-tokens 12");
    let json = [("Content-Type", "application/json")];
    let body = |length: usize| format!("{{\"prompt\": \"{}\"}}", "a".repeat(length - 14));
    let post = |body: &str| server.send("POST", "/v1/completions", &json, body.as_bytes());
    assert!(post(&body(2000)).error(400).contains("1986 tokens"));
    assert!(post(&body(2001)).error(413).contains("2000 bytes"));
    let huge = request("POST", "/v1/completions", &json, &vec![b' '; 10_000_000]);
    let huge = server.raw(&huge, false);
    assert!(huge.is_empty() || huge.starts_with(b"HTTP/1.1 413"));
    // The same in chunks, of which nobody has said how many will come.
    let chunks = "7d0\r\n".to_owned() + &" ".repeat(2000) + "\r\n";
    let head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    let chunked = server.raw(format!("{head}{}0\r\n\r\n", chunks.repeat(2)).as_bytes(), false);
    assert!(Answer::parse(&chunked).unwrap().error(413).contains("2000 bytes"));

    assert!(post("{\"max_tokens\": 51}").error(400).contains("0 to 50"));
    assert!(post("{\"prompt\": [1, 256]}").error(400).contains("token 256"));
    assert!(post("{\"prompt\": \"abcdefghijklm\"}").error(400).contains("13 tokens: at most 12"));
    assert!(post("{\"prompt\": ").error(400).contains("not JSON"));
    assert!(post("[]").error(400).contains("JSON object"));
    let answer = post("{\"temperature\": \"hot\"}");
    answer.error(400);
    assert_eq!(answer.json()["error"]["param"], "temperature");
    server.get("/v1/completions").error(405);
    server.send("DELETE", "/healthz", &[], b"").error(405);
    server.get("/v1/nothing").error(404);
    // What a page from elsewhere could send without being asked for leave.
    let plain = server.send("POST", "/v1/completions", &[("Content-Type", "text/plain")], b"{}");
    assert!(plain.error(415).contains("application/json"));
    server.send("POST", "/v1/completions", &[], b"{}").error(415);

    // A head, or a body, that does not come.
    let begun = Instant::now();
    for part in
        ["POST /v1/comp", &format!("{}Content-Length: 9\r\n\r\n{{", &head[..head.find("Transfer").unwrap()])]
    {
        let mut slow = server.connect();
        slow.write_all(part.as_bytes()).unwrap();
        let mut answer = Vec::new();
        let _ = slow.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
    assert!(begun.elapsed() < Duration::from_secs(20));
    server.complete(json!({"prompt": "A"}));
}
