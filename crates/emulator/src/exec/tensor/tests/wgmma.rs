//! wgmma.

use super::super::descriptor::{Descriptor, Major, Tile};
use super::super::elements::{Element, Sum};
use super::super::harness::{Harness, vector};
use super::super::wgmma::POISON;
use super::*;
use crate::exec::Flow;
use crate::exec::lanes::{ALL, LANES};
use crate::fault::FaultKind;
use crate::ptx::ErrorKind;

const A: u32 = 0x400;
const B: u32 = 0x4000;
const FENCE: &str = "wgmma.fence.sync.aligned;";
const COMMIT: &str = "wgmma.commit_group.sync.aligned;";

fn wait(left: u32) -> String {
    format!("wgmma.wait_group.sync.aligned {left};")
}

/// The manual's D: row and column of element `v` of thread `t` of the warpgroup.
fn manual_d(t: usize, v: usize) -> (usize, usize) {
    let (w, g, q) = (t / 32, t % 32 / 4, t % 4);
    (16 * w + g + 8 * ((v >> 1) & 1), 8 * (v >> 2) + 2 * q + (v & 1))
}

/// The manual's A in registers, by bits of an element.
fn manual_a(bits: usize, t: usize, i: usize) -> (usize, usize) {
    let (w, g, q) = (t / 32, t % 32 / 4, t % 4);
    match bits {
        16 => (16 * w + g + 8 * ((i >> 1) & 1), 2 * q + (i & 1) + if i >= 4 { 8 } else { 0 }),
        8 => (16 * w + g + 8 * ((i >> 2) & 1), 4 * q + (i & 3) + if i >= 8 { 16 } else { 0 }),
        _ => (16 * w + g + 8 * (i & 1), q + if i >= 2 { 4 } else { 0 }),
    }
}

/// A layout in which a matrix takes the least room.
fn layout(start: u32, major: Major, swizzle: u32) -> Descriptor {
    let span = 16 << swizzle;
    let (leading, stride) = match (major, swizzle) {
        (Major::K, 0) => (128, 256),
        (Major::K, _) => (0, 8 * span),
        // Two groups of 8 of K side by side in none; in the others a block of M or N, then the next.
        (Major::Mn, 0) => (128, 256),
        (Major::Mn, _) => (16 * span, 8 * span),
    };
    Descriptor { start, leading, stride, swizzle }
}

fn encode(descriptor: Descriptor) -> u64 {
    let Descriptor { start, leading, stride, swizzle } = descriptor;
    let code = [0, 3, 2, 1][swizzle as usize];
    u64::from(start / 16) | u64::from(leading / 16) << 16 | u64::from(stride / 16) << 32 | code << 62
}

/// A product as a whole: its operands as bits, and how they lie.
struct Case {
    n: usize,
    of_a: Element,
    of_b: Element,
    sum: Sum,
    /// A is in registers.
    registers: bool,
    major_a: Major,
    major_b: Major,
    swizzle_a: u32,
    swizzle_b: u32,
    a: Vec<(u32, i128)>,
    b: Vec<(u32, i128)>,
    c: Vec<(u32, i128)>,
}

impl Case {
    fn new(n: usize, of_a: Element, of_b: Element, of_sum: Sum, random: &mut Random) -> Case {
        let k = 256 / of_a.bits();
        Case {
            n,
            of_a,
            of_b,
            sum: of_sum,
            registers: false,
            major_a: Major::K,
            major_b: Major::K,
            swizzle_a: 3,
            swizzle_b: 3,
            a: (0..64 * k).map(|_| element(of_a, random)).collect(),
            b: (0..k * n).map(|_| element(of_b, random)).collect(),
            c: (0..64 * n).map(|_| sum(of_sum, random)).collect(),
        }
    }

    fn k(&self) -> usize {
        256 / self.of_a.bits()
    }

    fn registers_of_d(&self) -> usize {
        self.n / 2 / self.sum.per_register()
    }

