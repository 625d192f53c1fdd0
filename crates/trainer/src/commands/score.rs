//! `wikigpt score`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde::Serialize;
use wikigpt_dataset::read_text;

use crate::fault::bad_input;
use crate::output;
use crate::scores::Scores;

/// What `--help` ends with.
pub const EXAMPLES: &str = "\
Examples:
  wikigpt score bleu --hypotheses translated.de --references test.de.gz
  wikigpt score rouge --hypotheses summaries.txt --references right.txt --references also-right.txt --json
  wikigpt score squad --hypotheses predictions.json --references dev-v1.1.json

Files hold a text a line, and may be compressed with gzip. For squad they may also be what the official script takes: SQuAD's \
JSON, and an object of answers by the questions' ids.

BLEU is sacreBLEU's (corpus level, tokenizer 13a, case kept, smoothing exp), ROUGE-L rouge_score's (F, lower case, no stemming), \
exact match and F1 those of SQuAD's script; the last three are means over the lines, in percent, beside the best reference.";

/// Flags of `wikigpt score`.
#[derive(Args)]
pub struct Arguments {
    /// Which figure
    metric: Metric,
    /// Texts to be scored
    #[arg(long, value_name = "FILE")]
    hypotheses: PathBuf,
    /// Texts that are right; more than once where each line has several
    #[arg(long, value_name = "FILE", required = true)]
    references: Vec<PathBuf>,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Metric {
    /// For translations
    Bleu,
    /// For summaries
    Rouge,
    /// Exact match and F1, for answers
    Squad,
}

/// What `score --json` prints of ROUGE-L.
#[derive(Serialize)]
struct Rouge {
    texts: u64,
    rouge_l: f64,
    precision: f64,
    recall: f64,
}

/// What `score --json` prints of answers.
#[derive(Serialize)]
struct Squad {
    texts: u64,
    exact: f64,
    f1: f64,
}

/// What `score --json` prints of translations.
#[derive(Serialize)]
struct Bleu {
    texts: u64,
    bleu: f64,
    signature: String,
    precisions: [f64; 4],
    brevity_penalty: f64,
    hypothesis_length: u64,
    reference_length: u64,
}

/// Scores a file.
pub fn run(arguments: Arguments) -> Result<()> {
    let pairs = pairs(&arguments)?;
    let mut scores = Scores::default();
    for (hypothesis, references) in &pairs {
        let references: Vec<&str> = references.iter().map(String::as_str).collect();
        scores.add(hypothesis, &references);
    }
    let texts = scores.texts();
    match arguments.metric {
        Metric::Bleu => {
            let score = scores.bleu();
            let report = Bleu {
                texts,
                bleu: score.score,
                signature: score.signature.clone(),
                precisions: score.precisions,
                brevity_penalty: score.brevity_penalty,
                hypothesis_length: score.hypothesis_length,
                reference_length: score.reference_length,
            };
            output::print(arguments.json, &report, || score.to_string())
        }
        Metric::Rouge => {
            let mean = scores.rouge_l();
            let report = Rouge {
                texts,
                rouge_l: 100.0 * mean.f,
                precision: 100.0 * mean.precision,
                recall: 100.0 * mean.recall,
            };
            output::print(arguments.json, &report, || {
                format!(
                    "ROUGE-L {:.2} (precision {:.2}, recall {:.2}) over {texts} texts",
                    report.rouge_l, report.precision, report.recall
                )
            })
        }
        Metric::Squad => {
            let report = Squad { texts, exact: scores.exact(), f1: scores.f1() };
            output::print(arguments.json, &report, || {
                format!("exact match {:.2}, F1 {:.2} over {texts} answers", report.exact, report.f1)
            })
        }
    }
}

/// Hypotheses, each with its references.
fn pairs(arguments: &Arguments) -> Result<Vec<(String, Vec<String>)>> {
    let text = read_text(&arguments.hypotheses)?;
    if matches!(arguments.metric, Metric::Squad)
        && let [references] = &arguments.references[..]
        && let Some(by_id) = by_id(&read_text(references)?)
    {
        return answers(&arguments.hypotheses, &text, references, by_id);
    }
    let hypotheses: Vec<&str> = text.lines().collect();
    let mut pairs: Vec<(String, Vec<String>)> =
        hypotheses.iter().map(|line| ((*line).to_owned(), Vec::new())).collect();
    for path in &arguments.references {
        let text = read_text(path)?;
        let lines: Vec<&str> = text.lines().collect();
        if lines.len() != pairs.len() {
            bad_input!(
                "{} has {} lines, but {} has {}: a line of one belongs to the same line of the other",
                arguments.hypotheses.display(),
                pairs.len(),
                path.display(),
                lines.len()
            );
        }
        for (pair, line) in pairs.iter_mut().zip(lines) {
            pair.1.push(line.to_owned());
        }
    }
    if pairs.is_empty() {
        bad_input!("{}: the file is empty: there is nothing to score", arguments.hypotheses.display());
    }
    Ok(pairs)
}

/// The right answers to each question of a file in SQuAD's layout, in its order; none if it is in another.
fn by_id(text: &str) -> Option<Vec<(String, Vec<String>)>> {
    let file: serde_json::Value = serde_json::from_str(text).ok()?;
    let mut questions = Vec::new();
    for article in file.get("data")?.as_array()? {
        for paragraph in article.get("paragraphs")?.as_array()? {
            for question in paragraph.get("qas")?.as_array()? {
                let answers = question.get("answers")?.as_array()?;
                let answers = answers.iter().map(|answer| Some(answer.get("text")?.as_str()?.to_owned()));
                questions.push((question.get("id")?.as_str()?.to_owned(), answers.collect::<Option<_>>()?));
            }
        }
    }
    Some(questions)
}

/// Answers by the ids of the questions; as in the official script, a question without an answer is passed over here too, but said.
fn answers(
    hypotheses: &Path,
    text: &str,
    references: &Path,
    questions: Vec<(String, Vec<String>)>,
) -> Result<Vec<(String, Vec<String>)>> {
    let mut given: BTreeMap<String, String> = match serde_json::from_str(text) {
        Ok(given) => given,
        Err(error) => bad_input!(
            "{}: {} is in the layout of SQuAD, so an object of answers by the questions' ids is expected: {error}",
            hypotheses.display(),
            references.display()
        ),
    };
    let all = questions.len();
    let pairs: Vec<_> =
        questions.into_iter().filter_map(|(id, answers)| Some((given.remove(&id)?, answers))).collect();
    if let Some(id) = given.keys().next() {
        bad_input!("{}: {} has no question {id}", hypotheses.display(), references.display());
    }
    if pairs.is_empty() {
        bad_input!("{}: no answer in it: there is nothing to score", hypotheses.display());
    }
    if pairs.len() < all {
        output::warn(&format!("{} of {all} questions have no answer and do not count", all - pairs.len()));
    }
    Ok(pairs)
}
