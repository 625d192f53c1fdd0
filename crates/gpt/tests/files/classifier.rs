//! Folders of classifiers.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::tempdir;
use wikigpt_gpt::files::{Extras, describe, load_model, save_model};
use wikigpt_gpt::{Config, init};

use crate::foreign::small;

fn classifier() -> Config {
    small().classifier(["bad", "fair", "good"].map(String::from).to_vec())
}

/// Writes a classifier and changes its config.json.
fn written(folder: &Path, change: impl FnOnce(&mut Value)) {
    let config = classifier();
    let extras = Extras { eos_token_id: Some(7), ..Extras::default() };
    save_model(folder, &config, &init(&config, 5).unwrap(), &extras).unwrap();
    let path = folder.join("config.json");
    let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut json);
    fs::write(&path, json.to_string()).unwrap();
}

#[test]
fn a_classifier_comes_back_with_its_labels() {
    let folder = tempdir().unwrap();
    written(folder.path(), |json| {
        assert_eq!(json["architectures"], json!(["GPT2ForSequenceClassification"]));
        assert_eq!(json["id2label"], json!({ "0": "bad", "1": "fair", "2": "good" }));
        assert_eq!(json["label2id"], json!({ "bad": 0, "fair": 1, "good": 2 }));
        assert_eq!(
            (&json["pad_token_id"], &json["problem_type"]),
            (&json!(7), &json!("single_label_classification"))
        );
    });
    let model = load_model(folder.path()).unwrap();
    assert_eq!(model.config, classifier());
    assert!(model.params == init(&classifier(), 5).unwrap());
    let found = describe(folder.path()).unwrap();
    let score = found.tensors.iter().find(|tensor| tensor.name.contains("score")).unwrap();
    assert_eq!((&*score.name, &score.shape[..]), ("score.weight", &[3, 34][..]));
}

#[test]
fn names_that_transformers_leaves_out_are_its_own() {
    let folder = tempdir().unwrap();
    written(folder.path(), |json| {
        json.as_object_mut().unwrap().retain(|key, _| key != "id2label" && key != "label2id");
    });
    assert_eq!(load_model(folder.path()).unwrap().config.labels, ["LABEL_0", "LABEL_1", "LABEL_2"]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let cases: [(&str, Value, &str); 5] = [
        (
            "id2label",
            json!({ "0": "bad", "1": "good" }),
            "its id2label names 2 labels, but score.weight has 3 rows",
        ),
        (
            "id2label",
            json!({ "0": "bad", "1": "good", "3": "x" }),
            "has the key '3', but labels are numbered from 0",
        ),
        ("id2label", json!({ "0": "bad", "1": "x", "2": "x" }), "two of a classifier's labels are 'x'"),
        ("id2label", json!([1]), "not the configuration of a GPT-2"),
        ("n_embd", json!(16), "score.weight has the shape [3, 34]; the model asks for a row of 16"),
    ];
    for (key, value, expected) in cases {
        let folder = tempdir().unwrap();
        written(folder.path(), |json| json[key] = value);
        let error = load_model(folder.path()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    // A language model's weights under a classifier's name.
    let folder = tempdir().unwrap();
    let config = small();
    save_model(folder.path(), &config, &init(&config, 5).unwrap(), &Extras::default()).unwrap();
    let path = folder.path().join("config.json");
    let text = fs::read_to_string(&path).unwrap().replace("GPT2LMHeadModel", "GPT2ForSequenceClassification");
    fs::write(&path, text).unwrap();
    let error = load_model(folder.path()).unwrap_err().to_string();
    assert!(error.contains("score.weight is missing"), "{error}");
}