    /// The instruction, with D in r0 and on, A in r200 to r203 or rd0, and B in rd1.
    fn text(&self, scale: &str, factors: &str) -> String {
        let (of_sum, satfinite) = sum_name(self.sum);
        let a = if self.registers { vector("r", 200, 4) } else { "rd0".to_owned() };
        let (n, k) = (self.n, self.k());
        let mut text = format!(
            "wgmma.mma_async.sync.aligned.m64n{n}k{k}{satfinite}.{of_sum}.{}.{} {},{a},rd1,{scale}",
            name(self.of_a),
            name(self.of_b),
            vector("r", 0, self.registers_of_d()),
        );
        let transposed = |major| if major == Major::Mn { ",1" } else { ",0" };
        if !self.of_a.is_integer() {
            text += factors;
        }
        if self.of_a.bits() == 16 && !self.registers {
            text += transposed(self.major_a);
        }
        if self.of_a.bits() == 16 {
            text += transposed(self.major_b);
        }
        text
    }

    /// Four warps with all operands in place and a fence behind them.
    fn harness(&self) -> Harness {
        let mut harness = Harness::new(1, 128);
        let (n, k, bits) = (self.n, self.k(), self.of_a.bits());
        let a = layout(A, self.major_a, self.swizzle_a);
        let b = layout(B, self.major_b, self.swizzle_b);
        let shared = &mut harness.cluster.blocks[0].shared;
        // What no element covers must not count.
        shared.fill(0x77);
        let mut put = |tile: Tile, rows: usize, at: &dyn Fn(usize, usize) -> u32| {
            for i in 0..rows {
                for step in 0..k {
                    let bytes = at(i, step).to_le_bytes();
                    let to = tile.address(i as u32, step as u32) as usize;
                    shared[to..to + bits / 8].copy_from_slice(&bytes[..bits / 8]);
                }
            }
        };
        let bytes = bits as u32 / 8;
        if !self.registers {
            put(Tile { descriptor: a, major: self.major_a, bytes }, 64, &|i, step| self.a[i * k + step].0);
        }
        put(Tile { descriptor: b, major: self.major_b, bytes }, n, &|i, step| self.b[step * n + i].0);
        for warp in 0..4 {
            harness.set_wide(warp, "rd0", [encode(a); LANES]);
            harness.set_wide(warp, "rd1", [encode(b); LANES]);
            let per = 32 / bits;
            for register in 0..4 {
                let row = std::array::from_fn(|lane| {
                    (0..per).fold(0, |word, i| {
                        let (row, column) = manual_a(bits, 32 * warp + lane, register * per + i);
                        word | self.a[row * k + column].0 << (i * bits)
                    })
                });
                harness.set(warp, &format!("r{}", 200 + register), row);
            }
            let per = self.sum.per_register();
            for register in 0..self.registers_of_d() {
                let row = std::array::from_fn(|lane| {
                    (0..per).fold(0, |word, i| {
                        let (row, column) = manual_d(32 * warp + lane, register * per + i);
                        word | self.c[row * n + column].0 << (i * 16)
                    })
                });
                harness.set(warp, &format!("r{register}"), row);
            }
            harness.step(warp, FENCE);
        }
        harness
    }

    /// The bits of D in the registers.
    fn d(&self, harness: &mut Harness) -> Vec<u32> {
        let per = self.sum.per_register();
        let mut d = vec![0; 64 * self.n];
        for warp in 0..4 {
            for v in 0..self.n / 2 {
                let row = harness.get(warp, &format!("r{}", v / per));
                for (lane, word) in row.into_iter().enumerate() {
                    let (row, column) = manual_d(32 * warp + lane, v);
                    let shifted = word >> (v % per * 16);
                    d[row * self.n + column] = if per == 2 { shifted & 0xffff } else { shifted };
                }
            }
        }
        d
    }

    /// D by exact integers: `c`, where it counts, plus the products times `sign`.
    fn exact(&self, accumulate: bool, sign: i128) -> Vec<u32> {
        let (n, k) = (self.n, self.k());
        let one = |row: usize, column: usize| {
            let c = if accumulate { self.c[row * n + column].1 } else { 0 };
            (0..k).fold(c, |sum, step| sum + sign * self.a[row * k + step].1 * self.b[step * n + column].1)
        };
        (0..64 * n).map(|at| rounded(self.sum, one(at / n, at % n))).collect()
    }

