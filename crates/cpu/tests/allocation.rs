//! A step that has run before allocates nothing: counted by the allocator, over all threads.

#![allow(non_snake_case)] // dimensions keep the field's upper-case names

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use wikigpt_ops::{Act, AdamW, Dropout, Grad, Ops, Rounding, Stat, Tok, Update};

/// The system's allocator, counting.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps `dealloc`'s contract.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps `realloc`'s contract.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// What a training step and a step of generation ask for. Values do not matter here.
fn step<O: Ops>(ops: &mut O, s: &Slots) {
    let Slots { B, T, NH, HS, V, Vp, .. } = *s;
    let (N, C, dropout) = (B * T, NH * HS, Dropout { p: 0.1, seed: 1, site: 2 });
    let constants = AdamW {
        lr: 1e-3,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        weight_decay: 0.1,
        step: 1,
        clip: Some(1.0),
        rounding: Rounding::Nearest,
    };
    let run = |ops: &mut O| -> wikigpt_ops::Result {
        ops.embedding_forward(s.x, s.tokens, None, s.wte, s.wpe, B, T, C)?;
        ops.embedding_forward(s.x, s.tokens, Some(s.starts), s.wte, s.wpe, B, T, C)?;
        ops.layernorm_forward(s.y, s.mean, s.rstd, s.x, s.gain, Some(s.bias), N, C, 1e-5)?;
        ops.matmul_forward(s.qkv, s.y, s.w3, Some(s.b3), N, C, 3 * C)?;
        ops.attention_forward(s.y, s.lse, s.qkv, Some(s.starts), B, T, NH, HS, dropout)?;
        ops.matmul_residual_forward(s.z, s.x, s.y, s.w1, Some(s.bias), N, C, C)?;
        ops.residual_layernorm_forward(s.x, s.y, s.mean, s.rstd, s.z, s.dz, s.gain, None, N, C, 1e-5)?;
        ops.matmul_gelu_forward(s.h, s.pre, s.y, s.w3, Some(s.b3), N, C, 3 * C)?;
        ops.dropout_forward(s.z, s.x, dropout)?;
        ops.matmul_forward(s.logits, s.z, s.wte, None, N, C, Vp)?;
        ops.cross_entropy_forward(s.losses, s.logits, s.tokens, None, N, V, Vp)?;
        ops.cross_entropy_forward_backward(s.losses, s.logits, s.tokens, Some(s.mean), N, V, Vp, 0.1)?;
        ops.sum(s.norm, s.losses)?;
        ops.matmul_backward_input(s.dz, s.logits, s.wte, N, C, Vp, Update::Set)?;
        ops.matmul_backward_weight(s.dwte, None, s.logits, s.z, N, C, Vp, Update::Set)?;
        ops.matmul_gelu_backward_input(s.z, s.dqkv, s.w3, s.x, N, C, 3 * C)?;
        ops.gelu_backward(s.h, s.qkv, s.pre)?;
        ops.matmul_backward_weight(s.dw3, Some(s.db3), s.h, s.x, N, C, 3 * C, Update::Add)?;
        ops.layernorm_backward(
            s.dz,
            s.dgain,
            Some(s.dbias),
            s.z,
            s.x,
            s.gain,
            s.mean,
            s.rstd,
            N,
            C,
            Update::Add,
            Update::Set,
        )?;
        ops.attention_backward(s.dqkv, s.dz, s.y, s.lse, s.qkv, Some(s.starts), B, T, NH, HS, dropout)?;
        ops.residual_backward(s.dz, s.x, Update::Add)?;
        ops.bias_backward(s.dbias, s.dz, N, C, Update::Set)?;
        ops.embedding_backward(s.dwte, s.dwpe, s.dz, s.tokens, Some(s.starts), B, T, C, Update::Set)?;
        ops.global_norm(s.norm, s.dw3)?;
        ops.adamw(s.w3, None, s.m, s.v, s.dw3, s.norm, constants)?;
        // A step of generation, after a prefill.
        ops.upload(s.pos, &[0, 0])?;
        ops.attention_cached_forward(s.y, s.kcache, s.vcache, s.qkv, s.pos, None, B, T, T + 1, NH, HS)?;
        ops.upload(s.pos, &[T as u32, 3])?;
        let row = s.x.slice(0..B * C);
        ops.matmul_forward(s.qkv.slice(0..B * 3 * C), row, s.w3, Some(s.b3), B, C, 3 * C)?;
        ops.attention_cached_forward(
            s.y.slice(0..B * C),
            s.kcache,
            s.vcache,
            s.qkv.slice(0..B * 3 * C),
            s.pos,
            None,
            B,
            1,
            T + 1,
            NH,
            HS,
        )
    };
    run(ops).unwrap();
}

