//! Every op against the float64 reference: odd shapes, outputs that hold NaN before, every instruction set that this
//! machine has; and the same bits whatever the number of threads.

#![allow(non_snake_case)] // dimensions keep the field's upper-case names

use wikigpt_cpu::{Cpu, CpuKernels, Level};
use wikigpt_ops::reference::Reference;
use wikigpt_ops::{Act, AdamW, Dropout, IGNORE, Kind, Ops, Rounding, Slot, Stat, Tok, Update};

fn cpu(threads: usize, level: Level) -> Cpu {
    Cpu::with(CpuKernels::new(threads, level).unwrap())
}

/// Runs ops on seeded inputs and keeps what they write.
struct Runner<'a, O> {
    ops: &'a mut O,
    seed: u32,
    results: Vec<(String, Vec<f32>)>,
}

impl<O: Ops> Runner<'_, O> {
    /// Numbers in [-1, 1), the same for every backend.
    fn numbers(&mut self, len: usize) -> Vec<f32> {
        let mut next = || {
            self.seed = self.seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (self.seed >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..len).map(|_| next()).collect()
    }

    fn upload<K: Kind<Host = f32>>(&mut self, data: &[f32]) -> Slot<K> {
        let slot = self.ops.alloc(data.len()).unwrap();
        self.ops.upload(slot, data).unwrap();
        slot
    }

    fn inp<K: Kind<Host = f32>>(&mut self, len: usize) -> Slot<K> {
        let data = self.numbers(len);
        self.upload(&data)
    }

    /// An output, poisoned.
    fn out<K: Kind<Host = f32>>(&mut self, len: usize) -> Slot<K> {
        self.upload(&vec![f32::NAN; len])
    }

    fn tokens(&mut self, len: usize, below: u32, ignore: bool) -> Slot<Tok> {
        let data: Vec<u32> =
            (0..len as u32).map(|i| if ignore && i % 5 == 3 { IGNORE } else { i * 7 % below }).collect();
        let slot = self.ops.alloc(len).unwrap();
        self.ops.upload(slot, &data).unwrap();
        slot
    }

    fn keep<K: Kind<Host = f32>>(&mut self, name: &str, slot: Slot<K>) {
        let mut data = vec![0.0; slot.len];
        self.ops.download(&mut data, slot).unwrap();
        self.results.push((name.into(), data));
    }

    /// What an output holds before an update: NaN where it is to be set.
    fn before<K: Kind<Host = f32>>(&mut self, len: usize, update: Update) -> Slot<K> {
        let data = self.numbers(len);
        if update == Update::Set { self.out(len) } else { self.upload(&data) }
    }
}

fn embedding<O: Ops>(r: &mut Runner<O>, B: usize, T: usize, C: usize) {
    let (V, rows) = (11, T + 3);
    let (wte, wpe, tokens) = (r.inp(V * C), r.inp(rows * C), r.tokens(B * T, V as u32, false));
    for positions in [None, Some(r.tokens(B * T, rows as u32, false))] {
        let out = r.out(B * T * C);
        r.ops.embedding_forward(out, tokens, positions, wte, wpe, B, T, C).unwrap();
        r.keep("embedding_forward", out);
        for update in [Update::Set, Update::Add] {
            let (dwte, dwpe, dout) = (r.inp(V * C), r.before(rows * C, update), r.inp(B * T * C));
            r.ops.embedding_backward(dwte, dwpe, dout, tokens, positions, B, T, C, update).unwrap();
            r.keep("embedding_backward dwte", dwte);
            r.keep("embedding_backward dwpe", dwpe);
        }
    }
}

