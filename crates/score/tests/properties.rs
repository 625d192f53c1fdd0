//! What holds for any text.

use proptest::prelude::*;
use wikigpt_score::{Bleu, rouge_l, squad, tokenize_13a};

fn bleu(pairs: &[(String, String)]) -> f64 {
    let mut bleu = Bleu::new();
    for (hypothesis, reference) in pairs {
        bleu.add(hypothesis, &[reference]);
    }
    bleu.score().score
}

/// Texts with few words, so that they share some, and texts of any characters.
fn text() -> impl Strategy<Value = String> {
    prop_oneof!["(a |the |Heron |water, |3.5 |&amp; |ß |- ){0,12}", "\\PC{0,40}", any::<String>()]
}

proptest! {
    #[test]
    fn scores_keep_their_bounds(pairs in prop::collection::vec((text(), text()), 0..5)) {
        let score = bleu(&pairs);
        prop_assert!((0.0..=100.0 + 1e-9).contains(&score), "{}", score);
        for (a, b) in &pairs {
            let rouge = rouge_l(a, &[b]);
            for value in [rouge.precision, rouge.recall, rouge.f] {
                prop_assert!((0.0..=1.0).contains(&value), "{}", value);
            }
            let squad = squad::score(a, &[b]);
            prop_assert!((0.0..=1.0).contains(&squad.f1));
            prop_assert!(!squad.exact || squad.f1 == 1.0, "an exact answer has all its words right");
        }
    }

    #[test]
    fn a_text_beside_itself_is_perfect(a in text()) {
        let score = bleu(&[(a.clone(), a.clone())]);
        let perfect = if tokenize_13a(&a).len() < 4 { 0.0 } else { 100.0 };
        prop_assert!((score - perfect).abs() < 1e-9, "{}", score);
        prop_assert!(squad::score(&a, &[&a]).exact);
        let has_words = a.to_lowercase().chars().any(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        prop_assert_eq!(rouge_l(&a, &[&a]).f, f64::from(u8::from(has_words)));
    }

    #[test]
    fn f_does_not_care_which_is_which(a in text(), b in text()) {
        prop_assert_eq!(rouge_l(&a, &[&b]).f, rouge_l(&b, &[&a]).f);
        let (one, other) = (squad::score(&a, &[&b]), squad::score(&b, &[&a]));
        prop_assert_eq!(one.exact, other.exact);
        prop_assert!((one.f1 - other.f1).abs() < 1e-12);
    }

    #[test]
    fn another_reference_never_hurts_an_answer(a in text(), b in text(), c in text()) {
        prop_assert!(rouge_l(&a, &[&b, &c]).f >= rouge_l(&a, &[&b]).f);
        // But for a reference that stands for no answer, which counts only by itself.
        if !squad::normalize(&b).is_empty() {
            prop_assert!(squad::score(&a, &[&b, &c]).f1 >= squad::score(&a, &[&b]).f1);
        }
    }
}
