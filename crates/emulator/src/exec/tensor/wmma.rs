//! wmma: products whose fragments only wmma itself reads and writes.
//!
//! PTX leaves open which lane holds which element, so here a fragment holds its matrix row by row: the first elements in
//! lane 0, as many in each lane. Of f16, where PTX gives more registers than elements, they are repeated.

use super::elements::{Element, Format, Sum, for_format};
use super::{product, registers, shape};
use crate::exec::lanes::{ALL, LANES, Row};
use crate::exec::{Context, Decoded, Flow, Op as AnyOp, memory};
use crate::fault::{Fault, FaultKind};
use crate::program::{Address, Class, Decoder, Meet, Modifiers, Slot, Symbol};
use crate::ptx::ast::{Instruction, Operand};
use crate::ptx::{Result, Type};

/// An instruction of wmma.
#[derive(Debug)]
pub enum Op {
    /// `load.a`, `load.b`, `load.c`, `store.d`
    Move(Move),
    /// `mma`
    Product(Product),
}

/// A fragment to or from memory.
#[derive(Debug)]
pub struct Move {
    store: bool,
    /// Rows and columns of the matrix.
    size: (usize, usize),
    /// Whether rows are contiguous in memory, and not columns.
    by_row: bool,
    /// Bits of an element.
    bits: usize,
    /// How many elements go at once.
    together: usize,
    address: Address,
    /// Elements from one row, or column, to the next.
    stride: Slot,
    fragment: Box<[Slot]>,
    /// Where the address of each step stands, and what is there.
    at: Slot,
    value: Slot,
    /// The load or store of a step.
    step: memory::Op,
}

/// A product of fragments.
#[derive(Debug)]
pub struct Product {
    size: (usize, usize, usize),
    of_a: Element,
    of_b: Element,
    of_c: Sum,
    of_d: Sum,
    d: Box<[Slot]>,
    a: Box<[Slot]>,
    b: Box<[Slot]>,
    c: Box<[Slot]>,
}

/// Elements that a lane holds of a matrix.
const fn each((rows, columns): (usize, usize)) -> usize {
    rows * columns / LANES
}

/// Registers of a fragment of A or B.
fn inputs(element: Element, size: (usize, usize)) -> usize {
    if element == Element::F16 { 8 } else { each(size) / element.per_register() }
}

fn known(element: Element, size: (usize, usize, usize)) -> bool {
    match element {
        Element::F16 | Element::Bf16 | Element::S8 | Element::U8 => {
            [(16, 16, 16), (32, 8, 16), (8, 32, 16)].contains(&size)
        }
        Element::Tf32 => size == (16, 16, 8),
        _ => false,
    }
}

/// Decodes one.
///
/// # Errors
/// What is wrong with it.
pub fn decode<'a>(inst: &Instruction<'a>, decoder: &mut Decoder<'a>) -> Result<Decoded> {
    let mut modifiers = Modifiers::new(inst);
    let name = modifiers.take_any(&["load", "store", "mma"]);
    if !modifiers.take("sync") || !modifiers.take("aligned") {
        return Err(modifiers.unsupported("only .sync.aligned is known here"));
    }
    let Some((m, n, k)) = modifiers.left().iter().find_map(|modifier| shape(modifier)) else {
        return Err(modifiers.invalid("its shape is missing"));
    };
    modifiers.take(&format!("m{m}n{n}k{k}"));
    let op = match name {
        Some("mma") => Op::Product(decode_product(inst, decoder, &mut modifiers, (m, n, k))?),
        Some(name) => Op::Move(decode_move(inst, decoder, &mut modifiers, (m, n, k), name == "store")?),
        None => return Err(modifiers.unsupported("no form of wmma known here")),
    };
    modifiers.finish()?;
    Ok(Decoded::new(AnyOp::Tensor(super::Op::Wmma(Box::new(op))), Class::Tensor).meeting(Meet::Warp))
}

