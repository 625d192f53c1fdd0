//! Test data: a precision to round to, and numbers that look random.

use crate::philox::philox4x32_10;
use crate::{IGNORE, Ops, Tag};

/// What a tensor holds, in host memory.
#[derive(Clone)]
pub(super) enum Values {
    Act(Vec<f32>),
    Grad(Vec<f32>),
    Stat(Vec<f32>),
    Tok(Vec<u32>),
}

impl Values {
    pub fn len(&self) -> usize {
        match self {
            Values::Act(x) | Values::Grad(x) | Values::Stat(x) => x.len(),
            Values::Tok(x) => x.len(),
        }
    }

    /// The numbers of a tensor that does not hold tokens.
    pub fn floats(&self) -> &[f32] {
        match self {
            Values::Act(x) | Values::Grad(x) | Values::Stat(x) => x,
            Values::Tok(_) => panic!("tokens are no numbers"),
        }
    }

    /// The tokens of a tensor that holds some.
    pub fn tokens(&self) -> &[u32] {
        match self {
            Values::Tok(x) => x,
            _ => panic!("numbers are no tokens"),
        }
    }

    /// The same in float64, for the reference's loops.
    pub fn wide(&self) -> Vec<f64> {
        self.floats().iter().map(|x| f64::from(*x)).collect()
    }

    pub fn same_kind(&self, other: &Values) -> bool {
        self.tag() == other.tag()
    }

    /// The bits of element `i`, every NaN counted as one.
    pub fn bits(&self, i: usize) -> u32 {
        match self {
            Values::Act(x) | Values::Grad(x) | Values::Stat(x) if x[i].is_nan() => f32::NAN.to_bits(),
            Values::Act(x) | Values::Grad(x) | Values::Stat(x) => x[i].to_bits(),
            Values::Tok(x) => x[i],
        }
    }

    /// Element `i` in words.
    pub fn show(&self, i: usize) -> String {
        match self {
            Values::Act(x) | Values::Grad(x) | Values::Stat(x) => format!("{:e}", x[i]),
            Values::Tok(x) => x[i].to_string(),
        }
    }
}

/// The precision that a backend stores a kind in.
#[derive(Clone, Copy)]
pub(super) struct Precision {
    bytes: usize,
}

impl Precision {
    /// That of a kind.
    pub fn of(ops: &impl Ops, tag: Tag) -> Self {
        let bytes = match tag {
            Tag::Act => ops.act_bytes(),
            Tag::Grad => ops.grad_bytes(),
            Tag::Stat | Tag::Tok => size_of::<f32>(),
        };
        Precision { bytes }
    }

    /// Of the two the one that stores less.
    pub fn or_less(self, other: Precision) -> Precision {
        Precision { bytes: self.bytes.min(other.bytes) }
    }

    /// To the nearest number that the backend can hold, ties to even: what two bytes hold is bf16.
    pub fn round(self, x: f32) -> f32 {
        if self.bytes != 2 || x.is_nan() {
            return x;
        }
        let bits = x.to_bits();
        f32::from_bits((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF_0000)
    }

    /// The largest ‖out − ref‖/‖ref‖ let through. `slack` is by how much a call multiplies the errors of f32, in which
    /// statistics are kept and sums are made whatever `Act` is; `rounded` says whether the result has been rounded to `Act`.
    pub fn tolerance(self, rounded: bool, slack: f64) -> f64 {
        // One rounding to f32 is off by up to 2⁻²⁴; the rest is room for long sums and for fast exponentials.
        let arithmetic = slack * 1e-5;
        match (rounded, self.bytes) {
            // A bf16 significand has 8 bits: one rounding is off by up to 2⁻⁹, and there may be four in a row.
            (true, 2) => arithmetic + 4.0 / 512.0,
            _ => arithmetic,
        }
    }
}

impl Values {
    /// The kind.
    pub fn tag(&self) -> Tag {
        match self {
            Values::Act(_) => Tag::Act,
            Values::Grad(_) => Tag::Grad,
            Values::Stat(_) => Tag::Stat,
            Values::Tok(_) => Tag::Tok,
        }
    }
}

/// Numbers that look random, the same at every run, exact in the backend's precision.
pub(super) struct Random {
    precision: Precision,
    grads: Precision,
    seed: u32,
    drawn: usize,
    words: [u32; 4],
}

impl Random {
    pub fn new(precision: Precision, grads: Precision, seed: u32) -> Self {
        Random { precision, grads, seed, drawn: 0, words: [0; 4] }
    }

    fn word(&mut self) -> u32 {
        let at = self.drawn % 4;
        if at == 0 {
            self.words = philox4x32_10([(self.drawn / 4) as u32, 0, 0, 0], [self.seed, 0]);
        }
        self.drawn += 1;
        self.words[at]
    }

    /// Uniform in (−1, 1).
    fn uniform(&mut self) -> f32 {
        (f64::from(self.word()) / f64::from(1_u32 << 31) - 1.0) as f32
    }

    /// Activations, uniform in (−scale, scale).
    pub fn act(&mut self, len: usize, scale: f32) -> Values {
        self.act_around(0.0, len, scale)
    }

    /// Activations, uniform in (mean − scale, mean + scale).
    pub fn act_around(&mut self, mean: f32, len: usize, scale: f32) -> Values {
        Values::Act((0..len).map(|_| self.precision.round(mean + scale * self.uniform())).collect())
    }

    /// Gradients of parameters, uniform in (−scale, scale).
    pub fn grad(&mut self, len: usize, scale: f32) -> Values {
        Values::Grad((0..len).map(|_| self.grads.round(scale * self.uniform())).collect())
    }

    /// Statistics, uniform in (mean − scale, mean + scale).
    pub fn stat_around(&mut self, mean: f32, len: usize, scale: f32) -> Values {
        Values::Stat((0..len).map(|_| mean + scale * self.uniform()).collect())
    }

    /// Activations that an op has computed.
    pub fn act_from(&self, data: &[f64]) -> Values {
        Values::Act(data.iter().map(|x| self.precision.round(*x as f32)).collect())
    }

    /// Words of which any bit may be set.
    pub fn words(&mut self, len: usize) -> Vec<u32> {
        (0..len).map(|_| self.word()).collect()
    }

    /// Indices below `rows`.
    pub fn tokens(&mut self, len: usize, rows: usize) -> Values {
        Values::Tok((0..len).map(|_| self.word() % rows as u32).collect())
    }

    /// Where texts begin that are packed in rows of T: up to `longest` tokens each, one token now and then.
    pub fn starts(&mut self, B: usize, T: usize, longest: usize) -> Values {
        let mut starts = Vec::new();
        for _ in 0..B {
            let mut start = 0;
            while start < T {
                let len = 1 + self.word() as usize % longest;
                let end = T.min(start + len);
                starts.extend(vec![start as u32; end - start]);
                start = end;
            }
        }
        Values::Tok(starts)
    }

    /// Targets below `V`, every third of them [`IGNORE`].
    pub fn targets(&mut self, len: usize, V: usize) -> Values {
        let target = |i: usize| if i % 3 == 1 { IGNORE } else { self.word() % V as u32 };
        Values::Tok((0..len).map(target).collect())
    }
}

/// Statistics that an op has computed.
pub(super) fn stat_from(data: &[f64]) -> Values {
    Values::Stat(data.iter().map(|x| *x as f32).collect())
}
