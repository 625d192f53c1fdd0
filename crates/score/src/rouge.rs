//! ROUGE-L (Lin 2004), as the Python package `rouge_score` computes it by default.
//!
//! With l the length of the longest common subsequence of the tokens: precision l/|hypothesis|, recall l/|reference|, F their
//! harmonic mean. Tokens are runs of a-z and 0-9 in the lower-cased text; what is neither separates.

/// Precision, recall and F of one hypothesis, from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RougeL {
    /// The share of the hypothesis's tokens in the common subsequence.
    pub precision: f64,
    /// The share of the reference's tokens.
    pub recall: f64,
    /// What is meant by ROUGE-L.
    pub f: f64,
}

/// ROUGE-L beside the reference that gives the highest F, the first of several; 0 without a reference.
pub fn rouge_l(hypothesis: &str, references: &[&str]) -> RougeL {
    let hypothesis = tokens(hypothesis);
    let mut best: Option<RougeL> = None;
    for reference in references {
        let score = of_tokens(&hypothesis, &tokens(reference));
        if best.is_none_or(|best| score.f > best.f) {
            best = Some(score);
        }
    }
    best.unwrap_or_default()
}

fn of_tokens(hypothesis: &[String], reference: &[String]) -> RougeL {
    if hypothesis.is_empty() || reference.is_empty() {
        return RougeL::default();
    }
    let common = common_subsequence(hypothesis, reference) as f64;
    let (precision, recall) = (common / hypothesis.len() as f64, common / reference.len() as f64);
    let f = if common > 0.0 { 2.0 * precision * recall / (precision + recall) } else { 0.0 };
    RougeL { precision, recall, f }
}

/// The length of the longest common subsequence: row by row over `a`, of which only the last row is kept.
fn common_subsequence(a: &[String], b: &[String]) -> usize {
    let mut row = vec![0; b.len() + 1];
    for x in a {
        let mut diagonal = 0;
        for (j, y) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = if x == y { diagonal + 1 } else { above.max(row[j]) };
            diagonal = above;
        }
    }
    row[b.len()]
}

fn tokens(text: &str) -> Vec<String> {
    let text = text.to_lowercase();
    let runs = text.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit()));
    runs.filter(|run| !run.is_empty()).map(str::to_owned).collect()
}
