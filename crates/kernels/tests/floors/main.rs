//! What the kernels of memory-bound ops move, held to their floors: the bytes that they must move, as the heads of the
//! sources have them.
#![allow(non_snake_case)] // dimensions keep the field's upper-case names

#[path = "../gpu/counted.rs"]
mod counted;
#[path = "../gpu/rig.rs"]
mod rig;

use std::fs;
use std::path::Path;

use counted::{counted, launches};
use wikigpt_kernels::Gpu;
use wikigpt_kernels::Precision::{Bf16, F32};
use wikigpt_ops::Update::{Add, Set};
use wikigpt_ops::{Act, AdamW, Dropout, Grad, Kind, Knobs, Ops, Rounding, Slot, Stat, Tok};

/// How far above the floor a kernel may be.
const SLACK: f64 = 1.05;

#[test]
fn memory_bound_ops_move_what_they_must() {
    counted("memory_bound_ops_move_what_they_must", measure);
}

/// Runs every memory-bound op in every precision and collects what is above its floor.
fn measure(file: &Path) {
    let mut excess = Vec::new();
    for (act, grad) in [(F32, F32), (Bf16, F32), (Bf16, Bf16)] {
        let mut meter = Meter {
            gpu: rig::gpu(act, grad),
            file,
            seen: 0,
            act: act.bytes(),
            grad: grad.bytes(),
            excess: vec![],
        };
        meter.bias();
        meter.embedding();
        meter.optimizer();
        // The others know gradients of parameters only as a few rows.
        if grad == F32 {
            meter.element_wise();
            meter.layernorm();
            meter.softmax();
            meter.cross_entropy();
            meter.sample();
            meter.attention_of_one_position();
        }
        let name = format!("{act:?}, gradients {grad:?}: ");
        excess.extend(meter.excess.into_iter().map(|what| name.clone() + &what));
        fs::remove_file(file).expect("the counters");
    }
    assert!(excess.is_empty(), "{}", excess.join("\n"));
}

struct Meter<'a> {
    gpu: Gpu,
    file: &'a Path,
    /// Launches that have been looked at.
    seen: usize,
    /// Bytes of an element.
    act: usize,
    grad: usize,
    excess: Vec<String>,
}

