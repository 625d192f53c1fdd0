//! Cases of the memory ops.

use super::check::Verdict;
use super::data::Precision;
use super::{Case, Cases, What};
use crate::{Act, Dropout, Error, Grad, Kind, Ops, Result, Slot, Stat, Tag, Tok};

/// What a case of a memory op checks.
#[derive(Clone, Copy)]
pub(super) enum Check {
    Describes,
    Alloc,
    AllocTooMuch,
    Upload,
    Rounding,
    UploadLength,
    Download,
    DownloadLength,
    Copy,
    CopyRefused,
    Zero,
    Free,
    FreeRefused,
    UseAfterFree,
    BeyondTheEnd,
    WrongKind,
    Fetch,
    Fetched,
    Collect,
    Sequences,
    Master,
}

pub(super) fn cases(c: &mut Cases) {
    for (op, name, check) in [
        ("device", "the device has a name, and Act a size", Check::Describes),
        ("alloc", "elements are 0", Check::Alloc),
        ("alloc", "more than there is", Check::AllocTooMuch),
        ("upload", "a part of an allocation", Check::Upload),
        ("upload", "rounds to the backend's precision", Check::Rounding),
        ("upload", "another length", Check::UploadLength),
        ("download", "a part of an allocation", Check::Download),
        ("download", "another length", Check::DownloadLength),
        ("copy", "within and between allocations", Check::Copy),
        ("copy", "another length, overlap", Check::CopyRefused),
        ("zero", "a part of an allocation", Check::Zero),
        ("free", "leaves the other allocations", Check::Free),
        ("free", "a part, and twice", Check::FreeRefused),
        ("free", "use after it", Check::UseAfterFree),
        ("upload", "a slot that reaches past its allocation", Check::BeyondTheEnd),
        ("upload", "a slot of another kind", Check::WrongKind),
        ("fetch", "what a slot held then, several at once", Check::Fetch),
        ("fetched", "in the end", Check::Fetched),
        ("collect", "what a slot held then, several at once", Check::Fetch),
        ("collect", "another length", Check::Collect),
        ("record", "a sequence again and again, with other slots", Check::Sequences),
        ("submit", "a sequence again and again, with other slots", Check::Sequences),
    ] {
        c.list.push(Case { op, name: name.into(), what: What::Memory(check) });
    }
}

impl Check {
    pub fn run(self, ops: &mut impl Ops) -> Verdict {
        match self {
            Check::Describes => describes(ops),
            Check::Rounding => rounding(ops),
            Check::UseAfterFree => use_after_free(ops),
            Check::WrongKind => wrong_kind(ops),
            Check::Fetch => fetch(ops),
            Check::Fetched => fetched(ops),
            Check::Collect => collect(ops),
            Check::Sequences => sequences(ops),
            Check::Master => super::rounding::master(ops),
            _ => {
                self.of_kind::<_, Act>(ops)?;
                self.of_kind::<_, Grad>(ops)?;
                self.of_kind::<_, Stat>(ops)?;
                self.of_kind::<_, Tok>(ops)
            }
        }
    }

    fn of_kind<O: Ops, K: Kind>(self, ops: &mut O) -> Verdict {
        match self {
            Check::Alloc => alloc::<O, K>(ops),
            Check::AllocTooMuch => alloc_too_much::<O, K>(ops),
            Check::Upload => upload::<O, K>(ops),
            Check::UploadLength => upload_length::<O, K>(ops),
            Check::Download => download::<O, K>(ops),
            Check::DownloadLength => download_length::<O, K>(ops),
            Check::Copy => copy::<O, K>(ops),
            Check::CopyRefused => copy_refused::<O, K>(ops),
            Check::Zero => zero::<O, K>(ops),
            Check::Free => free::<O, K>(ops),
            Check::FreeRefused => free_refused::<O, K>(ops),
            Check::BeyondTheEnd => beyond_the_end::<O, K>(ops),
            _ => Ok(()),
        }
    }
}

/// An error becomes its words.
pub(super) fn ok<T>(result: Result<T>) -> std::result::Result<T, String> {
    result.map_err(|e| e.to_string())
}

/// Holds a result to being an argument error of an op.
fn refused<T: std::fmt::Debug>(wanted: &str, what: &str, result: Result<T>) -> Verdict {
    match result {
        Err(Error::Argument { op, .. }) if op == wanted => Ok(()),
        other => Err(format!("{wanted} should refuse {what}, and gave {other:?}")),
    }
}

/// Five elements, all different, none of them 0, exact in every precision; as tokens, the bits of the same numbers.
fn sample<K: Kind>() -> Vec<K::Host> {
    bytemuck::cast_slice(&[1.0_f32, -2.5, 0.125, 96.0, 3.0]).to_vec()
}