fn decode_move<'a>(
    inst: &Instruction<'a>,
    decoder: &mut Decoder<'a>,
    modifiers: &mut Modifiers<'_, 'a>,
    (m, n, k): (usize, usize, usize),
    store: bool,
) -> Result<Move> {
    let matrix = modifiers.take_any(&["a", "b", "c", "d"]);
    let by_row = match modifiers.take_any(&["row", "col"]) {
        Some(layout) => layout == "row",
        None => return Err(modifiers.invalid("its layout is missing")),
    };
    let space = modifiers.take_any(&["global", "shared", "shared::cta"]);
    let ty = modifiers.take_any(&["f16", "bf16", "tf32", "s8", "u8", "f32", "s32"]);
    let unknown = || modifiers.unsupported("this shape with this type is not known here");
    let ty = ty.ok_or_else(unknown)?;
    let inner = Element::parse(ty).filter(|element| known(*element, (m, n, k)));
    let (size, bits, count) = match (matrix, store, inner) {
        (Some("a"), false, Some(element)) => ((m, k), element.bits(), inputs(element, (m, k))),
        (Some("b"), false, Some(element)) => ((k, n), element.bits(), inputs(element, (k, n))),
        (Some("c"), false, _) | (Some("d"), true, _) => {
            let sum = sum(ty).ok_or_else(unknown)?;
            if each((m, n)) != 8 {
                return Err(unknown());
            }
            ((m, n), 32 / sum.per_register(), each((m, n)) / sum.per_register())
        }
        _ => return Err(unknown()),
    };
    // Rows of the matrix are what a lane holds: along them elements go 32 bits at a time.
    let together = if by_row { 32 / bits } else { 1 };

    let (at_fragment, at_address) = if store { (1, 0) } else { (0, 1) };
    decoder.expect(inst, 2..=3)?;
    let fragment = registers(inst, decoder, at_fragment, count, Type::B32, !store)?;
    let (address, _) = decoder.address(inst, decoder.operand(inst, at_address)?)?;
    let stride = match inst.operands.get(2) {
        Some(operand) => decoder.src(inst, operand, Type::U32)?,
        None => decoder.constant(if by_row { size.1 } else { size.0 } as u32),
    };
    // A step is a plain load or store, by registers that no text can name.
    const AT: &str = "the address of wmma";
    const VALUE: &str = "the value of wmma";
    let (at, value) = (decoder.fresh(2), decoder.fresh(1));
    let mut names = std::collections::HashMap::new();
    names.insert(AT, Symbol::Register(at, Type::B64));
    names.insert(VALUE, Symbol::Register(value, Type::B32));
    decoder.scopes.push(names);
    let place = Operand::Address { base: Box::new(Operand::Name(AT, 0)), offset: 0, coordinates: Vec::new() };
    let value_operand = Operand::Name(VALUE, 0);
    let ty = match bits * together {
        8 => "u8",
        16 => "u16",
        _ => "u32",
    };
    let step = Instruction {
        guard: None,
        opcode: if store { "st" } else { "ld" },
        modifiers: space.into_iter().chain([ty]).collect(),
        operands: if store { vec![place, value_operand] } else { vec![value_operand, place] },
        line: inst.line,
        source: inst.source,
    };
    let decoded = memory::decode(&step, decoder);
    decoder.scopes.pop();
    match decoded?.map(|decoded| decoded.op) {
        Some(AnyOp::Memory(step)) => {
            Ok(Move { store, size, by_row, bits, together, address, stride, fragment, at, value, step })
        }
        _ => Err(modifiers.unsupported("its memory is not known here")),
    }
}

fn sum(name: &str) -> Option<Sum> {
    match name {
        "f16" => Some(Sum::F16),
        "f32" => Some(Sum::F32),
        "s32" => Some(Sum::S32 { saturate: false }),
        _ => None,
    }
}

fn decode_product<'a>(
    inst: &Instruction<'a>,
    decoder: &mut Decoder<'a>,
    modifiers: &mut Modifiers<'_, 'a>,
    size: (usize, usize, usize),
) -> Result<Product> {
    let (m, n, k) = size;
    // Layouts are those of the loads, which have seen to them.
    for _ in 0..2 {
        if modifiers.take_any(&["row", "col"]).is_none() {
            return Err(modifiers.invalid("its layouts are missing"));
        }
    }
    let saturate = modifiers.take("satfinite");
    const TYPES: [&str; 7] = ["f16", "bf16", "tf32", "s8", "u8", "f32", "s32"];
    let types: Vec<&str> = std::iter::from_fn(|| modifiers.take_any(&TYPES)).collect();
    let unknown = || modifiers.unsupported("this shape with these types is not known here");
    let (d, a, b, c) = match types[..] {
        [d, c] => (d, "f16", "f16", c),
        [d, a, b, c] => (d, a, b, c),
        _ => return Err(unknown()),
    };
    let (Some(of_a), Some(of_b)) = (Element::parse(a), Element::parse(b)) else { return Err(unknown()) };
    let (Some(of_c), Some(of_d)) = (sum(c), sum(d)) else { return Err(unknown()) };
    let fits = |sum: Sum| match sum {
        Sum::S32 { .. } => of_a.is_integer(),
        Sum::F16 => of_a == Element::F16,
        Sum::F32 => !of_a.is_integer(),
    };
    if of_a != of_b || !known(of_a, size) || !fits(of_c) || !fits(of_d) || saturate && !of_a.is_integer() {
        return Err(unknown());
    }
    let of_d = if saturate { Sum::S32 { saturate } } else { of_d };
    decoder.expect(inst, 4..=4)?;
    let sums = |sum: Sum| each((m, n)) / sum.per_register();
    Ok(Product {
        size,
        of_a,
        of_b,
        of_c,
        of_d,
        d: registers(inst, decoder, 0, sums(of_d), Type::B32, true)?,
        a: registers(inst, decoder, 1, inputs(of_a, (m, k)), Type::B32, false)?,
        b: registers(inst, decoder, 2, inputs(of_b, (k, n)), Type::B32, false)?,
        c: registers(inst, decoder, 3, sums(of_c), Type::B32, false)?,
    })
}

