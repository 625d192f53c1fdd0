//! Instructions that each lane runs for itself: registers in, registers or predicates out.
//!
//! An instruction is decoded to a function that was compiled for it alone (a loop over 32 lanes, which the compiler
//! vectorises) and the slots of its operands. `lanes!` writes such a function; there are two of each, one for any processor
//! and one for those with AVX2 and FMA, and decoding picks.

use super::lanes::{LANES, Row};
use super::{Context, Flow, Warp};
use crate::fault::Fault;
use crate::program::{Predicate, Slot};

/// Operands of an instruction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Args {
    /// Where the result goes.
    pub dst: Slot,
    /// Sources.
    pub src: [Slot; 4],
    /// What the instruction knows beforehand: a table, a width.
    pub imm: u32,
}

/// What computes the lanes of a register.
#[derive(Clone, Copy, Debug)]
pub struct Run(unsafe fn(&mut Warp, &Args, u32));

impl Run {
    /// A function that any processor runs, and the same one compiled for AVX2 and FMA.
    pub fn new(plain: fn(&mut Warp, &Args, u32), fast: unsafe fn(&mut Warp, &Args, u32)) -> Run {
        Run(if vectors() { fast } else { plain })
    }

    /// Runs it for the lanes of a mask.
    #[inline(always)]
    pub fn call(self, warp: &mut Warp, args: &Args, mask: u32) {
        // SAFETY: `new` chose a function whose instructions the processor has.
        unsafe { (self.0)(warp, args, mask) }
    }
}

/// What computes the lanes of a predicate.
#[derive(Clone, Copy, Debug)]
pub struct Test(unsafe fn(&Warp, &Args) -> u32);

impl Test {
    /// As [`Run::new`].
    pub fn new(plain: fn(&Warp, &Args) -> u32, fast: unsafe fn(&Warp, &Args) -> u32) -> Test {
        Test(if vectors() { fast } else { plain })
    }

    /// The lanes for which it holds.
    #[inline(always)]
    pub fn call(self, warp: &Warp, args: &Args) -> u32 {
        // SAFETY: `new` chose a function whose instructions the processor has.
        unsafe { (self.0)(warp, args) }
    }
}

/// Whether the processor has what the second variants are compiled for.
fn vectors() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

