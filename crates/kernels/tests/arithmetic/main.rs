//! How the kernels of matmul and attention compute: no conflicts in shared memory, nothing in local memory, and on tensor cores the
//! operations that the shape needs.
#![allow(non_snake_case)] // dimensions keep the field's upper-case names

#[path = "../gpu/counted.rs"]
mod counted;
#[path = "../gpu/rig.rs"]
mod rig;

use std::fs;
use std::path::Path;

use counted::{counted, launches};
use wikigpt_kernels::Precision::{self, Bf16, F32};
use wikigpt_kernels::{Gpu, Tier};
use wikigpt_ops::Update::{Add, Set};
use wikigpt_ops::{Act, Dropout, Grad, Kind, Ops, Slot, Stat, Tok};

#[test]
fn products_keep_to_their_means() {
    counted("products_keep_to_their_means", measure);
}

fn measure(file: &Path) {
    let mut wrong = Vec::new();
    for precision in [F32, Bf16] {
        let mut meter = Meter { gpu: rig::gpu(precision, F32), file, seen: 0, wrong: vec![] };
        // The tiles of a block are 64 × 64 while 128 × 128 would leave some of the 132 multiprocessors idle.
        meter.matmul([192, 128, 64], 64);
        meter.matmul([133 * 128 - 3, 16, 128], 128);
        meter.matmul([2048, 128, 64], 64);
        meter.weight_of_many_tiles();
        meter.attention(200, 64);
        meter.attention(70, 128);
        wrong.extend(meter.wrong.into_iter().map(|what| format!("{precision:?}: {what}")));
        fs::remove_file(file).expect("the counters");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

struct Meter<'a> {
    gpu: Gpu,
    file: &'a Path,
    /// Launches that have been looked at.
    seen: usize,
    wrong: Vec<String>,
}

impl Meter<'_> {
    fn alloc<K: Kind>(&mut self, len: usize) -> Slot<K> {
        self.gpu.alloc(len).expect("memory")
    }

    fn acts<const N: usize>(&mut self, len: usize) -> [Slot<Act>; N] {
        [(); N].map(|()| self.alloc(len))
    }

    /// Runs an op and looks at its launches; `flops` are the multiplications and additions of tensor cores, if those are used.
    fn hold(&mut self, what: &str, flops: usize, op: impl FnOnce(&mut Gpu) -> wikigpt_ops::Result) {
        op(&mut self.gpu).unwrap_or_else(|error| panic!("{what}: {error}"));
        self.gpu.synchronize().unwrap_or_else(|error| panic!("{what}: {error}"));
        let launches = launches(self.file, self.seen);
        assert!(!launches.is_empty(), "{what} launched nothing");
        self.seen += launches.len();
        let mut on_tensor_cores = 0;
        for launch in &launches {
            let get = |name: &str| launch[name].as_u64().unwrap_or_else(|| panic!("no {name} in {launch}"));
            let kernel = launch["kernel"].as_str().expect("a name");
            on_tensor_cores += get("tensor_flops");
            let (conflicts, local) =
                (get("shared_conflicts"), get("local_load_bytes") + get("local_store_bytes"));
            if conflicts + local > 0 {
                self.wrong.push(format!(
                    "{what}: {kernel} has {conflicts} conflicts in shared memory, {local} bytes of local memory"
                ));
            }
        }
        let expected = if self.gpu.tier() == Tier::Ampere { flops as u64 } else { 0 };
        if on_tensor_cores != expected {
            self.wrong.push(format!(
                "{what} does {on_tensor_cores} operations on tensor cores, and {expected} are needed"
            ));
        }
    }

    /// All products of a layer, in tiles of `size` for those with N rows.
    fn matmul(&mut self, [N, C, OC]: [usize; 3], size: usize) {
        let [inp, dinp, pre] = self.acts(N * C);
        let [out, other, residual] = self.acts(N * OC);
        let (weight, bias) = (self.alloc::<Act>(OC * C), self.alloc::<Act>(OC));
        let (dweight, dbias) = (self.alloc::<Grad>(OC * C), self.alloc::<Grad>(OC));
        let up = |n: usize, to: usize| n.next_multiple_of(to);
        // A product of tiles, and steps of 32 of its sum: twice N·C·OC, if those fill them.
        let flops = |rows, columns, sum| 2 * up(rows, size) * up(columns, size) * up(sum, 32);
        let at = format!("N, C, OC = {N}, {C}, {OC}");
        let forward = flops(N, OC, C);
        self.hold(&format!("matmul_forward, {at}"), forward, |o| {
            o.matmul_forward(out, inp, weight, Some(bias), N, C, OC)
        });
        self.hold(&format!("matmul_gelu_forward, {at}"), forward, |o| {
            o.matmul_gelu_forward(out, other, inp, weight, Some(bias), N, C, OC)
        });
        self.hold(&format!("matmul_residual_forward, {at}"), forward, |o| {
            o.matmul_residual_forward(out, residual, inp, weight, None, N, C, OC)
        });
        for update in [Set, Add] {
            self.hold(&format!("matmul_backward_input, {update:?}, {at}"), flops(N, C, OC), |o| {
                o.matmul_backward_input(dinp, out, weight, N, C, OC, update)
            });
        }
        self.hold(&format!("matmul_gelu_backward_input, {at}"), flops(N, C, OC), |o| {
            o.matmul_gelu_backward_input(dinp, out, weight, pre, N, C, OC)
        });
        // Few tiles: small ones, and N in slices of whole steps.
        let backward = 2 * up(OC, 64) * up(C, 64) * up(N, 32);
        self.hold(&format!("matmul_backward_weight, {at}"), backward, |o| {
            o.matmul_backward_weight(dweight, Some(dbias), out, inp, N, C, OC, Set)
        });
        for slot in [inp, dinp, pre, out, other, residual, weight, bias] {
            self.gpu.free(slot).expect("a live slot");
        }
    }

    /// A weight whose tiles are as many as there are multiprocessors, so that N is not cut.
    fn weight_of_many_tiles(&mut self) {
        let (N, C, OC) = (32, 12 * 128, 11 * 128);
        let (inp, dout) = (self.alloc::<Act>(N * C), self.alloc::<Act>(N * OC));
        let (dweight, dbias) = (self.alloc::<Grad>(OC * C), self.alloc::<Grad>(OC));
        self.hold("matmul_backward_weight in one go", 2 * N * C * OC, |o| {
            o.matmul_backward_weight(dweight, Some(dbias), dout, inp, N, C, OC, Add)
        });
    }

    /// Attention of one head: of the square, the tiles of 64 × 64 that the diagonal cuts or that lie below it.
    fn attention(&mut self, T: usize, HS: usize) {
        let (B, NH) = (1, 1);
        let [qkv, dqkv] = self.acts(B * T * 3 * NH * HS);
        let [out, dout, fresh] = self.acts(B * T * NH * HS);
        let [kcache, vcache] = self.acts(B * 2 * T * NH * HS);
        let lse = self.alloc::<Stat>(B * NH * T);
        let blocks = T.div_ceil(64);
        // Of heads of 128, the other side comes in 32: that of the last row of tiles ends with T.
        let others = if HS == 64 { 64 } else { 32 };
        let queries: usize = (0..blocks).map(|b| T.min((b + 1) * 64).div_ceil(others) * others).sum();
        let keys: usize = (0..blocks).map(|b| (T - b * 64).div_ceil(others) * others).sum();
        let product = 2 * 64 * HS;
        for p in [0.0, 0.1] {
            let dropout = Dropout { p, seed: 1, site: 2 };
            let at = format!("T, HS = {T}, {HS}, dropout {p}");
            self.hold(&format!("attention_forward, {at}"), 2 * queries * product, |o| {
                o.attention_forward(out, lse, qkv, None, B, T, NH, HS, dropout)
            });
            let flops = (3 * queries + 4 * keys) * product;
            self.hold(&format!("attention_backward, {at}"), flops, |o| {
                o.attention_backward(dqkv, dout, out, lse, qkv, None, B, T, NH, HS, dropout)
            });
        }
        // Texts: tiles that no query sees are not multiplied.
        let begins = |t: usize| t / 75 * 75;
        let starts = self.alloc::<Tok>(T);
        let values: Vec<u32> = (0..T).map(|t| begins(t) as u32).collect();
        self.gpu.upload(starts, &values).expect("a copy");
        let from = |b: usize| begins(b * 64) / others * others;
        let queries: usize =
            (0..blocks).map(|b| (T.min((b + 1) * 64) - from(b)).div_ceil(others) * others).sum();
        let sees = |b: usize, t0: &usize| begins(*t0) < (b + 1) * 64;
        let keys: usize =
            (0..blocks).map(|b| (b * 64..T).step_by(others).filter(|t0| sees(b, t0)).count() * others).sum();
        let (dropout, at) = (Dropout::NONE, format!("texts, T, HS = {T}, {HS}"));
        self.hold(&format!("attention_forward, {at}"), 2 * queries * product, |o| {
            o.attention_forward(out, lse, qkv, Some(starts), B, T, NH, HS, dropout)
        });
        self.hold(&format!("attention_backward, {at}"), (3 * queries + 4 * keys) * product, |o| {
            o.attention_backward(dqkv, dout, out, lse, qkv, Some(starts), B, T, NH, HS, dropout)
        });
        // On plain arithmetic in either precision.
        for (Tn, held) in [(1, T), (T, T / 2)] {
            let (out, qkv) = (fresh.slice(0..Tn * HS), qkv.slice(0..Tn * 3 * HS));
            let pos = self.alloc::<Tok>(1);
            self.gpu.upload(pos, &[held as u32]).expect("a copy");
            self.hold(&format!("attention_cached_forward, {Tn} after {held}, HS = {HS}"), 0, |o| {
                o.attention_cached_forward(out, kcache, vcache, qkv, pos, None, B, Tn, 2 * T, NH, HS)
            });
        }
    }
}

