//! A batch for a person to look at, with what is learned of it marked.

use wikigpt_dataset::Tokenizer;
use wikigpt_ops::IGNORE;

use crate::progress::thousands;
use crate::tuning::Batch;

/// Rows that are shown.
const ROWS: usize = 4;

/// The first rows of a batch, a line each: texts between bars, tokens that are learned between ⟦ and ⟧, line ends as \n.
///
/// It is read off what the model is given, not off where that came from.
pub fn marked(batch: &Batch, tokenizer: &Tokenizer) -> String {
    let learned = thousands(batch.weight() as u64);
    let mut text = format!(
        "the first batch, {} rows of {} positions; the {learned} tokens between ⟦ and ⟧ are learned:",
        batch.B, batch.T
    );
    for b in 0..batch.B.min(ROWS) {
        let row = b * batch.T..(b + 1) * batch.T;
        text += &format!(
            "\n  {}",
            marked_row(
                &batch.inputs[row.clone()],
                &batch.targets[row.clone()],
                &batch.starts[row],
                tokenizer
            )
        );
    }
    if batch.B > ROWS {
        text += &format!("\n  … and {} rows more", batch.B - ROWS);
    }
    text
}

fn marked_row(inputs: &[u32], targets: &[u32], starts: &[u32], tokenizer: &Tokenizer) -> String {
    let mut texts = Vec::new();
    let mut start = 0;
    while start < inputs.len() {
        let len = starts[start..].iter().take_while(|s| **s == start as u32).count().max(1);
        let end = start + len;
        // Tokens in a row that are all learned, or all not.
        let mut runs: Vec<(bool, Vec<u32>)> = vec![(false, vec![inputs[start]])];
        for (t, target) in (start..end).zip(&targets[start..end]) {
            let learned = *target != IGNORE;
            let token = match (learned, inputs.get(t + 1).filter(|_| t + 1 < end)) {
                (true, _) => *target,
                (false, Some(next)) => *next,
                (false, None) => break,
            };
            match runs.last_mut().filter(|(of, _)| *of == learned) {
                Some((_, run)) => run.push(token),
                None => runs.push((learned, vec![token])),
            }
        }
        if runs.len() == 1 && !runs[0].0 {
            texts.push(format!("({len} positions without anything to learn)"));
        } else {
            let of = |(learned, run): &(bool, Vec<u32>)| {
                let text = String::from_utf8_lossy(&tokenizer.decode(run)).replace('\n', "\\n");
                if *learned { format!("⟦{text}⟧") } else { text }
            };
            texts.push(runs.iter().map(of).collect());
        }
        start = end;
    }
    texts.join(" | ")
}

#[cfg(test)]
mod tests {
    use wikigpt_dataset::TokenizerSpec;
    use wikigpt_dataset::completion::Sequence;

    use super::*;
    use crate::complete::rows::fill;

    #[test]
    fn learned_tokens_are_marked() {
        let tokenizer = Tokenizer::build(&TokenizerSpec::Bytes, "").unwrap();
        let sequence = |prompt: &str, completion: &str| Sequence {
            tokens: format!("{prompt}{completion}").bytes().map(u32::from).collect(),
            prompt: prompt.len(),
        };
        let sequences = [sequence("2+2=", "4\n"), sequence("1+\n1=", "zwei\n")];
        let mut batch = Batch::default();
        fill(&mut batch, &[vec![0, 1], vec![1], vec![0], vec![0], vec![0]], 17, &sequences, false);
        let lines: Vec<_> = marked(&batch, &tokenizer).lines().map(str::to_owned).collect();
        assert!(
            lines[0].starts_with("the first batch, 5 rows of 17 positions; the 18 tokens"),
            "{}",
            lines[0]
        );
        assert_eq!(lines[1], "  2+2=⟦4\\n⟧ | 1+\\n1=⟦zwei\\n⟧ | (3 positions without anything to learn)");
        assert_eq!(lines[2], "  1+\\n1=⟦zwei\\n⟧ | (8 positions without anything to learn)");
        assert_eq!(lines[5], "  … and 1 rows more");
        fill(&mut batch, &[vec![0]], 5, &sequences, true);
        assert!(marked(&batch, &tokenizer).ends_with("\n  2⟦+2=4\\n⟧"));
    }
}
