//! Generation: one token at a time, over a cache of keys and values.

use wikigpt_ops::{Act, Ops, Slot, Stat, Tok};

use crate::activations::{Activations, Purpose, lay_out};
use crate::arena::size;
use crate::batch::Text;
use crate::block::Attend;
use crate::model::{self, Regularize};
use crate::shape::Shape;
use crate::tensors::Tensors;
use crate::{Config, Error, Layout, Result};

/// Positions of a prompt that go through the model at once.
const PIECE: usize = 128;

/// A backend, owned or lent.
enum Backend<'a, O> {
    Owned(O),
    Lent(&'a mut O),
}

impl<O> Backend<'_, O> {
    fn get(&mut self) -> &mut O {
        match self {
            Backend::Owned(ops) => ops,
            Backend::Lent(ops) => ops,
        }
    }
}

/// Writes on: B sequences of one length, a token each a step.
///
/// Keys and values of past positions are kept, so that a step computes one position. When they fill the model's context
/// the older half is forgotten and the newer half computed anew at the context's first positions: a text may grow without
/// end, and the model always sees at least half a context of it.
pub struct Generator<'a, O: Ops> {
    backend: Backend<'a, O>,
    cache: Cache,
}

impl<O: Ops> Generator<'static, O> {
    /// A generator that owns its backend and the model's weights; `params` in the order of [`Layout`].
    ///
    /// # Errors
    /// [`Error::Config`] when the shape is impossible or `params` are not as many as the model has; [`Error::Ops`] when there is
    /// no memory.
    pub fn new(mut ops: O, config: &Config, params: &[f32], B: usize) -> Result<Generator<'static, O>> {
        let layout = Layout::new(config)?;
        if params.len() != layout.len {
            let message = format!(
                "the parameters must hold {} values, in the order of the model's layout, got {}",
                layout.len,
                params.len()
            );
            return Err(Error::Config(message));
        }
        let slot = ops.alloc(layout.len)?;
        ops.upload(slot, params)?;
        let cache = Cache::new(&mut ops, config, slot, B)?;
        Ok(Generator { backend: Backend::Owned(ops), cache })
    }
}

impl<'a, O: Ops> Generator<'a, O> {
    /// A generator on a backend that holds the parameters already.
    pub(crate) fn borrowing(
        ops: &'a mut O,
        config: &Config,
        params: Slot<Act>,
        B: usize,
    ) -> Result<Generator<'a, O>> {
        let cache = Cache::new(ops, config, params, B)?;
        Ok(Generator { backend: Backend::Lent(ops), cache })
    }

    /// Begins anew with prompts (B,T) of one length T, from one token to the model's context.
    ///
    /// # Errors
    /// [`Error::Config`] when the prompts are empty, of different lengths or longer than the context, or a token is not in
    /// the vocabulary.
    pub fn prefill(&mut self, tokens: &[u32]) -> Result {
        self.cache.prefill(self.backend.get(), tokens)
    }

    /// Goes on with one token of each sequence (B).
    ///
    /// # Errors
    /// [`Error::Config`] when there are not B tokens, one is not in the vocabulary, or there was no prompt.
    pub fn step(&mut self, tokens: &[u32]) -> Result {
        self.cache.step(self.backend.get(), tokens)
    }

    /// The logits (B,V) of what comes after the last tokens given; 0 before the first.
    pub fn logits(&self) -> &[f32] {
        &self.cache.logits
    }

    /// How many tokens of each sequence the model sees now.
    pub fn window(&self) -> usize {
        self.cache.pos
    }
}

impl<O: Ops> Drop for Generator<'_, O> {
    fn drop(&mut self) {
        // An owned backend goes with all its memory.
        if let Backend::Lent(ops) = &mut self.backend {
            self.cache.free(&mut **ops);
        }
    }
}

/// The state of a generation on a backend.
struct Cache {
    config: Config,
    w: Tensors,
    /// The model's context.
    Tmax: usize,
    /// Keys and values of each layer (B,Tmax,C).
    layers: Vec<(Slot<Act>, Slot<Act>)>,
    /// Passes of one position.
    one: (Shape, Activations),
    /// Passes of [`PIECE`] positions.
    piece: (Shape, Activations),
    tokens: Slot<Tok>,
    positions: Slot<Tok>,
    whole: (Slot<Act>, Slot<Act>, Slot<Stat>),
    /// The tokens that the cache stands for (B,Tmax).
    history: Vec<u32>,
    /// Positions of the cache in use.
    pos: usize,
    /// A piece's tokens (B,Tn).
    staging: Vec<u32>,
    /// (B,V).
    logits: Vec<f32>,
}

