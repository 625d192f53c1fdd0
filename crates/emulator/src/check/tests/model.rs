//! Order by its definition: every thread and operation has a component of its own in every clock, every access of every byte is
//! kept, and a new one is held against all of them.

use std::collections::HashMap;

use super::*;

/// Threads of the four warps; behind them stand each operation's reads, then its writes.
const THREADS: usize = 4 * LANES;

/// What is known of each component, and how much of it behind a proxy fence.
#[derive(Clone, Debug, Default)]
struct Known {
    all: Vec<u32>,
    fenced: Vec<u32>,
    /// Behind a fence of the device's scope.
    visible: Vec<u32>,
}

fn of(clock: &[u32], actor: usize) -> u32 {
    clock.get(actor).copied().unwrap_or(0)
}

fn raise(clock: &mut Vec<u32>, actor: usize, time: u32) {
    if clock.len() <= actor {
        clock.resize(actor + 1, 0);
    }
    clock[actor] = clock[actor].max(time);
}

impl Known {
    fn join(&mut self, other: &Known) {
        for (ours, theirs) in [
            (&mut self.all, &other.all),
            (&mut self.fenced, &other.fenced),
            (&mut self.visible, &other.visible),
        ] {
            theirs.iter().enumerate().for_each(|(actor, time)| raise(ours, actor, *time));
        }
    }
}

/// An access of one byte.
#[derive(Clone, Debug)]
struct Byte {
    actor: usize,
    time: u32,
    /// Of the operation, whose own accesses go together; threads have none.
    flight: Option<usize>,
    write: bool,
    asynchronous: bool,
    /// 0 weak, then the scopes.
    strength: u8,
    block: u32,
    /// What whoever made it knew.
    known: Known,
    /// Earlier accesses of the byte that it comes after, and after a proxy fence.
    after: Vec<bool>,
    after_fence: Vec<bool>,
}

/// An operation.
#[derive(Clone, Debug)]
struct Operation {
    who: Thread,
    kind: Asynchronous,
}

/// A release: the thread's block, how far its scope reaches, and what it knew.
type Released = (u32, usize, Known);

/// Everything.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    threads: Vec<Known>,
    /// By level: what the last fence covered, what reads found.
    fences: Vec<[Option<Known>; 3]>,
    found: Vec<[Known; 3]>,
    objects: HashMap<Object, (Known, Known)>,
    /// What was released at a place: by a thread of which block, how far.
    places: HashMap<(u32, u32), Vec<Released>>,
    operations: Vec<Operation>,
    bytes: HashMap<(u32, u32), Vec<Byte>>,
}

/// An access that may be made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Try {
    pub block: u32,
    pub offset: u32,
    pub len: u32,
    pub access: Access,
    pub order: Order,
}

fn index(who: Thread) -> usize {
    who.warp as usize * LANES + who.lane as usize
}

fn level_of(order: Order) -> usize {
    match order {
        Order::Weak | Order::Constant | Order::Map => 2,
        Order::Relaxed(scope)
        | Order::Acquire(scope)
        | Order::Release(scope)
        | Order::AcquireRelease(scope) => (scope as usize).min(2),
    }
}

impl Model {
    pub(super) fn new() -> Model {
        let threads = (0..THREADS).map(|thread| {
            let mut known = Known::default();
            raise(&mut known.all, thread, 1);
            known
        });
        Model {
            threads: threads.collect(),
            fences: vec![[const { None }; 3]; THREADS],
            found: vec![Default::default(); THREADS],
            ..Model::default()
        }
    }

    fn step(&mut self, who: usize) -> u32 {
        let time = of(&self.threads[who].all, who) + 1;
        raise(&mut self.threads[who].all, who, time);
        time
    }

