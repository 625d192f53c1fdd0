//! Allocations in host memory behind [`Slot`]s, and checked views of them.

use bytemuck::Pod;
use memmap2::{Advice, MmapMut, MmapRaw};

use super::Float;
use crate::{Error, IGNORE, Kind, Result, Slot, Tok};

/// A slot as an op was given it, with the name and the length that the op knows it by.
#[derive(Clone, Copy, Debug)]
pub struct Arg {
    name: &'static str,
    allocation: u32,
    offset: usize,
    len: usize,
    tokens: bool,
}

/// Names an argument for [`Memory::views`].
///
/// # Errors
/// [`Error::Argument`] when the slot does not hold `want` elements.
pub fn arg<K: Kind>(op: &'static str, name: &'static str, slot: Slot<K>, want: usize) -> Result<Arg> {
    if slot.len != want {
        let message = format!("{name} must hold {want} elements, got {}", slot.len);
        return Err(Error::Argument { op, message });
    }
    Ok(Arg { name, allocation: slot.allocation, offset: slot.offset, len: slot.len, tokens: is_tok::<K>() })
}

/// The number of elements of a shape.
///
/// # Errors
/// [`Error::Argument`] when a dimension is 0 or the product does not fit a usize.
pub fn size(op: &'static str, name: &str, shape: &[usize]) -> Result<usize> {
    if shape.contains(&0) {
        return Err(Error::Argument {
            op,
            message: format!("{name} has the shape {shape:?}: no dimension may be 0"),
        });
    }
    shape.iter().try_fold(1_usize, |product, d| product.checked_mul(*d)).ok_or_else(|| Error::Argument {
        op,
        message: format!("{name} has the shape {shape:?}: more elements than this machine can count"),
    })
}

impl Arg {
    /// Names an argument of a given shape for [`Memory::views`].
    ///
    /// # Errors
    /// [`Error::Argument`] when a dimension is 0 or the slot does not hold as many elements as the shape.
    pub fn shaped<K: Kind>(
        op: &'static str,
        name: &'static str,
        slot: Slot<K>,
        shape: &[usize],
    ) -> Result<Arg> {
        let want = size(op, name, shape)?;
        if slot.len != want {
            let message = format!("{name} must hold {want} elements (shape {shape:?}), got {}", slot.len);
            return Err(Error::Argument { op, message });
        }
        arg(op, name, slot, want)
    }

    /// The same for an argument that may be missing: its view is then empty.
    ///
    /// # Errors
    /// Those of [`Arg::shaped`].
    pub fn optional<K: Kind>(
        op: &'static str,
        name: &'static str,
        slot: Option<Slot<K>>,
        shape: &[usize],
    ) -> Result<Arg> {
        let absent = Arg { name, allocation: ABSENT, offset: 0, len: 0, tokens: is_tok::<K>() };
        slot.map_or(Ok(absent), |slot| Arg::shaped(op, name, slot, shape))
    }
}

/// Checks that every index names one of `rows` rows; [`IGNORE`] passes where `ignore` says so.
///
/// # Errors
/// [`Error::Argument`] naming the first position that does not.
pub fn indices(op: &'static str, name: &str, indices: &[u32], rows: usize, ignore: bool) -> Result {
    match indices.iter().position(|i| *i as usize >= rows && !(ignore && *i == IGNORE)) {
        None => Ok(()),
        Some(at) => Err(Error::Argument {
            op,
            message: format!(
                "{name}[{at}] is {}, but there are only {rows} rows (0 to {})",
                indices[at],
                rows - 1
            ),
        }),
    }
}

/// The number of rows of C elements in a table.
///
/// # Errors
/// [`Error::Argument`] when the slot is not a whole number of rows, or fewer than `least`.
pub fn rows<K: Kind>(op: &'static str, name: &str, slot: Slot<K>, C: usize, least: usize) -> Result<usize> {
    let rows = slot.len.checked_div(C).unwrap_or(0);
    if rows == 0 || rows * C != slot.len {
        let message = format!("{name} must hold rows of {C} elements, got {} elements", slot.len);
        return Err(Error::Argument { op, message });
    }
    if rows < least {
        let message = format!("{name} must have at least {least} rows, got {rows}");
        return Err(Error::Argument { op, message });
    }
    Ok(rows)
}

