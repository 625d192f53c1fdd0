//! wgmma: products of a warpgroup, which run by themselves between mma_async and wait_group.
//!
//! A product is worth what its operands in shared memory hold when somebody waits for it: the latest moment that the
//! rules allow, so that an operand overwritten too early shows in the result. It is one operation of four warps: the first
//! warp that waits for a group computes it for all of them, once all have committed it. While a product is in flight the registers of D hold
//! [`POISON`], and its sums are kept in [`Groups`]; a warp's own wait puts them in place.

use std::collections::VecDeque;
use std::sync::Arc;

use super::descriptor::{Descriptor, Major, Role, Tile, gather};
use super::elements::{Element, Sum, for_format};
use super::mma::{gather_a, gather_sums, scatter_sums};
use super::{product, registers, shape};
use crate::check::{Access, Asynchronous, Flight, Place, Thread};
use crate::exec::lanes::{ALL, LANES, Row};
use crate::exec::{Context, Decoded, Flow, Op as AnyOp, Wait};
use crate::fault::{Fault, FaultKind};
use crate::program::{Class, Decoder, Meet, Modifiers, Predicate, Slot};
use crate::ptx::ast::{Instruction, Operand};
use crate::ptx::{Error, Result, Type};

/// Warps of a warpgroup.
const WARPS: usize = 4;
/// Rows of D that a warp has.
const ROWS: usize = 16;
/// What the registers of D hold while a product is in flight: not a number as f32, as two f16 and as two bf16.
pub const POISON: u32 = 0x7fa5_7fa5;

/// An instruction of this family.
#[derive(Debug)]
pub enum Op {
    /// `wgmma.fence`
    Fence,
    /// `wgmma.commit_group`
    Commit,
    /// `wgmma.wait_group`: at most so many groups stay in flight.
    Wait(u64),
    /// `wgmma.mma_async`
    Product(Arc<Product>),
}

/// `mma_async`, by its text.
#[derive(Debug)]
pub struct Product {
    n: usize,
    k: usize,
    of_a: Element,
    of_b: Element,
    sum: Sum,
    d: Box<[Slot]>,
    a: Source,
    b: Slot,
    accumulate: Predicate,
    negate: bool,
    major_a: Major,
    major_b: Major,
}

/// Where A lies.
#[derive(Debug)]
enum Source {
    Registers(Box<[Slot]>),
    Shared(Slot),
}

/// Decodes one.
///
/// # Errors
/// What is wrong with it.
pub fn decode<'a>(inst: &Instruction<'a>, decoder: &mut Decoder<'a>) -> Result<Decoded> {
    let mut modifiers = Modifiers::new(inst);
    let name = modifiers.take_any(&["fence", "commit_group", "wait_group", "mma_async"]);
    if !modifiers.take("sync") || !modifiers.take("aligned") {
        return Err(modifiers.unsupported("only .sync.aligned is known here"));
    }
    let op = match name {
        Some("fence") => Op::Fence,
        Some("commit_group") => Op::Commit,
        Some("wait_group") => match decoder.operand(inst, 0)? {
            Operand::Int(left) => Op::Wait(*left),
            _ => return Err(modifiers.invalid("the number of groups has to be a constant")),
        },
        Some("mma_async") => Op::Product(Arc::new(decode_product(inst, decoder, &mut modifiers)?)),
        _ => return Err(modifiers.unsupported("no form of wgmma known here")),
    };
    modifiers.finish()?;
    match op {
        Op::Fence | Op::Commit => decoder.expect(inst, 0..=0)?,
        Op::Wait(_) => decoder.expect(inst, 1..=1)?,
        Op::Product(_) => {}
    }
    Ok(Decoded::new(AnyOp::Tensor(super::Op::Wgmma(op)), Class::Tensor).meeting(Meet::Warp))
}