fn zeros<K: Kind>(len: usize) -> Vec<K::Host> {
    vec![bytemuck::Zeroable::zeroed(); len]
}

/// A slot that holds the sample.
fn filled<O: Ops, K: Kind>(ops: &mut O) -> std::result::Result<Slot<K>, String> {
    let slot = ok(ops.alloc(5))?;
    ok(ops.upload(slot, &sample::<K>()))?;
    Ok(slot)
}

/// Holds a slot's elements to given ones.
fn holds<O: Ops, K: Kind>(ops: &mut O, slot: Slot<K>, expected: &[K::Host]) -> Verdict {
    let mut got = zeros::<K>(slot.len);
    ok(ops.download(&mut got, slot))?;
    match (0..got.len()).find(|i| got[*i] != expected[*i]) {
        None => Ok(()),
        Some(i) => Err(format!("element {i} of {slot:?} is {:?}, expected {:?}", got[i], expected[i])),
    }
}

fn describes(ops: &mut impl Ops) -> Verdict {
    if ops.device().trim().is_empty() {
        return Err("the device has no name".into());
    }
    match (ops.act_bytes(), ops.grad_bytes()) {
        (2 | 4 | 8, 2 | 4 | 8) => ok(ops.synchronize()),
        other => Err(format!("elements of Act and of Grad take {other:?} bytes")),
    }
}

fn alloc<O: Ops, K: Kind>(ops: &mut O) -> Verdict {
    let (a, b): (Slot<K>, Slot<K>) = (ok(ops.alloc(1000))?, ok(ops.alloc(3))?);
    if (a.offset, a.len) != (0, 1000) || a.overlaps(b) {
        return Err(format!("1000 and 3 elements gave {a:?} and {b:?}"));
    }
    holds(ops, a, &zeros::<K>(1000))?;
    ok(ops.upload(a, &[sample::<K>()[1]; 1000]))?;
    holds(ops, b, &zeros::<K>(3))?;
    ok(ops.free(a))?;
    // Memory that has been used before is zeroed again.
    let again: Slot<K> = ok(ops.alloc(1000))?;
    holds(ops, again, &zeros::<K>(1000))?;
    ok(ops.free(again))?;
    ok(ops.free(b))
}

fn alloc_too_much<O: Ops, K: Kind>(ops: &mut O) -> Verdict {
    for len in [usize::MAX, usize::MAX / 16] {
        match ops.alloc::<K>(len) {
            Err(Error::OutOfMemory { .. }) => {}
            other => return Err(format!("{len} elements gave {other:?}")),
        }
    }
    Ok(())
}

fn upload<O: Ops, K: Kind>(ops: &mut O) -> Verdict {
    let slot = filled::<O, K>(ops)?;
    let mut expected = sample::<K>();
    holds(ops, slot, &expected)?;
    let part = [expected[4], expected[0]];
    ok(ops.upload(slot.slice(1..3), &part))?;
    expected[1..3].copy_from_slice(&part);
    holds(ops, slot, &expected)?;
    ok(ops.free(slot))
}

fn rounding(ops: &mut impl Ops) -> Verdict {
    // Ties of bf16 to an even last bit, numbers beside them, and the least and the largest.
    let numbers = [1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0, 1.003_91, -1.003_9, 1e-38, 3e38, -0.0, 0.1];
    let precision = Precision::of(ops, Tag::Act);
    let act: Slot<Act> = ok(ops.alloc(numbers.len()))?;
    ok(ops.upload(act, &numbers))?;
    holds(ops, act, &numbers.map(|x| precision.round(x)))?;
    let precision = Precision::of(ops, Tag::Grad);
    let grad: Slot<Grad> = ok(ops.alloc(numbers.len()))?;
    ok(ops.upload(grad, &numbers))?;
    holds(ops, grad, &numbers.map(|x| precision.round(x)))?;
    ok(ops.free(grad))?;
    let stat: Slot<Stat> = ok(ops.alloc(numbers.len()))?;
    ok(ops.upload(stat, &numbers))?;
    holds(ops, stat, &numbers)?;
    ok(ops.free(act))?;
    ok(ops.free(stat))
}

fn upload_length<O: Ops, K: Kind>(ops: &mut O) -> Verdict {
    let slot = filled::<O, K>(ops)?;
    for len in [0, 4, 6] {
        refused("upload", &format!("{len} elements for a slot of 5"), ops.upload(slot, &zeros::<K>(len)))?;
    }
    holds(ops, slot, &sample::<K>())?;
    ok(ops.free(slot))
}

fn download<O: Ops, K: Kind>(ops: &mut O) -> Verdict {
    let slot = filled::<O, K>(ops)?;
    holds(ops, slot.slice(1..4), &sample::<K>()[1..4])?;
    ok(ops.free(slot))
}