    /// Runs it on the four warps, one after another, and returns D.
    fn run(&self, scale: &str, factors: &str) -> Vec<u32> {
        let mut harness = self.harness();
        for warp in 0..4 {
            harness.step(warp, &self.text(scale, factors));
            harness.step(warp, COMMIT);
        }
        for warp in [2, 0, 3, 1] {
            harness.step(warp, &wait(0));
        }
        let flops = 2 * (64 * self.n * self.k()) as u64;
        assert_eq!(harness.cluster.counters.tensor_flops, flops);
        self.d(&mut harness)
    }
}

/// All pairs of element types.
fn types() -> Vec<(Element, Element)> {
    use Element::*;
    let mut all = vec![(F16, F16), (Bf16, Bf16), (Tf32, Tf32)];
    all.extend([(E4m3, E4m3), (E4m3, E5m2), (E5m2, E4m3), (E5m2, E5m2)]);
    all.extend([(S8, S8), (S8, U8), (U8, S8), (U8, U8)]);
    all
}

#[test]
fn every_type_is_the_exact_sum_rounded_once_from_shared_memory_and_from_registers() {
    let mut random = Random(3);
    for (of_a, of_b) in types() {
        for of_sum in sums(of_a) {
            for registers in [false, true] {
                let case = Case { registers, ..Case::new(24, of_a, of_b, of_sum, &mut random) };
                assert!(
                    case.run("1", ",1,1") == case.exact(true, 1),
                    "{of_a:?}·{of_b:?}, {of_sum:?}, {registers}"
                );
            }
        }
    }
}

#[test]
fn every_n_computes_every_column() {
    let mut random = Random(4);
    for n in (8..=256).step_by(8) {
        let case = Case::new(n, Element::Bf16, Element::Bf16, Sum::F32, &mut random);
        assert!(case.run("1", ",1,1") == case.exact(true, 1), "bf16 {n}");
    }
    for n in [8, 16, 24, 32, 48, 256] {
        let case = Case::new(n, Element::S8, Element::U8, Sum::S32 { saturate: false }, &mut random);
        assert!(case.run("1", "") == case.exact(true, 1), "s8 {n}");
    }
}

#[test]
fn every_swizzle_of_both_majors_reads_the_same_matrices() {
    let mut random = Random(5);
    let case = Case::new(64, Element::F16, Element::F16, Sum::F32, &mut random);
    let wanted = case.exact(true, 1);
    for major_a in [Major::K, Major::Mn] {
        for major_b in [Major::K, Major::Mn] {
            for (swizzle_a, swizzle_b) in [(0, 0), (1, 1), (2, 2), (3, 3), (3, 0), (1, 2)] {
                let case = Case {
                    major_a,
                    major_b,
                    swizzle_a,
                    swizzle_b,
                    a: case.a.clone(),
                    b: case.b.clone(),
                    c: case.c.clone(),
                    ..case
                };
                assert!(case.run("1", ",1,1") == wanted, "{major_a:?} {swizzle_a}, {major_b:?} {swizzle_b}");
            }
        }
    }
    let case = Case { registers: true, major_b: Major::Mn, ..case };
    assert!(case.run("1", ",1,1") == wanted);
}

#[test]
fn scale_d_leaves_the_old_sum_out_and_factors_negate() {
    let mut random = Random(6);
    let case = Case::new(16, Element::Bf16, Element::Bf16, Sum::F32, &mut random);
    assert!(case.run("0", ",1,1") == case.exact(false, 1));
    assert!(case.run("1", ",-1,1") == case.exact(true, -1));
    assert!(case.run("1", ",1,-1") == case.exact(true, -1));
    assert!(case.run("1", ",-1,-1") == case.exact(true, 1));
    // A predicate, and its negation; what D held may be no number.
    let mut harness = case.harness();
    for warp in 0..4 {
        harness.warp(warp).set_predicate(1, ALL, ALL);
        harness.set(warp, "r0", [f32::NAN.to_bits(); LANES]);
        harness.step(warp, &case.text("!p1", ",1,1"));
        harness.step(warp, COMMIT);
    }
    (0..4).for_each(|warp| harness.step(warp, &wait(0)));
    assert!(case.d(&mut harness) == case.exact(false, 1));
}