fn layernorm<O: Ops>(r: &mut Runner<O>, N: usize, C: usize) {
    for with_bias in [true, false] {
        let (a, b) = (r.inp(N * C), r.inp(N * C));
        let (weight, bias) = (r.inp(C), with_bias.then(|| r.inp(C)));
        let (res, out, mean, rstd) = (r.out(N * C), r.out(N * C), r.out(N), r.out(N));
        r.ops.residual_layernorm_forward(res, out, mean, rstd, a, b, weight, bias, N, C, 1e-5).unwrap();
        r.keep("residual_layernorm_forward res", res);
        r.keep("residual_layernorm_forward out", out);
        let (out, mean, rstd) = (r.out(N * C), r.out(N), r.out(N));
        r.ops.layernorm_forward(out, mean, rstd, a, weight, bias, N, C, 1e-5).unwrap();
        r.keep("layernorm_forward out", out);
        r.keep("layernorm_forward mean", mean);
        r.keep("layernorm_forward rstd", rstd);
        for (update_inp, update) in [(Update::Set, Update::Add), (Update::Add, Update::Set)] {
            let dout = r.inp(N * C);
            let (dinp, dweight) = (r.before(N * C, update_inp), r.before(C, update));
            let dbias = with_bias.then(|| r.before(C, update));
            r.ops
                .layernorm_backward(
                    dinp, dweight, dbias, dout, a, weight, mean, rstd, N, C, update_inp, update,
                )
                .unwrap();
            r.keep("layernorm_backward dinp", dinp);
            r.keep("layernorm_backward dweight", dweight);
            if let Some(dbias) = dbias {
                r.keep("layernorm_backward dbias", dbias);
            }
        }
    }
}

fn matmul<O: Ops>(r: &mut Runner<O>, N: usize, C: usize, OC: usize) {
    for with_bias in [true, false] {
        let (inp, weight, residual) = (r.inp(N * C), r.inp(OC * C), r.inp(N * OC));
        let bias = with_bias.then(|| r.inp(OC));
        let out = r.out(N * OC);
        r.ops.matmul_forward(out, inp, weight, bias, N, C, OC).unwrap();
        r.keep("matmul_forward", out);
        let (out, pre) = (r.out(N * OC), r.out(N * OC));
        r.ops.matmul_gelu_forward(out, pre, inp, weight, bias, N, C, OC).unwrap();
        r.keep("matmul_gelu_forward out", out);
        r.keep("matmul_gelu_forward pre", pre);
        let out = r.out(N * OC);
        r.ops.matmul_residual_forward(out, residual, inp, weight, bias, N, C, OC).unwrap();
        r.keep("matmul_residual_forward", out);
        let (dpre, dout) = (r.out(N * C), r.inp(N * OC));
        r.ops.matmul_gelu_backward_input(dpre, dout, weight, inp, N, C, OC).unwrap();
        r.keep("matmul_gelu_backward_input", dpre);
        for update in [Update::Set, Update::Add] {
            let (dinp, dweight) = (r.before(N * C, update), r.before(OC * C, update));
            let dbias = with_bias.then(|| r.before(OC, update));
            r.ops.matmul_backward_input(dinp, dout, weight, N, C, OC, update).unwrap();
            r.ops.matmul_backward_weight(dweight, dbias, dout, inp, N, C, OC, update).unwrap();
            r.keep("matmul_backward_input", dinp);
            r.keep("matmul_backward_weight dweight", dweight);
            if let Some(dbias) = dbias {
                r.keep("matmul_backward_weight dbias", dbias);
                let dbias = r.before(OC, update);
                r.ops.bias_backward(dbias, dout, N, OC, update).unwrap();
                r.keep("bias_backward", dbias);
            }
        }
        if let Some(bias) = bias {
            r.ops.bias_forward(residual, bias, N, OC).unwrap();
            r.keep("bias_forward", residual);
        }
    }
}

