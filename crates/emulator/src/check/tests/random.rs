//! Random programs: the checker reports an access exactly where the [model](super::model) does.

use proptest::prelude::*;

use super::model::{Model, Try};
use super::*;

/// A step of a program.
#[derive(Clone, Debug)]
enum Step {
    /// Lanes touch memory side by side.
    Row {
        warp: u32,
        mask: u32,
        offset: u32,
        shift: u32,
        write: bool,
    },
    /// A lane touches memory.
    Touch {
        who: Thread,
        touch: Try,
    },
    /// All lanes of a mask touch the same.
    Same {
        warp: u32,
        mask: u32,
        touch: Try,
    },
    /// A barrier of some warps, of which `late` leave it later.
    Meet {
        object: Object,
        warps: Vec<u32>,
        mask: u32,
    },
    Release {
        warp: u32,
        mask: u32,
        object: Object,
    },
    Phase {
        object: Object,
    },
    Acquire {
        warp: u32,
        mask: u32,
        object: Object,
    },
    WarpBarrier {
        warp: u32,
        mask: u32,
    },
    Fence {
        warp: u32,
        mask: u32,
        scope: Scope,
    },
    ProxyFence {
        warp: u32,
        mask: u32,
    },
    Issue {
        who: Thread,
        kind: Asynchronous,
        touches: Vec<Try>,
    },
    /// Of the operations so far, counted back from the latest.
    Complete {
        back: usize,
        object: Object,
    },
    Wait {
        back: usize,
        reads_only: bool,
        others: bool,
    },
}

/// Bytes of shared memory that programs touch: few, so that they meet.
const BYTES: u32 = 192;

fn mask() -> impl Strategy<Value = u32> {
    prop_oneof![4 => Just(WARP), 1 => Just(1), 1 => Just(0xffff), 1 => Just(0xffff_0000), 1 => Just(0b111), 1 => any::<u32>()]
        .prop_map(|mask| if mask == 0 { 1 } else { mask })
}

fn who() -> impl Strategy<Value = Thread> {
    (0..4u32, prop_oneof![3 => 0..3u32, 1 => 0..32u32]).prop_map(|(warp, lane)| thread(warp, lane))
}

fn object() -> impl Strategy<Value = Object> {
    prop_oneof![
        (0..2u32, 0..2u32).prop_map(|(block, id)| Object::Barrier { block, id }),
        Just(Object::Cluster),
        (0..3u32).prop_map(|number| Object::Mbarrier { block: 0, offset: 1024 + 8 * number }),
    ]
}

fn scope() -> impl Strategy<Value = Scope> {
    prop_oneof![Just(Scope::Block), Just(Scope::Cluster), Just(Scope::Device), Just(Scope::System)]
}

/// Of 2^shift bytes at a multiple of it.
fn place() -> impl Strategy<Value = (u32, u32, u32)> {
    (prop_oneof![5 => Just(0u32), 1 => Just(1u32)], 0..5u32, 0..BYTES)
        .prop_map(|(block, shift, offset)| (block, offset >> shift << shift, 1 << shift))
}

fn weak() -> impl Strategy<Value = Try> {
    (place(), any::<bool>()).prop_map(|((block, offset, len), write)| {
        let access = if write { Access::Write } else { Access::Read };
        Try { block, offset, len, access, order: Order::Weak }
    })
}

fn strong() -> impl Strategy<Value = Try> {
    let kind = prop_oneof![
        scope().prop_map(|scope| (Access::Read, Order::Relaxed(scope))),
        scope().prop_map(|scope| (Access::Read, Order::Acquire(scope))),
        scope().prop_map(|scope| (Access::Write, Order::Relaxed(scope))),
        scope().prop_map(|scope| (Access::Write, Order::Release(scope))),
        scope().prop_map(|scope| (Access::Atomic, Order::Relaxed(scope))),
        scope().prop_map(|scope| (Access::Atomic, Order::AcquireRelease(scope))),
    ];
    (0..4u32, kind).prop_map(|(word, (access, order))| Try {
        block: 0,
        offset: 256 + word * 4,
        len: 4,
        access,
        order,
    })
}

fn range() -> impl Strategy<Value = Try> {
    (0..BYTES / 16, 1..8u32, 0..6u32).prop_map(|(first, count, access)| {
        let access = [Access::Read, Access::Write, Access::Read, Access::Write, Access::Read, Access::Atomic]
            [access as usize];
        let (offset, len) = (first * 16, (count * 16).min(BYTES - first * 16));
        Try { block: 0, offset, len, access, order: Order::Weak }
    })
}

/// An operation does not touch its own destination otherwise.
fn apart(mut touches: Vec<Try>) -> Vec<Try> {
    if let [first, second] = touches[..]
        && first.offset < second.offset + second.len
        && second.offset < first.offset + first.len
    {
        touches.pop();
    }
    touches
}

