//! Instructions of the family, from the syntax tree.

use super::reduce::Reduction;
use crate::check::Scope;
use crate::exec::memory;
use crate::program::{Address, Decoder, Modifiers, Slot};
use crate::ptx::ast::{Instruction, Operand, Space};
use crate::ptx::{Result, Type};
use crate::tensormap::Field;

/// What an instruction does.
#[derive(Debug)]
pub(super) enum Kind {
    /// cp.async.bulk, cp.reduce.async.bulk.
    Transfer(Transfer),
    /// st.async, red.async.
    Values(Values),
    /// cp.async.bulk.commit_group.
    Commit,
    /// cp.async.bulk.wait_group.
    Wait {
        /// Groups that may be pending still.
        pending: u32,
        /// `.read`
        reads_only: bool,
    },
    /// cp.async.bulk.prefetch.tensor.
    PrefetchTensor { map: Address, coordinates: Vec<Slot> },
    /// prefetch.tensormap.
    PrefetchMap(Address),
    /// tensormap.replace.
    Replace { map: Map, field: Field, value: Slot },
    /// tensormap.cp_fenceproxy.
    CopyMap { to: Address, from: Shared },
    /// setmaxnreg.
    Registers { increase: bool, count: u32 },
    /// fence.proxy.tensormap: with `acquire`, for maps that are read behind it.
    MapFence { scope: Scope, acquire: bool },
    /// What has no effect here: hints; griddepcontrol, because launches run one after the other.
    Nothing,
}

/// A copy of bytes or of a box.
#[derive(Debug)]
pub(super) struct Transfer {
    /// From where to where.
    pub direction: Direction,
    /// How it changes its destination, if it does not replace it. The type of a tensor comes from its map.
    pub reduction: Option<(Reduction, Option<Type>)>,
}

/// From where to where.
#[derive(Debug)]
pub(super) enum Direction {
    /// From global to shared memory.
    Load { to: Shared, from: Global, barrier: Shared, blocks: Option<Slot> },
    /// From the block's to another block's shared memory.
    Peer { to: Shared, from: Shared, size: Slot, barrier: Shared },
    /// From shared to global memory.
    Store { to: Global, from: Shared },
}

/// The end of a copy in global memory.
#[derive(Debug)]
pub(super) enum Global {
    /// Bytes.
    Bytes { address: Address, size: Slot },
    /// A box of a tensor.
    Tensor { map: Address, coordinates: Vec<Slot> },
}

/// st.async, red.async.
#[derive(Debug)]
pub(super) struct Values {
    /// Where to.
    pub to: Shared,
    /// What.
    pub values: Vec<Slot>,
    /// Of each value.
    pub ty: Type,
    /// red.async.
    pub reduction: Option<Reduction>,
    /// What gets the bytes.
    pub barrier: Shared,
}

/// Where a tensor map lies that is edited.
#[derive(Clone, Copy, Debug)]
pub(super) enum Map {
    /// In global memory.
    Global(Address),
    /// In shared memory.
    Shared(Shared),
}

/// An address of shared memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shared {
    /// The address.
    pub address: Address,
    /// What it counts in.
    pub window: Window,
}

/// What a shared address counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Window {
    /// `.shared::cta`, or a variable's name.
    Block,
    /// `.shared::cluster`
    Cluster,
    /// No state space given.
    Generic,
}

