//! What holds of the reference whatever the numbers are.

#![allow(non_snake_case)] // dimensions keep the field's upper-case names

use proptest::collection::vec;
use proptest::prelude::*;
use wikigpt_ops::reference::Reference;
use wikigpt_ops::{Act, Dropout, Kind, Ops, Result, Slot, Stat, Tok};

/// A slot that holds given numbers.
fn filled<K: Kind>(ops: &mut Reference, data: &[f64]) -> Slot<K> {
    let slot = ops.alloc(data.len()).unwrap();
    ops.write(slot, data).unwrap();
    slot
}

/// A batch of sequences of heads: (B, T, NH, HS) and `qkv`.
fn attention() -> impl Strategy<Value = ([usize; 4], Vec<f64>)> {
    (1..3_usize, 1..9_usize, 1..3_usize, 1..5_usize)
        .prop_flat_map(|(B, T, NH, HS)| (Just([B, T, NH, HS]), vec(-3.0..3.0, B * T * 3 * NH * HS)))
}

fn attend(
    ops: &mut Reference,
    [B, T, NH, HS]: [usize; 4],
    qkv: Slot<Act>,
    starts: Option<Slot<Tok>>,
) -> Result<Vec<f64>> {
    let (out, lse) = (ops.alloc(B * T * NH * HS)?, ops.alloc::<Stat>(B * NH * T)?);
    ops.attention_forward(out, lse, qkv, starts, B, T, NH, HS, Dropout::NONE)?;
    Ok(ops.read(out)?.to_vec())
}

/// Rows from..to of each sequence of a (B,T,C) tensor.
fn rows(x: &[f64], T: usize, C: usize, from: usize, to: usize) -> Vec<f64> {
    x.chunks_exact(T * C).flat_map(|rows| &rows[from * C..to * C]).copied().collect()
}

fn close(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-10)
}

