//! Vector clocks over actors whose lanes are threads of their own.
//!
//! A plain vector clock has a component per thread. Threads of a warp nearly always know the same and are known alike, so
//! a clock has one [`Entry`] per actor, which splits into lanes only where they differ.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::exec::lanes::{ALL, LANES, lanes};

/// How far the lanes of one actor are known: everything that lane `l` did at a time up to `of(l)`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    /// Of every lane.
    all: u32,
    /// Where some lane is known further than `all`, which is the least of them then.
    each: Option<Box<[u32; LANES]>>,
}

impl Entry {
    /// Whether all of `mask` are known up to `time`.
    #[inline]
    fn covers(&self, mask: u32, time: u32) -> bool {
        time <= self.all || self.each.as_ref().is_some_and(|each| lanes(mask).all(|lane| each[lane] >= time))
    }

    /// Learns what the lanes of `mask` did up to `time`.
    fn raise(&mut self, mask: u32, time: u32) {
        if time <= self.all || mask == 0 {
            return;
        }
        if mask == ALL && self.each.is_none() {
            self.all = time;
            return;
        }
        let each = self.each.get_or_insert_with(|| Box::new([self.all; LANES]));
        for lane in lanes(mask) {
            each[lane] = each[lane].max(time);
        }
        self.settle();
    }

    fn join(&mut self, other: &Entry) {
        match (&mut self.each, &other.each) {
            (None, None) => self.all = self.all.max(other.all),
            (None, Some(theirs)) => {
                let all = self.all;
                self.each = Some(Box::new(theirs.map(|time| time.max(all))));
                self.settle();
            }
            (Some(ours), None) => {
                ours.iter_mut().for_each(|time| *time = (*time).max(other.all));
                self.settle();
            }
            (Some(ours), Some(theirs)) => {
                ours.iter_mut().zip(theirs.iter()).for_each(|(time, other)| *time = (*time).max(*other));
                self.settle();
            }
        }
    }

    /// What is known by both.
    fn common(&self, other: &Entry) -> Entry {
        let of = |entry: &Entry, lane: usize| entry.each.as_ref().map_or(entry.all, |each| each[lane]);
        let mut both = Entry { all: self.all.min(other.all), each: None };
        if self.each.is_some() || other.each.is_some() {
            both.each = Some(Box::new(std::array::from_fn(|lane| of(self, lane).min(of(other, lane)))));
            both.settle();
        }
        both
    }

    /// Restores what `each` promises, so that equal knowledge is equal.
    fn settle(&mut self) {
        if let Some(each) = &self.each {
            let (least, most) =
                each.iter().fold((u32::MAX, 0), |(least, most), time| (least.min(*time), most.max(*time)));
            self.all = least;
            if least == most {
                self.each = None;
            }
        }
    }
}

/// Entries by actor; those beyond the end are 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Vector(Vec<Entry>);

impl Vector {
    #[inline]
    pub(super) fn covers(&self, actor: u16, mask: u32, time: u32) -> bool {
        self.0.get(usize::from(actor)).is_some_and(|entry| entry.covers(mask, time))
    }

    pub(super) fn raise(&mut self, actor: u16, mask: u32, time: u32) {
        let actor = usize::from(actor);
        if self.0.len() <= actor {
            self.0.resize(actor + 1, Entry::default());
        }
        self.0[actor].raise(mask, time);
    }

    /// What is known by both.
    fn common(&self, other: &Vector) -> Vector {
        Vector(self.0.iter().zip(&other.0).map(|(ours, theirs)| ours.common(theirs)).collect())
    }

    pub(super) fn join(&mut self, other: &Vector) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), Entry::default());
        }
        for (ours, theirs) in self.0.iter_mut().zip(&other.0) {
            ours.join(theirs);
        }
    }
}

/// What is known of the actors of one cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Part {
    /// What happened before.
    pub known: Vector,
    /// Of which writes a proxy fence came in between.
    pub fenced: Vector,
    /// Of which writes a fence of the proxy of tensor maps did.
    pub mapped: Vector,
    /// What a fence of the device's scope has made visible to all, by whomever it was.
    pub visible: Vector,
}

impl Part {
    fn join(&mut self, other: &Part) {
        self.known.join(&other.known);
        self.fenced.join(&other.fenced);
        self.mapped.join(&other.mapped);
        self.visible.join(&other.visible);
    }
}