/// Decodes an instruction, if it is of this family.
pub(super) fn decode<'a>(inst: &Instruction<'a>, decoder: &mut Decoder<'a>) -> Result<Option<Kind>> {
    let has = |name| inst.modifiers.contains(&name);
    let mut modifiers = Modifiers::new(inst);
    let kind = match inst.opcode {
        "cp" if has("bulk") => bulk(inst, decoder, &mut modifiers)?,
        "st" | "red" if has("async") => values(inst, decoder, &mut modifiers)?,
        "prefetch" if has("tensormap") => {
            modifiers.take("tensormap");
            modifiers.take_any(&["param", "const"]);
            decoder.expect(inst, 1..=1)?;
            let (address, space) = decoder.address(inst, decoder.operand(inst, 0)?)?;
            match space {
                // Only here may a parameter be named: the instruction is a hint.
                Some(Space::Param) => Kind::Nothing,
                _ => Kind::PrefetchMap(address),
            }
        }
        "fence" if has("tensormap::generic") => {
            let acquire = has("acquire");
            modifiers.take("proxy");
            modifiers.take("tensormap::generic");
            let known = modifiers.take_any(&["acquire", "release"]).is_some();
            let (true, Some(scope)) = (known, memory::form::scope(&mut modifiers)) else {
                return Err(modifiers.invalid("expected .acquire or .release and a scope"));
            };
            decoder.expect(inst, if acquire { 2..=2 } else { 0..=0 })?;
            if acquire {
                decoder.address(inst, decoder.operand(inst, 0)?)?;
            }
            Kind::MapFence { scope, acquire }
        }
        "tensormap" => tensormap(inst, decoder, &mut modifiers)?,
        "griddepcontrol" => {
            if modifiers.take_any(&["wait", "launch_dependents"]).is_none() {
                return Err(modifiers.invalid("expected .wait or .launch_dependents"));
            }
            decoder.expect(inst, 0..=0)?;
            Kind::Nothing
        }
        "setmaxnreg" => {
            let Some(change) = modifiers.take_any(&["inc", "dec"]) else {
                return Err(modifiers.invalid("expected .inc or .dec"));
            };
            let complete = ["sync", "aligned", "u32"].into_iter().all(|name| modifiers.take(name));
            if !complete {
                return Err(modifiers.invalid("expected .sync.aligned.u32"));
            }
            decoder.expect(inst, 1..=1)?;
            let count = constant(decoder.operand(inst, 0)?)
                .filter(|count| (24..=256).contains(count) && count.is_multiple_of(8))
                .ok_or_else(|| {
                    modifiers.invalid("expected a constant from 24 to 256 that is a multiple of 8")
                })?;
            Kind::Registers { increase: change == "inc", count: count as u32 }
        }
        "multimem" => return Err(modifiers.unsupported("memory of several devices is not emulated")),
        _ => return Ok(None),
    };
    modifiers.finish()?;
    Ok(Some(kind))
}

const SPACES: [&str; 3] = ["shared::cluster", "shared::cta", "global"];
const REDUCTIONS: [&str; 8] = ["add", "min", "max", "inc", "dec", "and", "or", "xor"];

