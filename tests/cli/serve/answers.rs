//! What completions are.

use std::io::Read;
use std::path::Path;
use std::thread;

use serde_json::{Value, json};

use super::client::{Server, joined};
use crate::common::{assert_fails, json as parse, ok, path, run, train_tiny};

fn text(completion: &Value, choice: usize) -> &str {
    completion["choices"][choice]["text"].as_str().unwrap()
}

/// What `wikigpt generate` writes after a prompt.
fn generated(model: &Path, prompt: &str, tokens: u64, flags: &str) -> String {
    let tokens = tokens.to_string();
    let line = [
        "generate",
        path(model),
        "--threads",
        "1",
        "--json",
        "--max-new-tokens",
        &tokens,
        "--prompt",
        prompt,
    ];
    let report = parse(&ok(line.into_iter().chain(flags.split_whitespace())));
    report["text"].as_str().unwrap().strip_prefix(prompt).unwrap().to_owned()
}

#[test]
fn completions_are_what_generate_writes() {
    let top = tempfile::tempdir().unwrap();
    let model = top.path().join("tiny");
    train_tiny(&model, "--steps 30 --eval-every 0 --sample-every 0");
    let server = Server::start(&model, "--slots 3");

    let greedy = server.complete(json!({"prompt": "The ", "max_tokens": 40, "temperature": 0}));
    assert_eq!(text(&greedy, 0), generated(&model, "The ", 40, "--temperature 0"));
    assert_eq!(greedy["object"], "text_completion");
    assert_eq!(greedy["model"], "tiny");
    assert_eq!(greedy["choices"][0]["finish_reason"], "length");
    assert_eq!(greedy["usage"], json!({"prompt_tokens": 4, "completion_tokens": 40, "total_tokens": 44}));

    let drawn = json!({"prompt": "Ö", "max_tokens": 60, "temperature": 0.9, "top_k": 40, "top_p": 0.95, "seed": 7, "repetition_penalty": 1.2});
    let same = generated(
        &model,
        "Ö",
        60,
        "--temperature 0.9 --top-k 40 --top-p 0.95 --seed 7 --repetition-penalty 1.2",
    );
    assert_eq!(text(&server.complete(drawn.clone()), 0), same);

    let repeated =
        json!({"prompt": "to the river", "max_tokens": 30, "temperature": 0, "repetition_penalty": 1.5});
    let same_too = generated(&model, "to the river", 30, "--temperature 0 --repetition-penalty 1.5");
    assert_eq!(text(&server.complete(repeated), 0), same_too);

    // No prompt, one in numbers, several at once and several texts of one, the first of which is as if alone.
    assert_eq!(
        text(&server.complete(json!({"temperature": 0})), 0),
        generated(&model, "", 16, "--temperature 0")
    );
    let ids = server.complete(json!({"prompt": [84, 104, 101, 32], "max_tokens": 40, "temperature": 0}));
    assert_eq!(text(&ids, 0), text(&greedy, 0));
    let several = server.complete(json!({"prompt": ["The ", "Ö"], "n": 2, "max_tokens": 60, "seed": 7,
        "temperature": 0.9, "top_k": 40, "top_p": 0.95, "repetition_penalty": 1.2}));
    assert_eq!(text(&several, 2), same);
    assert_ne!(text(&several, 3), same);
    let indices: Vec<_> =
        several["choices"].as_array().unwrap().iter().map(|choice| &choice["index"]).collect();
    assert_eq!(indices, [0, 1, 2, 3]);

    // Without a seed each is another.
    let unseeded = json!({"prompt": "The ", "max_tokens": 30});
    assert_ne!(text(&server.complete(unseeded.clone()), 0), text(&server.complete(unseeded), 0));

    // Requests that come together, twice as many as there are slots, get what each gets alone.
    let asked = |seed: u64| json!({"prompt": "A".repeat(seed as usize + 1), "max_tokens": 20 + 7 * seed, "seed": seed});
    let alone: Vec<String> = (0..6).map(|seed| text(&server.complete(asked(seed)), 0).to_owned()).collect();
    let server = &server;
    thread::scope(|scope| {
        let run = |seed| scope.spawn(move || text(&server.complete(asked(seed)), 0).to_owned());
        let together: Vec<_> = (0..6).map(run).collect();
        let together: Vec<_> = together.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert_eq!(together, alone);
    });
}