/// A value of a lane.
pub trait Lane: Copy {
    /// What rows hold before they are computed.
    const ZERO: Self;
    /// The rows of a register.
    type View<'a>: Copy;
    /// A register's rows.
    fn view(warp: &Warp, slot: Slot) -> Self::View<'_>;
    /// The value of a lane.
    fn at(view: Self::View<'_>, lane: usize) -> Self;
    /// Writes the lanes of a mask.
    fn store(warp: &mut Warp, slot: Slot, values: &[Self; LANES], mask: u32);
}

macro_rules! narrow_lane {
    ($($ty:ty: |$bits:ident| $from:expr, |$value:ident| $to:expr;)+) => {$(
        impl Lane for $ty {
            const ZERO: Self = 0 as $ty;
            type View<'a> = &'a Row;
            #[inline(always)]
            fn view(warp: &Warp, slot: Slot) -> &Row {
                warp.row(slot)
            }
            #[inline(always)]
            fn at(view: &Row, lane: usize) -> Self {
                let $bits = view[lane];
                $from
            }
            #[inline(always)]
            fn store(warp: &mut Warp, slot: Slot, values: &[Self; LANES], mask: u32) {
                let mut row = [0; LANES];
                for (row, value) in row.iter_mut().zip(values) {
                    let $value = *value;
                    *row = $to;
                }
                warp.set_row(slot, &row, mask);
            }
        }
    )+};
}

narrow_lane! {
    u8: |bits| bits as u8, |value| u32::from(value);
    i8: |bits| bits as i8, |value| u32::from(value as u8);
    u16: |bits| bits as u16, |value| u32::from(value);
    i16: |bits| bits as i16, |value| u32::from(value as u16);
    u32: |bits| bits, |value| value;
    i32: |bits| bits as i32, |value| value as u32;
    f32: |bits| f32::from_bits(bits), |value| value.to_bits();
}

macro_rules! wide_lane {
    ($($ty:ty: |$bits:ident| $from:expr, |$value:ident| $to:expr;)+) => {$(
        impl Lane for $ty {
            const ZERO: Self = 0 as $ty;
            type View<'a> = (&'a Row, &'a Row);
            #[inline(always)]
            fn view(warp: &Warp, slot: Slot) -> (&Row, &Row) {
                (warp.row(slot), warp.row(slot + 1))
            }
            #[inline(always)]
            fn at((low, high): (&Row, &Row), lane: usize) -> Self {
                let $bits = u64::from(low[lane]) | u64::from(high[lane]) << 32;
                $from
            }
            #[inline(always)]
            fn store(warp: &mut Warp, slot: Slot, values: &[Self; LANES], mask: u32) {
                let mut wide = [0u64; LANES];
                for (wide, value) in wide.iter_mut().zip(values) {
                    let $value = *value;
                    *wide = $to;
                }
                let (mut low, mut high) = ([0; LANES], [0; LANES]);
                for lane in 0..LANES {
                    low[lane] = wide[lane] as u32;
                    high[lane] = (wide[lane] >> 32) as u32;
                }
                warp.set_row(slot, &low, mask);
                warp.set_row(slot + 1, &high, mask);
            }
        }
    )+};
}

wide_lane! {
    u64: |bits| bits, |value| value;
    i64: |bits| bits as i64, |value| value as u64;
    f64: |bits| f64::from_bits(bits), |value| value.to_bits();
}

/// A [`Run`] from what a lane does: `lanes!(|a: u32, b: u32| u32: a & b)`. With `imm;` in front, `imm` is [`Args::imm`].
/// With `; again |value| rare => exact` behind, lanes whose value is `rare` are computed once more, in the way that costs.
macro_rules! lanes {
    (|$($x:ident: $X:ty),+| $D:ty: $body:expr) => { lanes!(_imm; |$($x: $X),+| $D: $body) };
    ($imm:ident; |$($x:ident: $X:ty),+| $D:ty: $body:expr) => {
        lanes!($imm; |$($x: $X),+| $D: $body; again |value| false => value)
    };
    (
        $imm:ident; |$($x:ident: $X:ty),+| $D:ty: $body:expr;
        again |$value:ident| $again:expr => $exact:expr
    ) => {{
        #[inline(always)]
        fn each(
            warp: &mut $crate::exec::Warp,
            args: &$crate::exec::per_lane::Args,
            mask: u32,
        ) {
            use $crate::exec::{lanes::LANES, per_lane::Lane};
            let $imm = args.imm;
            let mut sources = args.src.iter();
            $(let $x = <$X as Lane>::view(warp, sources.next().copied().unwrap_or_default());)+
            let mut values = [<$D as Lane>::ZERO; LANES];
            let mut again = false;
            for (lane, value) in values.iter_mut().enumerate() {
                $(let $x = <$X as Lane>::at($x, lane);)+
                let $value = $body;
                again |= $again;
                *value = $value;
            }
            if again {
                for (lane, value) in values.iter_mut().enumerate() {
                    let $value = *value;
                    if $again {
                        $(let $x = <$X as Lane>::at($x, lane);)+
                        let _ = ($($x,)+);
                        *value = $exact;
                    }
                }
            }
            <$D as Lane>::store(warp, args.dst, &values, mask);
        }
        fn plain(warp: &mut $crate::exec::Warp, args: &$crate::exec::per_lane::Args, mask: u32) {
            each(warp, args, mask);
        }
        #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma"))]
        fn fast(warp: &mut $crate::exec::Warp, args: &$crate::exec::per_lane::Args, mask: u32) {
            each(warp, args, mask);
        }
        $crate::exec::per_lane::Run::new(plain, fast)
    }};
}

/// A [`Test`] from what a lane asks: `tests!(|a: u32, b: u32| a < b)`. With `imm;` in front, `imm` is [`Args::imm`].
macro_rules! tests {
    (|$($x:ident: $X:ty),+| $body:expr) => { tests!(_imm; |$($x: $X),+| $body) };
    ($imm:ident; |$($x:ident: $X:ty),+| $body:expr) => {{
        #[inline(always)]
        fn each(warp: &$crate::exec::Warp, args: &$crate::exec::per_lane::Args) -> u32 {
            use $crate::exec::{lanes::LANES, per_lane::Lane};
            let $imm = args.imm;
            let mut sources = args.src.iter();
            $(let $x = <$X as Lane>::view(warp, sources.next().copied().unwrap_or_default());)+
            let mut mask = 0;
            for lane in 0..LANES {
                $(let $x = <$X as Lane>::at($x, lane);)+
                mask |= u32::from($body) << lane;
            }
            mask
        }
        fn plain(warp: &$crate::exec::Warp, args: &$crate::exec::per_lane::Args) -> u32 {
            each(warp, args)
        }
        #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma"))]
        fn fast(warp: &$crate::exec::Warp, args: &$crate::exec::per_lane::Args) -> u32 {
            each(warp, args)
        }
        $crate::exec::per_lane::Test::new(plain, fast)
    }};
}

/// `choose!(FTZ = ftz, SAT = sat => body)`: the body once for each combination, with constants of these names.
macro_rules! choose {
    (=> $body:expr) => { $body };
    ($name:ident = $value:expr $(, $names:ident = $values:expr)* => $body:expr) => {
        if $value {
            const $name: bool = true;
            choose!($($names = $values),* => $body)
        } else {
            const $name: bool = false;
            choose!($($names = $values),* => $body)
        }
    };
}

pub(super) use {choose, lanes, tests};

/// How a comparison is joined with another predicate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Join {
    /// `.and`
    And,
    /// `.or`
    Or,
    /// `.xor`
    Xor,
}

impl Join {
    /// Of its suffix.
    pub fn parse(suffix: &str) -> Option<Join> {
        match suffix {
            "and" => Some(Join::And),
            "or" => Some(Join::Or),
            "xor" => Some(Join::Xor),
            _ => None,
        }
    }

