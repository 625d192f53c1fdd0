//! mma.sync: a product whose matrices lie in the registers of one warp.

use super::elements::{Element, Format, Sum, for_format};
use super::{fragments, product, registers, shape};
use crate::exec::lanes::{LANES, Row};
use crate::exec::{Context, Decoded, Flow, Op as AnyOp};
use crate::fault::{Fault, FaultKind};
use crate::program::{Class, Decoder, Meet, Modifiers, Slot};
use crate::ptx::ast::Instruction;
use crate::ptx::{Result, Type};

/// Largest of M, of N, and of K.
const M: usize = 16;
const N: usize = 8;
const K: usize = 64;

/// One instruction.
#[derive(Debug)]
pub struct Mma {
    m: usize,
    k: usize,
    numbers: Numbers,
    d: Box<[Slot]>,
    a: Box<[Slot]>,
    b: Box<[Slot]>,
    c: Box<[Slot]>,
}

/// What its elements are.
#[derive(Debug)]
enum Numbers {
    /// In registers of 32 bits.
    Narrow { a: Element, b: Element, sum: Sum },
    /// f64
    Wide,
}

/// M and K of the forms that exist, by the elements.
fn shapes(element: Element) -> &'static [(usize, usize)] {
    match element {
        Element::F16 | Element::Bf16 => &[(16, 8), (16, 16)],
        Element::Tf32 => &[(16, 4), (16, 8)],
        Element::E4m3 | Element::E5m2 => &[(16, 16), (16, 32)],
        Element::S8 | Element::U8 => &[(8, 16), (16, 16), (16, 32)],
        Element::S4 | Element::U4 => &[(8, 32), (16, 32), (16, 64)],
    }
}

/// Decodes one.
///
/// # Errors
/// What is wrong with it.
pub fn decode<'a>(inst: &Instruction<'a>, decoder: &mut Decoder<'a>) -> Result<Decoded> {
    let mut modifiers = Modifiers::new(inst);
    if !modifiers.take("sync") || !modifiers.take("aligned") {
        return Err(modifiers.unsupported("only .sync.aligned is known here"));
    }
    let Some((m, n, k)) = modifiers.left().iter().find_map(|modifier| shape(modifier)) else {
        return Err(modifiers.invalid("its shape is missing"));
    };
    modifiers.take(&format!("m{m}n{n}k{k}"));
    if !modifiers.take("row") || !modifiers.take("col") {
        return Err(modifiers.unsupported("only .row.col is known here"));
    }
    let saturate = modifiers.take("satfinite");
    const TYPES: [&str; 12] =
        ["f16", "bf16", "tf32", "e4m3", "e5m2", "s8", "u8", "s4", "u4", "f32", "s32", "f64"];
    let types: Vec<&str> = std::iter::from_fn(|| modifiers.take_any(&TYPES)).collect();
    let [d, a, b, c] = types[..] else {
        return Err(modifiers.unsupported("its types are not known here"));
    };
    let known = |found: bool| match found {
        true => Ok(()),
        false => Err(modifiers.unsupported("this shape with these types is not known here")),
    };
    known(n == N)?;
    let numbers = if [d, a, b, c] == ["f64"; 4] {
        // Round to nearest is what all of them do here.
        known([(8, 4), (16, 4), (16, 8), (16, 16)].contains(&(m, k)) && !saturate)?;
        Numbers::Wide
    } else {
        let (Some(a), Some(b)) = (Element::parse(a), Element::parse(b)) else {
            return Err(modifiers.unsupported("its types are not known here"));
        };
        let half = matches!(a, Element::F16 | Element::E4m3 | Element::E5m2);
        let sum = match (d, c) {
            ("s32", "s32") if a.is_integer() => Sum::S32 { saturate },
            ("f32", "f32") if !a.is_integer() && !saturate => Sum::F32,
            ("f16", "f16") if half && !saturate => Sum::F16,
            _ => return Err(modifiers.unsupported("its types are not known here")),
        };
        known(a.agrees(b) && shapes(a).contains(&(m, k)))?;
        Numbers::Narrow { a, b, sum }
    };
    if matches!(numbers, Numbers::Wide) {
        modifiers.take("rn");
    }
    modifiers.finish()?;

    decoder.expect(inst, 4..=4)?;
    let (inputs, sums, ty) = match numbers {
        Numbers::Narrow { a, sum, .. } => (a.per_register(), sum.per_register(), Type::B32),
        Numbers::Wide => (1, 1, Type::F64),
    };
    let mma = Mma {
        m,
        k,
        d: registers(inst, decoder, 0, m * N / LANES / sums, ty, true)?,
        a: registers(inst, decoder, 1, m * k / LANES / inputs, ty, false)?,
        b: registers(inst, decoder, 2, k * N / LANES / inputs, ty, false)?,
        c: registers(inst, decoder, 3, m * N / LANES / sums, ty, false)?,
        numbers,
    };
    let op = AnyOp::Tensor(super::Op::Mma(Box::new(mma)));
    Ok(Decoded::new(op, Class::Tensor).meeting(Meet::Warp))
}

