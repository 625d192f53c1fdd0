//! Runs a call on a backend and holds what comes out against the reference.

use super::call::{AnySlot, Call, Role, Rule, Run, Slots, Tensor};
use super::data::{Precision, Values};
use crate::reference::Reference;
use crate::{Act, Grad, IGNORE, Kind, Ops, Result, Slot, Stat, Tag, Tok};

/// Elements before and after each slot: 256 bytes of f32, so that a slot is as well aligned as its allocation.
pub(super) const GUARD: usize = 64;

/// What a check found wrong, in words.
pub(super) type Verdict = std::result::Result<(), String>;

/// What lies round the slots of a run, and where they begin.
#[derive(Clone, Copy)]
struct Surroundings {
    /// In front of, and behind, activations and statistics.
    float: f32,
    /// The same for tokens.
    token: u32,
    /// Elements by which slots begin later than an aligned address.
    shift: usize,
}

/// Checks a call: results against the reference and against the composed ops; what must not be written, is not; a second
/// run gives the same bits, whatever lies round the slots; a third one works at an odd address.
pub(super) fn check(ops: &mut impl Ops, call: &Call) -> Verdict {
    // A read outside a slot brings a NaN into the result; a write there changes one of the two surroundings.
    let nan = Surroundings { float: f32::NAN, token: 0, shift: 0 };
    let finite = Surroundings { float: 1.5, token: IGNORE, shift: 0 };

    let expected = reference(call).map_err(|e| format!("the reference refused: {e}"))?;
    let first = execute(ops, call, &call.run, nan)?;
    compare(ops, call, &expected, &first)?;

    let second = execute(ops, call, &call.run, finite)?;
    for ((tensor, first), second) in call.tensors.iter().zip(&first).zip(&second) {
        let differs = |i: &usize| (tensor.rule)(*i) == Rule::Checked && first.bits(*i) != second.bits(*i);
        if let Some(i) = (0..first.len()).find(differs) {
            let (a, b) = (first.show(i), second.show(i));
            return Err(format!("two runs differ: {}[{i}] is {a}, then {b}", tensor.name));
        }
    }

    let third = execute(ops, call, &call.run, Surroundings { shift: 1, ..finite })?;
    compare(ops, call, &expected, &third).map_err(|e| format!("at an odd address, {e}"))?;

    if let Some((names, composed)) = &call.composed {
        let composed = execute(ops, call, composed, finite)?;
        for ((tensor, composed), fused) in call.tensors.iter().zip(&composed).zip(&first) {
            if names.contains(&tensor.name) {
                // Both may be off by the tolerance.
                let tolerance = 2.0 * tolerance(ops, call, tensor);
                near(tensor, &composed.wide(), fused, tolerance)
                    .map_err(|e| format!("against the composed ops, {e}"))?;
            }
        }
    }
    Ok(())
}

/// What the reference makes of each tensor.
fn reference(call: &Call) -> Result<Vec<Vec<f64>>> {
    let mut ops = Reference::new();
    let mut slots = Slots(Vec::new());
    for tensor in &call.tensors {
        slots.0.push((tensor.name, upload(&mut ops, &tensor.values)?));
    }
    (call.run)(&mut ops, &slots, &call.dims)?;
    let read = |(_, slot): &(_, AnySlot)| match slot {
        AnySlot::Act(slot) => ops.read(*slot).map(<[f64]>::to_vec),
        AnySlot::Grad(slot) => ops.read(*slot).map(<[f64]>::to_vec),
        AnySlot::Stat(slot) => ops.read(*slot).map(<[f64]>::to_vec),
        AnySlot::Tok(_) => Ok(Vec::new()),
    };
    slots.0.iter().map(read).collect()
}

/// Allocates a slot that holds given values.
pub(super) fn upload(ops: &mut impl Ops, values: &Values) -> Result<AnySlot> {
    fn filled<O: Ops, K: Kind>(ops: &mut O, data: &[K::Host]) -> Result<Slot<K>> {
        let slot = ops.alloc(data.len())?;
        ops.upload(slot, data)?;
        Ok(slot)
    }
    Ok(match values {
        Values::Act(x) => AnySlot::Act(filled(ops, x)?),
        Values::Grad(x) => AnySlot::Grad(filled(ops, x)?),
        Values::Stat(x) => AnySlot::Stat(filled(ops, x)?),
        Values::Tok(x) => AnySlot::Tok(filled(ops, x)?),
    })
}

/// Downloads an allocation and gives it back.
pub(super) fn take(ops: &mut impl Ops, slot: AnySlot) -> Result<Values> {
    fn emptied<O: Ops, K: Kind>(ops: &mut O, slot: Slot<K>) -> Result<Vec<K::Host>> {
        let mut data = vec![bytemuck::Zeroable::zeroed(); slot.len];
        ops.download(&mut data, slot)?;
        ops.free(slot)?;
        Ok(data)
    }
    Ok(match slot {
        AnySlot::Act(slot) => Values::Act(emptied::<_, Act>(ops, slot)?),
        AnySlot::Grad(slot) => Values::Grad(emptied::<_, Grad>(ops, slot)?),
        AnySlot::Stat(slot) => Values::Stat(emptied::<_, Stat>(ops, slot)?),
        AnySlot::Tok(slot) => Values::Tok(emptied::<_, Tok>(ops, slot)?),
    })
}