/// Runs one.
///
/// # Errors
/// What its loads or stores did wrong, or an address that differs between lanes.
pub fn execute(op: &Op, cx: &mut Context) -> Result<Flow, Fault> {
    match op {
        Op::Move(op) => transfer(op, cx)?,
        Op::Product(op) => multiply(op, cx),
    }
    Ok(Flow::Next)
}

fn transfer(op: &Move, cx: &mut Context) -> Result<(), Fault> {
    let (addresses, strides) = (cx.warp.addresses(op.address), *cx.warp.row(op.stride));
    if addresses.iter().any(|one| *one != addresses[0]) || strides.iter().any(|one| *one != strides[0]) {
        return Err(Fault::new(
            FaultKind::Instruction,
            "wmma whose address or stride differs between lanes of the warp",
        ));
    }
    let (each, columns, stride) = (each(op.size), op.size.1, strides[0] as usize);
    let per = 32 / op.bits;
    let mask = if op.bits == 32 { u32::MAX } else { (1 << op.bits) - 1 };
    for i in (0..each).step_by(op.together) {
        let at = std::array::from_fn(|lane| {
            let (row, column) = ((lane * each + i) / columns, (lane * each + i) % columns);
            let element = if op.by_row { row * stride + column } else { column * stride + row };
            addresses[lane].wrapping_add((element * op.bits / 8) as u64)
        });
        cx.warp.set_wide(op.at, &at, ALL);
        let (register, shift) = (i / per, i % per * op.bits);
        if op.store {
            let value = cx.warp.row(op.fragment[register]).map(|word| word >> shift);
            cx.warp.set_row(op.value, &value, ALL);
        }
        memory::execute(&op.step, cx, ALL)?;
        if op.store {
            continue;
        }
        let value = *cx.warp.row(op.value);
        // Where a register is one of several that hold the same, all are written.
        for slot in op.fragment.iter().skip(register).step_by(each / per) {
            let word = &mut cx.warp.rows[*slot as usize];
            for (word, value) in word.iter_mut().zip(value) {
                *word = if op.together == per { value } else { *word & !(mask << shift) | value << shift };
            }
        }
    }
    Ok(())
}

fn multiply(op: &Product, cx: &mut Context) {
    let (m, n, k) = op.size;
    let (mut a, mut b, mut c) = (vec![0.0; m * k], vec![0.0; k * n], vec![0.0; m * n]);
    let rows = &mut cx.warp.rows;
    for_format!(op.of_a, gather(rows, &op.a, (m, k), |at| at, &mut a));
    for_format!(op.of_b, gather(rows, &op.b, (k, n), |at| product::panel(k, at / n, at % n), &mut b));
    let place = |lane: usize, i: usize| {
        let at = lane * each((m, n)) + i;
        product::panel(m, at / n, at % n)
    };
    for i in 0..each((m, n)) {
        let per = op.of_c.per_register();
        for (lane, word) in rows[op.c[i / per] as usize].into_iter().enumerate() {
            c[place(lane, i)] = op.of_c.value(word >> (i % per * 16));
        }
    }
    product::multiply_add(&a, &b, &mut c, m, k);
    for (register, slot) in op.d.iter().enumerate() {
        let per = op.of_d.per_register();
        rows[*slot as usize] = std::array::from_fn(|lane| {
            (0..per).fold(0, |word, element| {
                word | op.of_d.bits(c[place(lane, register * per + element)]) << (element * 16)
            })
        });
    }
    cx.cluster.counters.tensor_flops += 2 * (m * n * k) as u64;
}

/// A fragment of A or B; `place` is where an element goes whose number in the matrix, row by row, is known.
fn gather<F: Format>(
    rows: &[Row],
    slots: &[Slot],
    size: (usize, usize),
    place: impl Fn(usize) -> usize,
    out: &mut [f64],
) {
    let per = 32 / F::BITS;
    for i in 0..each(size) {
        for (lane, word) in rows[slots[i / per] as usize].into_iter().enumerate() {
            out[place(lane * each(size) + i)] = F::value(word >> (i % per * F::BITS));
        }
    }
}
