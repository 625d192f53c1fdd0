//! What a position looks at, for people to see: the ops themselves never hold these probabilities.

/// The mean over heads of softmax(q·kᵀ/√HS): from a query (NH,HS) and keys (T,NH,HS) to T weights that sum to 1.
pub fn attention(query: &[f32], keys: &[f32], HS: usize) -> Vec<f32> {
    let (C, scale) = (query.len(), 1.0 / (HS as f64).sqrt());
    let (NH, T) = (C / HS, keys.len() / C);
    let mut mean = vec![0.0; T];
    for (h, q) in query.chunks_exact(HS).enumerate() {
        let score = |key: &[f32]| -> f64 {
            let k = &key[h * HS..][..HS];
            scale * q.iter().zip(k).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum::<f64>()
        };
        let scores: Vec<f64> = keys.chunks_exact(C).map(score).collect();
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let exp: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
        let sum: f64 = exp.iter().sum();
        mean.iter_mut().zip(&exp).for_each(|(mean, exp)| *mean += (exp / sum / NH as f64) as f32);
    }
    mean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_averaged() {
        // One head looks at the second of three tokens twice as much as at the others, the other at all alike.
        let query = [2.0_f32.ln() * 2.0_f32.sqrt(), 0.0, 0.0, 1.0];
        let keys = [[0.0, 7.0, 3.0, 5.0], [1.0, 9.0, 2.0, 5.0], [0.0, 8.0, 1.0, 5.0]];
        let found = attention(&query, keys.as_flattened(), 2);
        for (found, expected) in found.iter().zip([7.0 / 24.0, 10.0 / 24.0, 7.0 / 24.0]) {
            assert!((found - expected).abs() < 1e-6, "{found} instead of {expected}");
        }
    }
}
