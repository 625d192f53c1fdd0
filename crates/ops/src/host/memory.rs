//! Allocations in host memory behind [`Slot`]s, and checked views of them.

use bytemuck::Pod;
use memmap2::{Advice, MmapMut, MmapRaw};

use super::Float;
use crate::args::{Arg, Args, signatures as args};
use crate::{Error, Kind, Result, Slot, Tag};

/// One tensor that is written.
///
/// # Errors
/// Those of [`Arg::new`].
pub fn one_written<K: Kind>(
    op: &'static str,
    name: &'static str,
    slot: Slot<K>,
    want: usize,
) -> Result<Args<1, 0, 0>> {
    Ok(Args { op, write: [Arg::new(op, name, slot, want)?], read: [], tokens: [] })
}

/// One tensor that is read.
///
/// # Errors
/// Those of [`Arg::new`].
pub fn one_read<K: Kind>(
    op: &'static str,
    name: &'static str,
    slot: Slot<K>,
    want: usize,
) -> Result<Args<0, 1, 0>> {
    Ok(Args { op, write: [], read: [Arg::new(op, name, slot, want)?], tokens: [] })
}

/// One zero-initialised, page-aligned allocation.
///
/// Reached by raw pointer only: a `&mut [u8]` over the whole of it, while a slice of a part lives, would alias it.
struct Allocation {
    bytes: MmapRaw,
    len: usize,
    tag: Tag,
}