    /// The access of a byte as it would be kept; `None` where it does not go with an earlier one.
    fn byte(&self, at: (u32, u32), mut new: Byte) -> Option<Byte> {
        let earlier = self.bytes.get(&at).map_or(&[][..], |all| all);
        for (number, other) in earlier.iter().enumerate() {
            let same = new.flight.is_some() && new.flight == other.flight;
            let direct = same || of(&new.known.all, other.actor) >= other.time;
            // What comes after one that comes after it does so too.
            let between = (number + 1..earlier.len()).any(|middle| {
                let middle_before = of(&new.known.all, earlier[middle].actor) >= earlier[middle].time;
                middle_before && earlier[middle].after[number]
            });
            let after = direct || between;
            let fenced = same
                || of(&new.known.fenced, other.actor) >= other.time
                || (number + 1..earlier.len()).any(|middle| {
                    let passed = &earlier[middle];
                    let known = of(&new.known.all, passed.actor) >= passed.time;
                    let fenced = of(&new.known.fenced, passed.actor) >= passed.time;
                    known && passed.asynchronous && passed.after_fence[number]
                        || fenced && !passed.asynchronous && passed.after[number]
                });
            new.after.push(after);
            new.after_fence.push(fenced);
            if !new.write && !other.write {
                continue;
            }
            if !after {
                let distance = match () {
                    () if new.flight.is_some() || other.flight.is_some() => 3,
                    () if new.block != other.block => 2,
                    () => 1,
                };
                if new.strength.min(other.strength) < distance {
                    return None;
                }
            } else if new.asynchronous && other.write && !other.asynchronous && !fenced {
                return None;
            }
        }
        Some(new)
    }

    /// Lanes of an instruction touch memory; whether that is in order. If not, nothing was done.
    pub(super) fn touch(&mut self, touches: &[(Thread, Try)]) -> bool {
        let before = self.bytes.clone();
        for (who, touch) in touches {
            let (me, block) = (index(*who), who.warp / 2);
            let weak = matches!(touch.order, Order::Weak | Order::Constant | Order::Map)
                && touch.access != Access::Atomic;
            for offset in touch.offset..touch.offset + touch.len {
                let mut known = self.threads[me].clone();
                let time = of(&known.all, me) + 1;
                raise(&mut known.all, me, time);
                let byte = Byte {
                    actor: me,
                    time,
                    flight: None,
                    write: touch.access != Access::Read,
                    asynchronous: false,
                    strength: if weak { 0 } else { level_of(touch.order) as u8 + 1 },
                    block,
                    known,
                    after: Vec::new(),
                    after_fence: Vec::new(),
                };
                let Some(byte) = self.byte((touch.block, offset), byte) else {
                    self.bytes = before;
                    return false;
                };
                self.bytes.entry((touch.block, offset)).or_default().push(byte);
            }
        }
        for (who, touch) in touches {
            self.step(index(*who));
            if !matches!(touch.order, Order::Weak) || touch.access == Access::Atomic {
                self.strong(*who, touch);
            }
        }
        true
    }

    fn strong(&mut self, who: Thread, touch: &Try) {
        let (me, block, level) = (index(who), who.warp / 2, level_of(touch.order));
        let place = (touch.block, touch.offset);
        if touch.access != Access::Write {
            let released = self.places.get(&place).cloned().unwrap_or_default();
            let visible = |scope: usize| {
                let mut seen = Known::default();
                for (by, to, known) in &released {
                    let distance = usize::from(*by != block);
                    if distance <= scope && distance <= *to {
                        seen.join(known);
                    }
                }
                seen
            };
            for at_most in 0..3 {
                self.found[me][at_most].join(&visible(level.min(at_most)));
            }
            if matches!(touch.order, Order::Acquire(_) | Order::AcquireRelease(_)) {
                self.threads[me].join(&visible(level));
            }
        }
        if touch.access != Access::Read {
            let list = self.places.entry(place).or_default();
            if touch.access == Access::Write {
                list.clear();
            }
            for scope in 0..=level {
                if let Some(known) = &self.fences[me][scope] {
                    list.push((block, scope, known.clone()));
                }
            }
            if level == 2 {
                let known = &self.threads[me];
                list.push((block, 2, Known { all: known.visible.clone(), ..known.clone() }));
            }
            if matches!(touch.order, Order::Release(_) | Order::AcquireRelease(_)) {
                list.push((block, level, self.threads[me].clone()));
                self.step(me);
            }
        }
    }

    pub(super) fn release(&mut self, warp: u32, mask: u32, object: Object) {
        for lane in lanes(mask) {
            let me = index(thread(warp, lane as u32));
            self.objects.entry(object).or_default().0.join(&self.threads[me]);
            self.step(me);
        }
    }