fn kind() -> impl Strategy<Value = Asynchronous> {
    prop_oneof![Just(Asynchronous::Copy), Just(Asynchronous::Bulk), Just(Asynchronous::Product)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..4u32, mask(), 0..BYTES, 0..5u32, any::<bool>()).prop_map(|(warp, mask, offset, shift, write)| {
            Step::Row { warp, mask, offset: offset >> shift << shift, shift, write }
        }),
        8 => (who(), weak()).prop_map(|(who, touch)| Step::Touch { who, touch }),
        6 => (who(), strong()).prop_map(|(who, touch)| Step::Touch { who, touch }),
        2 => (0..4u32, mask(), weak()).prop_map(|(warp, mask, touch)| Step::Same { warp, mask, touch }),
        8 => (object(), proptest::collection::vec(0..4u32, 2..4), mask())
            .prop_map(|(object, warps, mask)| Step::Meet { object, warps, mask }),
        1 => (0..4u32, mask(), object()).prop_map(|(warp, mask, object)| Step::Release { warp, mask, object }),
        1 => object().prop_map(|object| Step::Phase { object }),
        1 => (0..4u32, mask(), object()).prop_map(|(warp, mask, object)| Step::Acquire { warp, mask, object }),
        4 => (0..4u32, mask()).prop_map(|(warp, mask)| Step::WarpBarrier { warp, mask }),
        3 => (0..4u32, mask(), scope()).prop_map(|(warp, mask, scope)| Step::Fence { warp, mask, scope }),
        4 => (0..4u32, mask()).prop_map(|(warp, mask)| Step::ProxyFence { warp, mask }),
        5 => (who(), kind(), proptest::collection::vec(range(), 1..3))
            .prop_map(|(who, kind, touches)| Step::Issue { who, kind, touches: apart(touches) }),
        3 => (0..6usize, object()).prop_map(|(back, object)| Step::Complete { back, object }),
        5 => (0..6usize, any::<bool>(), any::<bool>())
            .prop_map(|(back, reads_only, others)| Step::Wait { back, reads_only, others }),
    ]
}

/// How far an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    InFlight,
    /// Its reads were waited for, as those of a group are, which completes on no object.
    Read,
    Done,
}

/// The checker with what is needed to go on: the operations and whether they are done.
struct Run {
    checker: Checker,
    flights: Vec<(Thread, Asynchronous, Flight, State)>,
}

impl Run {
    fn new() -> Run {
        Run { checker: cluster(), flights: Vec::new() }
    }

    fn step(&mut self, step: &Step) -> Result<(), Fault> {
        let checker = &mut self.checker;
        match step {
            Step::Row { warp, mask, offset, shift, write } => {
                let access = if *write { Access::Write } else { Access::Read };
                let offsets = std::array::from_fn(|lane| offset + ((lane as u32) << shift));
                checker.shared_warp(
                    *warp,
                    *mask,
                    0,
                    &offsets,
                    1 << shift,
                    access,
                    Order::Weak,
                    1,
                    &|_, _| true,
                )?;
            }
            Step::Touch { who, touch: Try { block, offset, len, access, order } } => {
                let mut offsets = [0; LANES];
                offsets[who.lane as usize] = *offset;
                let mask = 1 << who.lane;
                checker.shared_warp(
                    who.warp,
                    mask,
                    *block,
                    &offsets,
                    *len,
                    *access,
                    *order,
                    1,
                    &|_, _| true,
                )?;
            }
            Step::Same { warp, mask, touch: Try { block, offset, len, access, order } } => {
                checker.shared_warp(
                    *warp,
                    *mask,
                    *block,
                    &[*offset; LANES],
                    *len,
                    *access,
                    *order,
                    1,
                    &|_, _| true,
                )?;
            }
            Step::Meet { object, warps, mask } => {
                warps.iter().for_each(|warp| checker.release(*warp, *mask, *object));
                checker.phase(*object);
                warps.iter().for_each(|warp| checker.acquire(*warp, *mask, *object));
            }
            Step::Release { warp, mask, object } => {
                checker.release(*warp, *mask, *object);
            }
            Step::Phase { object } => checker.phase(*object),
            Step::Acquire { warp, mask, object } => {
                // An object whose phases are told.
                let meeting = checker.meeting(*object);
                meeting.phased = true;
                checker.acquire(*warp, *mask, *object);
            }
            Step::WarpBarrier { warp, mask } => checker.warp_barrier(*warp, *mask),
            Step::Fence { warp, mask, scope } => checker.fence(*warp, *mask, *scope),
            Step::ProxyFence { warp, mask } => checker.proxy_fence(*warp, *mask),
            Step::Issue { who, kind, touches } => {
                let flight = checker.issue(*who, *kind, 2);
                for touch in touches {
                    let place = Place::Shared { block: touch.block, offset: touch.offset };
                    checker.asynchronous(flight, place, touch.len, touch.access)?;
                }
                self.flights.push((*who, *kind, flight, State::InFlight));
            }
            Step::Complete { back, object } => {
                if let Some(at) = self.flights.len().checked_sub(back + 1) {
                    let (_, kind, flight, state) = &mut self.flights[at];
                    if *state == State::InFlight && *kind != Asynchronous::Product {
                        checker.complete(*flight, Some(*object));
                        // A bulk operation completes once.
                        *state = if *kind == Asynchronous::Bulk { State::Done } else { *state };
                    }
                }
            }
            Step::Wait { back, reads_only, others } => {
                if let Some(at) = self.flights.len().checked_sub(back + 1) {
                    let (who, kind, flight, state) = &mut self.flights[at];
                    let mask = if *kind == Asynchronous::Product { WARP } else { 1 << who.lane };
                    let warp =
                        if *kind == Asynchronous::Product && *others { who.warp ^ 1 } else { who.warp };
                    let reads_only = *reads_only && *kind == Asynchronous::Bulk;
                    if *state != State::Done {
                        checker.wait(warp, mask, *flight, reads_only);
                        *state = match kind {
                            Asynchronous::Product => State::InFlight,
                            _ if reads_only => State::Read,
                            _ => State::Done,
                        };
                    }
                }
            }
        }
        Ok(())
    }