fn decode_product<'a>(
    inst: &Instruction<'a>,
    decoder: &mut Decoder<'a>,
    modifiers: &mut Modifiers<'_, 'a>,
) -> Result<Product> {
    let Some((m, n, k)) = modifiers.left().iter().find_map(|modifier| shape(modifier)) else {
        return Err(modifiers.invalid("its shape is missing"));
    };
    modifiers.take(&format!("m{m}n{n}k{k}"));
    let saturate = modifiers.take("satfinite");
    const TYPES: [&str; 9] = ["f16", "bf16", "tf32", "e4m3", "e5m2", "s8", "u8", "f32", "s32"];
    let types: Vec<&str> = std::iter::from_fn(|| modifiers.take_any(&TYPES)).collect();
    let unknown = || modifiers.unsupported("this shape with these types is not known here");
    let [d, a, b] = types[..] else { return Err(unknown()) };
    let (Some(of_a), Some(of_b)) = (Element::parse(a), Element::parse(b)) else { return Err(unknown()) };
    let half = matches!(of_a, Element::F16 | Element::E4m3 | Element::E5m2);
    let sum = match d {
        "s32" if of_a.is_integer() => Sum::S32 { saturate },
        "f32" if !of_a.is_integer() && !saturate => Sum::F32,
        "f16" if half && !saturate => Sum::F16,
        _ => return Err(unknown()),
    };
    let wide = n % 16 == 0 || n <= 24 || !of_a.is_integer();
    let known_n = n % 8 == 0 && (8..=256).contains(&n) && wide;
    if m != ROWS * WARPS || !known_n || k * of_a.bits() != 256 || !of_a.agrees(of_b) {
        return Err(unknown());
    }

    let d = registers(inst, decoder, 0, n / 2 / sum.per_register(), Type::B32, true)?;
    let a = match decoder.operand(inst, 1)? {
        Operand::Vector(_) => Source::Registers(registers(inst, decoder, 1, 4, Type::B32, false)?),
        one => Source::Shared(decoder.src(inst, one, Type::B64)?),
    };
    let b = decoder.src(inst, decoder.operand(inst, 2)?, Type::B64)?;
    let accumulate = decoder.predicate(inst, decoder.operand(inst, 3)?)?;
    let mut negate = false;
    let (mut major_a, mut major_b) = (Major::K, Major::K);
    if of_a.is_integer() {
        decoder.expect(inst, 4..=4)?;
    } else {
        negate = sign(inst, decoder.operand(inst, 4)?)? != sign(inst, decoder.operand(inst, 5)?)?;
        let transposes = match (of_a.bits() == 16, &a) {
            (false, _) => 0,
            (true, Source::Registers(_)) => 1,
            (true, Source::Shared(_)) => 2,
        };
        decoder.expect(inst, 6 + transposes..=6 + transposes)?;
        if transposes > 0 {
            major_b = major(inst, decoder.operand(inst, 5 + transposes)?)?;
        }
        if transposes > 1 {
            major_a = major(inst, decoder.operand(inst, 6)?)?;
        }
    }
    Ok(Product { n, k, of_a, of_b, sum, d, a, b, accumulate, negate, major_a, major_b })
}

/// Whether a factor of 1 or -1 is the latter.
fn sign(inst: &Instruction, operand: &Operand) -> Result<bool> {
    match operand {
        Operand::Int(value) if *value as i32 == 1 => Ok(false),
        Operand::Int(value) if *value as i32 == -1 => Ok(true),
        _ => Err(Error::invalid(inst.line, format!("{}: a factor has to be 1 or -1", inst.opcode))),
    }
}

fn major(inst: &Instruction, operand: &Operand) -> Result<Major> {
    match operand {
        Operand::Int(0) => Ok(Major::K),
        Operand::Int(1) => Ok(Major::Mn),
        _ => Err(Error::invalid(inst.line, format!("{}: a transposition has to be 0 or 1", inst.opcode))),
    }
}