impl Cache {
    fn new<O: Ops>(ops: &mut O, config: &Config, params: Slot<Act>, B: usize) -> Result<Cache> {
        if config.is_classifier() {
            return Err(Error::Config("the model classifies: it has no head that writes".into()));
        }
        let layout = Layout::new(config)?;
        let Tmax = config.context;
        let L = config.n_layer;
        let (one, piece) = (Shape::new(config, B, 1)?, Shape::new(config, B, PIECE.min(Tmax))?);
        let planned = lay_out(piece, L, Purpose::Generate, 0, 0)?;
        let rows = size(&[B, Tmax, config.n_embd])?;
        let kv: Slot<Act> = ops.alloc(size(&[L, 2, rows])?)?;
        let acts: Slot<Act> = ops.alloc(planned.act_len)?;
        let stats: Slot<Stat> = ops.alloc(planned.stat_len)?;
        let pass = |shape: Shape| -> Result<(Shape, Activations)> {
            Ok((shape, lay_out(shape, L, Purpose::Generate, acts.allocation, stats.allocation)?))
        };
        let half = |i: usize| kv.slice(i * rows..(i + 1) * rows);
        Ok(Cache {
            w: Tensors::new(config, &layout, params),
            Tmax,
            layers: (0..L).map(|layer| (half(2 * layer), half(2 * layer + 1))).collect(),
            one: pass(one)?,
            piece: pass(piece)?,
            tokens: ops.alloc(piece.N)?,
            positions: ops.alloc(piece.N)?,
            whole: (kv, acts, stats),
            history: vec![0; size(&[B, Tmax])?],
            pos: 0,
            staging: vec![0; piece.N],
            logits: vec![0.0; size(&[B, config.vocab_size])?],
            config: config.clone(),
        })
    }

    fn free<O: Ops>(&mut self, ops: &mut O) {
        let (kv, acts, stats) = self.whole;
        // They were allocated whole and are freed once: there is no way for this to fail, and no one to tell.
        let _ = ops
            .free(kv)
            .and(ops.free(acts))
            .and(ops.free(stats))
            .and(ops.free(self.tokens))
            .and(ops.free(self.positions));
    }

    fn check(&self, tokens: &[u32]) -> Result {
        let V = self.config.vocab_size;
        match tokens.iter().find(|token| **token as usize >= V) {
            None => Ok(()),
            Some(token) => {
                Err(Error::Config(format!("token {token} is not in the model's vocabulary of {V} tokens")))
            }
        }
    }

    fn prefill<O: Ops>(&mut self, ops: &mut O, tokens: &[u32]) -> Result {
        let B = self.one.0.B;
        let T = tokens.len() / B;
        if T == 0 || T * B != tokens.len() {
            let message = format!("{} tokens are not {B} prompts of one length", tokens.len());
            return Err(Error::Config(message));
        }
        if T > self.Tmax {
            let message =
                format!("a prompt of {T} tokens is longer than the model's context of {}", self.Tmax);
            return Err(Error::Config(message));
        }
        self.check(tokens)?;
        for (row, history) in tokens.chunks_exact(T).zip(self.history.chunks_exact_mut(self.Tmax)) {
            history[..T].copy_from_slice(row);
        }
        self.pos = 0;
        self.compute(ops, T)
    }

    fn step<O: Ops>(&mut self, ops: &mut O, tokens: &[u32]) -> Result {
        let B = self.one.0.B;
        if tokens.len() != B {
            return Err(Error::Config(format!(
                "a step takes one token for each of {B} sequences, got {}",
                tokens.len()
            )));
        }
        if self.pos == 0 {
            return Err(Error::Config("there is no prompt to go on from: prefill comes first".into()));
        }
        self.check(tokens)?;
        let mut end = self.pos;
        if end == self.Tmax {
            // The newer half, less one for the token that comes.
            end = (self.Tmax / 2).saturating_sub(1);
            for history in self.history.chunks_exact_mut(self.Tmax) {
                history.copy_within(self.Tmax - end.., 0);
            }
            self.pos = 0;
        }
        for (token, history) in tokens.iter().zip(self.history.chunks_exact_mut(self.Tmax)) {
            history[end] = *token;
        }
        self.compute(ops, end + 1)
    }

    /// Computes the positions from `pos` to `end` of the history, and the logits of the last.
    fn compute<O: Ops>(&mut self, ops: &mut O, end: usize) -> Result {
        while self.pos < end {
            let Tn = (end - self.pos).min(self.piece.0.T);
            let shape = Shape { T: Tn, N: self.one.0.B * Tn, ..self.one.0 };
            let odd;
            let (shape, a) = if shape == self.one.0 {
                (shape, &self.one.1)
            } else if shape == self.piece.0 {
                (shape, &self.piece.1)
            } else {
                let (_, acts, stats) = self.whole;
                odd = lay_out(
                    shape,
                    self.config.n_layer,
                    Purpose::Generate,
                    acts.allocation,
                    stats.allocation,
                )?;
                (shape, &odd)
            };
            let (pos, Tmax) = (self.pos, self.Tmax);
            for (row, history) in self.staging.chunks_exact_mut(Tn).zip(self.history.chunks_exact(Tmax)) {
                row.copy_from_slice(&history[pos..pos + Tn]);
            }
            let tokens = self.tokens.slice(0..shape.N);
            ops.upload(tokens, &self.staging[..shape.N])?;
            for (n, position) in self.staging[..shape.N].iter_mut().enumerate() {
                *position = (pos + n % Tn) as u32;
            }
            let positions = self.positions.slice(0..shape.N);
            ops.upload(positions, &self.staging[..shape.N])?;
            let text = Text { tokens, starts: None, positions: Some(positions) };
            let attend = |layer: usize| {
                let (keys, values) = self.layers[layer];
                Attend::Cache { keys, values, pos, Tmax }
            };
            model::forward_attending(ops, shape, &self.w, a, text, Regularize::NONE, attend)?;
            self.pos += Tn;
            if self.pos == end {
                let last = model::last_logits_forward(ops, shape, &self.w, a);
                last?;
                let Shape { V, Vp, .. } = shape;
                for (b, row) in self.logits.chunks_exact_mut(V).enumerate() {
                    ops.download(row, a.logits.slice(b * Vp..b * Vp + V))?;
                }
            }
        }
        Ok(())
    }
}