    /// Lanes of both.
    #[inline(always)]
    pub fn apply(self, a: u32, b: u32) -> u32 {
        match self {
            Join::And => a & b,
            Join::Or => a | b,
            Join::Xor => a ^ b,
        }
    }
}

/// What a comparison does with its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// To a predicate, and the opposite to another.
    Predicates {
        /// Index of the first.
        p: u32,
        /// Of the second.
        q: Option<u32>,
    },
    /// To a register: these bits where it holds, 0 elsewhere.
    Register(u32),
    /// Of two comparisons, each to a predicate.
    Both {
        /// Of the first.
        p: u32,
        /// Of the second.
        q: u32,
    },
    /// Of two comparisons, each to a half of a register: these 16 bits where it holds, 0 elsewhere.
    Halves(u32),
}

/// An instruction of lanes for themselves.
#[derive(Clone, Debug)]
pub enum Op {
    /// A register from registers.
    Value {
        /// What computes it.
        run: Run,
        /// Of what.
        args: Args,
    },
    /// A comparison.
    Compare {
        /// What compares; for packed operands the low and the high elements.
        tests: [Test; 2],
        /// What.
        args: Args,
        /// With what it is joined.
        join: Option<(Join, Predicate)>,
        /// Where it goes.
        outcome: Outcome,
    },
    /// A register, and a predicate that says whether it is not 0, joined with another.
    ValueAndTest {
        /// What computes the register.
        run: Run,
        /// What computes the predicate from the same sources.
        test: Test,
        /// Of what.
        args: Args,
        /// With what it is joined.
        join: (Join, Predicate),
        /// The predicate.
        p: u32,
    },
    /// Arithmetic with a carry bit for each lane.
    Carry {
        /// What computes the register where no carry comes in, and where one does.
        run: [Run; 2],
        /// What computes the carry that goes out, likewise.
        carry: [Test; 2],
        /// Of what.
        args: Args,
        /// The carry that comes in where the instruction does not read it; `None` where it does.
        start: Option<u32>,
        /// Whether one goes out.
        output: bool,
        /// Index of the predicate that is the carry bit.
        flag: u32,
    },
}

/// Runs one.
///
/// # Errors
/// None.
#[inline(always)]
pub fn execute(op: &Op, cx: &mut Context, active: u32) -> Result<Flow, Fault> {
    match op {
        Op::Value { run, args } => run.call(cx.warp, args, active),
        other => rare(other, cx.warp, active),
    }
    Ok(Flow::Next)
}

/// All but plain values.
pub(super) fn rare(op: &Op, warp: &mut Warp, active: u32) {
    match op {
        Op::Value { run, args } => run.call(warp, args, active),
        Op::Compare { tests, args, join, outcome } => compare(warp, tests, args, *join, *outcome, active),
        Op::ValueAndTest { run, test, args, join: (join, other), p } => {
            // Before the value: it may go to a register that the test reads.
            let holds = join.apply(test.call(warp, args), warp.predicate(*other));
            run.call(warp, args, active);
            warp.set_predicate(*p, holds, active);
        }
        Op::Carry { run, carry, args, start, output, flag } => {
            let carried = start.unwrap_or(warp.predicates[*flag as usize]);
            let out = if *output {
                carry[0].call(warp, args) & !carried | carry[1].call(warp, args) & carried
            } else {
                0
            };
            // The first may overwrite what the second reads, but in other lanes.
            run[0].call(warp, args, active & !carried);
            run[1].call(warp, args, active & carried);
            if *output {
                warp.set_predicate(*flag, out, active);
            }
        }
    }
}

fn compare(
    warp: &mut Warp,
    tests: &[Test; 2],
    args: &Args,
    join: Option<(Join, Predicate)>,
    outcome: Outcome,
    active: u32,
) {
    let joined = |holds: u32| match join {
        Some((join, other)) => join.apply(holds, warp.predicate(other)),
        None => holds,
    };
    let holds = tests[0].call(warp, args);
    let first = joined(holds);
    match outcome {
        Outcome::Predicates { p, q } => {
            let opposite = joined(!holds);
            warp.set_predicate(p, first, active);
            if let Some(q) = q {
                warp.set_predicate(q, opposite, active);
            }
        }
        Outcome::Register(bits) => {
            let values = std::array::from_fn(|lane| if first >> lane & 1 == 1 { bits } else { 0 });
            warp.set_row(args.dst, &values, active);
        }
        Outcome::Both { p, q } => {
            let second = joined(tests[1].call(warp, args));
            warp.set_predicate(p, first, active);
            warp.set_predicate(q, second, active);
        }
        Outcome::Halves(bits) => {
            let second = joined(tests[1].call(warp, args));
            let half = |mask: u32, lane: usize| if mask >> lane & 1 == 1 { bits } else { 0 };
            let values = std::array::from_fn(|lane| half(first, lane) | half(second, lane) << 16);
            warp.set_row(args.dst, &values, active);
        }
    }
}