    pub(super) fn phase(&mut self, object: Object) {
        let (open, done) = self.objects.entry(object).or_default();
        done.join(&std::mem::take(open));
    }

    pub(super) fn acquire(&mut self, warp: u32, mask: u32, object: Object) {
        let Some((_, done)) = self.objects.get(&object) else { return };
        for lane in lanes(mask) {
            self.threads[index(thread(warp, lane as u32))].join(done);
        }
    }

    pub(super) fn warp_barrier(&mut self, warp: u32, mask: u32) {
        let members: Vec<_> = lanes(mask).map(|lane| index(thread(warp, lane as u32))).collect();
        let mut all = Known::default();
        members.iter().for_each(|me| all.join(&self.threads[*me]));
        for me in members {
            self.threads[me].join(&all);
            self.step(me);
        }
    }

    pub(super) fn fence(&mut self, warp: u32, mask: u32, scope: Scope) {
        for lane in lanes(mask) {
            let me = index(thread(warp, lane as u32));
            let level = (scope as usize).min(2);
            let found = self.found[me][level].clone();
            self.threads[me].join(&found);
            if level == 2 {
                let known = &mut self.threads[me];
                let all = known.all.clone();
                all.iter().enumerate().for_each(|(actor, time)| raise(&mut known.visible, actor, *time));
            }
            for at_most in 0..=level {
                self.fences[me][at_most] = Some(self.threads[me].clone());
            }
            self.step(me);
        }
    }

    pub(super) fn proxy_fence(&mut self, warp: u32, mask: u32) {
        for lane in lanes(mask) {
            let known = &mut self.threads[index(thread(warp, lane as u32))];
            let all = known.all.clone();
            all.iter().enumerate().for_each(|(actor, time)| raise(&mut known.fenced, actor, *time));
            self.step(index(thread(warp, lane as u32)));
        }
    }

    /// An operation is issued that touches these places; whether that is in order. If not, nothing was done.
    pub(super) fn issue(&mut self, who: Thread, kind: Asynchronous, touches: &[Try]) -> bool {
        let (me, number) = (index(who), self.operations.len());
        let known = self.threads[me].clone();
        let before = self.bytes.clone();
        for touch in touches {
            for offset in touch.offset..touch.offset + touch.len {
                let write = touch.access != Access::Read;
                let byte = Byte {
                    actor: THREADS + 2 * number + usize::from(write),
                    time: 1,
                    flight: Some(number),
                    write,
                    asynchronous: kind != Asynchronous::Copy,
                    strength: if touch.access == Access::Atomic { 3 } else { 0 },
                    block: who.warp / 2,
                    known: known.clone(),
                    after: Vec::new(),
                    after_fence: Vec::new(),
                };
                let Some(byte) = self.byte((touch.block, offset), byte) else {
                    self.bytes = before;
                    return false;
                };
                self.bytes.entry((touch.block, offset)).or_default().push(byte);
            }
        }
        self.operations.push(Operation { who, kind });
        self.step(me);
        true
    }

    /// The operations that have completed where this one has: copies of a thread and products of a warp do so in order.
    fn completed(&self, number: usize) -> Vec<usize> {
        let Operation { who, kind } = self.operations[number].clone();
        (0..=number)
            .filter(|earlier| {
                let other = &self.operations[*earlier];
                other.kind == kind
                    && match kind {
                        Asynchronous::Copy => other.who == who,
                        Asynchronous::Product => other.who.warp == who.warp,
                        Asynchronous::Bulk => *earlier == number,
                    }
            })
            .collect()
    }

    pub(super) fn complete(&mut self, number: usize, object: Object) {
        for earlier in self.completed(number) {
            let open = &mut self.objects.entry(object).or_default().0;
            raise(&mut open.all, THREADS + 2 * earlier, 1);
            raise(&mut open.all, THREADS + 2 * earlier + 1, 1);
        }
    }

    pub(super) fn wait(&mut self, warp: u32, mask: u32, number: usize, reads_only: bool) {
        for earlier in self.completed(number) {
            for lane in lanes(mask) {
                let known = &mut self.threads[index(thread(warp, lane as u32))].all;
                raise(known, THREADS + 2 * earlier, 1);
                if !reads_only {
                    raise(known, THREADS + 2 * earlier + 1, 1);
                }
            }
        }
    }
}