    /// The same in the model; whether it is in order. To be asked before the step is made.
    fn model(&self, step: &Step, model: &mut Model) -> bool {
        match step {
            Step::Row { warp, mask, offset, shift, write } => {
                let access = if *write { Access::Write } else { Access::Read };
                let lane = |lane: usize| {
                    let offset = offset + ((lane as u32) << shift);
                    let touch = Try { block: 0, offset, len: 1 << shift, access, order: Order::Weak };
                    (thread(*warp, lane as u32), touch)
                };
                return model.touch(&lanes(*mask).map(lane).collect::<Vec<_>>());
            }
            Step::Touch { who, touch } => return model.touch(&[(*who, *touch)]),
            Step::Same { warp, mask, touch } => {
                // Lanes that store to one place store different values here.
                if touch.access == Access::Write && mask.count_ones() > 1 {
                    return false;
                }
                let touches = lanes(*mask).map(|lane| (thread(*warp, lane as u32), *touch));
                return model.touch(&touches.collect::<Vec<_>>());
            }
            Step::Meet { object, warps, mask } => {
                warps.iter().for_each(|warp| model.release(*warp, *mask, *object));
                model.phase(*object);
                warps.iter().for_each(|warp| model.acquire(*warp, *mask, *object));
            }
            Step::Release { warp, mask, object } => model.release(*warp, *mask, *object),
            Step::Phase { object } => model.phase(*object),
            Step::Acquire { warp, mask, object } => model.acquire(*warp, *mask, *object),
            Step::WarpBarrier { warp, mask } => model.warp_barrier(*warp, *mask),
            Step::Fence { warp, mask, scope } => model.fence(*warp, *mask, *scope),
            Step::ProxyFence { warp, mask } => model.proxy_fence(*warp, *mask),
            Step::Issue { who, kind, touches } => return model.issue(*who, *kind, touches),
            Step::Complete { back, object } => {
                if let Some(at) = self.flights.len().checked_sub(back + 1) {
                    let (_, kind, _, state) = self.flights[at];
                    if state == State::InFlight && kind != Asynchronous::Product {
                        model.complete(at, *object);
                    }
                }
            }
            Step::Wait { back, reads_only, others } => {
                if let Some(at) = self.flights.len().checked_sub(back + 1) {
                    let (who, kind, _, state) = self.flights[at];
                    let mask = if kind == Asynchronous::Product { WARP } else { 1 << who.lane };
                    let warp = if kind == Asynchronous::Product && *others { who.warp ^ 1 } else { who.warp };
                    if state != State::Done {
                        model.wait(warp, mask, at, *reads_only && kind == Asynchronous::Bulk);
                    }
                }
            }
        }
        true
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_access_is_refused_exactly_where_the_definition_refuses_it(
        program in proptest::collection::vec(step(), 1..60)
    ) {
        let (mut run, mut model) = (Run::new(), Model::new());
        let mut made: Vec<Step> = Vec::new();
        for step in program {
            let in_order = run.model(&step, &mut model);
            let result = run.step(&step);
            prop_assert_eq!(
                result.is_ok(),
                in_order,
                "{:?} after {:#?}: {:?}", step, made, result.err().map(|fault| fault.message)
            );
            if in_order {
                made.push(step);
            } else {
                // What was refused was not done: on without it.
                run = Run::new();
                for step in &made {
                    prop_assert!(run.step(step).is_ok());
                }
            }
        }
    }
}
