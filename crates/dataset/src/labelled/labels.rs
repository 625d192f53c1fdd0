//! What texts are labelled with.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use super::Example;
use crate::error::{Error, Result};

/// A label as a file has it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Label {
    /// An integer.
    Number(i64),
    /// Anything else.
    Text(String),
}

impl Label {
    /// A field's label: an integer where it is written like one.
    pub(super) fn of(field: &str) -> Label {
        match field.parse::<i64>() {
            Ok(number) if number.to_string() == field => Label::Number(number),
            _ => Label::Text(field.to_owned()),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Label::Number(_) => "an integer",
            Label::Text(_) => "text",
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Label::Number(number) => write!(f, "{number}"),
            Label::Text(text) => f.write_str(text),
        }
    }
}

/// Refuses numbers beside words.
pub(super) fn check_kinds(path: &Path, examples: &[Example]) -> Result {
    let Some(first) = examples.first() else { return Ok(()) };
    match examples.iter().find(|example| example.label.kind() != first.label.kind()) {
        None => Ok(()),
        Some(other) => Err(Error::at_line(
            path,
            other.line,
            format_args!(
                "the label '{}' is {}, but that of line {}, '{}', is {}: use one kind",
                other.label,
                other.label.kind(),
                first.line,
                first.label,
                first.label.kind()
            ),
        )),
    }
}

/// The names of labels, in order: integers by size, others by their letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels {
    names: Vec<String>,
    index: HashMap<String, usize>,
}

impl Labels {
    /// Those of a training file.
    ///
    /// # Errors
    /// [`Error::File`] when there is one only.
    pub fn of(path: &Path, examples: &[Example]) -> Result<Labels> {
        let mut labels: Vec<&Label> = examples.iter().map(|example| &example.label).collect();
        labels.sort();
        labels.dedup();
        if let [only] = labels[..] {
            let message = format!("every text has the label '{only}': there must be two labels at least");
            return Err(Error::file(path, message));
        }
        Ok(Labels::from_names(labels.iter().map(|label| label.to_string()).collect()))
    }

    /// Those of a model, in the order of its head's rows.
    pub fn from_names(names: Vec<String>) -> Labels {
        let index = names.iter().cloned().enumerate().map(|(i, name)| (name, i)).collect();
        Labels { names, index }
    }

    /// Their names.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The numbers of the labels of a file's examples.
    ///
    /// # Errors
    /// [`Error::File`] with the line of a label that is none of these.
    pub fn numbers(&self, path: &Path, examples: &[Example]) -> Result<Vec<usize>> {
        let number = |example: &Example| {
            self.index.get(&example.label.to_string()).copied().ok_or_else(|| {
                let message = format!(
                    "the label '{}' is none of the training data's: {}",
                    example.label,
                    listed(&self.names)
                );
                Error::at_line(path, example.line, message)
            })
        };
        examples.iter().map(number).collect()
    }
}

/// Names in a sentence; not all, if there are many.
pub(super) fn listed<S: AsRef<str>>(names: &[S]) -> String {
    const MOST: usize = 8;
    let mut text: Vec<String> = names.iter().take(MOST).map(|name| format!("'{}'", name.as_ref())).collect();
    if names.len() > MOST {
        text.push(format!("and {} more", names.len() - MOST));
    }
    text.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples(labels: &[&str]) -> Vec<Example> {
        let example =
            |(line, label): (u64, &&str)| Example { text: "x".into(), label: Label::of(label), line };
        (1..).zip(labels).map(example).collect()
    }

    fn of(labels: &[&str]) -> Result<Labels> {
        Labels::of(Path::new("t.csv"), &examples(labels))
    }

    #[test]
    fn integers_are_ordered_by_size_and_words_by_letters() {
        assert_eq!(of(&["10", "9", "-1", "9"]).unwrap().names(), ["-1", "9", "10"]);
        assert_eq!(of(&["b", "a", "B"]).unwrap().names(), ["B", "a", "b"]);
        // What is not written like an integer is none.
        assert_eq!(Label::of("007"), Label::Text("007".into()));
        assert_eq!(Label::of("-0"), Label::Text("-0".into()));
        let numbers = of(&["10", "9"]).unwrap().numbers(Path::new("t.csv"), &examples(&["9", "10", "10"]));
        assert_eq!(numbers.unwrap(), [0, 1, 1]);
    }

    #[test]
    fn labels_that_do_not_go_together_are_refused() {
        let path = Path::new("t.csv");
        let error = check_kinds(path, &examples(&["1", "2", "two"])).unwrap_err().to_string();
        let expected =
            "t.csv: line 3: the label 'two' is text, but that of line 1, '1', is an integer: use one kind";
        assert_eq!(error, expected);
        assert!(check_kinds(path, &examples(&["a", "b"])).is_ok());
        let error = of(&["a", "a"]).unwrap_err().to_string();
        assert_eq!(error, "t.csv: every text has the label 'a': there must be two labels at least");
        let error = of(&["a", "b"]).unwrap().numbers(path, &examples(&["a", "c"])).unwrap_err().to_string();
        assert_eq!(error, "t.csv: line 2: the label 'c' is none of the training data's: 'a', 'b'");
    }

    #[test]
    fn many_names_are_not_all_listed() {
        let names: Vec<String> = (0..10).map(|i| i.to_string()).collect();
        assert_eq!(listed(&names), "'0', '1', '2', '3', '4', '5', '6', '7', and 2 more");
    }
}
