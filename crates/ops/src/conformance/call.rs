//! One call of an op as data: its tensors, what may become of each element, and how to make the call.

use super::check::Verdict;
use super::data::{Random, Values};
use crate::{Act, Grad, Ops, Result, Slot, Stat, Tok, Update};

/// What an op may do to an element.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// The element keeps its bits.
    Kept,
    /// It holds the reference's result.
    Checked,
    /// What it holds is unspecified.
    Free,
}

/// What a tensor is to the op.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Read,
    Written,
    /// The composed ops' alone: the op itself is not given it.
    Apart,
}

/// A tensor of a call.
pub(super) struct Tensor {
    pub name: &'static str,
    /// What it holds before the call. NaN where the op must not read, be it an output or a part of an input.
    pub values: Values,
    /// What may become of each element.
    pub rule: Box<dyn Fn(usize) -> Rule>,
    pub role: Role,
    /// Whether the op takes it at any length.
    pub any_length: bool,
    /// Whether it is only as exact as activations are: it holds some, or the op may compute it from rounded ones.
    pub rounded: bool,
    /// The size that elements have before they cancel: errors are measured against it where the result is smaller.
    pub floor: f64,
}

impl Tensor {
    fn new(name: &'static str, values: Values, role: Role) -> Tensor {
        let rule = match role {
            Role::Read => Rule::Kept,
            Role::Written => Rule::Checked,
            Role::Apart => Rule::Free,
        };
        let rounded = matches!(values, Values::Act(_) | Values::Grad(_));
        Tensor { name, values, role, rule: Box::new(move |_| rule), any_length: false, rounded, floor: 0.0 }
    }

    /// Elements that differ in what may become of them.
    pub fn rule(mut self, rule: impl Fn(usize) -> Rule + 'static) -> Tensor {
        self.rule = Box::new(rule);
        self
    }

    /// The op takes this tensor at any length.
    pub fn any_length(mut self) -> Tensor {
        self.any_length = true;
        self
    }

    /// Statistics of activations that the op may have rounded.
    pub fn of_rounded(mut self) -> Tensor {
        self.rounded = true;
        self
    }

    /// Elements of this size cancel in the result.
    pub fn floor(mut self, floor: f64) -> Tensor {
        self.floor = floor;
        self
    }
}

/// A tensor that is read.
pub(super) fn input(name: &'static str, values: Values) -> Tensor {
    Tensor::new(name, values, Role::Read)
}

/// A tensor that is read and written.
pub(super) fn updated(name: &'static str, values: Values) -> Tensor {
    Tensor::new(name, values, Role::Written)
}

/// Activations that are written, full of NaN before.
pub(super) fn output(name: &'static str, len: usize) -> Tensor {
    Tensor::new(name, Values::Act(vec![f32::NAN; len]), Role::Written)
}

/// Gradients of parameters that are written, full of NaN before.
pub(super) fn grad_output(name: &'static str, len: usize) -> Tensor {
    Tensor::new(name, Values::Grad(vec![f32::NAN; len]), Role::Written)
}

/// Statistics that are written, full of NaN before.
pub(super) fn stat_output(name: &'static str, len: usize) -> Tensor {
    Tensor::new(name, Values::Stat(vec![f32::NAN; len]), Role::Written)
}

/// Tokens that are written, full of no token's number before.
pub(super) fn tok_output(name: &'static str, len: usize) -> Tensor {
    Tensor::new(name, Values::Tok(vec![0xDEAD_BEEF; len]), Role::Written)
}

/// Activations that only the composed ops need, full of NaN before.
pub(super) fn scratch(name: &'static str, len: usize) -> Tensor {
    Tensor::new(name, Values::Act(vec![f32::NAN; len]), Role::Apart)
}

/// Statistics that only the composed ops need, full of NaN before.
pub(super) fn stat_scratch(name: &'static str, len: usize) -> Tensor {
    Tensor::new(name, Values::Stat(vec![f32::NAN; len]), Role::Apart)
}

/// The gradient of a parameter that is set (full of NaN before) or added to.
pub(super) fn parameter_gradient(r: &mut Random, name: &'static str, len: usize, update: Update) -> Tensor {
    match update {
        Update::Set => grad_output(name, len),
        Update::Add => updated(name, r.grad(len, 1.0)),
    }
}

/// The gradient of an activation that is set (full of NaN before) or added to.
pub(super) fn gradient(r: &mut Random, name: &'static str, len: usize, update: Update) -> Tensor {
    match update {
        Update::Set => output(name, len),
        Update::Add => updated(name, r.act(len, 1.0)),
    }
}

/// A slot of whichever kind.
#[derive(Clone, Copy)]
pub(super) enum AnySlot {
    Act(Slot<Act>),
    Grad(Slot<Grad>),
    Stat(Slot<Stat>),
    Tok(Slot<Tok>),
}