impl Meter<'_> {
    fn alloc<K: Kind>(&mut self, len: usize) -> Slot<K> {
        self.gpu.alloc(len).expect("memory")
    }

    fn acts<const N: usize>(&mut self, len: usize) -> [Slot<Act>; N] {
        [(); N].map(|()| self.alloc(len))
    }

    /// Runs an op and holds what its launches moved to `floor` and what else it has to move, both in bytes; conflicts in shared memory
    /// and any use of local memory are too much at once.
    fn hold(
        &mut self,
        what: &str,
        floor: usize,
        overhead: usize,
        op: impl FnOnce(&mut Gpu) -> wikigpt_ops::Result,
    ) {
        op(&mut self.gpu).unwrap_or_else(|error| panic!("{what}: {error}"));
        self.gpu.synchronize().unwrap_or_else(|error| panic!("{what}: {error}"));
        let launches = launches(self.file, self.seen);
        assert!(!launches.is_empty(), "{what} launched nothing");
        self.seen += launches.len();
        let mut moved = 0;
        for launch in &launches {
            let get = |name: &str| launch[name].as_u64().unwrap_or_else(|| panic!("no {name} in {launch}"));
            let kernel = launch["kernel"].as_str().expect("a name");
            moved += get("global_load_bytes") + get("global_store_bytes");
            let local = get("local_load_bytes") + get("local_store_bytes");
            // A histogram is a scatter: how its digits lie in banks is up to the data.
            let scatters = ["embedding_backward_count", "embedding_backward_scatter"].contains(&kernel);
            let conflicts = if scatters { 0 } else { get("shared_conflicts") };
            if local + conflicts > 0 {
                self.excess.push(format!(
                    "{what}: {kernel} moves {local} bytes of local memory and has {conflicts} conflicts in shared memory"
                ));
            }
        }
        let ratio = moved as f64 / floor as f64;
        println!("{what}: {ratio:.4} of its floor");
        if moved as f64 > SLACK * floor as f64 + overhead as f64 {
            self.excess.push(format!(
                "{what} moves {moved} bytes, {ratio:.3} of its floor of {floor}; {overhead} bytes besides are allowed"
            ));
        }
        // Less than the floor means that the floor is wrong, or that nothing was done.
        if (moved as f64) < 0.99 * floor as f64 {
            self.excess.push(format!("{what} moves {moved} bytes, less than its floor of {floor}"));
        }
    }

    fn element_wise(&mut self) {
        let n = 128 * 768;
        let act = self.act;
        let [x, y, z] = self.acts(n);
        self.hold("residual_forward", 3 * n * act, 0, |o| o.residual_forward(x, y, z));
        self.hold("residual_backward, set", 2 * n * act, 0, |o| o.residual_backward(x, y, Set));
        self.hold("residual_backward, added", 3 * n * act, 0, |o| o.residual_backward(x, y, Add));
        self.hold("gelu_forward", 2 * n * act, 0, |o| o.gelu_forward(x, y));
        self.hold("gelu_backward", 3 * n * act, 0, |o| o.gelu_backward(x, y, z));
        let dropout = Dropout { p: 0.1, seed: 1, site: 2 };
        self.hold("dropout_forward", 2 * n * act, 0, |o| o.dropout_forward(x, y, dropout));
        self.hold("dropout_backward", 2 * n * act, 0, |o| o.dropout_backward(x, y, dropout));
    }

    fn bias(&mut self) {
        let (N, OC) = (1024, 768);
        let act = self.act;
        let [x, bias] = [self.alloc(N * OC), self.alloc(OC)];
        let dbias = self.alloc::<Grad>(OC);
        self.hold("bias_forward", 2 * N * OC * act, 0, |o| o.bias_forward(x, bias, N, OC));
        for update in [Set, Add] {
            self.hold(&format!("bias_backward, {update:?}"), N * OC * act, 0, |o| {
                o.bias_backward(dbias, x, N, OC, update)
            });
        }
    }

    /// A warp a row, and several; with so many rows for each of the 132 multiprocessors that a block has as many as it takes where
    /// rows abound.
    fn layernorm(&mut self) {
        const ROWS: usize = 132 * 80;
        for (N, C) in [(ROWS, 768), (ROWS, 1152)] {
            let (act, eps) = (self.act, 1e-5);
            let [a, b, res, out] = self.acts(N * C);
            let [weight, bias] = self.acts(C);
            let [dweight, dbias] = [(); 2].map(|()| self.alloc::<Grad>(C));
            let [mean, rstd] = [(); 2].map(|()| self.alloc::<Stat>(N));
            let floor = N * C * act;
            // Two statistics a row, which only weigh where rows are short.
            let statistics = 8 * N;
            self.hold(&format!("layernorm_forward, C = {C}"), 2 * floor, statistics, |o| {
                o.layernorm_forward(out, mean, rstd, a, weight, Some(bias), N, C, eps)
            });
            self.hold(&format!("residual_layernorm_forward, C = {C}"), 4 * floor, statistics, |o| {
                o.residual_layernorm_forward(res, out, mean, rstd, a, b, weight, Some(bias), N, C, eps)
            });
            for (update, streams) in [(Set, 3), (Add, 4)] {
                let name = format!("layernorm_backward, C = {C}, {update:?}");
                self.hold(&name, streams * floor, statistics, |o| {
                    let dbias = Some(dbias);
                    o.layernorm_backward(out, dweight, dbias, b, a, weight, mean, rstd, N, C, update, update)
                });
            }
            for slot in [a, b, res, out] {
                self.gpu.free(slot).expect("a live slot");
            }
        }
    }

    fn softmax(&mut self) {
        let (R, T) = (2, 512);
        let [probs, scores, dprobs, dscores] = self.acts(R * T * T);
        let (row, live) = (R * T * T * self.act, R * T * (T + 1) / 2 * self.act);
        self.hold("softmax_forward", row + live, 0, |o| o.softmax_forward(probs, scores, R, T));
        self.hold("softmax_backward", row + 2 * live, 0, |o| {
            o.softmax_backward(dscores, dprobs, probs, R, T)
        });
    }

    /// A row of GPT-2's vocabulary is read once in either precision: it fits the shared memory of a Hopper.
    fn cross_entropy(&mut self) {
        let (N, V, Vp) = (8, 50_257, 50_304);
        let logits = self.alloc::<Act>(N * Vp);
        let losses = self.alloc::<Stat>(N);
        let targets = self.alloc::<Tok>(N);
        let act = self.act;
        self.hold("cross_entropy_forward", N * V * act, 0, |o| {
            o.cross_entropy_forward(losses, logits, targets, None, N, V, Vp)
        });
        let weights = self.alloc::<Stat>(N);
        for (name, weights) in [("", None), (", weights", Some(weights))] {
            self.hold(&format!("cross_entropy_forward_backward{name}"), 2 * N * Vp * act, 0, |o| {
                o.cross_entropy_forward_backward(losses, logits, targets, weights, N, V, Vp, 1.0)
            });
        }
    }

    /// A row of GPT-2's vocabulary is read once, whatever filters have to do with it, with a bit for each token where there is a penalty.
    fn sample(&mut self) {
        let (B, V, Vp, act) = (2, 50_257_usize, 50_304, self.act);
        let logits = self.alloc::<Act>(B * Vp);
        let spread: Vec<f32> = (0..B * Vp).map(|i| (i * 7919 % 20_011) as f32 / 1e3).collect();
        self.gpu.upload(logits, &spread).expect("a live slot");
        let [tokens, uniforms] = [B; 2].map(|len| self.alloc::<Tok>(len));
        let seen = self.alloc::<Tok>(B * V.div_ceil(32));
        let knobs = self.alloc::<Stat>(B * Knobs::LEN);
        let every = Knobs { temperature: 0.9, top_k: 2000.0, top_p: 0.9, penalty: 1.0 };
        // Knobs, which every warp reads, and the token.
        let overhead = B * 32 * 24;
        for (name, knobs_of, bits) in [
            ("greedy", Knobs::GREEDY, 0),
            ("top-k, top-p", every, 0),
            ("top-k, top-p, penalty", Knobs { penalty: 1.3, ..every }, V / 8),
        ] {
            self.gpu.upload(knobs, &knobs_of.row().repeat(B)).expect("a live slot");
            self.hold(&format!("sample, {name}"), B * (V * act + bits), overhead, |o| {
                o.sample(tokens, Some(seen), logits, knobs, uniforms, None, B, V, Vp)
            });
        }
    }

    /// A step of generation: of sequences of all lengths, each key and value once.
    fn attention_of_one_position(&mut self) {
        let (NH, Tmax, act) = (4, 1024, self.act);
        for HS in [64, 128] {
            let held: [u32; 3] = [1023, 130, 640];
            let (B, C) = (held.len(), NH * HS);
            let [out, qkv] = [B * C, B * 3 * C].map(|len| self.alloc::<Act>(len));
            let [kcache, vcache] = self.acts(B * Tmax * C);
            let pos = self.alloc::<Tok>(B);
            self.gpu.upload(pos, &held).expect("a live slot");
            let keys: usize = held.iter().map(|pos| *pos as usize + 1).sum();
            // Rows of the cache, of which the newest come from qkv and are written; the query and what comes out.
            let floor = (2 * keys + 4 * B) * C * act;
            self.hold(&format!("attention_cached_forward of one position, HS = {HS}"), floor, 0, |o| {
                o.attention_cached_forward(out, kcache, vcache, qkv, pos, None, B, 1, Tmax, NH, HS)
            });
            for slot in [kcache, vcache] {
                self.gpu.free(slot).expect("a live slot");
            }
        }
    }

    fn embedding(&mut self) {
        let (B, T, C, V) = (8, 256, 768, 4096);
        let P = B * T;
        // As in text: few tokens are everywhere, most are rare.
        let ids: Vec<u32> =
            (0..P as u64).map(|n| n * 7919 % 4096).map(|x| ((x * x * x) >> 24) as u32).collect();
        let mut distinct = ids.clone();
        distinct.sort_unstable();
        distinct.dedup();
        let tokens = self.alloc::<Tok>(P);
        self.gpu.upload(tokens, &ids).expect("a live slot");
        let [out, wte, wpe] = [P * C, V * C, T * C].map(|len| self.alloc::<Act>(len));
        let [dwte, dwpe] = [V * C, T * C].map(|len| self.alloc::<Grad>(len));
        let (act, grad) = (self.act, self.grad);
        self.hold("embedding_forward", (2 * P + T) * C * act, 0, |o| {
            o.embedding_forward(out, tokens, None, wte, wpe, B, T, C)
        });
        // Texts of 100 tokens in the rows: a row of wpe for each token, and dwpe summed as dwte is.
        let positions = self.alloc::<Tok>(P);
        let places: Vec<u32> = (0..P).map(|n| (n % T % 100) as u32).collect();
        self.gpu.upload(positions, &places).expect("a live slot");
        self.hold("embedding_forward, positions", 3 * P * C * act, 0, |o| {
            o.embedding_forward(out, tokens, Some(positions), wte, wpe, B, T, C)
        });
        // A pass of the sort more, and the partial sums of either table.
        let overhead = 3 * 20 * P + 2 * (P / 32 * 16 * C);
        let floor = 2 * P * C * act + 2 * (distinct.len() + 100) * C * grad;
        self.hold("embedding_backward, positions", floor, overhead, |o| {
            o.embedding_backward(dwte, dwpe, out, tokens, Some(positions), B, T, C, Add)
        });
        for (update, times) in [(Set, 1), (Add, 2)] {
            let floor = 2 * P * C * act + (2 * distinct.len() + times * T) * C * grad;
            // Two passes of the sort, and two rows of float, written and read, where chunks of 32 positions meet.
            let overhead = 2 * 20 * P + P / 32 * 16 * C;
            self.hold(&format!("embedding_backward, {update:?}"), floor, overhead, |o| {
                o.embedding_backward(dwte, dwpe, out, tokens, None, B, T, C, update)
            });
        }
    }

    fn optimizer(&mut self) {
        let n = 1 << 18;
        let (act, grad) = (self.act, self.grad);
        let params = self.alloc::<Act>(n);
        let grads = self.alloc::<Grad>(n);
        let [master, m, v] = [(); 3].map(|()| self.alloc::<Stat>(n));
        let norm = self.alloc::<Stat>(1);
        self.hold("sum", n * 4, 0, |o| o.sum(norm, m));
        self.hold("global_norm", n * grad, 0, |o| o.global_norm(norm, grads));
        let constants = AdamW::default();
        self.hold("adamw", n * (2 * act + grad + 16), 0, |o| {
            o.adamw(params, None, m, v, grads, norm, constants)
        });
        if act == 2 {
            for rounding in [Rounding::Nearest, Rounding::Stochastic { seed: 1 }] {
                let constants = AdamW { rounding, ..constants };
                self.hold("adamw with master weights", n * (act + grad + 24), 0, |o| {
                    o.adamw(params, Some(master), m, v, grads, norm, constants)
                });
            }
        }
    }
}