/// The allocation number of an argument that is missing.
const ABSENT: u32 = u32::MAX;

fn is_tok<K: Kind>() -> bool {
    std::any::TypeId::of::<K>() == std::any::TypeId::of::<Tok>()
}

/// One zero-initialised, page-aligned allocation.
///
/// Reached by raw pointer only: a `&mut [u8]` over the whole of it, while a slice of a part lives, would alias it.
struct Allocation {
    bytes: MmapRaw,
    len: usize,
    tokens: bool,
}

/// All memory of a host backend. `Act` and `Stat` are stored as `F`, `Tok` as u32.
pub struct Memory<F> {
    allocations: Vec<Option<Allocation>>,
    float: std::marker::PhantomData<F>,
}

impl<F: Float> Default for Memory<F> {
    fn default() -> Self {
        Memory { allocations: Vec::new(), float: std::marker::PhantomData }
    }
}

impl<F: Float> Memory<F> {
    /// Allocates zeroed elements; see [`crate::Ops::alloc`].
    pub fn alloc<K: Kind>(&mut self, device: &str, len: usize) -> Result<Slot<K>> {
        let tokens = is_tok::<K>();
        let size = if tokens { size_of::<u32>() } else { size_of::<F>() };
        let out_of_memory = |wanted: u64| Error::OutOfMemory { device: device.into(), wanted, free: None };
        let bytes = len.checked_mul(size).ok_or_else(|| out_of_memory(u64::MAX))?;
        let map = MmapMut::map_anon(bytes.max(1)).map_err(|_| out_of_memory(bytes as u64))?;
        let map = MmapRaw::from(map);
        // Large pages spare the matrix products most of their address translation; where the system has none the
        // advice fails and nothing is lost.
        let _ = map.advise(Advice::HugePage);
        let index = self.allocations.len() as u32;
        self.allocations.push(Some(Allocation { bytes: map, len, tokens }));
        Ok(Slot::whole(index, len))
    }

    /// Gives an allocation back; see [`crate::Ops::free`].
    pub fn free<K: Kind>(&mut self, slot: Slot<K>) -> Result {
        let whole = |a: &Allocation| slot.offset == 0 && slot.len == a.len && is_tok::<K>() == a.tokens;
        match self.allocations.get_mut(slot.allocation as usize) {
            Some(held) if held.as_ref().is_some_and(whole) => *held = None,
            _ => {
                return Err(Error::Argument {
                    op: "free",
                    message: format!("{slot:?} is not a whole allocation"),
                });
            }
        }
        Ok(())
    }

    /// Copies from host memory; see [`crate::Ops::upload`].
    pub fn upload<K: Kind>(&mut self, dst: Slot<K>, src: &[K::Host]) -> Result {
        let dst = arg("upload", "dst", dst, src.len())?;
        if dst.tokens {
            self.tokens_mut("upload", dst)?.copy_from_slice(bytemuck::cast_slice(src));
        } else {
            let ([dst], [], []) = self.views("upload", [dst], [], [])?;
            for (dst, src) in dst.iter_mut().zip(bytemuck::cast_slice::<_, f32>(src)) {
                *dst = F::from_f32(*src);
            }
        }
        Ok(())
    }

    /// Copies to host memory; see [`crate::Ops::download`].
    pub fn download<K: Kind>(&mut self, dst: &mut [K::Host], src: Slot<K>) -> Result {
        let src = arg("download", "src", src, dst.len())?;
        if src.tokens {
            let ([], [], [src]) = self.views("download", [], [], [src])?;
            bytemuck::cast_slice_mut(dst).copy_from_slice(src);
        } else {
            let ([], [src], []) = self.views("download", [], [src], [])?;
            for (dst, src) in bytemuck::cast_slice_mut::<_, f32>(dst).iter_mut().zip(src) {
                *dst = Float::to_f32(*src);
            }
        }
        Ok(())
    }