proptest! {
    /// What comes later changes nothing earlier.
    #[test]
    fn attention_is_causal((dims, mut qkv) in attention(), t in 0..8_usize, change in -9.0..9.0) {
        let [B, T, NH, HS] = dims;
        let C = NH * HS;
        let t = t % T;
        let mut ops = Reference::new();
        let slot = filled(&mut ops, &qkv);
        let before = attend(&mut ops, dims, slot, None).unwrap();
        for b in 0..B {
            qkv[(b * T + t) * 3 * C..(b + 1) * T * 3 * C].iter_mut().for_each(|x| *x += change);
        }
        let slot = filled(&mut ops, &qkv);
        let after = attend(&mut ops, dims, slot, None).unwrap();
        prop_assert_eq!(rows(&before, T, C, 0, t), rows(&after, T, C, 0, t));
    }

    /// Texts packed in a row are as if each were alone.
    #[test]
    fn packed_texts_do_not_see_each_other((dims, qkv) in attention(), cuts in vec(1..5_usize, 16)) {
        let [B, T, NH, HS] = dims;
        let C = NH * HS;
        let mut ops = Reference::new();
        let mut texts = Vec::new();
        let mut cuts = cuts.into_iter().cycle();
        for b in 0..B {
            let mut t = 0;
            while t < T {
                let end = T.min(t + cuts.next().unwrap_or(1));
                texts.push((b, t, end));
                t = end;
            }
        }
        let starts: Vec<u32> = texts.iter().flat_map(|(_, t, end)| vec![*t as u32; end - t]).collect();
        let slot = filled(&mut ops, &qkv);
        let given = ops.alloc(B * T).unwrap();
        ops.upload(given, &starts).unwrap();
        let packed = attend(&mut ops, dims, slot, Some(given)).unwrap();
        for (b, t, end) in texts {
            let slot = filled(&mut ops, &rows(&qkv[b * T * 3 * C..][..T * 3 * C], T, 3 * C, t, end));
            let alone = attend(&mut ops, [1, end - t, NH, HS], slot, None).unwrap();
            prop_assert!(close(&alone, &rows(&packed[b * T * C..][..T * C], T, C, t, end)));
        }
    }

    /// However a sequence is cut into pieces, each to its own, the cache makes the same of it.
    #[test]
    fn cached_attention_is_attention((dims, qkv) in attention(), cuts in vec(1..4_usize, 8), room in 0..3_usize) {
        let [B, T, NH, HS] = dims;
        let C = NH * HS;
        let mut ops = Reference::new();
        let slot = filled(&mut ops, &qkv);
        let whole = attend(&mut ops, dims, slot, None).unwrap();
        // One row of the cache more than there are sequences, which lie in it in reverse.
        let cache = vec![f64::NAN; (B + 1) * (T + room) * C];
        let (kcache, vcache) = (filled(&mut ops, &cache), filled(&mut ops, &cache));
        let (at, row): (Slot<Tok>, Slot<Tok>) = (ops.alloc(1).unwrap(), ops.alloc(1).unwrap());
        let mut held = vec![0; B];
        for (i, cut) in cuts.iter().enumerate() {
            for (b, pos) in held.iter_mut().enumerate() {
                let Tn = if (b + i) % 3 == 0 { 1 } else { *cut }.min(T - *pos);
                if Tn == 0 {
                    continue;
                }
                let (first, last) = (b * T + *pos, b * T + *pos + Tn);
                let new = filled(&mut ops, &qkv[first * 3 * C..last * 3 * C]);
                let out = ops.alloc(Tn * C).unwrap();
                ops.upload(at, &[*pos as u32]).unwrap();
                ops.upload(row, &[(B - b) as u32]).unwrap();
                ops.attention_cached_forward(out, kcache, vcache, new, at, Some(row), 1, Tn, T + room, NH, HS).unwrap();
                prop_assert!(close(ops.read(out).unwrap(), &whole[first * C..last * C]));
                *pos += Tn;
            }
        }
    }

    /// Rows of probabilities sum to 1; adding a number to every score changes nothing.
    #[test]
    fn softmax_rows_sum_to_one((T, scores) in (1..7_usize).prop_flat_map(|T| (Just(T), vec(-50.0..50.0, 2 * T * T))), shift in -1e4..1e4) {
        let mut ops = Reference::new();
        let (probs, shifted) = (ops.alloc(scores.len()).unwrap(), ops.alloc(scores.len()).unwrap());
        let slot = filled(&mut ops, &scores);
        ops.softmax_forward(probs, slot, 2, T).unwrap();
        let slot = filled(&mut ops, &scores.iter().map(|s| s + shift).collect::<Vec<_>>());
        ops.softmax_forward(shifted, slot, 2, T).unwrap();
        let probs = ops.read(probs).unwrap().to_vec();
        prop_assert!(probs.chunks_exact(T).all(|row| (row.iter().sum::<f64>() - 1.0).abs() < 1e-12));
        prop_assert!(close(&probs, ops.read(shifted).unwrap()));
    }

    /// A row of the gradient of the logits sums to 0, and the loss is the cross-entropy of the softmax.
    #[test]
    fn cross_entropy_gradient_sums_to_zero(
        (V, logits, target) in (1..9_usize).prop_flat_map(|V| (Just(V), vec(-30.0..30.0, V), 0..V)),
    ) {
        let mut ops = Reference::new();
        let (losses, slot) = (ops.alloc(1).unwrap(), filled(&mut ops, &logits));
        let targets: Slot<Tok> = ops.alloc(1).unwrap();
        ops.upload(targets, &[target as u32]).unwrap();
        ops.cross_entropy_forward_backward(losses, slot, targets, None, 1, V, V, 1.0).unwrap();
        let gradient = ops.read(slot).unwrap().to_vec();
        prop_assert!(gradient.iter().sum::<f64>().abs() < 1e-12);
        let loss = ops.read(losses).unwrap()[0];
        prop_assert!(((-loss).exp() - (gradient[target] + 1.0)).abs() < 1e-12);
    }

    /// Without weight and bias, rows come out with mean 0 and variance 1, up to eps.
    #[test]
    fn layernorm_normalises(inp in vec(-5.0..5.0, 24), mean in -1e3..1e3) {
        let (N, C) = (3, 8);
        let mut ops = Reference::new();
        let slot = filled(&mut ops, &inp.iter().map(|x| x + mean).collect::<Vec<_>>());
        let weight = filled(&mut ops, &[1.0; 8]);
        let out = ops.alloc(N * C).unwrap();
        let (mu, rstd) = (ops.alloc(N).unwrap(), ops.alloc(N).unwrap());
        ops.layernorm_forward(out, mu, rstd, slot, weight, None, N, C, 0.0).unwrap();
        for row in ops.read(out).unwrap().chunks_exact(C) {
            prop_assert!(row.iter().sum::<f64>().abs() < 1e-8);
            prop_assert!((row.iter().map(|x| x * x).sum::<f64>() / C as f64 - 1.0).abs() < 1e-8);
        }
    }
}