/// What a thread knows: of its own cluster, and of the others that it has heard of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Clock {
    /// Its own cluster.
    pub own: Part,
    /// Others, by number.
    foreign: Option<Arc<BTreeMap<u32, Arc<Part>>>>,
}

impl Clock {
    /// What it knows of cluster `number`.
    pub(super) fn foreign(&self, number: u32) -> Option<&Part> {
        self.foreign.as_ref()?.get(&number).map(|part| &**part)
    }

    /// Learns what a thread of the same cluster knows.
    pub(super) fn join(&mut self, other: &Clock) {
        self.own.join(&other.own);
        if let Some(theirs) = &other.foreign {
            match &self.foreign {
                Some(ours) if Arc::ptr_eq(ours, theirs) => {}
                Some(_) => {
                    for (number, part) in theirs.iter() {
                        self.meet(*number, part);
                    }
                }
                None => self.foreign = Some(Arc::clone(theirs)),
            }
        }
    }

    /// Learns what a thread of cluster `of` knew; `own` is the number of its own.
    pub(super) fn absorb(&mut self, other: &Published, own: u32) {
        for (number, part) in &other.parts {
            if *number == own {
                self.own.join(part);
            } else {
                self.meet(*number, part);
            }
        }
    }

    /// A proxy fence by lanes of `warp`, whose own accesses up to `time` it covers too.
    pub(super) fn fence_proxy(&mut self, warp: u16, mask: u32, time: u32) {
        self.own.fenced.raise(warp, mask, time);
        self.parts().for_each(|Part { known, fenced, .. }| fenced.join(known));
    }

    /// A fence of the proxy of tensor maps, likewise.
    pub(super) fn fence_maps(&mut self, warp: u16, mask: u32, time: u32) {
        self.own.mapped.raise(warp, mask, time);
        self.parts().for_each(|Part { known, mapped, .. }| mapped.join(known));
    }

    /// A fence of the device's scope, likewise.
    pub(super) fn fence_device(&mut self, warp: u16, mask: u32, time: u32) {
        self.own.visible.raise(warp, mask, time);
        self.parts().for_each(|Part { known, visible, .. }| visible.join(known));
    }

    fn parts(&mut self) -> impl Iterator<Item = &mut Part> {
        let foreign = self.foreign.iter_mut().flat_map(|foreign| Arc::make_mut(foreign).values_mut());
        std::iter::once(&mut self.own).chain(foreign.map(Arc::make_mut))
    }

    /// What of its knowledge fences of the device's scope have made visible to all.
    pub(super) fn publish_visible(&self, own: u32) -> Published {
        let foreign =
            self.foreign.iter().flat_map(|foreign| foreign.iter().map(|(number, part)| (*number, &**part)));
        let parts = std::iter::once((own, &self.own)).chain(foreign);
        let visible = |part: &Part| Part { known: part.visible.common(&part.known), ..part.clone() };
        let parts = parts.filter(|(_, part)| !part.visible.0.is_empty());
        Published { parts: parts.map(|(number, part)| (number, Arc::new(visible(part)))).collect() }
    }

    fn meet(&mut self, number: u32, part: &Arc<Part>) {
        let foreign = Arc::make_mut(self.foreign.get_or_insert_default());
        match foreign.get_mut(&number) {
            Some(ours) if Arc::ptr_eq(ours, part) => {}
            Some(ours) => Arc::make_mut(ours).join(part),
            None => drop(foreign.insert(number, Arc::clone(part))),
        }
    }

    /// The same as others see it; `own` is the number of its cluster.
    pub(super) fn publish(&self, own: u32) -> Published {
        let mut parts = self.foreign.as_ref().map_or_else(BTreeMap::new, |foreign| (**foreign).clone());
        parts.insert(own, Arc::new(self.own.clone()));
        Published { parts }
    }
}

/// Knowledge that leaves its cluster, by cluster.
#[derive(Clone, Debug, Default)]
pub(super) struct Published {
    parts: BTreeMap<u32, Arc<Part>>,
}

impl Published {
    /// Adds what another thread made known.
    pub(super) fn join(&mut self, other: &Published) {
        for (number, part) in &other.parts {
            match self.parts.get_mut(number) {
                Some(ours) if Arc::ptr_eq(ours, part) => {}
                Some(ours) => Arc::make_mut(ours).join(part),
                None => drop(self.parts.insert(*number, Arc::clone(part))),
            }
        }
    }

    /// Whether nothing is in it.
    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }
}