    /// Copies between slots; see [`crate::Ops::copy`].
    pub fn copy<K: Kind>(&mut self, dst: Slot<K>, src: Slot<K>) -> Result {
        let (dst, src) = (arg("copy", "dst", dst, src.len)?, arg("copy", "src", src, src.len)?);
        apart("copy", &dst, &src)?;
        if dst.tokens {
            let from = self.pointer::<u32>("copy", &src)?;
            let dst = self.tokens_mut("copy", dst)?;
            // SAFETY: `pointer` found `src.len` initialised elements, `apart` that they are none of `dst`'s.
            dst.copy_from_slice(unsafe { std::slice::from_raw_parts(from, src.len) });
        } else {
            let ([dst], [src], []) = self.views("copy", [dst], [src], [])?;
            dst.copy_from_slice(src);
        }
        Ok(())
    }

    /// Sets every element to zero; see [`crate::Ops::zero`].
    pub fn zero<K: Kind>(&mut self, dst: Slot<K>) -> Result {
        let dst = arg("zero", "dst", dst, dst.len)?;
        if dst.tokens {
            self.tokens_mut("zero", dst)?.fill(0);
        } else {
            let ([dst], [], []) = self.views("zero", [dst], [], [])?;
            dst.fill(F::zeroed());
        }
        Ok(())
    }

    /// An op's tensors as slices: those it writes, the floats it reads, the tokens it reads.
    ///
    /// # Errors
    /// [`Error::Argument`] when a slot is not inside a live allocation of its kind, or when a written one overlaps any other.
    #[allow(clippy::type_complexity)] // three arrays of slices, each with its own length
    pub fn views<const W: usize, const R: usize, const K: usize>(
        &mut self,
        op: &'static str,
        write: [Arg; W],
        read: [Arg; R],
        tokens: [Arg; K],
    ) -> Result<([&mut [F]; W], [&[F]; R], [&[u32]; K])> {
        for (i, w) in write.iter().enumerate() {
            for other in write[i + 1..].iter().chain(&read).chain(&tokens) {
                apart(op, w, other)?;
            }
        }
        let mut pointers = [std::ptr::null_mut(); W];
        for (p, a) in pointers.iter_mut().zip(&write) {
            *p = self.pointer::<F>(op, a)?;
        }
        let mut sources = [std::ptr::null(); R];
        for (p, a) in sources.iter_mut().zip(&read) {
            *p = self.pointer::<F>(op, a)?.cast_const();
        }
        let mut indices = [std::ptr::null(); K];
        for (p, a) in indices.iter_mut().zip(&tokens) {
            *p = self.pointer::<u32>(op, a)?.cast_const();
        }
        use std::{array::from_fn, slice};
        // SAFETY: `pointer` found `len` initialised, aligned elements of this type in a live allocation; allocations
        // are disjoint and reached by raw pointer only; the loop above found the range disjoint from every other that
        // is given out; and the slices borrow `self` mutably, so nothing else can reach the memory meanwhile.
        let write = from_fn(|i| unsafe { slice::from_raw_parts_mut(pointers[i], write[i].len) });
        // SAFETY: as above; no slice that is written covers these elements.
        let read = from_fn(|i| unsafe { slice::from_raw_parts(sources[i], read[i].len) });
        // SAFETY: as above.
        let tokens = from_fn(|i| unsafe { slice::from_raw_parts(indices[i], tokens[i].len) });
        Ok((write, read, tokens))
    }

    /// The tokens of one argument, to write them.
    fn tokens_mut(&mut self, op: &'static str, a: Arg) -> Result<&mut [u32]> {
        let pointer = self.pointer::<u32>(op, &a)?;
        // SAFETY: `pointer` found `a.len` initialised, aligned elements, and the slice borrows `self` mutably.
        Ok(unsafe { std::slice::from_raw_parts_mut(pointer, a.len) })
    }