fn attention<O: Ops>(r: &mut Runner<O>, B: usize, T: usize, NH: usize, HS: usize, p: f32) {
    let C = NH * HS;
    let dropout = Dropout { p, seed: 99, site: 3 };
    let qkv = r.numbers(B * T * 3 * C).iter().map(|x| 3.0 * x).collect::<Vec<_>>();
    let (qkv, dout) = (r.upload::<Act>(&qkv), r.inp(B * T * C));
    // One text a row; texts of two lengths, one of which ends in the middle of every tile; a window.
    let starts = |f: fn(usize) -> usize| Some((0..B * T).map(|n| f(n % T) as u32).collect::<Vec<_>>());
    for starts in [None, starts(|t| t / 27 * 27), starts(|t| t / 3 * 3), starts(|t| t.saturating_sub(40))] {
        let starts = starts.map(|starts| {
            let slot = r.ops.alloc(B * T).unwrap();
            r.ops.upload(slot, &starts).unwrap();
            slot
        });
        let (out, lse, dqkv) = (r.out(B * T * C), r.out(B * NH * T), r.out(B * T * 3 * C));
        r.ops.attention_forward(out, lse, qkv, starts, B, T, NH, HS, dropout).unwrap();
        r.keep("attention_forward out", out);
        r.keep("attention_forward lse", lse);
        r.ops.attention_backward(dqkv, dout, out, lse, qkv, starts, B, T, NH, HS, dropout).unwrap();
        r.keep("attention_backward", dqkv);
    }
}

/// Sequences that hold so many positions, in the rows of the cache from the last on.
fn cached<O: Ops>(r: &mut Runner<O>, Tn: usize, held: &[u32], NH: usize, HS: usize) {
    let (B, C, Tmax) = (held.len(), NH * HS, held.iter().max().map_or(0, |pos| *pos as usize) + Tn + 2);
    let many = B + 1;
    let (kcache, vcache, qkv) = (r.inp(many * Tmax * C), r.inp(many * Tmax * C), r.inp(B * Tn * 3 * C));
    let (pos, rows) = (r.ops.alloc(B).unwrap(), r.ops.alloc(B).unwrap());
    r.ops.upload(pos, held).unwrap();
    r.ops.upload(rows, &(0..B).map(|b| (B - b) as u32).collect::<Vec<_>>()).unwrap();
    let out = r.out(B * Tn * C);
    r.ops.attention_cached_forward(out, kcache, vcache, qkv, pos, Some(rows), B, Tn, Tmax, NH, HS).unwrap();
    r.keep("attention_cached_forward out", out);
    r.keep("attention_cached_forward kcache", kcache);
    r.keep("attention_cached_forward vcache", vcache);
}

fn unfused<O: Ops>(r: &mut Runner<O>, B: usize, T: usize, NH: usize, HS: usize) {
    let (C, square) = (NH * HS, B * NH * T * T);
    let (qkv, scores) = (r.inp(B * T * 3 * C), r.inp(square));
    r.ops.attention_scores_forward(scores, qkv, B, T, NH, HS).unwrap();
    r.keep("attention_scores_forward", scores);
    let probs = r.out(square);
    r.ops.softmax_forward(probs, scores, B * NH, T).unwrap();
    r.keep("softmax_forward", probs);
    let out = r.out(B * T * C);
    r.ops.attention_values_forward(out, probs, qkv, B, T, NH, HS).unwrap();
    r.keep("attention_values_forward", out);
    let (dout, dprobs, dqkv) = (r.inp(B * T * C), r.out(square), r.inp(B * T * 3 * C));
    r.ops.attention_values_backward(dprobs, dqkv, dout, probs, qkv, B, T, NH, HS).unwrap();
    r.keep("attention_values_backward dprobs", dprobs);
    r.keep("attention_values_backward dqkv", dqkv);
    let dscores = r.out(square);
    r.ops.softmax_backward(dscores, dprobs, probs, B * NH, T).unwrap();
    r.keep("softmax_backward", dscores);
    r.ops.attention_scores_backward(dqkv, dscores, qkv, B, T, NH, HS).unwrap();
    r.keep("attention_scores_backward", dqkv);
}

