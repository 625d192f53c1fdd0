//! How probable the tokens of a text were.

use std::collections::VecDeque;

use wikigpt_dataset::Tokenizer;

/// A token, and what the model thought of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scored {
    /// What it says.
    pub text: String,
    /// Characters of its text before it.
    pub offset: usize,
    /// The logarithm of its probability; nothing for the first of a prompt, which nothing comes before.
    pub logprob: Option<f64>,
    /// The most probable tokens with theirs, and the token itself.
    pub top: Vec<(String, f64)>,
    /// How much the model looked at each token before it, if that is asked for.
    pub attention: Vec<f32>,
}

/// Scores the tokens of a text, and holds them back until what they say is shown.
pub struct Scorer<'a> {
    tokenizer: &'a Tokenizer,
    /// Alternatives to tell; nothing where nobody asks for probabilities.
    alternatives: Option<usize>,
    /// Tokens that are not shown yet, with the bytes of text at their start and end.
    held: VecDeque<(usize, usize, Scored)>,
    /// Bytes and characters of text that the tokens so far say, and bytes of it that are shown.
    decoded: usize,
    chars: usize,
    shown: usize,
}

impl<'a> Scorer<'a> {
    pub fn new(tokenizer: &'a Tokenizer, alternatives: Option<usize>) -> Scorer<'a> {
        Scorer { tokenizer, alternatives, held: VecDeque::new(), decoded: 0, chars: 0, shown: 0 }
    }

    /// The first token of a prompt.
    pub fn first(&mut self, token: u32) {
        let scored = Scored { text: name(self.tokenizer, token), ..Scored::default() };
        self.hold(scored);
    }

    /// A token that came with logits (V).
    pub fn score(&mut self, token: u32, logits: &[f32], attention: Vec<f32>) {
        let Some(alternatives) = self.alternatives else { return };
        let logprobs = Logprobs::new(logits);
        let mut top = logprobs.largest(alternatives);
        if !top.contains(&token) {
            top.push(token);
        }
        let top = top.into_iter().map(|token| (name(self.tokenizer, token), logprobs.of(token))).collect();
        let logprob = Some(logprobs.of(token));
        self.hold(Scored { text: name(self.tokenizer, token), offset: 0, logprob, top, attention });
    }

    fn hold(&mut self, scored: Scored) {
        if self.alternatives.is_some() {
            let scored = Scored { offset: self.chars, ..scored };
            self.held.push_back((self.decoded, self.decoded, scored));
        }
    }

    /// The last token completed some text.
    pub fn decoded(&mut self, text: &str) {
        self.decoded += text.len();
        self.chars += text.chars().count();
        if let Some((_, end, _)) = self.held.back_mut() {
            *end = self.decoded;
        }
    }

    /// More text is shown; gives the tokens that are shown with it.
    pub fn shown(&mut self, text: &str) -> Vec<Scored> {
        self.shown += text.len();
        let count = self.held.iter().take_while(|(_, end, _)| *end <= self.shown).count();
        self.held.drain(..count).map(|(_, _, scored)| scored).collect()
    }

    /// The last of the text is shown, before a stop string: what comes after is not told.
    pub fn stopped(&mut self, text: &str) -> Vec<Scored> {
        self.shown += text.len();
        let shown = self.shown;
        self.held.drain(..).filter(|(start, _, _)| *start < shown).map(|(_, _, scored)| scored).collect()
    }

    /// The last of the text is shown.
    pub fn rest(&mut self, text: &str) -> Vec<Scored> {
        self.shown += text.len();
        self.held.drain(..).map(|(_, _, scored)| scored).collect()
    }
}

/// What a token says; bytes that are no text by themselves as OpenAI shows them.
fn name(tokenizer: &Tokenizer, token: u32) -> String {
    let bytes = tokenizer.decode(&[token]);
    String::from_utf8(bytes).unwrap_or_else(|error| {
        error.as_bytes().iter().fold("bytes:".to_owned(), |name, byte| name + &format!("\\x{byte:02x}"))
    })
}

/// Logarithms of the probabilities that logits stand for.
struct Logprobs<'a> {
    logits: &'a [f32],
    /// ln Σ exp(logit).
    total: f64,
}