/// A warp's products in flight.
#[derive(Debug, Default)]
pub struct Groups {
    /// Whether there was a `wgmma.fence` before.
    fenced: bool,
    /// Whether a product was issued since: until the next fence it matters who touches registers.
    used: bool,
    /// A bit for each register that other instructions touched meanwhile.
    touched: Vec<u64>,
    /// Issued and not committed.
    open: Vec<Pending>,
    /// Committed and not waited for, oldest first.
    groups: VecDeque<Group>,
    /// Groups committed so far.
    committed: u64,
    /// Sums whose registers are poisoned.
    sums: Vec<Accumulator>,
    /// A bit for each of those registers.
    poisoned: Vec<u64>,
    /// Buffers of sums that are no longer needed.
    spare: Vec<Vec<f64>>,
}

#[derive(Debug)]
struct Group {
    products: Vec<Pending>,
    /// Those of all four warps, once the group is computed.
    flights: Option<Vec<Flight>>,
}

/// `mma_async`, issued.
#[derive(Debug)]
struct Pending {
    product: Arc<Product>,
    /// Index of the instruction.
    pc: u32,
    /// A's descriptor, or its registers as they were.
    a: Operands,
    b: u64,
    accumulate: bool,
    flight: Flight,
}

#[derive(Debug)]
enum Operands {
    Registers(Box<[Row]>),
    Shared(u64),
}

/// A D in flight.
#[derive(Debug)]
struct Accumulator {
    /// A product that has it.
    product: Arc<Product>,
    /// 16 rows of N, in panels.
    values: Vec<f64>,
    /// Products in flight that have it.
    pending: u32,
}

impl Groups {
    /// Whether nothing is in flight.
    #[cfg(test)]
    pub fn is_idle(&self) -> bool {
        self.sums.is_empty()
    }

    /// Whether it matters which registers other instructions touch: something is in flight, or was with no fence since.
    #[inline]
    pub fn watches(&self) -> bool {
        !self.sums.is_empty() || self.used
    }

    /// Another instruction touches these registers.
    pub fn touch(&mut self, slots: &[Slot]) {
        if self.used {
            slots.iter().for_each(|slot| set(&mut self.touched, *slot, true));
        }
    }

    /// The first of these registers that was touched since the last product without a fence since.
    fn unfenced(&self, slots: &[Slot]) -> Option<Slot> {
        slots.iter().copied().find(|slot| self.used && is_set(&self.touched, *slot))
    }

    /// The first of these registers that belongs to a D in flight: to touch it has no meaning.
    pub fn in_flight(&self, slots: &[Slot]) -> Option<Slot> {
        slots.iter().copied().find(|slot| is_set(&self.poisoned, *slot))
    }

    /// Takes note of whether registers are poisoned.
    fn mark(&mut self, slots: &[Slot], poisoned: bool) {
        slots.iter().for_each(|slot| set(&mut self.poisoned, *slot, poisoned));
    }

    /// What is left when the warp ends: products that nobody waited for.
    pub fn unfinished(&self) -> Option<String> {
        let groups: usize = self.groups.iter().filter(|group| !group.products.is_empty()).count();
        match (groups, self.open.len()) {
            (0, 0) => None,
            (groups, 0) => Some(format!("{groups} groups of wgmma that nobody waited for")),
            (_, open) => Some(format!("{open} wgmma.mma_async that were not committed")),
        }
    }
}

fn is_set(bits: &[u64], slot: Slot) -> bool {
    bits.get(slot as usize / 64).is_some_and(|word| word >> (slot % 64) & 1 == 1)
}

fn set(bits: &mut Vec<u64>, slot: Slot, value: bool) {
    let (word, bit) = (slot as usize / 64, 1 << (slot % 64));
    if word >= bits.len() {
        bits.resize(word + 1, 0);
    }
    bits[word] = bits[word] & !bit | if value { bit } else { 0 };
}

impl Product {
    fn tile(&self, bits: u64, element: Element, major: Major) -> Result<Tile, Fault> {
        let descriptor = Descriptor::decode(bits);
        let descriptor = descriptor.map_err(|message| Fault::new(FaultKind::Unsupported, message))?;
        Ok(Tile { descriptor, major, bytes: element.bits() as u32 / 8 })
    }
}