/// A prompt of several pieces is what `wikigpt generate` reads at once, whatever is written meanwhile.
#[test]
fn a_long_prompt_is_read_in_pieces() {
    let top = tempfile::tempdir().unwrap();
    let model = top.path().join("tiny");
    train_tiny(&model, "--context 220 --steps 30 --eval-every 0 --sample-every 0");
    let server = Server::start(&model, "--slots 3 --max-tokens 1000000000");
    let endless = json!({"prompt": "A", "max_tokens": 1_000_000_000, "stream": true});
    let mut beside = server.begin(&endless);
    let reading = thread::spawn(move || std::io::copy(&mut beside, &mut std::io::sink()));
    server.wait_until_busy(1);
    for bytes in [63, 64, 65, 128, 200, 220] {
        let prompt: String = (0..bytes).map(|i| char::from(b'a' + (i * i % 23) as u8)).collect();
        for penalty in [1.0, 1.5] {
            let greedy =
                json!({"prompt": prompt, "max_tokens": 40, "temperature": 0, "repetition_penalty": penalty});
            let flags = format!("--temperature 0 --repetition-penalty {penalty}");
            let expected = generated(&model, &prompt, 40, &flags);
            assert_eq!(text(&server.complete(greedy), 0), expected, "{bytes} bytes, {penalty}");
        }
    }
    drop(server);
    let _ = reading.join().unwrap();
}