/// What OpenAI has for a probability of 0, which JSON has no logarithm for.
const NEVER: f64 = -9999.0;

impl Logprobs<'_> {
    fn new(logits: &[f32]) -> Logprobs<'_> {
        let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let sum: f64 = logits.iter().map(|logit| (f64::from(*logit) - largest).exp()).sum();
        Logprobs { logits, total: largest + sum.ln() }
    }

    fn of(&self, token: u32) -> f64 {
        let logit = self.logits.get(token as usize).copied().unwrap_or(f32::NEG_INFINITY);
        // `max` takes the number where the other is none.
        (f64::from(logit) - self.total).max(NEVER)
    }

    /// The most probable tokens, the most probable first; of several alike, the lowest.
    fn largest(&self, count: usize) -> Vec<u32> {
        let logit = |token: &u32| self.logits[*token as usize];
        let by_size = |a: &u32, b: &u32| logit(b).total_cmp(&logit(a)).then(a.cmp(b));
        let mut tokens: Vec<u32> = (0..self.logits.len() as u32).collect();
        if count < tokens.len() {
            tokens.select_nth_unstable_by(count, by_size);
            tokens.truncate(count);
        }
        tokens.sort_unstable_by(by_size);
        tokens
    }
}

#[cfg(test)]
mod tests {
    use wikigpt_dataset::TokenizerSpec;

    use super::*;

    #[test]
    fn logarithms_of_the_softmax() {
        let logits = [1.0, 3.0, f32::NEG_INFINITY, 3.0, 2.0];
        let logprobs = Logprobs::new(&logits);
        let sum: f64 = [0, 1, 3, 4].map(|token| logprobs.of(token).exp()).iter().sum();
        assert!((sum - 1.0).abs() < 1e-12);
        assert!((logprobs.of(1) - logprobs.of(4) - 1.0).abs() < 1e-12);
        assert_eq!(logprobs.of(2), NEVER);
        assert_eq!(logprobs.largest(3), [1, 3, 4]);
        assert!(logprobs.largest(0).is_empty());
        assert_eq!(logprobs.largest(99), [1, 3, 4, 0, 2]);
        // What has no sum does not become NaN in an answer.
        assert_eq!(Logprobs::new(&[f32::NAN, 0.0]).of(0), NEVER);
    }

    #[test]
    fn tokens_come_with_their_text() {
        let tokenizer = Tokenizer::build(&TokenizerSpec::Bytes, "").unwrap();
        let mut scorer = Scorer::new(&tokenizer, Some(1));
        let mut logits = [0.0; 256];
        logits[usize::from(b'z')] = 5.0;
        let names = |tokens: Vec<Scored>| -> Vec<(String, usize)> {
            tokens.into_iter().map(|scored| (scored.text, scored.offset)).collect()
        };
        scorer.score(0xc3, &logits, vec![]);
        scorer.decoded("");
        assert_eq!(names(scorer.shown("")), [("bytes:\\xc3".into(), 0)]);
        scorer.score(0xa9, &logits, vec![]);
        scorer.decoded("é");
        let shown = scorer.shown("é");
        assert_eq!(
            shown[0].top.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
            ["z", "bytes:\\xa9"]
        );
        assert!(shown[0].logprob.unwrap() < shown[0].top[0].1);
        // Held back for a stop string that then comes: of its tokens nothing is told.
        for byte in *b"aEN" {
            scorer.score(u32::from(byte), &logits, vec![]);
            scorer.decoded(&char::from(byte).to_string());
        }
        assert_eq!(names(scorer.shown("a")), [("a".into(), 1)]);
        scorer.score(u32::from(b'D'), &logits, vec![]);
        scorer.decoded("D");
        assert!(scorer.stopped("").is_empty());
    }
}