fn bulk<'a>(
    inst: &Instruction<'a>,
    decoder: &mut Decoder<'a>,
    modifiers: &mut Modifiers<'_, 'a>,
) -> Result<Kind> {
    let reduces = modifiers.take("reduce");
    modifiers.take("async");
    modifiers.take("bulk");
    if modifiers.take("commit_group") {
        decoder.expect(inst, 0..=0)?;
        return Ok(Kind::Commit);
    }
    if modifiers.take("wait_group") {
        let reads_only = modifiers.take("read");
        decoder.expect(inst, 1..=1)?;
        let pending = constant(decoder.operand(inst, 0)?).and_then(|pending| u32::try_from(pending).ok());
        let pending = pending.ok_or_else(|| modifiers.invalid("expected a constant number of groups"))?;
        return Ok(Kind::Wait { pending, reads_only });
    }
    let prefetch = modifiers.take("prefetch");
    let rank = match modifiers.take("tensor") {
        false => None,
        true => match modifiers.take_any(&["1d", "2d", "3d", "4d", "5d"]) {
            Some(rank) => Some(usize::from(rank.as_bytes()[0] - b'0')),
            None => return Err(modifiers.invalid("expected a number of dimensions, .1d to .5d")),
        },
    };
    if rank.is_some() {
        modifiers.take("tile");
    }
    let hint = modifiers.take("L2::cache_hint");
    if prefetch {
        if !(modifiers.take("L2") && modifiers.take("global")) {
            return Err(modifiers.invalid("expected .L2.global"));
        }
        decoder.expect(inst, operands(if rank.is_some() { 1 } else { 2 } + usize::from(hint)))?;
        return match rank {
            Some(rank) => {
                let (map, coordinates) = tensor(inst, decoder, 0, rank)?;
                Ok(Kind::PrefetchTensor { map, coordinates })
            }
            None => {
                global(inst, decoder, 0)?;
                size(inst, decoder, 1)?;
                Ok(Kind::Nothing)
            }
        };
    }
    let (to, from) = (modifiers.take_any(&SPACES), modifiers.take_any(&SPACES));
    let counted = modifiers.take("mbarrier::complete_tx::bytes");
    let grouped = modifiers.take("bulk_group");
    let multicast = modifiers.take("multicast::cluster");
    let mut reduction = None;
    if reduces {
        let name = modifiers.take_any(&REDUCTIONS);
        let name = name.ok_or_else(|| modifiers.invalid("expected an operation, as .add"))?;
        let exact = modifiers.take("noftz");
        let ty = if rank.is_some() { None } else { Some(modifiers.ty()?) };
        reduction = Some((Reduction::parse(name), ty));
        if let Some(ty) = ty {
            let known = Reduction::parse(name).takes(ty, to == Some("global"));
            let half = matches!(ty, Type::F16 | Type::Bf16) && name == "add";
            if !known || exact != half {
                return Err(modifiers.invalid("no such operation on this type"));
            }
        }
    }
    let mut count = if rank.is_some() { 2 } else { 3 } + usize::from(hint);
    let direction = match (to, from, counted, grouped) {
        (Some(to @ ("shared::cluster" | "shared::cta")), Some("global"), true, false) if !reduces => {
            let window = window(Some(to));
            if multicast && window == Window::Block {
                return Err(modifiers.invalid(".multicast::cluster needs .shared::cluster"));
            }
            count += 1 + usize::from(multicast);
            decoder.expect(inst, operands(count))?;
            let (from, next) = match rank {
                Some(rank) => {
                    let (map, coordinates) = tensor(inst, decoder, 1, rank)?;
                    (Global::Tensor { map, coordinates }, 2)
                }
                None => {
                    let address = global(inst, decoder, 1)?;
                    (Global::Bytes { address, size: size(inst, decoder, 2)? }, 3)
                }
            };
            let blocks = match multicast {
                true => Some(decoder.src(inst, decoder.operand(inst, next + 1)?, Type::B16)?),
                false => None,
            };
            let to = shared(inst, decoder, 0, window)?;
            Direction::Load { to, from, barrier: shared(inst, decoder, next, window)?, blocks }
        }
        (Some("shared::cluster"), Some("shared::cta"), true, false)
            if rank.is_none() && !hint && !multicast =>
        {
            decoder.expect(inst, operands(count + 1))?;
            Direction::Peer {
                to: shared(inst, decoder, 0, Window::Cluster)?,
                from: shared(inst, decoder, 1, Window::Block)?,
                size: size(inst, decoder, 2)?,
                barrier: shared(inst, decoder, 3, Window::Cluster)?,
            }
        }
        (Some("global"), Some("shared::cta"), false, true) if !multicast => {
            decoder.expect(inst, operands(count))?;
            let to = match rank {
                Some(rank) => {
                    let (map, coordinates) = tensor(inst, decoder, 0, rank)?;
                    Global::Tensor { map, coordinates }
                }
                None => {
                    let address = global(inst, decoder, 0)?;
                    Global::Bytes { address, size: size(inst, decoder, 2)? }
                }
            };
            Direction::Store { to, from: shared(inst, decoder, 1, Window::Block)? }
        }
        _ => return Err(modifiers.invalid("no such copy")),
    };
    if hint {
        decoder.src(inst, decoder.operand(inst, inst.operands.len() - 1)?, Type::B64)?;
    }
    Ok(Kind::Transfer(Transfer { direction, reduction }))
}

