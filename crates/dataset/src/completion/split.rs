//! Examples held back from training.

use super::Example;
use crate::order::permuted;

/// Takes a share of the examples out, groups whole: about as many examples as asked for, and at least one group if the share
/// is not 0; one group always stays. The seed decides which. Both parts keep their order.
pub fn hold_out(examples: Vec<Example>, share: f64, seed: u64) -> (Vec<Example>, Vec<Example>) {
    let mut groups: Vec<&str> = Vec::new();
    for group in examples.iter().filter_map(|example| example.group.as_deref()) {
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    // Who has no group is one alone.
    let whole = examples.iter().all(|example| example.group.is_some());
    let count = if whole { groups.len() } else { examples.len() };
    let taken = ((count as f64 * share).round() as usize).max(usize::from(share > 0.0)).min(count.max(1) - 1);
    let mut is_taken = vec![false; count];
    for place in 0..taken {
        is_taken[permuted(place as u64, count as u64, seed, 0) as usize] = true;
    }
    let of = |index: usize, example: &Example| match example.group.as_deref().filter(|_| whole) {
        Some(group) => groups.iter().position(|known| *known == group).expect("every group is known"),
        None => index,
    };
    let held: Vec<bool> =
        examples.iter().enumerate().map(|(index, example)| is_taken[of(index, example)]).collect();
    let mut parts = (Vec::new(), Vec::new());
    for (example, held) in examples.into_iter().zip(held) {
        if held { parts.1.push(example) } else { parts.0.push(example) }
    }
    parts
}