/// Runs one.
///
/// # Errors
/// What it did wrong.
pub fn execute(op: &Op, cx: &mut Context) -> Result<Flow, Fault> {
    let (warps, first) = warpgroup(cx)?;
    match op {
        Op::Fence => {
            let groups = &mut cx.warp.products;
            (groups.fenced, groups.used) = (true, false);
            Ok(Flow::Next)
        }
        Op::Commit => {
            let groups = &mut cx.warp.products;
            let products = std::mem::take(&mut groups.open);
            groups.groups.push_back(Group { products, flights: None });
            groups.committed += 1;
            Ok(Flow::Next)
        }
        Op::Wait(left) => wait(*left, cx, warps, first),
        Op::Product(product) => issue(product, cx, warps),
    }
}

/// Index in the cluster of the warp, and of the first of its warpgroup.
fn warpgroup(cx: &Context) -> Result<(usize, usize), Fault> {
    let per_block = cx.launch.warps();
    let group = cx.warp.index / WARPS as u32 * WARPS as u32;
    if group + WARPS as u32 > per_block {
        return Err(Fault::new(
            FaultKind::Instruction,
            format!(
                "wgmma by warp {}, in a block whose {per_block} warps leave no four for it",
                cx.warp.index
            ),
        ));
    }
    let block = cx.warp.block * per_block;
    Ok(((block + cx.warp.index) as usize, (block + group) as usize))
}

fn issue(product: &Arc<Product>, cx: &mut Context, warp: usize) -> Result<Flow, Fault> {
    if !cx.launch.device.specific || !cx.launch.device.at_least(9, 0) {
        return Err(Fault::new(FaultKind::Instruction, "wgmma, which this device does not have"));
    }
    if !cx.warp.products.fenced {
        return Err(Fault::new(FaultKind::Async, "wgmma.mma_async before any wgmma.fence"));
    }
    let b = uniform(cx.warp.wide(product.b), "descriptor of B")?;
    let accumulate = cx.warp.predicate(product.accumulate);
    if accumulate != 0 && accumulate != ALL {
        return Err(Fault::new(
            FaultKind::Instruction,
            "wgmma.mma_async whose scale-d differs between lanes",
        ));
    }
    let part = cx.warp.index as usize % WARPS;
    let who = Thread { warp: warp as u32, lane: 0 };
    let flight = cx.cluster.checker.issue(who, Asynchronous::Product, cx.pc);
    let a = match &product.a {
        Source::Registers(slots) => {
            if let Some(slot) = cx.warp.products.in_flight(slots) {
                return Err(touched("A", slots.iter().position(|other| *other == slot)));
            }
            Operands::Registers(slots.iter().map(|slot| *cx.warp.row(*slot)).collect())
        }
        Source::Shared(slot) => {
            let a = uniform(cx.warp.wide(*slot), "descriptor of A")?;
            let tile = product.tile(a, product.of_a, product.major_a)?;
            let first = (part * ROWS) as u32;
            read(cx, flight, &tile, first..first + ROWS as u32, product.k)?;
            Operands::Shared(a)
        }
    };
    // All four warps read all of B; each answers for a part.
    let tile = product.tile(b, product.of_b, product.major_b)?;
    let blocks = product.n / 8;
    let rows = |part: usize| (blocks * part / WARPS * 8) as u32;
    read(cx, flight, &tile, rows(part)..rows(part + 1), product.k)?;

    let groups = &cx.warp.products;
    let of_a = if let Source::Registers(slots) = &product.a { &slots[..] } else { &[] };
    for (what, slots) in [("A", of_a), ("D", &product.d[..])] {
        if let Some(slot) = groups.unfenced(slots) {
            let at = slots.iter().position(|other| *other == slot).unwrap_or_default();
            return Err(unfenced(what, at));
        }
    }
    claim(product, cx)?;
    let groups = &mut cx.warp.products;
    if !std::mem::replace(&mut groups.used, true) {
        groups.touched.clear();
    }
    let pending =
        Pending { product: Arc::clone(product), pc: cx.pc, a, b, accumulate: accumulate == ALL, flight };
    cx.warp.products.open.push(pending);
    cx.cluster.counters.tensor_flops += 2 * (ROWS * product.n * product.k) as u64;
    Ok(Flow::Next)
}