/// Makes a call among given surroundings and returns what its tensors hold then; an error if anything has changed that
/// must keep its bits.
fn execute(
    ops: &mut impl Ops,
    call: &Call,
    run: &Run,
    around: Surroundings,
) -> std::result::Result<Vec<Values>, String> {
    let failed = |e: crate::Error| e.to_string();
    let before = GUARD + around.shift;
    let mut wholes = Vec::new();
    let mut slots = Slots(Vec::new());
    for tensor in &call.tensors {
        let surrounded = surround(&tensor.values, before, GUARD, around.float, around.token);
        let whole = upload(ops, &surrounded).map_err(failed)?;
        slots.0.push((tensor.name, whole.slice(before..before + tensor.values.len())));
        wholes.push((surrounded, whole));
    }
    let called = run(ops, &slots, &call.dims);

    let mut results = Vec::new();
    for (tensor, (held, whole)) in call.tensors.iter().zip(wholes) {
        let len = tensor.values.len();
        let now = take(ops, whole).map_err(failed)?;
        let keeps = |at: usize| {
            let i = at.wrapping_sub(before);
            i >= len || (tensor.rule)(i) == Rule::Kept
        };
        if let Some(at) = (0..held.len()).find(|at| keeps(*at) && held.bits(*at) != now.bits(*at)) {
            let i = at as isize - before as isize;
            let what =
                if (0..len as isize).contains(&i) { "must keep its value" } else { "lies outside the slot" };
            let (was, is) = (held.show(at), now.show(at));
            return Err(format!("{}[{i}] {what} and was changed from {was} to {is}", tensor.name));
        }
        results.push(inside(&now, before, len));
    }
    called.map_err(|e| format!("refused: {e}"))?;
    Ok(results)
}

/// The values with guards round them.
pub(super) fn surround(values: &Values, before: usize, after: usize, float: f32, token: u32) -> Values {
    fn joined<T: Copy>(data: &[T], guard: T, before: usize, after: usize) -> Vec<T> {
        [&vec![guard; before], data, &vec![guard; after]].concat()
    }
    match values {
        Values::Act(x) => Values::Act(joined(x, float, before, after)),
        Values::Grad(x) => Values::Grad(joined(x, float, before, after)),
        Values::Stat(x) => Values::Stat(joined(x, float, before, after)),
        Values::Tok(x) => Values::Tok(joined(x, token, before, after)),
    }
}

/// The values without the guards.
fn inside(values: &Values, before: usize, len: usize) -> Values {
    match values {
        Values::Act(x) => Values::Act(x[before..][..len].to_vec()),
        Values::Grad(x) => Values::Grad(x[before..][..len].to_vec()),
        Values::Stat(x) => Values::Stat(x[before..][..len].to_vec()),
        Values::Tok(x) => Values::Tok(x[before..][..len].to_vec()),
    }
}

/// How far a tensor may be off: what it is stored in counts, and what it is computed from.
fn tolerance(ops: &impl Ops, call: &Call, tensor: &Tensor) -> f64 {
    let stored = Precision::of(ops, tensor.values.tag());
    let precision = if tensor.rounded { stored.or_less(Precision::of(ops, Tag::Act)) } else { stored };
    precision.tolerance(tensor.rounded, call.slack)
}

/// Holds every tensor against what the reference gave.
fn compare(ops: &impl Ops, call: &Call, expected: &[Vec<f64>], got: &[Values]) -> Verdict {
    for ((tensor, expected), got) in call.tensors.iter().zip(expected).zip(got) {
        if tensor.role == Role::Written && tensor.values.tag() != Tag::Tok {
            near(tensor, expected, got, tolerance(ops, call, tensor))?;
        }
    }
    call.judge.as_ref().map_or(Ok(()), |judge| judge(got))
}

/// Holds ‖got − expected‖/‖expected‖ over a tensor's checked elements to the tolerance.
fn near(tensor: &Tensor, expected: &[f64], got: &Values, tolerance: f64) -> Verdict {
    let name = tensor.name;
    let (mut error, mut size, mut checked) = (0.0, 0.0, 0_usize);
    let mut worst = (0, -1.0);
    for (i, (got, want)) in got.floats().iter().zip(expected).enumerate() {
        if (tensor.rule)(i) != Rule::Checked {
            continue;
        }
        let off = (f64::from(*got) - want).abs();
        if !off.is_finite() {
            return Err(format!("{name}[{i}] is {got}, expected {want:e}"));
        }
        error += off * off;
        size += want * want;
        checked += 1;
        if off > worst.1 {
            worst = (i, off);
        }
    }
    let size = f64::max(size.sqrt(), tensor.floor * (checked as f64).sqrt());
    if error.sqrt() > tolerance * size {
        let i = worst.0;
        return Err(format!(
            "{name} is off by {:.1e} of its norm, {tolerance:.1e} allowed; worst of {checked} elements: {name}[{i}] is {}, expected {:e}",
            error.sqrt() / size,
            got.show(i),
            expected[i],
        ));
    }
    Ok(())
}
