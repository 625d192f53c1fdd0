//! ldmatrix, stmatrix, movmatrix: matrices of 8 × 8 elements of 16 bits, spread over a warp.
//!
//! Lane `l` holds of each matrix row `l / 4`, columns `2 (l % 4)` and the next, the lower one in the low half. Row `i` of matrix `m` lies
//! in shared memory where lane `8 m + i` says: 16 bytes, aligned to as many.

use crate::check::{Access, Order};
use crate::exec::lanes::{ALL, Row, WideRow, lanes};
use crate::exec::memory::form::{Place, Room};
use crate::exec::memory::reach::{OFFSET, RANK_SHIFT, Reach, Request};
use crate::exec::{Context, Decoded, Flow};
use crate::fault::{Fault, FaultKind};
use crate::memory::{LOCAL_WINDOW, PARAM_WINDOW};
use crate::program::{Class, Decoder, Meet, Modifiers, Slot};
use crate::ptx::ast::{Instruction, Operand};
use crate::ptx::{Result, Type};

/// An instruction of this family.
#[derive(Debug)]
pub enum Op {
    /// `ldmatrix`
    Load(Matrices),
    /// `stmatrix`
    Store(Matrices),
    /// `movmatrix`
    Transpose {
        /// The result.
        dst: Slot,
        /// The matrix.
        src: Slot,
    },
}

/// Matrices in shared memory and in registers.
#[derive(Debug)]
pub struct Matrices {
    place: Place,
    transposed: bool,
    /// Of each matrix.
    registers: Vec<Slot>,
}

/// The rows of one matrix.
type Tile = [[u16; 8]; 8];

/// Decodes an instruction of this family.
///
/// # Errors
/// What is wrong with it.
pub fn decode<'a>(inst: &Instruction<'a>, decoder: &mut Decoder<'a>) -> Result<Option<Decoded>> {
    if !matches!(inst.opcode, "ldmatrix" | "stmatrix" | "movmatrix") {
        return Ok(None);
    }
    let mut modifiers = Modifiers::new(inst);
    if !(modifiers.take("sync") && modifiers.take("aligned")) {
        return Err(modifiers.invalid("it is .sync.aligned"));
    }
    if !modifiers.take("m8n8") {
        return Err(modifiers.unsupported("only matrices of .m8n8 are known"));
    }
    let count = match modifiers.take_any(&["x1", "x2", "x4"]) {
        Some("x1") => Some(1),
        Some("x2") => Some(2),
        Some(_) => Some(4),
        None => None,
    };
    let transposed = modifiers.take("trans");
    let room = Room::take(&mut modifiers);
    if modifiers.ty()? != Type::B16 {
        return Err(modifiers.unsupported("only elements of .b16 are known"));
    }
    modifiers.finish()?;
    decoder.expect(inst, 2..=2)?;
    let op = if inst.opcode == "movmatrix" {
        if !(transposed && count.is_none() && room == Room::Generic) {
            return Err(modifiers.invalid("it is .m8n8.trans.b16"));
        }
        let src = decoder.src(inst, decoder.operand(inst, 1)?, Type::B32)?;
        Op::Transpose { dst: decoder.dst(inst, decoder.operand(inst, 0)?, Type::B32)?, src }
    } else {
        let Some(count) = count else {
            return Err(modifiers.invalid("the number of matrices is missing"));
        };
        if !matches!(room, Room::Generic | Room::Shared) {
            return Err(modifiers.invalid("matrices lie in the block's shared memory"));
        }
        let load = inst.opcode == "ldmatrix";
        let (address, fragment) = if load { (1, 0) } else { (0, 1) };
        let place = Place::decode(inst, decoder, &modifiers, decoder.operand(inst, address)?, room)?;
        let Operand::Vector(elements) = decoder.operand(inst, fragment)? else {
            return Err(modifiers.invalid("expected {…}"));
        };
        if elements.len() != count {
            return Err(modifiers.invalid(&format!("expected {count} registers, found {}", elements.len())));
        }
        let mut registers = Vec::new();
        for element in elements {
            registers.push(match load {
                true => decoder.dst(inst, element, Type::B32)?,
                false => decoder.src(inst, element, Type::B32)?,
            });
        }
        let matrices = Matrices { place, transposed, registers };
        if load { Op::Load(matrices) } else { Op::Store(matrices) }
    };
    let class = if inst.opcode == "movmatrix" { Class::Warp } else { Class::Shared };
    Ok(Some(Decoded::new(crate::exec::Op::Matrix(op), class).meeting(Meet::Warp)))
}