fn unfenced(what: &str, at: usize) -> Fault {
    let message = format!(
        "register {at} of {what} was touched since the last wgmma.mma_async: wgmma.fence has to come before the next that uses it"
    );
    Fault::new(FaultKind::Async, message)
}

fn touched(what: &str, at: Option<usize>) -> Fault {
    let at = at.map_or(String::new(), |at| format!(" {at}"));
    Fault::new(
        FaultKind::Async,
        format!("register{at} of {what} belongs to a wgmma in flight: wgmma.wait_group has to come before"),
    )
}

/// The value that all lanes agree on.
fn uniform(values: [u64; LANES], what: &str) -> Result<u64, Fault> {
    match values.iter().all(|value| *value == values[0]) {
        true => Ok(values[0]),
        false => Err(Fault::new(
            FaultKind::Instruction,
            format!("wgmma.mma_async whose {what} differs between lanes"),
        )),
    }
}

/// Says that the flight reads some rows of a matrix.
fn read(
    cx: &mut Context,
    flight: Flight,
    tile: &Tile,
    rows: std::ops::Range<u32>,
    depth: usize,
) -> Result<(), Fault> {
    let block = cx.warp.block;
    let (low, high) = (cx.launch.device.shared_base(), cx.cluster.blocks[block as usize].shared.len());
    for range in tile.ranges(rows, depth as u32) {
        if range.start < low || range.end as usize > high {
            return Err(outside(range.start, low, high));
        }
        let place = Place::Shared { block, offset: range.start };
        cx.cluster.checker.asynchronous(flight, place, range.end - range.start, Access::Read)?;
    }
    Ok(())
}

fn outside(address: u32, low: u32, high: usize) -> Fault {
    Fault::new(
        FaultKind::Address,
        format!(
            "a wgmma operand reaches shared address 0x{address:x}; the block's shared memory is 0x{low:x} to 0x{high:x}"
        ),
    )
}

/// Takes the registers of D, or adds to those that a product in flight has taken.
fn claim(product: &Arc<Product>, cx: &mut Context) -> Result<(), Fault> {
    let Groups { sums, open, groups, .. } = &mut cx.warp.products;
    let alike = |other: &Product| other.d == product.d && (other.n, other.sum) == (product.n, product.sum);
    if let Some(known) = sums.iter_mut().find(|known| alike(&known.product)) {
        known.pending += 1;
        return Ok(());
    }
    let mut in_flight = groups.iter().flat_map(|group| &group.products).chain(open.iter());
    let read = in_flight.any(|pending| match &pending.product.a {
        Source::Registers(slots) => slots.iter().any(|slot| product.d.contains(slot)),
        Source::Shared(_) => false,
    });
    if read {
        return Err(touched("D", None));
    }
    if let Some(slot) = cx.warp.products.in_flight(&product.d) {
        return Err(touched("D", product.d.iter().position(|other| *other == slot)));
    }
    let mut values = cx.warp.products.spare.pop().unwrap_or_default();
    values.clear();
    values.resize(ROWS * product.n, 0.0);
    gather_sums(product.sum, &cx.warp.rows, &product.d, ROWS, &mut values);
    for slot in &product.d {
        cx.warp.rows[*slot as usize] = [POISON; LANES];
    }
    cx.warp.products.mark(&product.d, true);
    cx.warp.products.sums.push(Accumulator { product: Arc::clone(product), values, pending: 1 });
    Ok(())
}

