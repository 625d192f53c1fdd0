//! SQuAD's JSON (Rajpurkar et al. 2016): articles of paragraphs with questions, whose answers are parts of the paragraph.

use std::path::Path;

use serde::Deserialize;

use super::{Example, Examples};
use crate::error::{Error, Result};
use crate::text_file;

#[derive(Deserialize)]
struct File {
    data: Vec<Article>,
}

#[derive(Deserialize)]
struct Article {
    #[serde(default)]
    title: String,
    paragraphs: Vec<Paragraph>,
}

#[derive(Deserialize)]
struct Paragraph {
    context: String,
    qas: Vec<Question>,
}

#[derive(Deserialize)]
struct Question {
    question: String,
    #[serde(default)]
    answers: Vec<Answer>,
}

#[derive(Deserialize)]
struct Answer {
    text: String,
}

/// Reads a file: a prompt is the paragraph, a line end and `Question: …`; the completion is the first answer. Questions without one
/// (there are such in version 2) are left out.
pub fn read(path: &Path) -> Result<Examples> {
    let text = text_file::read(path)?;
    let file: File = serde_json::from_str(&text)
        .map_err(|error| Error::file(path, format!("not in the layout of SQuAD: {error}")))?;
    let mut examples = Examples::default();
    let mut without_answer = 0;
    for (number, article) in (1..).zip(file.data) {
        let group = if article.title.is_empty() { format!("article {number}") } else { article.title };
        for paragraph in article.paragraphs {
            for question in paragraph.qas {
                let mut references: Vec<String> = Vec::new();
                for answer in question.answers {
                    if !answer.text.trim().is_empty() && !references.contains(&answer.text) {
                        references.push(answer.text);
                    }
                }
                let Some(completion) = references.first().cloned() else {
                    without_answer += 1;
                    continue;
                };
                examples.list.push(Example {
                    prompt: format!("{}\nQuestion: {}", paragraph.context.trim(), question.question.trim()),
                    completion,
                    references,
                    group: Some(group.clone()),
                });
            }
        }
    }
    examples.left_out = (without_answer > 0).then_some((without_answer, "questions without an answer"));
    Ok(examples)
}