fn elementwise<O: Ops>(r: &mut Runner<O>, len: usize) {
    let (a, b) = (r.inp(len), r.inp(len));
    let out = r.out(len);
    r.ops.residual_forward(out, a, b).unwrap();
    r.keep("residual_forward", out);
    for update in [Update::Set, Update::Add] {
        let da = r.before(len, update);
        r.ops.residual_backward(da, b, update).unwrap();
        r.keep("residual_backward", da);
    }
    let out = r.out(len);
    r.ops.gelu_forward(out, a).unwrap();
    r.keep("gelu_forward", out);
    let dinp = r.out(len);
    r.ops.gelu_backward(dinp, b, a).unwrap();
    r.keep("gelu_backward", dinp);
    for p in [0.0, 0.3] {
        let dropout = Dropout { p, seed: 5, site: 1 };
        let (out, dinp) = (r.out(len), r.out(len));
        r.ops.dropout_forward(out, a, dropout).unwrap();
        r.ops.dropout_backward(dinp, b, dropout).unwrap();
        r.keep("dropout_forward", out);
        r.keep("dropout_backward", dinp);
    }
}

fn cross_entropy<O: Ops>(r: &mut Runner<O>, N: usize, V: usize, Vp: usize) {
    let mut logits = r.numbers(N * Vp);
    for row in logits.chunks_exact_mut(Vp) {
        row.iter_mut().for_each(|x| *x *= 8.0);
        row[V..].fill(f32::NAN);
    }
    let targets = r.tokens(N, V as u32, true);
    for weights in [None, Some(r.inp(N))] {
        let (losses, logits) = (r.out(N), r.upload(&logits));
        r.ops.cross_entropy_forward(losses, logits, targets, weights, N, V, Vp).unwrap();
        r.keep("cross_entropy_forward", losses);
        let losses = r.out(N);
        r.ops.cross_entropy_forward_backward(losses, logits, targets, weights, N, V, Vp, 0.25).unwrap();
        r.keep("cross_entropy_forward_backward losses", losses);
        r.keep("cross_entropy_forward_backward logits", logits);
    }
}

fn optimizer<O: Ops>(r: &mut Runner<O>, len: usize) {
    let (losses, total) = (r.inp::<Stat>(len), r.out(1));
    r.ops.sum(total, losses).unwrap();
    r.keep("sum", total);
    for (step, clip) in [(1, None), (7, Some(0.5))] {
        let (params, grads, m) = (r.inp(len), r.inp(len), r.inp(len));
        let v: Vec<f32> = r.numbers(len).iter().map(|x| x * x).collect();
        let (v, norm) = (r.upload(&v), r.out(1));
        r.ops.global_norm(norm, grads).unwrap();
        r.keep("global_norm", norm);
        let constants = AdamW {
            lr: 0.1,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.1,
            step,
            clip,
            rounding: Rounding::Nearest,
        };
        r.ops.adamw(params, None, m, v, grads, norm, constants).unwrap();
        r.keep("adamw params", params);
        r.keep("adamw m", m);
        r.keep("adamw v", v);
    }
}