#[test]
fn products_in_flight_add_to_one_another_and_groups_come_back_in_order() {
    let mut random = Random(7);
    let case = Case::new(8, Element::F16, Element::F16, Sum::F32, &mut random);
    let case = Case { c: vec![(0, 0); 64 * 8], ..case };
    let mut harness = case.harness();
    let once = case.text("1", ",1,1");
    for warp in 0..4 {
        harness.step(warp, &once);
        harness.step(warp, COMMIT);
        harness.step(warp, &once);
        harness.step(warp, &once);
        harness.step(warp, COMMIT);
    }
    for warp in 0..4 {
        harness.step(warp, &wait(1));
        assert_eq!(harness.get(warp, "r0"), [POISON; LANES], "the second group has the same D");
        harness.step(warp, &wait(1));
    }
    (0..4).for_each(|warp| harness.step(warp, &wait(0)));
    let mut wanted = vec![0f32; 64 * 8];
    for _ in 0..3 {
        let again = Case {
            c: wanted.iter().map(|c| (c.to_bits(), (f64::from(*c) * 2f64.powi(40)) as i128)).collect(),
            a: case.a.clone(),
            b: case.b.clone(),
            ..case
        };
        wanted = again.exact(true, 1).into_iter().map(f32::from_bits).collect();
    }
    let found: Vec<f32> = case.d(&mut harness).into_iter().map(f32::from_bits).collect();
    assert!(found == wanted);
}

#[test]
fn groups_of_different_sums_retire_one_by_one() {
    let mut random = Random(8);
    let case = Case::new(8, Element::Bf16, Element::Bf16, Sum::F32, &mut random);
    let mut harness = case.harness();
    let other = case.text("0", ",1,1").replace(&vector("r", 0, 4), &vector("r", 10, 4));
    for warp in 0..4 {
        harness.step(warp, &case.text("1", ",1,1"));
        harness.step(warp, COMMIT);
        harness.step(warp, &other);
        harness.step(warp, COMMIT);
    }
    (0..4).for_each(|warp| harness.step(warp, &wait(1)));
    assert!(case.d(&mut harness) == case.exact(true, 1));
    assert_eq!(harness.get(0, "r10"), [POISON; LANES]);
    assert!(!harness.warp(0).products.is_idle());
    (0..4).for_each(|warp| harness.step(warp, &wait(0)));
    for warp in 0..4 {
        for register in 0..4 {
            let row = harness.get(warp, &format!("r{}", 10 + register));
            harness.set(warp, &format!("r{register}"), row);
        }
        assert!(harness.warp(warp).products.is_idle() && harness.warp(warp).products.unfinished().is_none());
    }
    assert!(case.d(&mut harness) == case.exact(false, 1));
}

#[test]
fn operands_are_read_when_they_are_waited_for() {
    let mut random = Random(9);
    let mut case = Case::new(8, Element::Bf16, Element::Bf16, Sum::F32, &mut random);
    let mut harness = case.harness();
    for warp in 0..4 {
        harness.step(warp, &case.text("1", ",1,1"));
        harness.step(warp, COMMIT);
    }
    // -1 in place of B(0, 0).
    harness.cluster.blocks[0].shared[B as usize..B as usize + 2].copy_from_slice(&0xbf80_u16.to_le_bytes());
    (0..4).for_each(|warp| harness.step(warp, &wait(0)));
    let found = case.d(&mut harness);
    assert!(found != case.exact(true, 1));
    case.b[0] = (0xbf80, -1 << 20);
    assert!(found == case.exact(true, 1));
}

