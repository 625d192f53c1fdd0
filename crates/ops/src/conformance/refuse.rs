//! Bad arguments made from a good call: each must be refused in a sentence that names the op and the tensor, and must
//! leave every tensor as it was.

use super::call::{AnySlot, Call, Role, Slots};
use super::check::{GUARD, Verdict, surround, take, upload};
use crate::{Error, Ops};

/// Checks that the call as it stands is refused, with an error that names its op and contains `word`.
pub(super) fn refused(ops: &mut impl Ops, call: &Call, word: &str) -> Verdict {
    attempt(ops, call, &call.dims, &[word], |_, _| ())
}

/// Checks that a good call is refused once a length is wrong, an output overlaps another tensor, or a dimension is 0 or
/// beyond counting.
pub(super) fn spoilt(ops: &mut impl Ops, call: &Call) -> Verdict {
    let given = || call.tensors.iter().enumerate().filter(|(_, t)| t.role != Role::Apart);
    let names: Vec<&str> = given().map(|(_, t)| t.name).collect();
    for (i, tensor) in given().filter(|(_, t)| !t.any_length) {
        let len = tensor.values.len();
        for wrong in [len - 1, len + 1] {
            // Where one length is to equal another, which of the two is wrong is for the op to say.
            attempt(ops, call, &call.dims, &names, |slots, wholes| {
                slots.set(tensor.name, wholes[i].slice(GUARD..GUARD + wrong));
            })
            .map_err(|e| format!("{} of {wrong} elements instead of {len}: {e}", tensor.name))?;
        }
    }
    for (i, written) in given().filter(|(_, t)| t.role == Role::Written) {
        for (_, other) in given() {
            if other.name == written.name || !other.values.same_kind(&written.values) {
                continue;
            }
            let (a, b) = (written.values.len(), other.values.len());
            attempt(ops, call, &call.dims, &[written.name], |slots, wholes| {
                slots.set(written.name, wholes[i].slice(GUARD..GUARD + a));
                slots.set(other.name, wholes[i].slice(GUARD + a - 1..GUARD + a - 1 + b));
            })
            .map_err(|e| format!("{} and {} with an element in common: {e}", written.name, other.name))?;
        }
    }
    for d in 0..call.dims.len() {
        for wrong in [0, usize::MAX] {
            let mut dims = call.dims.clone();
            dims[d] = wrong;
            attempt(ops, call, &dims, &[], |_, _| ())
                .map_err(|e| format!("dimensions {dims:?} instead of {:?}: {e}", call.dims))?;
        }
    }
    if call.dims.is_empty() {
        attempt(ops, call, &[], &names, |slots, _| {
            for (_, slot) in &mut slots.0 {
                *slot = slot.slice(0..0);
            }
        })
        .map_err(|e| format!("no elements: {e}"))?;
    }
    Ok(())
}

/// Makes a call with bad dimensions or bad slots. The error must contain one of the words, if there are any.
fn attempt(
    ops: &mut impl Ops,
    call: &Call,
    dims: &[usize],
    words: &[&str],
    spoil: impl Fn(&mut Slots, &[AnySlot]),
) -> Verdict {
    let room = call.tensors.iter().map(|t| t.values.len()).max().unwrap_or(0);
    let mut slots = Slots(Vec::new());
    let (mut held, mut wholes) = (Vec::new(), Vec::new());
    for tensor in &call.tensors {
        let values = surround(&tensor.values, GUARD, GUARD + room, 1.5, 0);
        let whole = upload(ops, &values).map_err(|e| e.to_string())?;
        slots.0.push((tensor.name, whole.slice(GUARD..GUARD + tensor.values.len())));
        held.push(values);
        wholes.push(whole);
    }
    spoil(&mut slots, &wholes);
    let called = (call.run)(ops, &slots, dims);

    let mut changed = None;
    for ((tensor, held), whole) in call.tensors.iter().zip(&held).zip(wholes) {
        let now = take(ops, whole).map_err(|e| e.to_string())?;
        if (0..held.len()).any(|i| held.bits(i) != now.bits(i)) {
            changed = Some(tensor.name);
        }
    }
    let message = match called {
        Ok(()) => return Err("was not refused".into()),
        Err(Error::Argument { op, message }) if op == call.op => message,
        Err(error) => return Err(format!("the error is not an argument error of {}: {error}", call.op)),
    };
    if !words.is_empty() && !words.iter().any(|word| mentions(&message, word)) {
        return Err(format!("the error does not mention {}: {message}", words.join(" or ")));
    }
    changed.map_or(Ok(()), |name| Err(format!("was refused, and {name} was changed all the same")))
}

/// Whether a message contains a word, and not as part of a longer one.
fn mentions(message: &str, word: &str) -> bool {
    message.split(|c: char| !c.is_alphanumeric() && c != '_').any(|w| w == word)
}
