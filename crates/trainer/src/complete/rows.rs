//! From sequences to batches.

use wikigpt_dataset::completion::Sequence;

use crate::tuning::Batch;

/// Fills a batch with rows of T positions, each with some of the sequences one after the other. What is to be learned are the tokens
/// after the prompt, or with `all` every token but the first.
///
/// # Panics
/// When the sequences of a row take more than T positions.
pub fn fill(batch: &mut Batch, rows: &[Vec<usize>], T: usize, sequences: &[Sequence], all: bool) {
    batch.reset(rows.len(), T);
    batch.starts.resize(rows.len() * T, 0);
    for (b, row) in rows.iter().enumerate() {
        let mut start = 0;
        for sequence in row {
            let Sequence { tokens, prompt } = &sequences[*sequence];
            let (len, learned) = (tokens.len() - 1, if all { 0 } else { prompt - 1 });
            let at = b * T + start;
            assert!(start + len <= T, "a row has {T} positions");
            batch.inputs[at..at + len].copy_from_slice(&tokens[..len]);
            batch.targets[at + learned..at + len].copy_from_slice(&tokens[learned + 1..]);
            batch.starts[at..at + len].fill(start as u32);
            start += len;
        }
        batch.tokens += start;
        // Padding is a text of its own, which nobody reads.
        batch.starts[b * T + start..(b + 1) * T].fill(start as u32);
    }
}

#[cfg(test)]
mod tests {
    use wikigpt_ops::IGNORE;

    use super::*;

    const X: u32 = IGNORE;

    #[test]
    fn completions_are_learned_and_nothing_else() {
        let sequence = |tokens: &[u32], prompt| Sequence { tokens: tokens.to_vec(), prompt };
        let sequences = [sequence(&[1, 2, 3, 4], 2), sequence(&[5, 6], 1), sequence(&[7, 8, 9], 2)];
        let rows = [vec![1, 0], vec![2]];
        let mut batch = Batch::default();
        fill(&mut batch, &rows, 5, &sequences, false);
        assert_eq!((batch.B, batch.T, batch.tokens, batch.weight()), (2, 5, 6, 4.0));
        assert_eq!(batch.inputs, [5, 1, 2, 3, 0, 7, 8, 0, 0, 0]);
        assert_eq!(batch.targets, [6, X, 3, 4, X, X, 9, X, X, X]);
        assert_eq!(batch.starts, [0, 1, 1, 1, 4, 0, 0, 2, 2, 2]);
        fill(&mut batch, &rows, 5, &sequences, true);
        assert_eq!(batch.targets, [6, 2, 3, 4, X, 8, 9, X, X, X]);
        assert_eq!(batch.weight(), 6.0);
    }
}