/// The slots of a call's tensors, by name.
#[derive(Clone)]
pub(super) struct Slots(pub Vec<(&'static str, AnySlot)>);

impl Slots {
    fn find(&self, name: &str) -> Option<AnySlot> {
        self.0.iter().find(|(n, _)| *n == name).map(|(_, slot)| *slot)
    }

    /// A slot of whichever kind.
    pub fn any(&self, name: &str) -> AnySlot {
        self.find(name).unwrap_or_else(|| panic!("the call has no {name}"))
    }

    /// Activations that the call may lack.
    pub fn maybe(&self, name: &str) -> Option<Slot<Act>> {
        match self.find(name)? {
            AnySlot::Act(slot) => Some(slot),
            _ => panic!("{name} does not hold activations"),
        }
    }

    pub fn act(&self, name: &str) -> Slot<Act> {
        self.maybe(name).unwrap_or_else(|| panic!("the call has no {name}"))
    }

    /// The gradient of a parameter that the call may lack.
    pub fn maybe_grad(&self, name: &str) -> Option<Slot<Grad>> {
        match self.find(name)? {
            AnySlot::Grad(slot) => Some(slot),
            _ => panic!("{name} does not hold gradients of parameters"),
        }
    }

    pub fn grad(&self, name: &str) -> Slot<Grad> {
        self.maybe_grad(name).unwrap_or_else(|| panic!("the call has no {name}"))
    }

    /// Statistics that the call may lack.
    pub fn maybe_stat(&self, name: &str) -> Option<Slot<Stat>> {
        match self.find(name)? {
            AnySlot::Stat(slot) => Some(slot),
            _ => panic!("{name} does not hold statistics"),
        }
    }

    pub fn stat(&self, name: &str) -> Slot<Stat> {
        self.maybe_stat(name).unwrap_or_else(|| panic!("the call has no {name}"))
    }

    /// Tokens that the call may lack.
    pub fn maybe_tok(&self, name: &str) -> Option<Slot<Tok>> {
        match self.find(name)? {
            AnySlot::Tok(slot) => Some(slot),
            _ => panic!("{name} does not hold tokens"),
        }
    }

    pub fn tok(&self, name: &str) -> Slot<Tok> {
        self.maybe_tok(name).unwrap_or_else(|| panic!("the call has no tokens {name}"))
    }

    pub fn set(&mut self, name: &str, slot: AnySlot) {
        for (n, held) in &mut self.0 {
            if *n == name {
                *held = slot;
            }
        }
    }
}

impl AnySlot {
    /// A part of the slot.
    pub fn slice(self, range: std::ops::Range<usize>) -> AnySlot {
        match self {
            AnySlot::Act(s) => AnySlot::Act(s.slice(range)),
            AnySlot::Grad(s) => AnySlot::Grad(s.slice(range)),
            AnySlot::Stat(s) => AnySlot::Stat(s.slice(range)),
            AnySlot::Tok(s) => AnySlot::Tok(s.slice(range)),
        }
    }
}

/// Makes a call on given slots with given dimensions.
pub(super) type Run = Box<dyn Fn(&mut dyn Ops, &Slots, &[usize]) -> Result>;

/// What the tensors of a call hold after it is right, or what is wrong with it.
pub(super) type Judge = Box<dyn Fn(&[Values]) -> Verdict>;

/// One call of an op.
pub(super) struct Call {
    pub op: &'static str,
    pub dims: Vec<usize>,
    pub tensors: Vec<Tensor>,
    pub run: Run,
    /// The same outputs by other ops, and which outputs those are.
    pub composed: Option<(&'static [&'static str], Run)>,
    /// Judges what comes out, where more than one result is right; the only one to look at tokens that are written.
    pub judge: Option<Judge>,
    /// By how much more than usual the call multiplies the errors of f32 arithmetic.
    pub slack: f64,
}

impl Call {
    pub fn new<const D: usize>(
        op: &'static str,
        dims: [usize; D],
        tensors: Vec<Tensor>,
        run: impl Fn(&mut dyn Ops, &Slots, [usize; D]) -> Result + 'static,
    ) -> Call {
        Call { op, dims: dims.to_vec(), tensors, run: boxed(run), composed: None, judge: None, slack: 1.0 }
    }

    /// The ops that a fused one stands for, and the tensors that they need besides.
    pub fn composed<const D: usize>(
        mut self,
        outputs: &'static [&'static str],
        scratch: Vec<Tensor>,
        run: impl Fn(&mut dyn Ops, &Slots, [usize; D]) -> Result + 'static,
    ) -> Call {
        self.tensors.extend(scratch);
        self.composed = Some((outputs, boxed(run)));
        self
    }

    /// Who judges what comes out.
    pub fn judged(mut self, judge: impl Fn(&[Values]) -> Verdict + 'static) -> Call {
        self.judge = Some(Box::new(judge));
        self
    }

    /// Not compared with composed ops: what they round in between matters too much.
    pub fn alone(mut self) -> Call {
        self.composed = None;
        self
    }

    pub fn slack(mut self, slack: f64) -> Call {
        self.slack = slack;
        self
    }
}

fn boxed<const D: usize>(run: impl Fn(&mut dyn Ops, &Slots, [usize; D]) -> Result + 'static) -> Run {
    Box::new(move |ops, slots, dims| {
        run(ops, slots, dims.try_into().expect("as many dimensions as the call has"))
    })
}
