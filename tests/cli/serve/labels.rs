//! A classifier behind HTTP.

use std::fs;

use serde_json::{Value, json};

use super::client::Server;
use crate::classify::{LEARN, examples};
use crate::common::{json as parse, ok_line, path, train_tiny};

#[test]
fn labels_are_those_of_classify() {
    let top = tempfile::tempdir().unwrap();
    let at = |name: &str| top.path().join(name);
    train_tiny(&at("base"), "--steps 30 --eval-every 0 --sample-every 0");
    let table = |(text, praise): &(String, bool)| format!("{},{text}\n", if *praise { "yes" } else { "no" });
    let csv = "label,text\n".to_owned() + &examples(80, 0).iter().map(table).collect::<String>();
    fs::write(at("train.csv"), csv).unwrap();
    let (base, train, run) = (at("base"), at("train.csv"), at("run"));
    let flags = ["--train", path(&train), "--valid", path(&train), "--out", path(&run)];
    ok_line(&format!("finetune classify {LEARN} {}", path(&base)), &flags);

    let long = "not at all what was hoped for";
    let mut texts: Vec<String> = examples(20, 9001).into_iter().map(|(text, _)| text).collect();
    texts.push(long.into());
    fs::write(at("texts.txt"), texts.join("\n")).unwrap();
    let printed = ok_line("classify --json --threads 1", &[path(&run), path(&at("texts.txt"))]);
    let server = Server::start(&run, "--max-body 100000");
    let card = server.get("/v1/models").json()["data"][0].clone();
    assert_eq!(card["labels"], json!(["no", "yes"]));
    let answer = server.post("/classify", &json!({"input": texts})).json();
    let data = answer["data"].as_array().unwrap();
    assert_eq!(data.len(), texts.len());
    for ((line, found), text) in printed.lines().zip(data).zip(&texts) {
        let line = parse(line);
        assert_eq!(line["label"], found["label"]);
        for label in ["no", "yes"] {
            let p = |value: &Value| value["probabilities"][label].as_f64().unwrap();
            assert!((p(&line) - p(found)).abs() < 1e-5, "{line} {found}");
        }
        assert_eq!(found["truncated"], text == long);
    }
    let one = server.post("/classify", &json!({"input": texts[0], "model": card["id"]})).json();
    assert_eq!(one["data"][0]["label"], data[0]["label"]);

    let refused = |body: Value| server.post("/classify", &body).error(400);
    assert!(refused(json!({})).contains("`input` is missing"));
    assert!(refused(json!({"input": " "})).contains("none of them empty"));
    assert!(refused(json!({"input": vec!["a"; 257]})).contains("at most 256"));
    assert!(server.post("/classify", &json!({"input": "a", "model": "x"})).error(404).contains("`x`"));
    assert!(server.post("/v1/completions", &json!({})).error(400).contains("/classify"));
}