#[test]
fn a_stream_is_the_answer_in_pieces() {
    let top = tempfile::tempdir().unwrap();
    let model = top.path().join("tiny");
    train_tiny(&model, "--steps 30 --eval-every 0 --sample-every 0");
    let mut server = Server::start(&model, "");
    let with = |mut body: Value, more: Value| {
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let stream = |body: &Value| {
        let body = with(body.clone(), json!({"stream": true, "stream_options": {"include_usage": true}}));
        let mut events = server.post("/v1/completions", &body).events();
        let last = events.pop().unwrap();
        assert_eq!(last["choices"], json!([]));
        assert!(
            events.iter().all(|event| event["usage"].is_null() && event["id"] == last["id"]),
            "{events:?}"
        );
        (joined(&events), last["usage"].clone())
    };
    let plain = json!({"prompt": ["The ", "é"], "max_tokens": 30, "seed": 3});
    for more in [
        json!({}),
        json!({"logprobs": 3, "n": 2}),
        json!({"echo": true}),
        json!({"echo": true, "logprobs": 2}),
        json!({"echo": true, "logprobs": 0, "max_tokens": 0}),
        json!({"max_tokens": 0}),
        json!({"stop": ["e", "zz"], "logprobs": 1}),
    ] {
        let body = with(plain.clone(), more.clone());
        let whole = server.complete(body.clone());
        let (pieces, usage) = stream(&body);
        assert_eq!(pieces["choices"], whole["choices"], "{more}");
        assert_eq!(usage, whole["usage"], "{more}");
    }
    let events = server.post("/v1/completions", &with(plain, json!({"stream": true}))).events();
    assert!(events.len() > 10 && events.iter().all(|event| event.get("usage").is_none()));

    // What ends the server lets requests have their answers first.
    let long = json!({"prompt": "A", "max_tokens": 2000, "stream": true});
    let mut under_way = server.begin(&long);
    under_way.read_exact(&mut [0; 12]).unwrap();
    let reading = thread::spawn(move || {
        let mut answer = String::new();
        under_way.read_to_string(&mut answer).map(|_| answer)
    });
    let status = server.terminate();
    assert!(status.success(), "{status}: {}", server.log.lock().unwrap());
    let answer = reading.join().unwrap().unwrap();
    assert!(answer.contains("\"length\"") && answer.contains("data: [DONE]"), "{answer}");
}

#[test]
fn stop_strings_echo_and_probabilities() {
    let top = tempfile::tempdir().unwrap();
    let model = top.path().join("tiny");
    train_tiny(&model, "--steps 30 --eval-every 0 --sample-every 0");
    let server = Server::start(&model, "");
    let greedy = json!({"prompt": "The ", "max_tokens": 40, "temperature": 0, "logprobs": 2});
    let whole = server.complete(greedy.clone());
    let written = text(&whole, 0);

    // A stop string from the middle of what is written.
    let stop = &written[written.len() / 2..][..2];
    let mut stopped = greedy.clone();
    stopped["stop"] = json!([stop, "never"]);
    let stopped = server.complete(stopped);
    assert_eq!(text(&stopped, 0), written.split(stop).next().unwrap());
    assert_eq!(stopped["choices"][0]["finish_reason"], "stop");
    let tokens =
        |completion: &Value| completion["choices"][0]["logprobs"]["tokens"].as_array().unwrap().clone();
    let said: String = tokens(&stopped).iter().map(|token| token.as_str().unwrap().to_owned()).collect();
    assert_eq!(said, text(&stopped, 0));

    // Of greedy tokens each is the likeliest, and each has its offset.
    let logprobs = &whole["choices"][0]["logprobs"];
    for (i, token) in tokens(&whole).iter().enumerate() {
        let own = logprobs["token_logprobs"][i].as_f64().unwrap();
        let top = logprobs["top_logprobs"][i].as_object().unwrap();
        assert_eq!(top.len(), 2);
        assert_eq!(top[token.as_str().unwrap()].as_f64().unwrap(), own);
        assert!(own <= 0.0 && top.values().all(|other| other.as_f64().unwrap() <= own), "{top:?}");
        assert_eq!(logprobs["text_offset"][i], i);
    }

    // A text as a prompt is told its probabilities, which are those that it was written with.
    let short = server.complete(json!({"prompt": "The ", "max_tokens": 10, "temperature": 0, "logprobs": 0}));
    let all = format!("The {}", text(&short, 0));
    let scored = server.complete(json!({"prompt": all, "max_tokens": 0, "echo": true, "logprobs": 0}));
    assert_eq!(text(&scored, 0), all);
    let scores = |completion: &Value| {
        completion["choices"][0]["logprobs"]["token_logprobs"].as_array().unwrap().clone()
    };
    assert!(scores(&scored)[0].is_null());
    assert_eq!(scores(&scored).len(), 14);
    for (again, before) in scores(&scored)[4..].iter().zip(scores(&short)) {
        assert!((again.as_f64().unwrap() - before.as_f64().unwrap()).abs() < 1e-4, "{again} {before}");
    }
    let echoed = server.complete(json!({"prompt": "The ", "max_tokens": 10, "temperature": 0, "echo": true}));
    assert_eq!(text(&echoed, 0), all);
}

#[test]
fn what_there_is() {
    let top = tempfile::tempdir().unwrap();
    let model = top.path().join("tiny");
    train_tiny(&model, "--steps 1 --eval-every 0 --sample-every 0");
    let server = Server::start(&model, "--name small");
    let models = server.get("/v1/models").json();
    assert_eq!(models["data"][0]["id"], "small");
    assert_eq!(models["data"][0]["context"], 16);
    assert_eq!(server.get("/v1/models/small").json(), models["data"][0]);
    assert!(server.get("/v1/models/other").error(404).contains("`other`"));
    assert_eq!(server.get("/healthz").json()["status"], "ok");
    let answer = server.post("/v1/completions", &json!({"model": "other"}));
    assert!(answer.error(404).contains("`small`"));
    server.complete(json!({"model": "small"}));
    assert!(server.post("/classify", &json!({"input": "a"})).error(400).contains("no head"));

    // A port that is taken, and flags that make no sense.
    let taken = run(["serve", path(&model), "--port", server.port()]);
    assert_fails(&taken, 2, &["--port", "cannot listen"], "a port that is taken");
    for (flag, value) in [
        ("--slots", "0"),
        ("--timeout", "0"),
        ("--max-prompt-tokens", "17"),
        ("--max-body", "0"),
        ("--max-tokens", "0"),
        ("--queue", "18446744073709551615"),
        ("--read-timeout", "0"),
        ("--host", "no.such.host.invalid"),
    ] {
        assert_fails(&run(["serve", path(&model), "--port", "0", flag, value]), 2, &[flag], flag);
    }
    assert_fails(&run(["serve", "nowhere"]), 2, &["nowhere"], "no model");
}