/// Runs one.
///
/// # Errors
/// Lanes that are missing, or an address that leads nowhere.
pub fn execute(op: &Op, cx: &mut Context, active: u32) -> Result<Flow, Fault> {
    let name = match op {
        Op::Load(_) => "ldmatrix",
        Op::Store(_) => "stmatrix",
        Op::Transpose { .. } => "movmatrix",
    };
    if active != ALL {
        let text = format!("{name} with {} of the warp's 32 threads: it needs all", active.count_ones());
        return Err(Fault::at(FaultKind::Instruction, (!active).trailing_zeros(), text));
    }
    match op {
        Op::Load(matrices) => load(matrices, cx)?,
        Op::Store(matrices) => store(matrices, cx)?,
        Op::Transpose { dst, src } => {
            let tile = transpose(&gather(cx.warp.row(*src)));
            *cx.warp.rows.get_mut(*dst as usize).expect("a row of the program") = spread(&tile);
        }
    }
    Ok(Flow::Next)
}

fn load(matrices: &Matrices, cx: &mut Context) -> Result<(), Fault> {
    let at = rows(matrices, cx, "reads", Access::Read)?;
    for (index, register) in matrices.registers.iter().enumerate() {
        let mut tile = Tile::default();
        for (row, address) in tile.iter_mut().zip(&at[8 * index..]) {
            let block = &cx.cluster.blocks[(address >> RANK_SHIFT) as usize];
            let bytes = &block.shared[(address & OFFSET) as usize..][..16];
            for (element, bytes) in row.iter_mut().zip(bytes.chunks_exact(2)) {
                *element = u16::from_le_bytes(bytes.try_into().expect("2 bytes"));
            }
        }
        let tile = if matrices.transposed { transpose(&tile) } else { tile };
        cx.warp.set_row(*register, &spread(&tile), ALL);
    }
    Ok(())
}

fn store(matrices: &Matrices, cx: &mut Context) -> Result<(), Fault> {
    let at = rows(matrices, cx, "writes", Access::Write)?;
    for (index, register) in matrices.registers.iter().enumerate() {
        let tile = gather(cx.warp.row(*register));
        let tile = if matrices.transposed { transpose(&tile) } else { tile };
        for (row, address) in tile.iter().zip(&at[8 * index..]) {
            let block = &mut cx.cluster.blocks[(address >> RANK_SHIFT) as usize];
            let bytes = &mut block.shared[(address & OFFSET) as usize..][..16];
            for (element, bytes) in row.iter().zip(bytes.chunks_exact_mut(2)) {
                bytes.copy_from_slice(&element.to_le_bytes());
            }
        }
    }
    Ok(())
}

/// The addresses of the rows, checked and counted. Of a lane that names none, the address does not matter.
fn rows(matrices: &Matrices, cx: &mut Context, verb: &'static str, access: Access) -> Result<WideRow, Fault> {
    let named = ALL >> (32 - 8 * matrices.registers.len());
    let request = Request { verb, bytes: 16, align: 16 };
    let addresses = cx.warp.addresses(matrices.place.address);
    let reach = Reach::new(matrices.place.room, cx.warp, named, addresses, request)?;
    for (wrong, base) in [(reach.global, 0), (reach.local, LOCAL_WINDOW), (reach.param, PARAM_WINDOW)] {
        if let Some(lane) = lanes(wrong).next() {
            return Err(request.misplaced(lane, reach.at[lane] + base, "shared"));
        }
    }
    let at = reach.at;
    request.aligned(named, &at, " of shared memory")?;
    request.data_in_shared(cx.cluster, cx.launch, cx.warp.block, named, &at)?;
    cx.cluster.counters.shared(access, &at, named, 16);
    let (warp, offsets) = (cx.warp.number(cx.launch), at.map(|at| (at & OFFSET) as u32));
    // Generic addresses may lead to other blocks; two rows in one place are taken to differ.
    let mut left = named;
    while left != 0 {
        let rank = at[left.trailing_zeros() as usize] >> RANK_SHIFT;
        let here =
            lanes(left).filter(|lane| at[*lane] >> RANK_SHIFT == rank).map(|lane| 1 << lane).sum::<u32>();
        let (rank, order) = (rank as u32, Order::Weak);
        cx.cluster.checker.shared_warp(warp, here, rank, &offsets, 16, access, order, cx.pc, &|_, _| true)?;
        left &= !here;
    }
    Ok(at)
}

/// A matrix from the register that each lane holds of it.
fn gather(row: &Row) -> Tile {
    std::array::from_fn(|i| std::array::from_fn(|j| (row[4 * i + j / 2] >> (16 * (j % 2))) as u16))
}

/// The register that each lane holds of a matrix.
fn spread(tile: &Tile) -> Row {
    std::array::from_fn(|lane| {
        let (row, column) = (&tile[lane / 4], 2 * (lane % 4));
        u32::from(row[column]) | u32::from(row[column + 1]) << 16
    })
}

fn transpose(tile: &Tile) -> Tile {
    std::array::from_fn(|i| std::array::from_fn(|j| tile[j][i]))
}

#[cfg(test)]
mod tests;
