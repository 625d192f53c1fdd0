//! Requests that no client should send: the server survives each.

use std::thread;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use super::client::{Answer, Server, request};
use crate::common::train_tiny;

/// How many there are.
const REQUESTS: usize = 10_000;

/// Any JSON.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-3_i64..20).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::from),
            vec((".{0,8}", inner), 0..5).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// What is nearly a request for completions: mostly known fields with right values.
fn nearly() -> impl Strategy<Value = Value> {
    const NUMBERS: [&str; 5] = ["max_tokens", "top_k", "n", "seed", "logprobs"];
    const SHARES: [&str; 3] = ["temperature", "top_p", "repetition_penalty"];
    const FLAGS: [&str; 3] = ["echo", "stream", "attention"];
    const OTHERS: [&str; 8] =
        ["prompt", "stop", "stream_options", "best_of", "suffix", "logit_bias", "input", "model"];
    let named =
        |names: &[&str]| prop::sample::select(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>());
    let prompt = prop_oneof![
        ".{0,4}".prop_map(Value::from),
        vec(0_u32..256, 0..16).prop_map(Value::from),
        vec(".{0,3}", 1..6).prop_map(Value::from),
    ];
    let stop = prop_oneof![".{1,3}".prop_map(Value::from), vec(".{1,3}", 0..6).prop_map(Value::from)];
    let field = prop_oneof![
        6 => (named(&NUMBERS), (1_u32..8).prop_map(Value::from)),
        3 => (named(&SHARES), (0.01..1.0).prop_map(Value::from)),
        3 => (named(&FLAGS), any::<bool>().prop_map(Value::from)),
        6 => (Just("prompt".to_owned()), prompt),
        3 => (Just("stop".to_owned()), stop),
        1 => (Just("stream_options".to_owned()), any::<bool>().prop_map(|usage| json!({"include_usage": usage}))),
        3 => (named(&[&NUMBERS[..], &SHARES, &FLAGS, &OTHERS].concat()), anything()),
    ];
    vec(field, 0..6).prop_map(|fields| Value::Object(fields.into_iter().collect()))
}

/// The bytes of a request, and whether it is one: else it may never end, and has to say that no more will come.
fn hostile() -> impl Strategy<Value = (Vec<u8>, bool)> {
    let path = prop_oneof![
        12 => Just("/v1/completions".to_owned()),
        1 => Just("/classify".to_owned()),
        1 => Just("/v1/models".to_owned()),
        1 => Just("/".to_owned()),
        2 => "/[!-~]{0,30}",
    ];
    let method = prop_oneof![6 => Just("POST".to_owned()), 1 => Just("GET".to_owned()), 1 => "[!-~]{1,8}"];
    let body = prop_oneof![
        6 => nearly().prop_map(|body| body.to_string().into_bytes()),
        2 => anything().prop_map(|body| body.to_string().into_bytes()),
        1 => vec(any::<u8>(), 0..80),
        // JSON with a byte that is another.
        2 => (nearly(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(body, at, byte)| {
            let mut body = body.to_string().into_bytes();
            let at = at.index(body.len());
            body[at] = byte;
            body
        }),
    ];
    let kind = prop_oneof![8 => Just("application/json".to_owned()), 1 => "[ -~]{0,20}"];
    let sound = (method, path, kind, body)
        .prop_map(|(method, path, kind, body)| request(&method, &path, &[("Content-Type", &kind)], &body));
    let broken_off = (sound.clone(), any::<prop::sample::Index>());
    let spoilt = (sound.clone(), any::<prop::sample::Index>(), vec(any::<u8>(), 1..9));
    prop_oneof![
        8 => sound.prop_map(|bytes| (bytes, true)),
        1 => broken_off.prop_map(|(bytes, at)| (bytes[..at.index(bytes.len())].to_vec(), false)),
        1 => spoilt.prop_map(|(mut bytes, at, more)| {
            let at = at.index(bytes.len());
            bytes.splice(at..at, more);
            (bytes, false)
        }),
        1 => vec(any::<u8>(), 0..200).prop_map(|bytes| (bytes, false)),
    ]
}

#[test]
fn ten_thousand_requests_and_none_ends_it() {
    let top = tempfile::tempdir().unwrap();
    let model = top.path().join("tiny");
    train_tiny(&model, "--steps 1 --eval-every 0 --sample-every 0");
    let mut server = Server::start(&model, "--queue 200 --max-tokens 30");
    let greedy = json!({"prompt": "The ", "max_tokens": 30, "temperature": 0});
    let before = server.complete(greedy.clone())["choices"].clone();
    let (workers, server_ref) = (4, &server);
    let counts: Vec<[usize; 6]> = thread::scope(|scope| {
        let work = |_| {
            scope.spawn(|| {
                let (mut runner, strategy) = (TestRunner::new(ProptestConfig::default()), hostile());
                let mut counts = [0; 6];
                for _ in 0..REQUESTS / workers {
                    let (bytes, whole) = strategy.new_tree(&mut runner).unwrap().current();
                    let answer = server_ref.raw(&bytes, !whole);
                    let Some(answer) = Answer::parse(&answer) else {
                        assert!(!whole, "no answer: {}", String::from_utf8_lossy(&bytes));
                        counts[0] += 1;
                        continue;
                    };
                    counts[usize::from(answer.status / 100)] += 1;
                    assert!(answer.status < 500, "{}\n{}", String::from_utf8_lossy(&bytes), answer.body);
                    // Whatever is not HTTP is answered by its layer, without a body; and what is spoilt may be two requests.
                    if whole && answer.status >= 400 && !answer.body.is_empty() {
                        answer.error(answer.status);
                    }
                }
                counts
            })
        };
        let threads: Vec<_> = (0..workers).map(work).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let sums: Vec<usize> = (0..6).map(|class| counts.iter().map(|counts| counts[class]).sum()).collect();
    println!("without HTTP, and by class of status: {sums:?}");
    // The requests are of all kinds: some are right, some wrong, some nothing at all.
    assert!(sums[2] > REQUESTS / 20 && sums[4] > REQUESTS / 4, "{sums:?}");
    assert!(server.child.try_wait().unwrap().is_none(), "the server ended");
    server.wait_until_busy(0);
    assert_eq!(server.complete(greedy)["choices"], before);
    let log = server.log.lock().unwrap();
    assert!(!log.contains("panicked"), "{log}");
}