fn values<'a>(
    inst: &Instruction<'a>,
    decoder: &mut Decoder<'a>,
    modifiers: &mut Modifiers<'_, 'a>,
) -> Result<Kind> {
    modifiers.take("async");
    if !modifiers.take("mbarrier::complete_tx::bytes") {
        return Err(modifiers.unsupported("only the form with an mbarrier is emulated"));
    }
    let window = window(modifiers.take_any(&["shared::cluster"]));
    let mut reduction = None;
    let mut count = 1;
    let ty = if inst.opcode == "st" {
        modifiers.take("weak");
        count = match modifiers.take_any(&["v2", "v4"]) {
            Some("v2") => 2,
            Some(_) => 4,
            None => 1,
        };
        let ty = modifiers.ty()?;
        let narrow = !matches!(ty.bits(), 32 | 64) || ty.bits() * count > 128;
        if narrow || matches!(ty, Type::F16x2 | Type::Bf16x2 | Type::Tf32 | Type::U16x2 | Type::S16x2) {
            return Err(modifiers.invalid("no such vector can be stored"));
        }
        ty
    } else {
        if !(modifiers.take("relaxed") && modifiers.take("cluster")) {
            return Err(modifiers.invalid("expected .relaxed.cluster"));
        }
        let name = modifiers.take_any(&REDUCTIONS);
        let name = name.ok_or_else(|| modifiers.invalid("expected an operation, as .add"))?;
        let ty = modifiers.ty()?;
        // The signed sum is assembled too.
        let signed_sum = name == "add" && ty == Type::S64;
        if !(Reduction::parse(name).takes(ty, false) || signed_sum) {
            return Err(modifiers.invalid("no such operation on this type"));
        }
        reduction = Some(Reduction::parse(name));
        ty
    };
    decoder.expect(inst, 3..=3)?;
    let operand = decoder.operand(inst, 1)?;
    let values = match operand {
        Operand::Vector(elements) if count > 1 && elements.len() == count as usize => {
            elements.iter().map(|element| decoder.src(inst, element, ty)).collect::<Result<_>>()?
        }
        _ if count == 1 => vec![decoder.src(inst, operand, ty)?],
        _ => return Err(modifiers.invalid(&format!("expected a vector of {count}"))),
    };
    let to = shared(inst, decoder, 0, window)?;
    let barrier = shared(inst, decoder, 2, window)?;
    Ok(Kind::Values(Values { to, values, ty, reduction, barrier }))
}

fn tensormap<'a>(
    inst: &Instruction<'a>,
    decoder: &mut Decoder<'a>,
    modifiers: &mut Modifiers<'_, 'a>,
) -> Result<Kind> {
    if modifiers.take("cp_fenceproxy") {
        let complete = ["global", "shared::cta", "tensormap::generic", "release", "sync", "aligned"];
        let complete = complete.into_iter().all(|name| modifiers.take(name));
        if !complete || modifiers.take_any(&["cta", "cluster", "gpu", "sys"]).is_none() {
            return Err(modifiers
                .invalid("expected .global.shared::cta.tensormap::generic.release.SCOPE.sync.aligned"));
        }
        decoder.expect(inst, 3..=3)?;
        if constant(decoder.operand(inst, 2)?) != Some(128) {
            return Err(modifiers.invalid("expected a size of 128"));
        }
        let to = global(inst, decoder, 0)?;
        return Ok(Kind::CopyMap { to, from: shared(inst, decoder, 1, Window::Block)? });
    }
    if !(modifiers.take("replace") && modifiers.take("tile")) {
        return Err(modifiers.unsupported("no form of tensormap known here"));
    }
    const FIELDS: [&str; 10] = [
        "global_address",
        "rank",
        "box_dim",
        "global_dim",
        "global_stride",
        "element_stride",
        "elemtype",
        "interleave_layout",
        "swizzle_mode",
        "fill_mode",
    ];
    let name = modifiers.take_any(&FIELDS);
    let name = name.ok_or_else(|| modifiers.unsupported("no field known here"))?;
    let wide = matches!(name, "global_address" | "global_stride");
    let (bits, ty) = if wide { ("b64", Type::B64) } else { ("b32", Type::B32) };
    if !(modifiers.take("b1024") && modifiers.take(bits)) {
        return Err(modifiers.invalid(&format!("expected .b1024.{bits}")));
    }
    let space = modifiers.take_any(&["global", "shared::cta"]);
    let indexed = matches!(name, "box_dim" | "global_dim" | "global_stride" | "element_stride");
    decoder.expect(inst, operands(if indexed { 3 } else { 2 }))?;
    let index = match indexed {
        false => 0,
        true => constant(decoder.operand(inst, 1)?)
            .filter(|index| *index < if wide { 4 } else { 5 })
            .ok_or_else(|| modifiers.invalid("expected the number of a dimension"))? as u32,
    };
    let field = match name {
        "global_address" => Field::GlobalAddress,
        "rank" => Field::Rank,
        "box_dim" => Field::BoxDim(index),
        "global_dim" => Field::GlobalDim(index),
        "global_stride" => Field::GlobalStride(index),
        "element_stride" => Field::ElementStride(index),
        "elemtype" => Field::ElementType,
        "interleave_layout" => Field::InterleaveLayout,
        "swizzle_mode" => Field::SwizzleMode,
        _ => Field::FillMode,
    };
    let map = match space {
        Some("shared::cta") => Map::Shared(shared(inst, decoder, 0, Window::Block)?),
        _ => Map::Global(global(inst, decoder, 0)?),
    };
    let value = decoder.operand(inst, if indexed { 2 } else { 1 })?;
    Ok(Kind::Replace { map, field, value: decoder.src(inst, value, ty)? })
}