fn download_length<O: Ops, K: Kind>(ops: &mut O) -> Verdict {
    let slot = filled::<O, K>(ops)?;
    for len in [0, 4, 6] {
        refused(
            "download",
            &format!("{len} elements of a slot of 5"),
            ops.download(&mut zeros::<K>(len), slot),
        )?;
    }
    ok(ops.free(slot))
}

fn copy<O: Ops, K: Kind>(ops: &mut O) -> Verdict {
    let (a, b) = (filled::<O, K>(ops)?, ok(ops.alloc::<K>(5))?);
    let x = sample::<K>();
    ok(ops.copy(b.slice(2..5), a.slice(0..3)))?;
    let zero = zeros::<K>(1)[0];
    holds(ops, b, &[zero, zero, x[0], x[1], x[2]])?;
    holds(ops, a, &x)?;
    ok(ops.copy(a.slice(0..2), a.slice(3..5)))?;
    holds(ops, a, &[x[3], x[4], x[2], x[3], x[4]])?;
    ok(ops.free(a))?;
    ok(ops.free(b))
}

fn copy_refused<O: Ops, K: Kind>(ops: &mut O) -> Verdict {
    let (a, b) = (filled::<O, K>(ops)?, filled::<O, K>(ops)?);
    refused("copy", "another length", ops.copy(a.slice(0..4), b))?;
    refused("copy", "an overlap", ops.copy(a.slice(0..3), a.slice(2..5)))?;
    holds(ops, a, &sample::<K>())?;
    ok(ops.free(a))?;
    ok(ops.free(b))
}

fn zero<O: Ops, K: Kind>(ops: &mut O) -> Verdict {
    let slot = filled::<O, K>(ops)?;
    ok(ops.zero(slot.slice(1..4)))?;
    let (x, zero) = (sample::<K>(), zeros::<K>(1)[0]);
    holds(ops, slot, &[x[0], zero, zero, zero, x[4]])?;
    ok(ops.free(slot))
}

fn free<O: Ops, K: Kind>(ops: &mut O) -> Verdict {
    let (a, b) = (filled::<O, K>(ops)?, filled::<O, K>(ops)?);
    ok(ops.free(a))?;
    let c: Slot<K> = ok(ops.alloc(7))?;
    holds(ops, b, &sample::<K>())?;
    ok(ops.free(b))?;
    holds(ops, c, &zeros::<K>(7))?;
    ok(ops.free(c))
}

fn free_refused<O: Ops, K: Kind>(ops: &mut O) -> Verdict {
    let slot = filled::<O, K>(ops)?;
    refused("free", "a part of an allocation", ops.free(slot.slice(0..4)))?;
    refused("free", "a part of an allocation", ops.free(slot.slice(1..5)))?;
    holds(ops, slot, &sample::<K>())?;
    ok(ops.free(slot))?;
    refused("free", "what was given back", ops.free(slot))
}

fn fetch(ops: &mut impl Ops) -> Verdict {
    let slot = filled::<_, Stat>(ops)?;
    let mut held = sample::<Stat>();
    let first = ok(ops.fetch(slot))?;
    ok(ops.upload(slot.slice(0..1), &[7.0]))?;
    let second = ok(ops.fetch(slot))?;
    let part = ok(ops.fetch(slot.slice(1..3)))?;
    ok(ops.zero(slot))?;
    let mut got = [0.0; 5];
    ok(ops.collect(&mut got[..2], part))?;
    if got[..2] != held[1..3] {
        return Err(format!("a part gave {:?}, expected {:?}", &got[..2], &held[1..3]));
    }
    ok(ops.collect(&mut got, first))?;
    if got[..] != held[..] {
        return Err(format!("{got:?} was fetched, expected {held:?}"));
    }
    held[0] = 7.0;
    ok(ops.collect(&mut got, second))?;
    if got[..] != held[..] {
        return Err(format!("{got:?} was fetched after a change, expected {held:?}"));
    }
    ok(ops.free(slot))
}

fn fetched(ops: &mut impl Ops) -> Verdict {
    let slot = filled::<_, Stat>(ops)?;
    let ticket = ok(ops.fetch(slot))?;
    ok(ops.synchronize())?;
    if !ok(ops.fetched(&ticket))? {
        return Err("everything is done, and the copy is not there".into());
    }
    ok(ops.collect(&mut [0.0; 5], ticket))?;
    ok(ops.free(slot))
}

fn collect(ops: &mut impl Ops) -> Verdict {
    let slot = filled::<_, Stat>(ops)?;
    for len in [0, 4, 6] {
        let ticket = ok(ops.fetch(slot))?;
        refused("collect", &format!("{len} elements of 5"), ops.collect(&mut vec![0.0; len], ticket))?;
    }
    ok(ops.free(slot))
}