/// Tiles of 128 × 128, which small shapes do not get: of small whole numbers, products are exact in either precision.
fn large_tiles_are_exact(precision: Precision) {
    let mut gpu = rig::gpu(precision, F32);
    let (N, C, OC) = (132 * 128 - 5, 24, 40);
    // −1, 0 and 1, without a pattern that a wrong index would meet again.
    let numbers = |len: usize, seed: u32| -> Vec<f32> {
        let number = |i: usize| ((i as u32 ^ seed).wrapping_mul(0x9E37_79B9) >> 16) % 3;
        (0..len).map(|i| number(i) as f32 - 1.0).collect()
    };
    let (inp, weight, bias) = (numbers(N * C, 1), numbers(OC * C, 2), numbers(OC, 3));
    let slots = [&inp, &weight, &bias].map(|data| {
        let slot = gpu.alloc::<Act>(data.len()).expect("memory");
        gpu.upload(slot, data).expect("a copy");
        slot
    });
    let out = gpu.alloc::<Act>(N * OC).expect("memory");
    gpu.matmul_forward(out, slots[0], slots[1], Some(slots[2]), N, C, OC).expect("a launch");
    let mut got = vec![0.0; N * OC];
    gpu.download(&mut got, out).expect("a copy");
    for n in 0..N {
        for o in 0..OC {
            let dot: f32 = (0..C).map(|c| inp[n * C + c] * weight[o * C + c]).sum();
            assert_eq!(got[n * OC + o], dot + bias[o], "out[{n},{o}]");
        }
    }
}

#[test]
fn large_tiles_are_exact_in_f32() {
    large_tiles_are_exact(F32);
}

#[test]
fn large_tiles_are_exact_in_bf16() {
    large_tiles_are_exact(Bf16);
}
