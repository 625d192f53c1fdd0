//! What a bad argument is answered with, word for word: one sentence that says what was wrong, where, and what it should
//! be. That every op refuses every kind of bad argument is conformance.

use wikigpt_ops::reference::Reference;
use wikigpt_ops::{Act, AdamW, Dropout, Error, Grad, Ops, Result, Rounding, Slot, Stat, Tok};

fn says(result: Result, sentence: &str) {
    assert_eq!(result.unwrap_err().to_string(), sentence);
}

fn acts<const N: usize>(ops: &mut Reference, lens: [usize; N]) -> [Slot<Act>; N] {
    lens.map(|len| ops.alloc(len).unwrap())
}

#[test]
fn shapes() {
    let mut ops = Reference::new();
    let [out, inp, weight] = acts(&mut ops, [6, 8, 11]);
    says(
        ops.matmul_forward(out, inp, weight, None, 2, 4, 3),
        "matmul_forward: weight must hold 12 elements (shape [3, 4]), got 11",
    );
    says(
        ops.matmul_forward(out, inp, weight, None, 2, 0, 3),
        "matmul_forward: inp has the shape [2, 0]: no dimension may be 0",
    );
    says(
        ops.matmul_forward(out, inp, weight, None, 2, 4, usize::MAX),
        "matmul_forward: out has the shape [2, 18446744073709551615]: more elements than this machine can count",
    );
}

#[test]
fn tables() {
    let mut ops = Reference::new();
    let [out, wte, wpe, odd] = acts(&mut ops, [8, 12, 6, 7]);
    let tokens: Slot<Tok> = ops.alloc(4).unwrap();
    ops.upload(tokens, &[0, 5, 6, 1]).unwrap();
    says(
        ops.embedding_forward(out, tokens, None, wte, wpe, 2, 2, 2),
        "embedding_forward: tokens[2] is 6, but there are only 6 rows (0 to 5)",
    );
    says(
        ops.embedding_forward(out, tokens, None, wte, wpe.slice(0..2), 2, 2, 2),
        "embedding_forward: wpe must have at least 2 rows, got 1",
    );
    let positions: Slot<Tok> = ops.alloc(4).unwrap();
    ops.upload(positions, &[0, 2, 3, 1]).unwrap();
    says(
        ops.embedding_forward(out, positions, Some(positions), wte, wpe, 2, 2, 2),
        "embedding_forward: positions[2] is 3, but there are only 3 rows (0 to 2)",
    );
    says(
        ops.embedding_forward(out, tokens, None, odd, wpe, 2, 2, 2),
        "embedding_forward: wte must hold rows of 2 elements, got 7 elements",
    );
    let (losses, targets) = (ops.alloc(4).unwrap(), tokens);
    says(
        ops.cross_entropy_forward(losses, out, targets, None, 4, 3, 2),
        "cross_entropy_forward: V must be between 1 and Vp = 2, got 3",
    );
    let (one, late) = (tokens.slice(0..1), tokens.slice(1..2));
    says(
        ops.attention_cached_forward(
            out.slice(0..3),
            odd.slice(0..4),
            wpe.slice(0..4),
            wte.slice(0..9),
            late,
            None,
            1,
            3,
            4,
            1,
            1,
        ),
        "attention_cached_forward: pos[0] is 5: 3 new positions after it do not fit a cache of 4",
    );
    let rows = Some(late);
    says(
        ops.attention_cached_forward(
            out.slice(0..3),
            odd.slice(0..4),
            wpe.slice(0..4),
            wte.slice(0..9),
            one,
            rows,
            1,
            3,
            4,
            1,
            1,
        ),
        "attention_cached_forward: rows[0] is 5, but there are only 1 rows (0 to 0)",
    );
}