#[test]
fn registers_in_flight_are_poisoned_known_and_guarded() {
    let mut random = Random(10);
    let case = Case { registers: true, ..Case::new(8, Element::Bf16, Element::Bf16, Sum::F32, &mut random) };
    let start = || {
        let mut harness = case.harness();
        for warp in 0..4 {
            harness.step(warp, &case.text("1", ",1,1"));
            harness.step(warp, COMMIT);
        }
        harness
    };
    let mut harness = start();
    assert_eq!(harness.get(1, "r3"), [POISON; LANES]);
    let products = &harness.warp(1).products;
    assert_eq!(products.in_flight(&[7, 9]), None);
    assert_eq!(products.in_flight(&[7, 3]), Some(3));
    assert_eq!(products.unfinished().unwrap(), "1 groups of wgmma that nobody waited for");

    // One lane of D written.
    harness.warp(0).rows[2][5] = 1;
    let fault = harness.fault(0, &wait(0));
    assert_eq!(fault.kind, FaultKind::Async);
    assert!(fault.message.starts_with("register 2 of D was written"), "{}", fault.message);

    // One lane of A written.
    let mut harness = start();
    harness.warp(0).rows[201][31] ^= 1;
    let fault = harness.fault(0, &wait(0));
    assert!(fault.message.starts_with("register 1 of A was written"), "{}", fault.message);

    // D of one product as A of the next, and the other way round; parts of D as another D.
    for (from, to) in [("{r200,", "{r2,"), ("{r0,", "{r203,"), ("{r0,r1,r2,r3}", "{r3,r4,r5,r6}")] {
        let mut harness = start();
        let fault = harness.fault(0, &case.text("1", ",1,1").replace(from, to));
        assert_eq!(fault.kind, FaultKind::Async, "{to}");
    }
}

#[test]
fn the_warps_of_a_warpgroup_wait_for_one_another() {
    let mut random = Random(11);
    let case = Case::new(8, Element::Bf16, Element::Bf16, Sum::F32, &mut random);
    let mut harness = case.harness();
    let text = case.text("1", ",1,1");
    for warp in 0..3 {
        harness.step(warp, &text);
        harness.step(warp, COMMIT);
    }
    let Ok(Flow::Wait(waits)) = harness.run(0, &wait(0), ALL) else { panic!("warp 3 is not there") };
    assert_eq!(waits.what, "warp 3 to commit group 0 of wgmma");
    harness.warp(3).live = 0;
    let fault = harness.fault(0, &wait(0));
    assert_eq!(fault.kind, FaultKind::Instruction);
    harness.warp(3).live = ALL;
    harness.step(3, &text);
    harness.step(3, COMMIT);
    harness.step(0, &wait(0));
    // Computed for all, and no longer dependent on shared memory.
    harness.cluster.blocks[0].shared.fill(0);
    (1..4).for_each(|warp| harness.step(warp, &wait(0)));
    assert!(case.d(&mut harness) == case.exact(true, 1));
}

#[test]
fn warps_that_disagree_are_a_fault() {
    let mut random = Random(12);
    let case = Case::new(8, Element::Bf16, Element::Bf16, Sum::F32, &mut random);
    let text = case.text("1", ",1,1");
    let run = |change: &dyn Fn(&mut Harness) -> String, more: bool| {
        let mut harness = case.harness();
        let other = change(&mut harness);
        for warp in 0..4 {
            harness.step(warp, if warp == 2 { &other } else { &text });
            if more && warp == 2 {
                harness.step(warp, &text);
            }
            harness.step(warp, COMMIT);
        }
        harness.fault(1, &wait(0)).message
    };
    let same = |_: &mut Harness| text.clone();
    assert!(run(&same, true).ends_with("how many products are in a group: 1 and 2"));
    let scale = |_: &mut Harness| case.text("0", ",1,1");
    assert!(run(&scale, false).ends_with("the instruction"));
    let b = |harness: &mut Harness| {
        let bits = harness.get_wide(2, "rd1")[0] + 2;
        harness.set_wide(2, "rd1", [bits; LANES]);
        text.clone()
    };
    assert!(run(&b, false).contains("the descriptor of B"));
}