fn wait(left: u64, cx: &mut Context, warp: usize, first: usize) -> Result<Flow, Fault> {
    let held = cx.warp.products.groups.len() as u64;
    let oldest = cx.warp.products.committed - held;
    let retired = held.saturating_sub(left);
    for number in oldest..oldest + retired {
        let of_warp = &cx.warp.products.groups[(number - oldest) as usize];
        if of_warp.flights.is_none() {
            if let Some(flow) = absent(number, cx, warp, first)? {
                return Ok(flow);
            }
            let mut all: [Groups; WARPS] = std::array::from_fn(|part| match first + part {
                own if own == warp => std::mem::take(&mut cx.warp.products),
                other => peer(cx, other).map(std::mem::take).unwrap_or_default(),
            });
            let result = compute(number, &mut all, cx);
            for (part, groups) in all.into_iter().enumerate() {
                match first + part {
                    own if own == warp => cx.warp.products = groups,
                    other => {
                        if let Some(place) = peer(cx, other) {
                            *place = groups;
                        }
                    }
                }
            }
            result?;
        }
    }
    for _ in 0..retired {
        retire(cx, warp as u32)?;
    }
    Ok(Flow::Next)
}

fn peer<'c>(cx: &'c mut Context, warp: usize) -> Option<&'c mut Groups> {
    cx.cluster.warps.get_mut(warp)?.as_mut().map(|warp| &mut warp.products)
}

/// Waits for the warps that have not committed a group yet.
fn absent(number: u64, cx: &Context, warp: usize, first: usize) -> Result<Option<Flow>, Fault> {
    for other in (first..first + WARPS).filter(|other| *other != warp) {
        let Some(Some(other)) = cx.cluster.warps.get(other) else {
            return Err(Fault::new(FaultKind::Instruction, "wgmma without the other warps of its warpgroup"));
        };
        if other.products.committed > number {
            continue;
        }
        let what = format!("warp {} to commit group {number} of wgmma", other.index);
        return match other.live {
            ALL => Ok(Some(Flow::Wait(Wait { what, token: 0 }))),
            _ => Err(Fault::new(
                FaultKind::Instruction,
                format!("wgmma.wait_group waits for {what}, which has ended"),
            )),
        };
    }
    Ok(None)
}

/// Computes a group for the four warps of a warpgroup.
fn compute(number: u64, all: &mut [Groups; WARPS], cx: &mut Context) -> Result<(), Fault> {
    let block = &cx.cluster.blocks[cx.warp.block as usize];
    let low = cx.launch.device.shared_base();
    let outside = |address: u32| outside(address, low, block.shared.len());
    let position = |groups: &Groups| (number + groups.groups.len() as u64 - groups.committed) as usize;
    let at: [usize; WARPS] = std::array::from_fn(|part| position(&all[part]));
    agree(all, at)?;

    let products = all[0].groups[at[0]].products.len();
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for index in 0..products {
        let Pending { product, b: of_b, .. } = &all[0].groups[at[0]].products[index];
        let product = Arc::clone(product);
        let (n, k) = (product.n, product.k);
        b.clear();
        b.resize(k * n, 0.0);
        let tile = product.tile(*of_b, product.of_b, product.major_b)?;
        let (rows, role) = (0..n as u32, Role::B);
        for_format!(product.of_b, gather(&tile, &block.shared, rows.clone(), k as u32, role, &mut b))
            .map_err(outside)?;

        for (part, groups) in all.iter_mut().enumerate() {
            let Groups { groups, sums, .. } = groups;
            let pending = &groups[at[part]].products[index];
            a.clear();
            a.resize(ROWS * k, 0.0);
            match &pending.a {
                Operands::Registers(rows) => {
                    for_format!(product.of_a, gather_a(rows, &[0, 1, 2, 3], k, &mut a));
                }
                Operands::Shared(of_a) => {
                    let tile = product.tile(*of_a, product.of_a, product.major_a)?;
                    let first = (part * ROWS) as u32;
                    let (rows, role) = (first..first + ROWS as u32, Role::A);
                    for_format!(
                        product.of_a,
                        gather(&tile, &block.shared, rows.clone(), k as u32, role, &mut a)
                    )
                    .map_err(outside)?;
                }
            }
            if product.negate {
                a.iter_mut().for_each(|a| *a = -*a);
            }
            let known = sums.iter_mut().find(|sums| sums.product.d == pending.product.d);
            let values = &mut known.expect("taken when the product was issued").values;
            if !pending.accumulate {
                values.fill(0.0);
            }
            product::multiply_add(&a, &b, values, ROWS, k);
            match product.sum {
                // A loop of its own, which the compiler vectorises.
                Sum::F32 => values.iter_mut().for_each(|value| *value = Sum::F32.round(*value)),
                sum => values.iter_mut().for_each(|value| *value = sum.round(*value)),
            }
        }
    }
    let flights: Vec<Flight> = all
        .iter()
        .zip(at)
        .flat_map(|(groups, at)| groups.groups[at].products.iter().map(|pending| pending.flight))
        .collect();
    for flight in &flights {
        cx.cluster.checker.complete(*flight, None);
    }
    for (groups, at) in all.iter_mut().zip(at) {
        groups.groups[at].flights = Some(flights.clone());
    }
    Ok(())
}

