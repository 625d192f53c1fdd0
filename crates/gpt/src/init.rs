//! GPT-2's initialisation.
//!
//! Weights and embeddings are drawn from N(0, 0.02²); those of the two projections back into the residual stream from
//! N(0, 0.02²/2L), so that its variance does not grow with the 2·L branches that are added to it; biases are 0, layer
//! norms 1. (Radford et al. 2019, section 2.3; Hugging Face's `GPT2PreTrainedModel._init_weights`.)
//!
//! The same seed gives the same bits on any machine: nothing but ChaCha8, IEEE arithmetic and square roots is used.

use std::sync::Mutex;
use std::thread;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::{Config, Layout, Result, Tensor};

/// The standard deviation of weights.
const DEVIATION: f64 = 0.02;

/// Elements drawn from one stream of the generator: what one thread does at a time.
const CHUNK: usize = 1 << 18;

/// A fresh model's parameters, in the order of [`Layout`]; padding is 0.
///
/// # Errors
/// [`crate::Error::Config`] when the shape is none that a model can have.
pub fn init(config: &Config, seed: u64) -> Result<Vec<f32>> {
    let layout = Layout::new(config)?;
    let mut params = vec![0.0; layout.len];
    for norm in layout.tensors.iter().filter(|tensor| !tensor.decays() && tensor.name.ends_with(".weight")) {
        params[norm.live()].fill(1.0);
    }
    draw(&mut params, &layout.tensors, |tensor| deviation(tensor, config), seed, 0);
    Ok(params)
}

/// The streams of adapters, apart from those of the model that they are drawn for.
pub(crate) const ADAPTERS: u64 = 1 << 63;

/// Fills those tensors of an array with N(0, deviation²) that have a deviation; their streams are numbered from `first` on.
pub(crate) fn draw(
    array: &mut [f32],
    tensors: &[Tensor],
    deviation: impl Fn(&Tensor) -> Option<f64>,
    seed: u64,
    first: u64,
) {
    let mut chunks = Vec::new();
    let (mut rest, mut at) = (array, 0);
    for (index, tensor) in tensors.iter().enumerate() {
        let live = tensor.live();
        let (slice, after) = rest[live.start - at..].split_at_mut(live.len());
        (rest, at) = (after, live.end);
        let Some(deviation) = deviation(tensor) else { continue };
        for (chunk, slice) in slice.chunks_mut(CHUNK).enumerate() {
            chunks.push((slice, deviation, first + ((index as u64) << 32 | chunk as u64)));
        }
    }

    // Each chunk has a stream of its own, so the numbers do not depend on which thread draws them.
    let threads = thread::available_parallelism().map_or(1, usize::from).min(chunks.len());
    let chunks = Mutex::new(chunks);
    let next = || chunks.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).pop();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((slice, deviation, stream)) = next() {
                    let mut rng = ChaCha8Rng::seed_from_u64(seed);
                    rng.set_stream(stream);
                    normal(slice, deviation, &mut rng);
                }
            });
        }
    });
}

/// The standard deviation of a tensor that is drawn; none for biases and layer norms.
fn deviation(tensor: &Tensor, config: &Config) -> Option<f64> {
    let residual = tensor.name.ends_with("c_proj.weight");
    let scale = if residual { 1.0 / (2.0 * config.n_layer as f64).sqrt() } else { 1.0 };
    tensor.decays().then_some(DEVIATION * scale)
}

/// Fills with N(0, deviation²) by Marsaglia's polar form of Box-Muller: for a point (u, v) drawn from the unit disc with
/// s = u² + v², both u and v times √(−2·ln s / s) are normal, and independent. It needs no sine and no cosine.
fn normal(out: &mut [f32], deviation: f64, rng: &mut ChaCha8Rng) {
    for pair in out.chunks_mut(2) {
        let (u, v, s) = loop {
            let word = rng.next_u64();
            let (u, v) = (signed(word as u32), signed((word >> 32) as u32));
            let s = u * u + v * v;
            if s < 1.0 {
                break (u, v, s);
            }
        };
        let factor = deviation * (-2.0 * ln(s) / s).sqrt();
        for (out, x) in pair.iter_mut().zip([u, v]) {
            *out = (x * factor) as f32;
        }
    }
}