/// All memory of a host backend. `Tok` is stored as u32, all else as `F`.
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
        let size = if K::TAG == Tag::Tok { size_of::<u32>() } else { size_of::<F>() };
        let out_of_memory = |wanted: u64| Error::OutOfMemory { device: device.into(), wanted, free: None };
        let bytes = len.checked_mul(size).ok_or_else(|| out_of_memory(u64::MAX))?;
        let map = MmapMut::map_anon(bytes.max(1)).map_err(|_| out_of_memory(bytes as u64))?;
        let map = MmapRaw::from(map);
        // Large pages spare the matrix products most of their address translation; where the system has none the
        // advice fails and nothing is lost.
        let _ = map.advise(Advice::HugePage);
        let index = self.allocations.len() as u32;
        self.allocations.push(Some(Allocation { bytes: map, len, tag: K::TAG }));
        Ok(Slot::whole(index, len))
    }

    /// Gives an allocation back; see [`crate::Ops::free`].
    pub fn free<K: Kind>(&mut self, slot: Slot<K>) -> Result {
        let whole = |a: &Allocation| slot.offset == 0 && slot.len == a.len && K::TAG == a.tag;
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
        let args = one_written("upload", "dst", dst, src.len())?;
        if K::TAG == Tag::Tok {
            let ([dst], [], []) = self.token_views(args)?;
            dst.copy_from_slice(bytemuck::cast_slice(src));
        } else {
            let ([dst], [], []) = self.views(args)?;
            for (dst, src) in dst.iter_mut().zip(bytemuck::cast_slice::<_, f32>(src)) {
                *dst = F::from_f32(*src);
            }
        }
        Ok(())
    }

    /// Copies to host memory; see [`crate::Ops::download`].
    pub fn download<K: Kind>(&mut self, dst: &mut [K::Host], src: Slot<K>) -> Result {
        let args = one_read("download", "src", src, dst.len())?;
        if K::TAG == Tag::Tok {
            let ([], [], [src]) = self.views(Args { op: args.op, write: [], read: [], tokens: args.read })?;
            bytemuck::cast_slice_mut(dst).copy_from_slice(src);
        } else {
            let ([], [src], []) = self.views(args)?;
            for (dst, src) in bytemuck::cast_slice_mut::<_, f32>(dst).iter_mut().zip(src) {
                *dst = Float::to_f32(*src);
            }
        }
        Ok(())
    }

    /// Copies between slots; see [`crate::Ops::copy`].
    pub fn copy<K: Kind>(&mut self, dst: Slot<K>, src: Slot<K>) -> Result {
        let args = args::copy(dst, src)?;
        if K::TAG == Tag::Tok {
            let Args { op, write, read: tokens, .. } = args;
            let ([dst], [], [src]) = self.token_views(Args { op, write, read: [], tokens })?;
            dst.copy_from_slice(src);
        } else {
            let ([dst], [src], []) = self.views(args)?;
            dst.copy_from_slice(src);
        }
        Ok(())
    }

    /// Sets every element to zero; see [`crate::Ops::zero`].
    pub fn zero<K: Kind>(&mut self, dst: Slot<K>) -> Result {
        let args = one_written("zero", "dst", dst, dst.len)?;
        if K::TAG == Tag::Tok {
            let ([dst], [], []) = self.token_views(args)?;
            dst.fill(0);
        } else {
            let ([dst], [], []) = self.views(args)?;
            dst.fill(F::zeroed());
        }
        Ok(())
    }

    /// An op's tensors as slices: those it writes, the floats it reads, the tokens it reads.
    ///
    /// # Errors
    /// [`Error::Argument`] when a slot is not inside a live allocation of its kind, when a written one overlaps any other, or
    /// when a token names no row.
    #[allow(clippy::type_complexity)] // three arrays of slices, each with its own length
    pub fn views<const W: usize, const R: usize, const K: usize>(
        &mut self,
        args: Args<W, R, K>,
    ) -> Result<([&mut [F]; W], [&[F]; R], [&[u32]; K])> {
        self.views_to_write(args)
    }

    /// The same for an op that writes tokens alone.
    ///
    /// # Errors
    /// Those of [`views`](Memory::views).
    #[allow(clippy::type_complexity)] // as above
    pub fn token_views<const W: usize, const R: usize, const K: usize>(
        &mut self,
        args: Args<W, R, K>,
    ) -> Result<([&mut [u32]; W], [&[F]; R], [&[u32]; K])> {
        self.views_to_write(args)
    }

    /// The same for elements of type `E` that are written, u32 or `F`.
    #[allow(clippy::type_complexity)] // as above
    fn views_to_write<E: Pod, const W: usize, const R: usize, const K: usize>(
        &mut self,
        args: Args<W, R, K>,
    ) -> Result<([&mut [E]; W], [&[F]; R], [&[u32]; K])> {
        args.apart()?;
        let Args { op, write, read, tokens } = args;
        let mut pointers = [std::ptr::null_mut(); W];
        for (p, a) in pointers.iter_mut().zip(&write) {
            *p = self.pointer::<E>(op, a)?;
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
        // are disjoint and reached by raw pointer only; `apart` found the range disjoint from every other that
        // is given out; and the slices borrow `self` mutably, so nothing else can reach the memory meanwhile.
        let written = from_fn(|i| unsafe { slice::from_raw_parts_mut(pointers[i], write[i].len) });
        // SAFETY: as above; no slice that is written covers these elements.
        let read = from_fn(|i| unsafe { slice::from_raw_parts(sources[i], read[i].len) });
        // SAFETY: as above.
        let chosen: [&[u32]; K] = from_fn(|i| unsafe { slice::from_raw_parts(indices[i], tokens[i].len) });
        for (arg, chosen) in tokens.iter().zip(chosen) {
            arg.check_tokens(op, chosen)?;
        }
        Ok((written, read, chosen))
    }

    /// The first of an argument's elements: `arg.len` of them, initialised (memory starts zeroed) and aligned, lie in
    /// one live allocation of elements of type `E`, which is u32 or `F`.
    fn pointer<E: Pod>(&self, op: &'static str, arg: &Arg) -> Result<*mut E> {
        if arg.absent() {
            return Ok(std::ptr::NonNull::dangling().as_ptr());
        }
        let held = self.allocations.get(arg.allocation as usize).and_then(Option::as_ref);
        arg.inside(op, held.map(|held| (held.len, held.tag)))?;
        let tokens = std::any::TypeId::of::<E>() == std::any::TypeId::of::<u32>();
        match held {
            Some(held) if (held.tag == Tag::Tok) == tokens => {
                // SAFETY: the offset is inside the mapping, whose length was computed from this element type.
                Ok(unsafe { held.bytes.as_mut_ptr().cast::<E>().add(arg.offset) })
            }
            _ => Err(Error::Argument { op, message: format!("{} is of the wrong kind", arg.name) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Memory;
    use crate::args::{Arg, Args};
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

            let names = |slot: Slot<Act>| Arg::new("op", "tensor", slot, slot.len).unwrap();
            let args = Args { op: "op", write: write.map(names), read: read.map(names), tokens: [] };
            match memory.views(args) {
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