/// Runs one.
///
/// # Errors
/// Where the device has no such form.
pub fn execute(op: &Mma, cx: &mut Context) -> Result<Flow, Fault> {
    let (m, k) = (op.m, op.k);
    match op.numbers {
        Numbers::Narrow { a: of_a, b: of_b, sum } => {
            if matches!(of_a, Element::E4m3 | Element::E5m2) && !cx.launch.device.at_least(8, 9) {
                return Err(Fault::new(
                    FaultKind::Instruction,
                    "mma of 8-bit floats, which this device does not have",
                ));
            }
            let (mut a, mut b, mut c) = ([0.0; M * K], [0.0; K * N], [0.0; M * N]);
            for_format!(of_a, gather_a(&cx.warp.rows, &op.a, k, &mut a));
            for_format!(of_b, gather_b(&cx.warp.rows, &op.b, N, &mut b));
            gather_sums(sum, &cx.warp.rows, &op.c, N, &mut c);
            product::multiply_add(&a, &b, &mut c, m, N, k);
            scatter_sums(sum, &mut cx.warp.rows, &op.d, N, &c);
        }
        Numbers::Wide => {
            let (mut a, mut b, mut c) = ([0.0; M * K], [0.0; K * N], [0.0; M * N]);
            for (i, slot) in op.a.iter().enumerate() {
                for (lane, bits) in cx.warp.wide(*slot).into_iter().enumerate() {
                    let (row, column) = fragments::a(1, lane, i);
                    a[row * k + column] = f64::from_bits(bits);
                }
            }
            for (i, slot) in op.b.iter().enumerate() {
                for (lane, bits) in cx.warp.wide(*slot).into_iter().enumerate() {
                    let (row, column) = fragments::b(1, lane, i);
                    b[row * N + column] = f64::from_bits(bits);
                }
            }
            for (i, slot) in op.c.iter().enumerate() {
                for (lane, bits) in cx.warp.wide(*slot).into_iter().enumerate() {
                    let (row, column) = fragments::c(lane, i);
                    c[row * N + column] = f64::from_bits(bits);
                }
            }
            product::multiply_add_f64(&a, &b, &mut c, m, N, k);
            for (i, slot) in op.d.iter().enumerate() {
                let values = std::array::from_fn(|lane| {
                    let (row, column) = fragments::c(lane, i);
                    let value = c[row * N + column];
                    if value.is_nan() { 0x7ff8_0000_0000_0000 } else { value.to_bits() }
                });
                cx.warp.set_wide(*slot, &values, u32::MAX);
            }
        }
    }
    cx.cluster.counters.tensor_flops += 2 * (m * N * k) as u64;
    Ok(Flow::Next)
}

/// A fragment of A as a matrix of K columns.
pub fn gather_a<F: Format>(rows: &[Row], slots: &[Slot], k: usize, out: &mut [f64]) {
    let per = 32 / F::BITS;
    for (register, slot) in slots.iter().enumerate() {
        for (lane, word) in rows[*slot as usize].into_iter().enumerate() {
            for element in 0..per {
                let (row, column) = fragments::a(per, lane, register * per + element);
                out[row * k + column] = F::value(word >> (element * F::BITS));
            }
        }
    }
}

/// A fragment of B as a matrix of N columns.
fn gather_b<F: Format>(rows: &[Row], slots: &[Slot], n: usize, out: &mut [f64]) {
    let per = 32 / F::BITS;
    for (register, slot) in slots.iter().enumerate() {
        for (lane, word) in rows[*slot as usize].into_iter().enumerate() {
            for element in 0..per {
                let (row, column) = fragments::b(per, lane, register * per + element);
                out[row * n + column] = F::value(word >> (element * F::BITS));
            }
        }
    }
}

/// A fragment of C as a matrix of N columns.
pub fn gather_sums(sum: Sum, rows: &[Row], slots: &[Slot], n: usize, out: &mut [f64]) {
    let per = sum.per_register();
    for (register, slot) in slots.iter().enumerate() {
        for (lane, word) in rows[*slot as usize].into_iter().enumerate() {
            for element in 0..per {
                let (row, column) = fragments::c(lane, register * per + element);
                out[row * n + column] = sum.value(word >> (element * 16));
            }
        }
    }
}

/// The fragment of D of a matrix of N columns.
pub fn scatter_sums(sum: Sum, rows: &mut [Row], slots: &[Slot], n: usize, values: &[f64]) {
    let per = sum.per_register();
    for (register, slot) in slots.iter().enumerate() {
        for (lane, word) in rows[*slot as usize].iter_mut().enumerate() {
            *word = 0;
            for element in 0..per {
                let (row, column) = fragments::c(lane, register * per + element);
                *word |= sum.bits(sum.round(values[row * n + column])) << (element * 16);
            }
        }
    }
}