/// A word as a number between −1 and 1, never 0.
fn signed(word: u32) -> f64 {
    (f64::from(word) + 0.5) / f64::from(1_u32 << 31) - 1.0
}

/// The natural logarithm of a normal number, the same bits everywhere, which system libraries do not promise:
/// with x = m·2ᵉ, √½ ≤ m < √2, and t = (m − 1)/(m + 1), ln x = e·ln 2 + 2·(t + t³/3 + t⁵/5 + …).
fn ln(x: f64) -> f64 {
    const MANTISSA: u64 = (1 << 52) - 1;
    const ONE: u64 = 1023 << 52;
    let bits = x.to_bits();
    let mut exponent = (bits >> 52) as i64 - 1023;
    let mut m = f64::from_bits(bits & MANTISSA | ONE);
    if m > std::f64::consts::SQRT_2 {
        m /= 2.0;
        exponent += 1;
    }
    let t = (m - 1.0) / (m + 1.0);
    // |t| ≤ 0.1716: the term in t²³ is below 2⁻⁵⁶ of the sum.
    let series = (0..=10).rev().fold(0.0, |sum, k| sum * t * t + 1.0 / f64::from(2 * k + 1));
    exponent as f64 * std::f64::consts::LN_2 + 2.0 * t * series
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statistics(values: &[f32]) -> (f64, f64, f64) {
        let n = values.len() as f64;
        let moment = |k: i32| values.iter().map(|x| f64::from(*x).powi(k)).sum::<f64>() / n;
        let deviation = moment(2).sqrt();
        (moment(1) / deviation, deviation, moment(4) / moment(2).powi(2))
    }

    #[test]
    fn the_logarithm_is_one() {
        let mut x = 1.1e-19;
        while x < 1.0 {
            assert!((ln(x) - x.ln()).abs() <= 4e-16 * x.ln().abs(), "ln {x}: {} and {}", ln(x), x.ln());
            x *= 1.003;
        }
        assert_eq!(ln(1.0), 0.0);
    }

    #[test]
    fn weights_are_normal_with_gpt2s_deviations() {
        let config = Config { tied: false, ..Config::preset("small", 1000).unwrap() };
        let params = init(&config, 7).unwrap();
        for tensor in Layout::new(&config).unwrap().tensors {
            let values = &params[tensor.live()];
            let padding = &params[tensor.live().end..tensor.range.end];
            assert!(padding.iter().all(|x| *x == 0.0), "{}", tensor.name);
            if !tensor.decays() {
                let expected = if tensor.name.ends_with("weight") { 1.0 } else { 0.0 };
                assert!(values.iter().all(|x| *x == expected), "{}", tensor.name);
                continue;
            }
            let expected = if tensor.name.contains("c_proj") { 0.02 / 8_f64.sqrt() } else { 0.02 };
            let (mean, deviation, kurtosis) = statistics(values);
            // Five deviations of the estimates over n values: 1/√n, 1/√2n and √(24/n).
            let n = (values.len() as f64).sqrt();
            assert!(mean.abs() < 5.0 / n, "{}: mean {mean}", tensor.name);
            assert!((deviation / expected - 1.0).abs() < 3.6 / n, "{}: {deviation}", tensor.name);
            assert!((kurtosis - 3.0).abs() < 25.0 / n, "{}: kurtosis {kurtosis}", tensor.name);
        }
    }

    #[test]
    fn seeds_differ_and_repeat() {
        let config = Config::preset("tiny", 256).unwrap();
        let first = init(&config, 1).unwrap();
        assert_eq!(first, init(&config, 1).unwrap());
        assert_ne!(first, init(&config, 2).unwrap());
        // No two tensors, and no two chunks, are drawn from one stream.
        let layout = Layout::new(&config).unwrap();
        assert_ne!(first[layout.wte.start..][..64], first[layout.wpe.start..][..64]);
    }

    #[test]
    fn bits_do_not_depend_on_the_machine() {
        let config = Config::preset("tiny", 256).unwrap();
        let params = init(&config, 20_261).unwrap();
        let digest = params.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, x| {
            (hash ^ u64::from(x.to_bits())).wrapping_mul(0x0000_0100_0000_01b3)
        });
        assert_eq!(digest, 7_684_436_538_381_748_156);
    }
}
