//! What loads, stores and atomics say about a place: its space, the order of the access, hints about caches.

use crate::check::{Order, Scope};
use crate::program::{Address, Decoder, Modifiers};
use crate::ptx::ast::{Instruction, Operand, Space};
use crate::ptx::{Kind, Result, Type};

/// A state space as an instruction names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// None: the address says it.
    Generic,
    /// `.global`
    Global,
    /// `.const`, which lies in global memory here.
    Const,
    /// `.local`, and the parameters of calls.
    Local,
    /// `.param` of a kernel.
    Param,
    /// `.shared`: the block's own.
    Shared,
    /// `.shared::cluster`
    Cluster,
}

impl Room {
    /// Takes a state space; [`Room::Generic`] when there is none.
    pub fn take(modifiers: &mut Modifiers) -> Room {
        const NAMES: [(&str, Room); 9] = [
            ("global", Room::Global),
            ("const", Room::Const),
            ("local", Room::Local),
            ("param", Room::Param),
            ("param::entry", Room::Param),
            ("param::func", Room::Param),
            ("shared", Room::Shared),
            ("shared::cta", Room::Shared),
            ("shared::cluster", Room::Cluster),
        ];
        let found = modifiers.take_any(&NAMES.map(|(name, _)| name));
        NAMES.iter().find(|(name, _)| found == Some(*name)).map_or(Room::Generic, |(_, room)| *room)
    }
}

/// A place in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The space.
    pub room: Room,
    /// The address in it.
    pub address: Address,
}

impl Place {
    /// A place from an address operand. The parameters of calls lie in local memory, whatever `.param` says: those that a variable
    /// names, and all that a `.func` can reach by an address.
    ///
    /// # Errors
    /// Where it is no address, or its variable is in another space.
    pub fn decode<'a>(
        inst: &Instruction<'a>,
        decoder: &mut Decoder<'a>,
        modifiers: &Modifiers,
        operand: &Operand<'a>,
        room: Room,
    ) -> Result<Place> {
        let (address, variable) = decoder.address(inst, operand)?;
        if let Operand::Address { base, coordinates, .. } = operand {
            if !coordinates.is_empty() {
                return Err(modifiers.invalid("coordinates have no meaning here"));
            }
            if matches!(**base, Operand::Int(_)) && room != Room::Local {
                return Err(modifiers.invalid("an address may be a constant in local memory alone"));
            }
        }
        let room = match (room, variable) {
            (Room::Param, None) if decoder.callee => Room::Local,
            (_, None) => room,
            (Room::Generic | Room::Global, Some(Space::Global)) => Room::Global,
            (Room::Generic | Room::Const, Some(Space::Const)) => Room::Const,
            (Room::Generic | Room::Local | Room::Param, Some(Space::Local)) => Room::Local,
            (Room::Generic | Room::Param, Some(Space::Param)) => Room::Param,
            (Room::Generic | Room::Shared, Some(Space::Shared)) => Room::Shared,
            (Room::Cluster, Some(Space::Shared)) => Room::Cluster,
            _ => return Err(modifiers.invalid("the variable is in another state space")),
        };
        Ok(Place { room, address })
    }
}

/// What an instruction's order may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Orders {
    /// Of `ld`: weak unless it says otherwise.
    Load,
    /// Of `st`: weak unless it says otherwise.
    Store,
    /// Of `atom`: relaxed at the device's scope unless it says otherwise.
    Atomic,
    /// Of `red`: the same, never acquiring.
    Reduction,
}

/// Takes an access's order and scope.
///
/// # Errors
/// Where the instruction cannot have it.
pub fn order(modifiers: &mut Modifiers, orders: Orders) -> Result<Order> {
    let mmio = modifiers.take("mmio");
    let name = modifiers.take_any(&["weak", "volatile", "relaxed", "acquire", "release", "acq_rel"]);
    let scope = scope(modifiers);
    let atomic = matches!(orders, Orders::Atomic | Orders::Reduction);
    if mmio && (atomic || name != Some("relaxed") || scope != Some(Scope::System)) {
        return Err(modifiers.invalid(".mmio goes with .relaxed.sys"));
    }
    let needed = || match scope {
        Some(scope) => Ok(scope),
        None if atomic => Ok(Scope::Device),
        None => Err(modifiers.invalid("its order needs a scope")),
    };
    match (name, orders) {
        (None, Orders::Atomic | Orders::Reduction) => Ok(Order::Relaxed(needed()?)),
        (None | Some("weak"), Orders::Load | Orders::Store) if scope.is_none() => Ok(Order::Weak),
        (Some("volatile"), Orders::Load | Orders::Store) if scope.is_none() => {
            Ok(Order::Relaxed(Scope::System))
        }
        (Some("relaxed"), _) => Ok(Order::Relaxed(needed()?)),
        (Some("acquire"), Orders::Load | Orders::Atomic) => Ok(Order::Acquire(needed()?)),
        (Some("release"), Orders::Store | Orders::Atomic | Orders::Reduction) => {
            Ok(Order::Release(needed()?))
        }
        (Some("acq_rel"), Orders::Atomic) => Ok(Order::AcquireRelease(needed()?)),
        _ => Err(modifiers.invalid("it cannot have this order and scope")),
    }
}

/// Takes a scope.
pub fn scope(modifiers: &mut Modifiers) -> Option<Scope> {
    match modifiers.take_any(&["cta", "cluster", "gpu", "sys"])? {
        "cta" => Some(Scope::Block),
        "cluster" => Some(Scope::Cluster),
        "gpu" => Some(Scope::Device),
        _ => Some(Scope::System),
    }
}

/// Whether later accesses see what was released to what this one read.
pub fn acquires(order: Order) -> bool {
    matches!(order, Order::Acquire(_) | Order::AcquireRelease(_))
}

/// Whether earlier accesses are seen by who acquires what this one wrote.
pub fn releases(order: Order) -> bool {
    matches!(order, Order::Release(_) | Order::AcquireRelease(_))
}

/// Takes what a cache is told, which changes no result: cache operators (`operators`), eviction priorities, prefetch sizes. Returns
/// whether a cache policy is among the operands.
pub fn hints(modifiers: &mut Modifiers, operators: &[&str]) -> bool {
    modifiers.take_any(operators);
    modifiers.take_any(&[
        "L1::evict_normal",
        "L1::evict_unchanged",
        "L1::evict_first",
        "L1::evict_last",
        "L1::no_allocate",
    ]);
    let policy = modifiers.take("L2::cache_hint");
    modifiers.take_any(&["L2::64B", "L2::128B", "L2::256B"]);
    policy
}

/// Checks the operand of a cache policy, which nothing follows.
///
/// # Errors
/// Where it is no 64-bit value.
pub fn policy<'a>(inst: &Instruction<'a>, decoder: &mut Decoder<'a>, operand: usize) -> Result<()> {
    let operand = decoder.operand(inst, operand)?;
    decoder.src(inst, operand, Type::B64).map(drop)
}

/// Whether a value of type `ty` may stand in a register of type `register`, sizes aside.
pub fn agree(ty: Type, register: Type) -> bool {
    let float = |ty: Type| ty.kind() == Kind::Float;
    let bits = |ty: Type| ty.kind() == Kind::Bits;
    bits(ty) || bits(register) || float(ty) == float(register)
}
