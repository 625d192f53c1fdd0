//! The dimensions of one pass through a model.

use crate::arena::size;
use crate::{Config, Error, Result};

/// The dimensions of one pass, under the field's names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// Sequences.
    pub B: usize,
    /// Positions of each.
    pub T: usize,
    /// B·T.
    pub N: usize,
    pub C: usize,
    pub NH: usize,
    pub HS: usize,
    /// What the head tells apart: tokens, or a classifier's labels.
    pub V: usize,
    /// V padded: the head's rows.
    pub Vp: usize,
    /// What layer norms add to the variance.
    pub eps: f32,
    /// The rank of adapters; 0 where there are none.
    pub R: usize,
}

impl Shape {
    /// The dimensions of B sequences of T tokens.
    ///
    /// # Errors
    /// [`Error::Config`] when the model cannot take them.
    pub fn new(config: &Config, B: usize, T: usize) -> Result<Shape> {
        config.validate()?;
        if B == 0 || T == 0 {
            let message = format!("a batch needs at least one sequence of one token, got B = {B}, T = {T}");
            return Err(Error::Config(message));
        }
        if T > config.context {
            return Err(Error::Config(format!(
                "sequences of {T} tokens are longer than the model's context of {}",
                config.context
            )));
        }
        Ok(Shape {
            B,
            T,
            N: size(&[B, T])?,
            C: config.n_embd,
            NH: config.n_head,
            HS: config.head_size(),
            V: config.outputs(),
            Vp: config.padded_outputs(),
            eps: config.layernorm_eps,
            R: 0,
        })
    }

    /// The same with adapters of rank R.
    pub fn with_rank(self, R: usize) -> Shape {
        Shape { R, ..self }
    }
}