macro_rules! slots {
    ($($name:ident: $kind:ty = $len:expr),* $(,)?) => {
        /// A small model's tensors.
        struct Slots {
            B: usize,
            T: usize,
            NH: usize,
            HS: usize,
            V: usize,
            Vp: usize,
            $($name: wikigpt_ops::Slot<$kind>),*
        }

        impl Slots {
            fn new<O: Ops>(ops: &mut O) -> Slots {
                let (B, T, NH, HS, V, Vp) = (2, 70, 2, 24, 100, 128);
                let (N, C) = (B * T, NH * HS);
                $(let $name = ops.alloc::<$kind>($len(N, C, Vp)).unwrap();)*
                Slots { B, T, NH, HS, V, Vp, $($name),* }
            }
        }
    };
}
type Len = fn(usize, usize, usize) -> usize;
const NC: Len = |N, C, _| N * C;
const NC3: Len = |N, C, _| N * 3 * C;
const ROWS: Len = |N, _, _| N;
const CHANNELS: Len = |_, C, _| C;
const CHANNELS3: Len = |_, C, _| 3 * C;
const WEIGHT: Len = |_, C, _| C * C;
const WEIGHT3: Len = |_, C, _| 3 * C * C;
const VOCABULARY: Len = |_, C, Vp| Vp * C;
slots! {
    tokens: Tok = ROWS, starts: Tok = ROWS, pos: Tok = |_, _, _| 2, x: Act = NC, y: Act = NC, z: Act = NC, dz: Act = NC, qkv: Act = NC3, dqkv: Act = NC3,
    h: Act = NC3, pre: Act = NC3, w1: Act = WEIGHT, w3: Act = WEIGHT3, dw3: Grad = WEIGHT3, b3: Act = CHANNELS3,
    db3: Grad = CHANNELS3, gain: Act = CHANNELS, bias: Act = CHANNELS, dgain: Grad = CHANNELS, dbias: Grad = CHANNELS,
    wte: Act = VOCABULARY, dwte: Grad = VOCABULARY, wpe: Act = |_, C, _| 70 * C, dwpe: Grad = |_, C, _| 70 * C,
    logits: Act = |N, _, Vp| N * Vp, losses: Stat = ROWS, mean: Stat = ROWS, rstd: Stat = ROWS,
    lse: Stat = |N, _, _| N * 2, norm: Stat = |_, _, _| 1, m: Stat = WEIGHT3, v: Stat = WEIGHT3,
    kcache: Act = |_, C, _| 2 * 71 * C, vcache: Act = |_, C, _| 2 * 71 * C,
}

#[test]
fn a_second_step_allocates_nothing() {
    for threads in [1, 2, 3] {
        let mut cpu = wikigpt_cpu::cpu(threads).unwrap();
        let slots = Slots::new(&mut cpu);
        step(&mut cpu, &slots);
        // A thread allocates as it starts, which may be after the first step; by now all have.
        std::thread::sleep(std::time::Duration::from_millis(200));
        step(&mut cpu, &slots);
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        assert!(before > 0, "the allocator counts");
        for _ in 0..20 {
            step(&mut cpu, &slots);
        }
        let after = ALLOCATIONS.load(Ordering::Relaxed);
        assert_eq!(after - before, 0, "allocations in 20 steps on {threads} threads");
    }
}
