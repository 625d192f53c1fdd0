//! The floats that a host backend computes in.

use std::fmt;
use std::iter::Sum;
use std::ops::{AddAssign, MulAssign};

/// f32 or f64: what a backend in host memory computes in.
pub trait Float:
    num_traits::Float + AddAssign + MulAssign + Sum + bytemuck::Pod + Send + Sync + fmt::Debug
{
    /// Rounds from f32, the type in which data is uploaded.
    fn from_f32(x: f32) -> Self;
    /// Rounds to f32.
    fn to_f32(self) -> f32;
    /// Rounds a constant.
    fn of(x: f64) -> Self;
    /// The same number in float64.
    fn wide(self) -> f64;
}

impl Float for f32 {
    fn from_f32(x: f32) -> f32 {
        x
    }
    fn to_f32(self) -> f32 {
        self
    }
    fn of(x: f64) -> f32 {
        x as f32
    }
    fn wide(self) -> f64 {
        self.into()
    }
}

impl Float for f64 {
    fn from_f32(x: f32) -> f64 {
        x.into()
    }
    fn to_f32(self) -> f32 {
        self as f32
    }
    fn of(x: f64) -> f64 {
        x
    }
    fn wide(self) -> f64 {
        self
    }
}