/// Refuses a group that is not the same for the four warps.
fn agree(all: &[Groups; WARPS], at: [usize; WARPS]) -> Result<(), Fault> {
    let first = &all[0].groups[at[0]].products;
    for part in 1..WARPS {
        let other = &all[part].groups[at[part]].products;
        let differs = |what: String| {
            let message = format!(
                "wgmma of which the first warp of a warpgroup and warp {part} of it differ in {what}"
            );
            Err(Fault::new(FaultKind::Instruction, message))
        };
        if first.len() != other.len() {
            return differs(format!("how many products are in a group: {} and {}", first.len(), other.len()));
        }
        for (one, two) in first.iter().zip(other) {
            if !Arc::ptr_eq(&one.product, &two.product) || one.pc != two.pc {
                return differs("the instruction".to_owned());
            }
            if one.b != two.b {
                return differs(format!("the descriptor of B: 0x{:x} and 0x{:x}", one.b, two.b));
            }
            if let (Operands::Shared(one), Operands::Shared(two)) = (&one.a, &two.a)
                && one != two
            {
                return differs(format!("the descriptor of A: 0x{one:x} and 0x{two:x}"));
            }
            if one.accumulate != two.accumulate {
                return differs("scale-d".to_owned());
            }
        }
    }
    Ok(())
}

/// Gives back the registers of the oldest group.
fn retire(cx: &mut Context, warp: u32) -> Result<(), Fault> {
    let Some(group) = cx.warp.products.groups.pop_front() else { return Ok(()) };
    for flight in group.flights.iter().flatten() {
        cx.cluster.checker.wait(warp, ALL, *flight, false);
    }
    for pending in group.products {
        if let (Source::Registers(slots), Operands::Registers(rows)) = (&pending.product.a, &pending.a) {
            let changed = slots.iter().zip(rows).position(|(slot, row)| cx.warp.row(*slot) != row);
            if let Some(at) = changed {
                return Err(written("A", at));
            }
        }
        let sums = &mut cx.warp.products.sums;
        let Some(index) = sums.iter().position(|sums| sums.product.d == pending.product.d) else { continue };
        sums[index].pending -= 1;
        if sums[index].pending > 0 {
            continue;
        }
        let Accumulator { product, values, .. } = sums.swap_remove(index);
        let poisoned = |slot: &Slot| *cx.warp.row(*slot) == [POISON; LANES];
        if let Some(at) = product.d.iter().position(|slot| !poisoned(slot)) {
            return Err(written("D", at));
        }
        cx.warp.products.mark(&product.d, false);
        scatter_sums(product.sum, &mut cx.warp.rows, &product.d, ROWS, &values);
        cx.warp.products.spare.push(values);
    }
    Ok(())
}

fn written(what: &str, at: usize) -> Fault {
    Fault::new(
        FaultKind::Async,
        format!("register {at} of {what} was written while its wgmma was in flight, before wgmma.wait_group"),
    )
}
