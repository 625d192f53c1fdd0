//! JSONL.

use std::path::Path;

use serde_json::{Map, Value};

use super::labels::{Label, listed};
use super::{Column, Example, Reading};
use crate::error::{Error, Result};

/// The examples of a file with an object a line; blank lines are passed over.
pub fn read(path: &Path, text: &str, reading: &Reading) -> Result<Vec<Example>> {
    let key = |(column, flag): (Column, &str)| match column {
        Column::Name(name) => Ok(name),
        Column::Number(number) => {
            Err(Error::file(path, format!("{flag} {number}: the keys of JSONL go by name")))
        }
    };
    let [text_column, label_column] = reading.columns(true);
    let text_key = key((text_column, "--text-column"))?;
    let label_key = key((label_column, "--label-column"))?;
    let mut examples = Vec::new();
    for (number, source) in (1..).zip(text.lines()).filter(|(_, source)| !source.trim().is_empty()) {
        let refuse = |message: String| Error::at_line(path, number, message);
        let object: Map<String, Value> = match serde_json::from_str(source) {
            Ok(Value::Object(object)) => object,
            Ok(_) => return Err(refuse("not a JSON object, such as {\"text\": …, \"label\": …}".into())),
            Err(error) => return Err(refuse(format!("not JSON: {error}"))),
        };
        let get = |key: &str, flag: &str| {
            object.get(key).ok_or_else(|| {
                let keys: Vec<&String> = object.keys().collect();
                refuse(format!("it has no key '{key}', only {}: choose one by {flag}", listed(&keys)))
            })
        };
        let text = match get(&text_key, "--text-column")? {
            Value::String(text) if text.trim().is_empty() => {
                return Err(refuse(format!("the text ('{text_key}') is empty")));
            }
            Value::String(text) => text.clone(),
            other => return Err(refuse(format!("the text ('{text_key}') is {}, not a string", kind(other)))),
        };
        let label = match get(&label_key, "--label-column")? {
            Value::String(label) if label.trim().is_empty() => {
                return Err(refuse(format!("the label ('{label_key}') is empty")));
            }
            Value::String(label) => Label::Text(label.trim().to_owned()),
            other => match other.as_i64() {
                Some(number) => Label::Number(number),
                None => {
                    let kind = kind(other);
                    return Err(refuse(format!(
                        "the label ('{label_key}') is {kind}, neither a string nor an integer"
                    )));
                }
            },
        };
        examples.push(Example { text, label, line: number });
    }
    Ok(examples)
}

/// What a value is.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jsonl(text: &str) -> std::result::Result<Vec<Example>, String> {
        read(Path::new("t.jsonl"), text, &Reading::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn objects_are_read_line_by_line() {
        let examples =
            jsonl("{\"text\":\"a\\n\\\"b\\\"\",\"label\":3}\r\n\n{\"label\":4,\"text\":\"é\",\"id\":1}\n")
                .unwrap();
        let found: Vec<_> = examples.iter().map(|e| (&*e.text, e.label.clone(), e.line)).collect();
        assert_eq!(found, [("a\n\"b\"", Label::Number(3), 1), ("é", Label::Number(4), 3)]);
        // A string is text, whatever it looks like.
        assert_eq!(jsonl("{\"text\":\"a\",\"label\":\"3\"}").unwrap()[0].label, Label::Text("3".into()));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let good = "{\"text\":\"a\",\"label\":1}\n";
        let cases = [
            ("{\"text\":\"a\"}", "line 2: it has no key 'label', only 'text': choose one by --label-column"),
            ("[1]", "line 2: not a JSON object"),
            ("{\"text\":", "line 2: not JSON"),
            ("{\"text\":\" \",\"label\":1}", "line 2: the text ('text') is empty"),
            ("{\"text\":7,\"label\":1}", "line 2: the text ('text') is a number"),
            ("{\"text\":\"a\",\"label\":1.5}", "line 2: the label ('label') is a number, neither"),
            ("{\"text\":\"a\",\"label\":null}", "is null, neither"),
            ("{\"text\":\"a\",\"label\":\"\"}", "line 2: the label ('label') is empty"),
        ];
        for (line, expected) in cases {
            let error = jsonl(&format!("{good}{line}\n")).unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        }
        let reading = Reading { text: Some(Column::Number(1)), ..Reading::default() };
        let error = read(Path::new("t.jsonl"), good, &reading).unwrap_err().to_string();
        assert!(error.contains("--text-column 1: the keys of JSONL go by name"), "{error}");
    }
}