/// All that every op writes, at shapes on both sides of the blocks' sizes.
fn everything<O: Ops>(ops: &mut O) -> Vec<(String, Vec<f32>)> {
    let mut r = Runner { ops, seed: 1, results: Vec::new() };
    let note = |r: &mut Runner<O>, shape: &str| {
        let unnamed = r.results.iter_mut().filter(|(name, _)| !name.contains('@'));
        unnamed.for_each(|(name, _)| *name = format!("{name} @ {shape}"));
    };
    for (B, T, C) in [(1, 1, 1), (3, 5, 7), (2, 33, 130)] {
        embedding(&mut r, B, T, C);
        note(&mut r, &format!("B={B} T={T} C={C}"));
    }
    for (N, C) in [(1, 1), (3, 17), (70, 96), (1100, 5)] {
        layernorm(&mut r, N, C);
        note(&mut r, &format!("N={N} C={C}"));
    }
    for (N, C, OC) in
        [(1, 1, 1), (1, 70, 33), (5, 48, 130), (9, 7, 3), (97, 33, 65), (130, 400, 40), (12, 20, 3100)]
    {
        matmul(&mut r, N, C, OC);
        note(&mut r, &format!("N={N} C={C} OC={OC}"));
    }
    for (B, T, NH, HS) in
        [(1, 1, 1, 1), (2, 7, 3, 5), (1, 16, 2, 32), (2, 50, 2, 16), (1, 131, 1, 24), (1, 97, 2, 64)]
    {
        for p in [0.0, 0.2] {
            attention(&mut r, B, T, NH, HS, p);
            note(&mut r, &format!("B={B} T={T} NH={NH} HS={HS} p={p}"));
        }
        unfused(&mut r, B, T, NH, HS);
        note(&mut r, &format!("B={B} T={T} NH={NH} HS={HS}"));
    }
    let held: [(usize, &[u32], usize, usize); 5] = [
        (1, &[0], 1, 1),
        (1, &[37, 2, 60], 3, 20),
        (4, &[5], 2, 64),
        (30, &[3, 50], 2, 16),
        (77, &[0], 1, 8),
    ];
    for (Tn, held, NH, HS) in held {
        cached(&mut r, Tn, held, NH, HS);
        note(&mut r, &format!("Tn={Tn} pos={held:?} NH={NH} HS={HS}"));
    }
    for len in [1, 15, 5000, 70_001] {
        elementwise(&mut r, len);
        optimizer(&mut r, len);
        note(&mut r, &format!("len={len}"));
    }
    for (N, V, Vp) in [(1, 1, 1), (4, 11, 128), (9, 3000, 3072)] {
        cross_entropy(&mut r, N, V, Vp);
        note(&mut r, &format!("N={N} V={V} Vp={Vp}"));
    }
    r.results
}

/// ‖got − want‖/‖want‖; of padding that was not touched, NaN agrees with NaN.
fn relative_error(got: &[f32], want: &[f32]) -> f64 {
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    let off = |(g, w): (&f32, &f32)| if g.is_nan() && w.is_nan() { 0.0 } else { f64::from(g - w) };
    let size = norm(&mut want.iter().filter(|w| !w.is_nan()).map(|w| f64::from(*w)));
    norm(&mut got.iter().zip(want).map(off)) / size.max(1e-6)
}

#[test]
fn every_op_agrees_with_the_reference() {
    let want = everything(&mut Reference::new());
    for level in Level::available() {
        let got = everything(&mut cpu(2, level));
        let mut worst = (0.0, String::new());
        for ((name, got), (_, want)) in got.iter().zip(&want) {
            let off = relative_error(got, want);
            // Not `off > …`: NaN must fail.
            assert!(off <= 5e-6, "{level:?} {name}: relative error {off:.1e}");
            worst = if off > worst.0 { (off, name.clone()) } else { worst };
        }
        println!("{level:?}: {} outputs, worst {:.1e}: {}", got.len(), worst.0, worst.1);
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let bits = |results: Vec<(String, Vec<f32>)>| -> Vec<(String, Vec<u32>)> {
        let bits = |data: Vec<f32>| data.into_iter().map(f32::to_bits).collect();
        results.into_iter().map(|(name, data)| (name, bits(data))).collect()
    };
    for level in Level::available() {
        let one = bits(everything(&mut cpu(1, level)));
        for threads in [2, 3, 5] {
            let many = bits(everything(&mut cpu(threads, level)));
            for ((name, one), (_, many)) in one.iter().zip(&many) {
                assert!(one == many, "{level:?} {name}: {threads} threads give other bits than 1");
            }
        }
    }
}
