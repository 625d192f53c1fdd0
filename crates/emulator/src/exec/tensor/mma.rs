//! mma.sync: a product whose matrices lie in the registers of one warp.

use super::elements::{Element, Format, Sum, for_format};
use super::{fragments, product, registers, shape};
use crate::exec::lanes::{ALL, LANES, Row};
use crate::exec::{Context, Decoded, Flow, Op as AnyOp, Warp};
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
    match op.numbers {
        Numbers::Narrow { a, .. } => {
            if matches!(a, Element::E4m3 | Element::E5m2) && !cx.launch.device.at_least(8, 9) {
                return Err(Fault::new(
                    FaultKind::Instruction,
                    "mma of 8-bit floats, which this device does not have",
                ));
            }
            match op.k {
                ..=16 => narrow::<16>(op, &mut cx.warp.rows),
                _ => narrow::<K>(op, &mut cx.warp.rows),
            }
        }
        Numbers::Wide => wide(op, cx.warp),
    }
    cx.cluster.counters.tensor_flops += 2 * (op.m * N * op.k) as u64;
    Ok(Flow::Next)
}

/// Runs one whose K is at most `MOST`.
fn narrow<const MOST: usize>(op: &Mma, rows: &mut [Row]) {
    let Numbers::Narrow { a: of_a, b: of_b, sum } = op.numbers else { return };
    let (m, k) = (op.m, op.k);
    let (mut a, mut b, mut c) = ([[0.0; MOST]; M], [[0.0; N]; MOST], [0.0; M * N]);
    let (a, b) = (a.as_flattened_mut(), &mut b.as_flattened_mut()[..k * N]);
    for_format!(of_a, gather_a(rows, &op.a, k, a));
    for_format!(of_b, gather_b(rows, &op.b, b));
    gather_sums(sum, rows, &op.c, m, &mut c);
    product::multiply_add(a, b, &mut c[..m * N], m, k);
    scatter_sums(sum, rows, &op.d, m, &c);
}

/// Runs one of f64.
fn wide(op: &Mma, warp: &mut Warp) {
    let (m, k) = (op.m, op.k);
    let (mut a, mut b, mut c) = (vec![0.0; m * k], vec![0.0; k * N], vec![0.0; m * N]);
    let take = |slots: &[Slot], put: &mut dyn FnMut(usize, usize, f64)| {
        for (i, slot) in slots.iter().enumerate() {
            for (lane, bits) in warp.wide(*slot).into_iter().enumerate() {
                put(lane, i, f64::from_bits(bits));
            }
        }
    };
    take(&op.a, &mut |lane, i, value| {
        let (row, column) = fragments::a(1, lane, i);
        a[row * k + column] = value;
    });
    take(&op.b, &mut |lane, i, value| {
        let (row, column) = fragments::b(1, lane, i);
        b[row * N + column] = value;
    });
    take(&op.c, &mut |lane, i, value| {
        let (row, column) = fragments::c(lane, i);
        c[row * N + column] = value;
    });
    product::multiply_add_f64(&a, &b, &mut c, m, k);
    for (i, slot) in op.d.iter().enumerate() {
        let values = std::array::from_fn(|lane| {
            let (row, column) = fragments::c(lane, i);
            let value = c[row * N + column];
            if value.is_nan() { 0x7ff8_0000_0000_0000 } else { value.to_bits() }
        });
        warp.set_wide(*slot, &values, ALL);
    }
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

/// A fragment of B, of one panel.
fn gather_b<F: Format>(rows: &[Row], slots: &[Slot], out: &mut [f64]) {
    let per = 32 / F::BITS;
    for (register, slot) in slots.iter().enumerate() {
        for (lane, word) in rows[*slot as usize].into_iter().enumerate() {
            for element in 0..per {
                let (row, column) = fragments::b(per, lane, register * per + element);
                out[row * N + column] = F::value(word >> (element * F::BITS));
            }
        }
    }
}

/// A fragment of C as panels of M rows.
pub fn gather_sums(sum: Sum, rows: &[Row], slots: &[Slot], m: usize, out: &mut [f64]) {
    let per = sum.per_register();
    for (register, slot) in slots.iter().enumerate() {
        for (lane, word) in rows[*slot as usize].into_iter().enumerate() {
            for element in 0..per {
                let (row, column) = fragments::c(lane, register * per + element);
                out[product::panel(m, row, column)] = sum.value(word >> (element * 16));
            }
        }
    }
}

/// The fragment of D of panels of M rows.
pub fn scatter_sums(sum: Sum, rows: &mut [Row], slots: &[Slot], m: usize, values: &[f64]) {
    let per = sum.per_register();
    for (register, slot) in slots.iter().enumerate() {
        for (lane, word) in rows[*slot as usize].iter_mut().enumerate() {
            *word = 0;
            for element in 0..per {
                let (row, column) = fragments::c(lane, register * per + element);
                *word |= sum.bits(values[product::panel(m, row, column)]) << (element * 16);
            }
        }
    }
}