#[test]
fn starts() {
    let mut ops = Reference::new();
    let [out, qkv] = acts(&mut ops, [6, 18]);
    let (lse, starts) = (ops.alloc(6).unwrap(), ops.alloc::<Tok>(6).unwrap());
    let mut with = |given: [u32; 6]| {
        ops.upload(starts, &given).unwrap();
        ops.attention_forward(out, lse, qkv, Some(starts), 2, 3, 1, 1, Dropout::NONE)
    };
    says(
        with([0, 0, 0, 0, 2, 2]),
        "attention_forward: starts[4] is 2, but position 1 sees nothing beyond itself",
    );
    says(
        with([0, 1, 0, 0, 0, 0]),
        "attention_forward: starts[2] is 0, and 1 one position before: starts never go back",
    );
    with([0, 1, 2, 0, 0, 1]).unwrap();
}

#[test]
fn memory() {
    let mut ops = Reference::new();
    let [a, b] = acts(&mut ops, [5, 5]);
    says(ops.gelu_forward(a.slice(0..3), a.slice(2..5)), "gelu_forward: out is written and overlaps inp");
    says(ops.free(a.slice(1..3)), "free: Act[0; 1..3] is not a whole allocation");
    ops.free(b).unwrap();
    says(ops.gelu_forward(a, b), "gelu_forward: inp lies in memory that is not allocated");
    says(ops.upload(a, &[0.0; 4]), "upload: dst must hold 4 elements, got 5");
    let mut late = a;
    late.offset = 1;
    says(ops.zero(late), "zero: dst reaches past the end of its allocation of 5 elements");
    let tokens: Slot<Tok> = ops.alloc(5).unwrap();
    says(ops.gelu_forward(a, Slot::whole(tokens.allocation, 5)), "gelu_forward: inp is of the wrong kind");
    let error = ops.alloc::<Act>(usize::MAX).unwrap_err();
    assert!(matches!(error, Error::OutOfMemory { free: None, .. }));
    assert_eq!(
        error.to_string(),
        "out of memory on reference (float64): 18446744073709551615 bytes asked for"
    );
}

#[test]
fn constants() {
    let mut ops = Reference::new();
    let [a, b] = acts(&mut ops, [5, 5]);
    says(
        ops.dropout_forward(a, b, Dropout { p: 1.0, seed: 0, site: 0 }),
        "dropout_forward: the dropout probability must be at least 0 and less than 1, got 1",
    );
    let [m, v, norm] = [5, 5, 1].map(|len| ops.alloc::<Stat>(len).unwrap());
    let good = AdamW {
        lr: 0.1,
        beta1: 0.9,
        beta2: 0.99,
        eps: 1e-8,
        weight_decay: 0.0,
        step: 1,
        clip: None,
        rounding: Rounding::Nearest,
    };
    let grads: Slot<Grad> = ops.alloc(5).unwrap();
    let mut adamw = |constants| ops.adamw(a, None, m, v, grads, norm, constants);
    says(adamw(AdamW { step: 0, ..good }), "adamw: step must be at least 1");
    says(adamw(AdamW { beta2: 1.0, ..good }), "adamw: beta2 must be at least 0 and less than 1, got 1");
    says(adamw(AdamW { lr: -1.0, ..good }), "adamw: lr must be at least 0 and finite, got -1");
    says(adamw(AdamW { clip: Some(0.0), ..good }), "adamw: clip must be above 0, got 0");
    adamw(good).unwrap();
}

#[test]
fn drawing() {
    let mut ops = Reference::new();
    let [logits] = acts(&mut ops, [80]);
    let knobs: Slot<Stat> = ops.alloc(8).unwrap();
    let [tokens, uniforms, rows, seen]: [Slot<Tok>; 4] = [2, 2, 2, 6].map(|len| ops.alloc(len).unwrap());
    ops.upload(rows, &[2, 3]).unwrap();
    says(
        ops.sample(tokens, None, logits, knobs, uniforms, Some(rows), 2, 40, 40),
        "sample: rows are those of seen, which was not given",
    );
    says(
        ops.sample(tokens, Some(seen), logits, knobs, uniforms, Some(rows), 2, 40, 40),
        "sample: rows[1] is 3, but there are only 3 rows (0 to 2)",
    );
    says(
        ops.sample(tokens, Some(seen), logits, knobs, uniforms, None, 2, 40, 40),
        "sample: seen must hold 4 elements (shape [2, 2]), got 6",
    );
}
