//! A server whose device is a GPU, here the emulated one.

use serde_json::{Value, json};

use super::client::Server;
use crate::common::train_tiny;
use crate::cuda::emulated;

#[test]
fn a_gpu_answers_as_the_cpu_does() {
    let top = tempfile::tempdir().unwrap();
    let model = top.path().join("tiny");
    train_tiny(&model, "--context 80 --steps 30 --eval-every 0 --sample-every 0");
    let cpu = Server::start(&model, "--device cpu");
    let gpu = Server::launch(emulated("serve"), &model, "--device cuda");
    // The last is read in pieces.
    let long = "In the ".repeat(10);
    let body = json!({"prompt": ["The ", "A", long], "max_tokens": 20, "temperature": 0, "logprobs": 0, "attention": true});
    let (expected, found) = (cpu.complete(body.clone()), gpu.complete(body));
    for choice in 0..3 {
        let (expected, found) = (&expected["choices"][choice], &found["choices"][choice]);
        assert_eq!(found["text"], expected["text"]);
        let flat = |choice: &Value| -> Vec<f64> {
            let rows = choice["attention"].as_array().unwrap().iter();
            let weights = rows.flat_map(|row| row.as_array().unwrap()).map(|weight| weight.as_f64().unwrap());
            weights.collect()
        };
        let (expected, found) = (flat(expected), flat(found));
        assert!(expected.len() > 60 && expected.len() == found.len(), "{} {}", expected.len(), found.len());
        assert!(expected.iter().zip(&found).all(|(a, b)| (a - b).abs() < 1e-4), "{expected:?} {found:?}");
    }
}

#[test]
fn a_device_that_is_lost_ends_the_server_in_a_sentence() {
    let top = tempfile::tempdir().unwrap();
    let model = top.path().join("tiny");
    train_tiny(&model, "--steps 1 --eval-every 0 --sample-every 0");
    let mut command = emulated("serve");
    command.env("WIKIGPT_EMU_FAIL", "attention_decode:9");
    let mut server = Server::launch(command, &model, "--device cuda");
    let failed = server.post("/v1/completions", &json!({"prompt": "A", "max_tokens": 50}));
    assert!(failed.error(500).contains("the device failed"), "{}", failed.body);
    let status = server.child.wait().unwrap();
    assert_eq!(status.code(), Some(1));
    // Its last words may come a moment after its end.
    std::thread::sleep(std::time::Duration::from_millis(200));
    let log = server.log.lock().unwrap();
    let errors: Vec<&str> = log.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{log}");
    assert!(errors[0].contains("does not recover: the server ends") && errors[0].len() < 600, "{log}");
}