    /// The first of an argument's elements: `a.len` of them, initialised (memory starts zeroed) and aligned, lie in
    /// one live allocation of elements of type `E`, which is u32 or `F`.
    fn pointer<E: Pod>(&self, op: &'static str, a: &Arg) -> Result<*mut E> {
        let tokens = std::any::TypeId::of::<E>() == std::any::TypeId::of::<u32>();
        if a.allocation == ABSENT && a.len == 0 {
            return Ok(std::ptr::NonNull::dangling().as_ptr());
        }
        let allocation = self.allocations.get(a.allocation as usize).and_then(Option::as_ref);
        let message = match allocation {
            None => format!("{} lies in memory that is not allocated", a.name),
            Some(held) if held.tokens != tokens || a.tokens != tokens => {
                format!("{} is of the wrong kind", a.name)
            }
            Some(held) if a.offset.checked_add(a.len).is_none_or(|end| end > held.len) => {
                format!("{} reaches past the end of its allocation of {} elements", a.name, held.len)
            }
            // SAFETY: the offset is inside the mapping, whose length was computed from this element type.
            Some(held) => return Ok(unsafe { held.bytes.as_mut_ptr().cast::<E>().add(a.offset) }),
        };
        Err(Error::Argument { op, message })
    }
}

/// Refuses an argument that is written and shares an element with another.
fn apart(op: &'static str, written: &Arg, other: &Arg) -> Result {
    let overlap = written.allocation == other.allocation
        && written.offset < other.offset.saturating_add(other.len)
        && other.offset < written.offset.saturating_add(written.len);
    if overlap && written.len > 0 && other.len > 0 {
        let message = format!("{} is written and overlaps {}", written.name, other.name);
        return Err(Error::Argument { op, message });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Memory, arg};
    use crate::{Act, Slot};

    /// Elements of each of two allocations.
    const LEN: usize = 8;

    fn slot() -> impl Strategy<Value = Slot<Act>> {
        // Now and then an allocation that is not there, or a range that reaches past the end.
        let allocation = prop_oneof![12 => 0..2_u32, 1 => Just(2)];
        (allocation, 0..7_usize, 0..4_usize).prop_map(|(allocation, offset, len)| {
            let mut slot = Slot::whole(allocation, len);
            slot.offset = offset;
            slot
        })
    }

    proptest! {
        /// Views are given out if and only if every slot lies in memory and none that is written meets another; they show
        /// the slot's elements.
        #[test]
        fn views_never_alias(write in [slot(), slot()], read in [slot(), slot()]) {
            let mut memory = Memory::<f32>::default();
            for allocation in 0..2 {
                let slot = memory.alloc::<Act>("test", LEN).unwrap();
                let data: Vec<f32> = (0..LEN).map(|i| (allocation * LEN + i) as f32).collect();
                memory.upload(slot, &data).unwrap();
            }
            let elements = |slot: &Slot<Act>| -> Vec<f32> {
                slot.range().map(|i| (slot.allocation as usize * LEN + i) as f32).collect()
            };
            let all = [write[0], write[1], read[0], read[1]];
            let inside = all.iter().all(|s| s.allocation < 2 && s.range().end <= LEN);
            let meet = |i: usize, j: usize| elements(&all[i]).iter().any(|x| elements(&all[j]).contains(x));
            let apart = !(meet(0, 1) || meet(0, 2) || meet(0, 3) || meet(1, 2) || meet(1, 3));

            let names = |slot: Slot<Act>| arg("op", "tensor", slot, slot.len).unwrap();
            match memory.views("op", write.map(names), read.map(names), []) {
                Ok((written, seen, [])) => {
                    prop_assert!(inside && apart);
                    for (view, slot) in written.iter().zip(&write) {
                        prop_assert_eq!(view.to_vec(), elements(slot));
                    }
                    for (view, slot) in seen.iter().zip(&read) {
                        prop_assert_eq!(view.to_vec(), elements(slot));
                    }
                }
                Err(_) => prop_assert!(!inside || !apart),
            }
        }
    }
}