fn window(space: Option<&str>) -> Window {
    match space {
        Some("shared::cluster") => Window::Cluster,
        Some(_) => Window::Block,
        None => Window::Generic,
    }
}

fn operands(count: usize) -> std::ops::RangeInclusive<usize> {
    count..=count
}

fn constant(operand: &Operand) -> Option<u64> {
    match operand {
        Operand::Int(value) => Some(*value),
        _ => None,
    }
}

fn shared<'a>(
    inst: &Instruction<'a>,
    decoder: &mut Decoder<'a>,
    index: usize,
    window: Window,
) -> Result<Shared> {
    let (address, space) = decoder.address(inst, decoder.operand(inst, index)?)?;
    match space {
        // A variable's name is the block's own.
        Some(Space::Shared) => Ok(Shared { address, window: Window::Block }),
        None => Ok(Shared { address, window }),
        Some(_) => Err(Modifiers::new(inst).invalid("the variable is not in shared memory")),
    }
}

fn global<'a>(inst: &Instruction<'a>, decoder: &mut Decoder<'a>, index: usize) -> Result<Address> {
    match decoder.address(inst, decoder.operand(inst, index)?)? {
        (address, None | Some(Space::Global)) => Ok(address),
        _ => Err(Modifiers::new(inst).invalid("the variable is not in global memory")),
    }
}

fn size<'a>(inst: &Instruction<'a>, decoder: &mut Decoder<'a>, index: usize) -> Result<Slot> {
    let operand = decoder.operand(inst, index)?;
    if constant(operand).is_some_and(|size| !size.is_multiple_of(16)) {
        return Err(Modifiers::new(inst).invalid("the size is no multiple of 16"));
    }
    decoder.src(inst, operand, Type::U32)
}

fn tensor<'a>(
    inst: &Instruction<'a>,
    decoder: &mut Decoder<'a>,
    index: usize,
    rank: usize,
) -> Result<(Address, Vec<Slot>)> {
    let operand = decoder.operand(inst, index)?;
    let (address, space) = decoder.address(inst, operand)?;
    if !matches!(space, None | Some(Space::Global | Space::Const)) {
        return Err(Modifiers::new(inst).invalid("a tensor map is named by its generic address"));
    }
    let Operand::Address { coordinates, .. } = operand else {
        return Err(Modifiers::new(inst).invalid("expected a tensor map and coordinates"));
    };
    if coordinates.len() != rank {
        let count = coordinates.len();
        return Err(Modifiers::new(inst).invalid(&format!("expected {rank} coordinates, found {count}")));
    }
    let coordinates = coordinates.iter().map(|c| decoder.src(inst, c, Type::S32)).collect::<Result<_>>()?;
    Ok((address, coordinates))
}