#[test]
fn misuse_is_a_fault_where_it_is_issued() {
    let mut random = Random(13);
    let case = Case::new(8, Element::Bf16, Element::Bf16, Sum::F32, &mut random);
    let text = case.text("p1", ",1,1");
    let kind = |change: &dyn Fn(&mut Harness)| {
        let mut harness = case.harness();
        change(&mut harness);
        harness.run(3, &text, ALL).err().map(|fault| fault.kind)
    };
    assert_eq!(kind(&|_| {}), None);
    assert_eq!(
        kind(&|harness| harness.warp(3).products = Default::default()),
        Some(FaultKind::Async),
        "no fence"
    );
    assert_eq!(kind(&|harness| harness.warp(3).set_predicate(1, 1, 1)), Some(FaultKind::Instruction));
    let descriptor = |bits: u64| {
        move |harness: &mut Harness| {
            let value = harness.get_wide(3, "rd1")[0];
            harness.set_wide(3, "rd1", [value ^ bits; LANES]);
        }
    };
    assert_eq!(kind(&descriptor(1 << 49)), Some(FaultKind::Unsupported), "base offset");
    assert_eq!(kind(&descriptor(0x400 ^ 0x1000)), Some(FaultKind::Address), "at the end of shared memory");
    assert_eq!(kind(&descriptor(0x400)), Some(FaultKind::Address), "in what the system keeps");
    let differs = |harness: &mut Harness| {
        let mut values = harness.get_wide(3, "rd1");
        values[31] += 2;
        harness.set_wide(3, "rd1", values);
    };
    assert_eq!(kind(&differs), Some(FaultKind::Instruction));
    assert_eq!(
        kind(&|harness| harness.device = crate::device::Device::of("sm_80").unwrap()),
        Some(FaultKind::Instruction)
    );
    let mut harness = case.harness();
    assert_eq!(harness.run(0, &text, ALL >> 1).unwrap_err().kind, FaultKind::Instruction);
    let mut small = Harness::new(1, 96);
    assert_eq!(small.fault(0, FENCE).kind, FaultKind::Instruction);
}

#[test]
fn forms_that_do_not_exist_are_refused() {
    let mut harness = Harness::new(1, 128);
    let mut kind = |modifiers: &str, d: usize, rest: &str| {
        let text = format!("wgmma.{modifiers} {},rd0,rd1,{rest}", vector("r", 0, d));
        harness.decode(&text).err().map(|error| error.kind)
    };
    let (invalid, unsupported) = (Some(ErrorKind::Invalid), Some(ErrorKind::Unsupported));
    let bf16 = "mma_async.sync.aligned.m64n8k16.f32.bf16.bf16";
    assert_eq!(kind(bf16, 4, "p0,1,1,0,0"), None);
    assert_eq!(kind(bf16, 2, "p0,1,1,0,0"), invalid);
    assert_eq!(kind(bf16, 4, "p0,1,1,0"), invalid);
    assert_eq!(kind(bf16, 4, "p0,2,1,0,0"), invalid);
    assert_eq!(kind(bf16, 4, "p0,1,1,0,2"), invalid);
    assert_eq!(kind("mma_async.sync.aligned.m64n8k8.f32.tf32.tf32", 4, "p0,1,1,0,0"), invalid);
    assert_eq!(kind("mma_async.sync.aligned.m64n8k32.s32.s8.s8", 4, "p0"), None);
    assert_eq!(kind("mma_async.sync.aligned.m64n8k32.s32.s8.s8", 4, "p0,1,1"), invalid);
    for modifiers in [
        "mma_async.sync.aligned.m64n40k32.s32.s8.s8",
        "mma_async.sync.aligned.m64n12k16.f32.bf16.bf16",
        "mma_async.sync.aligned.m64n264k16.f32.bf16.bf16",
        "mma_async.sync.aligned.m64n8k8.f32.bf16.bf16",
        "mma_async.sync.aligned.m64n8k16.f16.bf16.bf16",
        "mma_async.sync.aligned.m64n8k16.f32.bf16.f16",
        "mma_async.sp.sync.aligned.m64n8k16.f32.bf16.bf16",
        "mma_async.sync.aligned.m64n8k256.s32.b1.b1.and.popc",
    ] {
        assert_eq!(kind(modifiers, 4, "p0,1,1,0,0"), unsupported, "{modifiers}");
    }
}