/// out = dropout(gelu(inp)), with other tensors, another seed and another probability each time.
fn sequences(ops: &mut impl Ops) -> Verdict {
    let inp = filled::<_, Act>(ops)?;
    let between: Slot<Act> = ok(ops.alloc(5))?;
    for round in 0..5_u32 {
        let (out, plain): (Slot<Act>, Slot<Act>) = (ok(ops.alloc(5))?, ok(ops.alloc(5))?);
        let dropout = Dropout { p: 0.1 * round as f32, seed: round.into(), site: round };
        ok(ops.zero(between))?;
        ok(ops.record(3))?;
        ok(ops.gelu_forward(between, inp))?;
        ok(ops.dropout_forward(out, between, dropout))?;
        ok(ops.submit())?;
        ok(ops.gelu_forward(between, inp))?;
        ok(ops.dropout_forward(plain, between, dropout))?;
        let mut expected = [0.0; 5];
        ok(ops.download(&mut expected, plain))?;
        holds(ops, out, &expected)?;
        ok(ops.free(out))?;
        ok(ops.free(plain))?;
    }
    ok(ops.free(between))?;
    ok(ops.free(inp))
}

fn use_after_free(ops: &mut impl Ops) -> Verdict {
    let (gone, live): (Slot<Act>, Slot<Act>) = (ok(ops.alloc(5))?, ok(ops.alloc(5))?);
    ok(ops.free(gone))?;
    // As long as the one that is gone: its number must not have been given out again.
    let new: Slot<Act> = ok(ops.alloc(5))?;
    let what = "memory that was given back";
    refused("upload", what, ops.upload(gone, &sample::<Act>()))?;
    refused("download", what, ops.download(&mut zeros::<Act>(5), gone))?;
    refused("zero", what, ops.zero(gone))?;
    refused("copy", what, ops.copy(live, gone))?;
    refused("copy", what, ops.copy(gone, live))?;
    refused("gelu_forward", what, ops.gelu_forward(live, gone))?;
    refused("gelu_forward", what, ops.gelu_forward(gone, live))?;
    holds(ops, new, &zeros::<Act>(5))?;
    holds(ops, live, &zeros::<Act>(5))?;
    ok(ops.free(live))?;
    ok(ops.free(new))
}

fn beyond_the_end<O: Ops, K: Kind>(ops: &mut O) -> Verdict {
    let slot = filled::<O, K>(ops)?;
    let mut late = slot;
    late.offset = 1;
    let mut overflowing = slot;
    overflowing.offset = usize::MAX - 2;
    for bad in [late, overflowing, Slot::whole(u32::MAX - 1, 5)] {
        refused("upload", "a slot outside its allocation", ops.upload(bad, &sample::<K>()))?;
        refused("download", "a slot outside its allocation", ops.download(&mut zeros::<K>(5), bad))?;
        refused("zero", "a slot outside its allocation", ops.zero(bad))?;
        refused("copy", "a slot outside its allocation", ops.copy(slot, bad))?;
        refused("copy", "a slot outside its allocation", ops.copy(bad, slot))?;
        refused("free", "a slot outside its allocation", ops.free(bad))?;
    }
    holds(ops, slot, &sample::<K>())?;
    ok(ops.free(slot))
}

fn wrong_kind(ops: &mut impl Ops) -> Verdict {
    let (floats, tokens) = (filled::<_, Act>(ops)?, filled::<_, Tok>(ops)?);
    let as_tokens: Slot<Tok> = Slot::whole(floats.allocation, 5);
    let as_stats: Slot<Stat> = Slot::whole(floats.allocation, 5);
    refused("download", "activations as statistics", ops.download(&mut zeros::<Stat>(5), as_stats))?;
    let as_floats: Slot<Act> = Slot::whole(tokens.allocation, 5);
    refused("upload", "activations as tokens", ops.upload(as_tokens, &sample::<Tok>()))?;
    refused("upload", "tokens as activations", ops.upload(as_floats, &sample::<Act>()))?;
    refused("download", "activations as tokens", ops.download(&mut zeros::<Tok>(5), as_tokens))?;
    refused("zero", "tokens as activations", ops.zero(as_floats))?;
    refused("gelu_forward", "tokens as activations", ops.gelu_forward(floats, as_floats))?;
    refused("free", "tokens as activations", ops.free(as_floats))?;
    holds(ops, floats, &sample::<Act>())?;
    holds(ops, tokens, &sample::<Tok>())?;
    ok(ops.free(floats))?;
    ok(ops.free(tokens))
}
