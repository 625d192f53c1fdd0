//! A backward pass against central finite differences of its forward, in float64.

use super::Failure;
use super::call::{AnySlot, Slots, Tensor};
use super::check::upload;
use super::data::{Precision, Random};
use crate::host::{Host, Kernels};
use crate::{Ops, Result, Tag, Update};

type Make = Box<dyn Fn(&mut Random) -> Vec<Tensor>>;
type Forward = Box<dyn Fn(&mut dyn Ops, &Slots) -> Result>;
type Backward = Box<dyn Fn(&mut dyn Ops, &Slots, Update) -> Result>;

/// A forward, its backward, and what is a gradient of what.
pub(super) struct Gradient {
    op: &'static str,
    make: Make,
    forward: Forward,
    backward: Backward,
    /// The loss is Σ out·dout over these pairs.
    loss: Vec<(&'static str, &'static str)>,
    /// Tensors and the gradients that the backward gives of them.
    of: Vec<Of>,
}

#[derive(Clone, Copy)]
struct Of {
    x: &'static str,
    dx: &'static str,
    /// How many times the gradient is there after a second backward, with [`Update::Add`].
    twice: Option<f64>,
}

/// How far a tensor's element is moved each way. The difference is off by h²/6·f‴ and by the rounding of the loss over 2h.
const H: f64 = 1e-5;
/// The largest ‖dx − difference‖/‖difference‖ let through.
const TOLERANCE: f64 = 1e-7;

impl Gradient {
    pub fn new(
        op: &'static str,
        make: impl Fn(&mut Random) -> Vec<Tensor> + 'static,
        forward: impl Fn(&mut dyn Ops, &Slots) -> Result + 'static,
        backward: impl Fn(&mut dyn Ops, &Slots, Update) -> Result + 'static,
    ) -> Gradient {
        let (make, forward, backward) = (Box::new(make), Box::new(forward), Box::new(backward));
        Gradient { op, make, forward, backward, loss: Vec::new(), of: Vec::new() }
    }

    /// The loss has the term Σ out·dout.
    pub fn loss(mut self, out: &'static str, dout: &'static str) -> Self {
        self.loss.push((out, dout));
        self
    }

    /// The backward sets or adds dx as it is told to.
    pub fn added(mut self, x: &'static str, dx: &'static str) -> Self {
        self.of.push(Of { x, dx, twice: Some(2.0) });
        self
    }

    /// The backward always sets dx.
    pub fn set(mut self, x: &'static str, dx: &'static str) -> Self {
        self.of.push(Of { x, dx, twice: Some(1.0) });
        self
    }

    /// The backward writes dx over something that it needs: it cannot run a second time.
    pub fn once(mut self, x: &'static str, dx: &'static str) -> Self {
        self.of.push(Of { x, dx, twice: None });
        self
    }

    pub fn check<K: Kernels<F = f64>>(&self, ops: &mut Host<K>) -> std::result::Result<(), Failure> {
        let failure = |message| Failure { op: self.op, case: "finite differences".into(), message };
        match self.compare(ops) {
            Ok(None) => Ok(()),
            Ok(Some(message)) => Err(failure(message)),
            Err(error) => Err(failure(format!("refused: {error}"))),
        }
    }

    /// What is wrong with the gradients, if anything.
    fn compare<K: Kernels<F = f64>>(&self, ops: &mut Host<K>) -> Result<Option<String>> {
        let mut random = Random::new(Precision::of(ops, Tag::Act), Precision::of(ops, Tag::Grad), 1);
        let mut slots = Slots(Vec::new());
        for tensor in (self.make)(&mut random) {
            slots.0.push((tensor.name, upload(ops, &tensor.values)?));
        }
        (self.forward)(ops, &slots)?;
        (self.backward)(ops, &slots, Update::Set)?;
        let once = self.gradients(ops, &slots)?;
        (self.backward)(ops, &slots, Update::Add)?;
        let twice = self.gradients(ops, &slots)?;

        for (of, (once, twice)) in self.of.iter().zip(once.iter().zip(&twice)) {
            if let Some(error) = distance(once, &self.differences(ops, &slots, of.x)?) {
                return Ok(Some(format!("{} is off the difference by {error:.1e} of its norm", of.dx)));
            }
            let Some(times) = of.twice else { continue };
            if let Some(error) = distance(twice, &once.iter().map(|g| times * g).collect::<Vec<_>>()) {
                let message = format!("after a second backward, {} is off by {error:.1e} of its norm", of.dx);
                return Ok(Some(message));
            }
        }
        for (_, slot) in slots.0 {
            super::check::take(ops, slot)?;
        }
        Ok(None)
    }

    fn gradients<K: Kernels<F = f64>>(&self, ops: &mut Host<K>, slots: &Slots) -> Result<Vec<Vec<f64>>> {
        self.of.iter().map(|of| read(ops, slots.any(of.dx))).collect()
    }

    /// The loss's derivative by each element of a tensor.
    fn differences<K: Kernels<F = f64>>(
        &self,
        ops: &mut Host<K>,
        slots: &Slots,
        x: &str,
    ) -> Result<Vec<f64>> {
        let slot = slots.act(x);
        let mut values = ops.read(slot)?.to_vec();
        let mut derivative = Vec::new();
        for i in 0..values.len() {
            let at = values[i];
            let mut loss = |moved: f64| -> Result<f64> {
                values[i] = moved;
                ops.write(slot, &values)?;
                (self.forward)(ops, slots)?;
                let mut total = 0.0;
                for (out, dout) in &self.loss {
                    let (out, dout) = (read(ops, slots.any(out))?, read(ops, slots.any(dout))?);
                    total += out.iter().zip(&dout).map(|(a, b)| a * b).sum::<f64>();
                }
                Ok(total)
            };
            let (above, below) = (loss(at + H)?, loss(at - H)?);
            derivative.push((above - below) / (2.0 * H));
            values[i] = at;
        }
        ops.write(slot, &values)?;
        Ok(derivative)
    }
}

fn read<K: Kernels<F = f64>>(ops: &mut Host<K>, slot: AnySlot) -> Result<Vec<f64>> {
    match slot {
        AnySlot::Act(slot) => ops.read(slot).map(<[f64]>::to_vec),
        AnySlot::Grad(slot) => ops.read(slot).map(<[f64]>::to_vec),
        AnySlot::Stat(slot) => ops.read(slot).map(<[f64]>::to_vec),
        AnySlot::Tok(_) => panic!("tokens have no gradient"),
    }
}

/// ‖a − b‖/‖b‖, if it is above the tolerance.
fn distance(a: &[f64], b: &[f64]) -> Option<f64> {
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    let error = norm(&mut a.iter().zip(b).map(|(a, b)| a - b)) / norm(&mut b.iter().copied());
    (error.is_nan() || error > TOLERANCE).then_some(error)
}
