//! Generation: one token at a time, over a cache of keys and values.

use wikigpt_ops::{Act, Ops, Slot, Stat, Tok};

use crate::activations::{Activations, Purpose, lay_out};
use crate::arena::size;
use crate::attention::attention;
use crate::batch::Text;
use crate::block::Attend;
use crate::drawing::{Drawing, Pass};
use crate::layout::check_len;
use crate::model::{self, Regularize};
use crate::shape::Shape;
use crate::tensors::Tensors;
use crate::{Config, Error, Layout, Result, Sampler};

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

/// Writes on: several sequences, each in a slot of its own, a token each a step.
///
/// A slot is filled by a prompt and goes on when a step names it, whatever the others do: sequences of all lengths share a step,
/// and any of them may join or leave between two. Nothing is allocated for that.
///
/// Keys and values of past positions are kept, so that a step computes one position. When they fill the model's context
/// the older half is forgotten and the newer half computed anew at the context's first positions: a text may grow without
/// end, and the model always sees at least half a context of it.
///
/// Tokens are drawn on the backend ([`draw`](Generator::draw)), which keeps the logits to itself unless somebody asks for
/// them ([`logits`](Generator::logits)).
pub struct Generator<'a, O: Ops> {
    backend: Backend<'a, O>,
    cache: Cache,
}

impl<O: Ops> Generator<'static, O> {
    /// A generator of so many slots that owns its backend and the model's weights; `params` in the order of [`Layout`].
    ///
    /// # Errors
    /// [`Error::Config`] when the shape is impossible or `params` are not as many as the model has; [`Error::Ops`] when there is
    /// no memory.
    pub fn new(mut ops: O, config: &Config, params: &[f32], slots: usize) -> Result<Generator<'static, O>> {
        let layout = Layout::new(config)?;
        check_len(params, layout.len)?;
        let slot = ops.alloc(layout.len)?;
        ops.upload(slot, params)?;
        let cache = Cache::new(&mut ops, config, Tensors::new(config, &layout, slot), 0, slots)?;
        Ok(Generator { backend: Backend::Owned(ops), cache })
    }
}

impl<'a, O: Ops> Generator<'a, O> {
    /// A generator on a backend that holds the parameters already, with adapters of rank R or 0.
    pub(crate) fn borrowing(
        ops: &'a mut O,
        config: &Config,
        w: Tensors,
        R: usize,
        slots: usize,
    ) -> Result<Generator<'a, O>> {
        let cache = Cache::new(ops, config, w, R, slots)?;
        Ok(Generator { backend: Backend::Lent(ops), cache })
    }

    /// How many slots there are.
    pub fn slots(&self) -> usize {
        self.cache.pos.len()
    }

    /// Begins a slot anew with a prompt, from one token to the model's context.
    ///
    /// # Errors
    /// [`Error::Config`] when there is no such slot, the prompt is empty or longer than the context, or a token is not in the
    /// vocabulary.
    pub fn prefill(&mut self, slot: usize, tokens: &[u32]) -> Result {
        self.cache.prefill(self.backend.get(), slot, tokens)
    }

    /// Goes on in a slot with several tokens at once: `prefill` of a prompt that comes in pieces, with the steps of other slots in
    /// between. The slot holds the same afterwards as if all had come together.
    ///
    /// # Errors
    /// [`Error::Config`], and nothing is changed, when there is no such slot, it was given no prompt, the tokens are none or more than
    /// the context has room for, or one is not in the vocabulary.
    pub fn extend(&mut self, slot: usize, tokens: &[u32]) -> Result {
        self.cache.extend(self.backend.get(), slot, tokens)
    }

    /// Goes on in some slots with a token each: `next` holds slots and their tokens.
    ///
    /// # Errors
    /// [`Error::Config`], and nothing is changed, when there is no such slot, one is named twice or was given no prompt, or a token
    /// is not in the vocabulary.
    pub fn step(&mut self, next: &[(usize, u32)]) -> Result {
        self.cache.step(self.backend.get(), next)
    }

    /// Makes slot `to` go on from what slot `from` holds.
    ///
    /// # Errors
    /// [`Error::Config`] when there is no such slot, or the first was given no prompt.
    pub fn fork(&mut self, from: usize, to: usize) -> Result {
        self.cache.fork(self.backend.get(), from, to)
    }

    /// Draws what comes after the last token given in a slot of the last prompt or step. To go on with it, it has to be given to
    /// [`step`](Generator::step). The tokens that the repetition penalty is about are those given in the slot since its prompt began.
    ///
    /// ```
    /// use wikigpt_gpt::{Config, Generator, Sampler, Sampling, init};
    /// use wikigpt_ops::reference::Reference;
    ///
    /// let config = Config { n_embd: 16, context: 8, ..Config::preset("tiny", 256)? };
    /// let mut generator = Generator::new(Reference::new(), &config, &init(&config, 42)?, 1)?;
    /// let mut sampler = Sampler::new(Sampling { temperature: 0.8, top_k: Some(50), ..Sampling::GREEDY })?;
    /// let mut text = b"A sparse".map(u32::from).to_vec();
    /// generator.prefill(0, &text)?;
    /// for _ in 0..4 {
    ///     let token = generator.draw(0, &mut sampler)?;
    ///     text.push(token);
    ///     generator.step(&[(0, token)])?;
    /// }
    /// # assert_eq!(text.len(), 12);
    /// # Ok::<(), wikigpt_gpt::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] when the last prompt or step was not the slot's, a logit is NaN or +∞, or none is finite; [`Error::Ops`] when
    /// the device fails.
    pub fn draw(&mut self, slot: usize, sampler: &mut Sampler) -> Result<u32> {
        let (ops, (drawing, pass, _)) = (self.backend.get(), self.cache.last());
        drawing.draw(ops, &pass, &mut [(slot, sampler)])?;
        drawing.token(ops, &pass, slot)
    }

    /// The same for several slots of the last step at once: a token for each, in their order, or why there is none.
    ///
    /// # Errors
    /// [`Error::Config`] when the last prompt or step was not one of the slots'; [`Error::Ops`] when the device fails.
    pub fn draw_each(&mut self, samplers: &mut [(usize, &mut Sampler)]) -> Result<Vec<Result<u32>>> {
        if samplers.is_empty() {
            return Ok(Vec::new());
        }
        let (ops, (drawing, pass, _)) = (self.backend.get(), self.cache.last());
        drawing.draw(ops, &pass, samplers)?;
        Ok(samplers.iter().map(|(slot, _)| drawing.token(ops, &pass, *slot)).collect())
    }

    /// The logits (V) of what comes after the last token given in a slot of the last prompt or step, copied from the device.
    ///
    /// # Errors
    /// [`Error::Config`] when the last prompt or step was not the slot's; [`Error::Ops`] when the device fails.
    pub fn logits(&mut self, slot: usize) -> Result<&[f32]> {
        let (ops, (_, pass, arriving)) = (self.backend.get(), self.cache.last());
        ops.download(arriving, pass.row(pass.row_of(slot)?))?;
        Ok(&arriving[..pass.V])
    }

    /// How much the last token given in a slot looks at each token that the model sees, itself included: the last layer's
    /// attention, averaged over its heads.
    ///
    /// # Errors
    /// [`Error::Config`] when there is no such slot, or the last prompt or step was not its own; [`Error::Ops`] when the device
    /// fails.
    pub fn attention(&mut self, slot: usize) -> Result<Vec<f32>> {
        self.cache.attention(self.backend.get(), slot)
    }

    /// How many tokens the model sees now in a slot.
    ///
    /// # Panics
    /// When there is no such slot.
    pub fn window(&self, slot: usize) -> usize {
        self.cache.pos[slot]
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

/// What a generator allocates, in elements.
pub struct Room {
    /// Keys, or values, of a layer: (slots,Tmax,C).
    rows: usize,
    /// Both of all layers.
    pub kv: usize,
    /// The largest pass.
    pub acts: usize,
    pub stats: usize,
    /// Its tokens; as many positions.
    most: usize,
    /// All numbers: those of passes, of slots and of drawing, what texts hold included.
    pub toks: usize,
    /// What is drawn by.
    pub knobs: usize,
    /// How a step of all slots lies there.
    a: Activations,
}

impl Room {
    /// For so many slots of a model with adapters of rank R, or 0.
    pub fn new(config: &Config, R: usize, slots: usize) -> Result<Room> {
        let (Tmax, L) = (config.context, config.n_layer);
        // The largest passes: a piece of a prompt, and a position of every slot.
        let shapes = [Shape::new(config, 1, PIECE.min(Tmax))?, Shape::new(config, slots, 1)?]
            .map(|shape| shape.with_rank(R));
        let [piece, step] = shapes.map(|shape| lay_out(shape, L, Purpose::Generate, 0, 0));
        let (piece, step) = (piece?, step?);
        let rows = size(&[slots, Tmax, config.n_embd])?;
        let most = shapes[0].N.max(shapes[1].N);
        let (drawing, knobs) = Drawing::room(slots, config.vocab_size)?;
        Ok(Room {
            rows,
            kv: size(&[L, 2, rows])?,
            acts: piece.act_len.max(step.act_len),
            stats: piece.stat_len.max(step.stat_len),
            most,
            toks: size(&[2, most + slots])?.saturating_add(drawing),
            knobs,
            a: step,
        })
    }
}

/// The state of a generation on a backend.
struct Cache {
    w: Tensors,
    /// Of one position of one sequence.
    shape: Shape,
    /// The model's context.
    Tmax: usize,
    /// Keys and values of each layer (slots,Tmax,C).
    layers: Vec<(Slot<Act>, Slot<Act>)>,
    /// Those of the pass at hand, in `acts` and `stats`.
    a: Activations,
    kv: Slot<Act>,
    acts: Slot<Act>,
    stats: Slot<Stat>,
    /// Of the pass at hand, and what positions they have; as many as there are in the largest pass.
    tokens: Slot<Tok>,
    positions: Slot<Tok>,
    /// Of the pass at hand: which slot each sequence has, and how many positions that holds.
    rows: Slot<Tok>,
    held: Slot<Tok>,
    /// The tokens that each slot's cache stands for (slots,Tmax).
    history: Vec<u32>,
    /// Positions of each slot in use.
    pos: Vec<usize>,
    /// The slots of the last pass, in its order.
    passed: Vec<usize>,
    drawing: Drawing,
    /// Tokens on their way to the device, and logits (Vp) on theirs from it.
    staging: Vec<u32>,
    arriving: Vec<f32>,
}

/// The number of the sequence of ops that a step of B slots is, but for B: apart from those of a
/// [`Trainer`](crate::Trainer).
const STEP: u32 = 1 << 16;

impl Cache {
    fn new<O: Ops>(ops: &mut O, config: &Config, w: Tensors, R: usize, slots: usize) -> Result<Cache> {
        if config.is_classifier() {
            return Err(Error::Config("the model classifies: it has no head that writes".into()));
        }
        let (Tmax, L) = (config.context, config.n_layer);
        let Room { rows, kv, acts, stats, most, a, .. } = Room::new(config, R, slots)?;
        let kv: Slot<Act> = ops.alloc(kv)?;
        let acts: Slot<Act> = ops.alloc(acts)?;
        let stats: Slot<Stat> = ops.alloc(stats)?;
        let half = |i: usize| kv.slice(i * rows..(i + 1) * rows);
        let shape = Shape::new(config, 1, 1)?.with_rank(R);
        Ok(Cache {
            w,
            shape,
            Tmax,
            layers: (0..L).map(|layer| (half(2 * layer), half(2 * layer + 1))).collect(),
            a,
            kv,
            acts,
            stats,
            tokens: ops.alloc(most)?,
            positions: ops.alloc(most)?,
            rows: ops.alloc(slots)?,
            held: ops.alloc(slots)?,
            history: vec![0; size(&[slots, Tmax])?],
            pos: vec![0; slots],
            passed: Vec::with_capacity(slots),
            staging: vec![0; most],
            drawing: Drawing::new(ops, slots, shape.V)?,
            arriving: vec![0.0; shape.Vp],
        })
    }

    fn free<O: Ops>(&mut self, ops: &mut O) {
        // They were allocated whole and are freed once: there is no way for this to fail, and no one to tell.
        for slot in [self.tokens, self.positions, self.rows, self.held] {
            let _ = ops.free(slot);
        }
        let _ = ops.free(self.kv).and(ops.free(self.acts)).and(ops.free(self.stats));
        self.drawing.free(ops);
    }

    /// Refuses a slot that is not there, and a token that is none.
    fn check(&self, slot: usize, tokens: &[u32]) -> Result {
        let (V, slots) = (self.shape.V, self.pos.len());
        if slot >= slots {
            return Err(Error::Config(format!(
                "there is no slot {slot}: there are {slots} (0 to {})",
                slots - 1
            )));
        }
        match tokens.iter().find(|token| **token as usize >= V) {
            None => Ok(()),
            Some(token) => {
                Err(Error::Config(format!("token {token} is not in the model's vocabulary of {V} tokens")))
            }
        }
    }

    /// Refuses a slot that was given no prompt.
    fn check_begun(&self, slot: usize) -> Result {
        if self.pos[slot] > 0 {
            return Ok(());
        }
        let message = format!("there is no prompt to go on from in slot {slot}: prefill comes first");
        Err(Error::Config(message))
    }

    fn prefill<O: Ops>(&mut self, ops: &mut O, slot: usize, tokens: &[u32]) -> Result {
        self.check(slot, tokens)?;
        self.read(ops, slot, 0, tokens)
    }

    fn extend<O: Ops>(&mut self, ops: &mut O, slot: usize, tokens: &[u32]) -> Result {
        self.check(slot, tokens)?;
        self.check_begun(slot)?;
        self.read(ops, slot, self.pos[slot], tokens)
    }

    /// Has a slot hold tokens from position `pos` on, and computes the logits of what comes after them.
    fn read<O: Ops>(&mut self, ops: &mut O, slot: usize, pos: usize, tokens: &[u32]) -> Result {
        if tokens.is_empty() {
            return Err(Error::Config("a prompt needs at least one token".into()));
        }
        let (end, Tmax) = (pos + tokens.len(), self.Tmax);
        if end > Tmax {
            return Err(Error::Config(format!(
                "a prompt of {end} tokens is longer than the model's context of {Tmax}"
            )));
        }
        self.history[slot * Tmax + pos..][..tokens.len()].copy_from_slice(tokens);
        self.pos[slot] = pos;
        self.passed.clear();
        self.compute(ops, slot, end)?;
        model::last_logits_forward(ops, self.pass_of(tokens.len()), &self.w, &self.a)?;
        ops.upload(self.rows.slice(0..1), &[slot as u32])?;
        match pos {
            0 => self.drawing.begin(slot, tokens),
            _ => self.drawing.extend(slot, tokens),
        }
        self.passed.push(slot);
        Ok(())
    }

    /// What draws, the logits of the last pass, and where those of a sequence may be put.
    fn last(&mut self) -> (&mut Drawing, Pass<'_>, &mut [f32]) {
        let Cache { drawing, a, passed, rows, shape, arriving, .. } = self;
        let rows = rows.slice(0..passed.len());
        (drawing, Pass { logits: a.logits, slots: passed, rows, V: shape.V }, arriving)
    }

    /// The last pass in which so many positions of a slot are computed.
    fn pass_of(&self, len: usize) -> Shape {
        let T = (len - 1) % PIECE + 1;
        Shape { T, N: T, ..self.shape }
    }

    /// Computes the positions of one slot from those it holds to `end` of its history.
    fn compute<O: Ops>(&mut self, ops: &mut O, slot: usize, end: usize) -> Result {
        let (Tmax, C) = (self.Tmax, self.shape.C);
        while self.pos[slot] < end {
            let pos = self.pos[slot];
            let T = (end - pos).min(PIECE);
            let shape = Shape { T, N: T, ..self.shape };
            self.a.lay_out_again(shape, self.acts.allocation, self.stats.allocation)?;
            let (tokens, positions, held) =
                (self.tokens.slice(0..T), self.positions.slice(0..T), self.held.slice(0..1));
            ops.upload(tokens, &self.history[slot * Tmax + pos..][..T])?;
            (pos as u32..).zip(&mut self.staging[..T]).for_each(|(position, staged)| *staged = position);
            ops.upload(positions, &self.staging[..T])?;
            ops.upload(held, &[pos as u32])?;
            let text = Text { tokens, starts: None, positions: Some(positions) };
            // A cache of one sequence.
            let part = |whole: Slot<Act>| whole.slice(slot * Tmax * C..(slot + 1) * Tmax * C);
            let attend = |layer: usize| {
                let (keys, values) = self.layers[layer];
                Attend::Cache { keys: part(keys), values: part(values), pos: held, rows: None, Tmax }
            };
            model::forward_attending(ops, shape, &self.w, &self.a, text, Regularize::NONE, attend)?;
            self.pos[slot] += T;
        }
        Ok(())
    }

    fn step<O: Ops>(&mut self, ops: &mut O, next: &[(usize, u32)]) -> Result {
        for (i, (slot, token)) in next.iter().enumerate() {
            self.check(*slot, &[*token])?;
            self.check_begun(*slot)?;
            if next[..i].iter().any(|(before, _)| before == slot) {
                return Err(Error::Config(format!("slot {slot} is named twice in a step")));
            }
        }
        if next.is_empty() {
            return Ok(());
        }
        let Tmax = self.Tmax;
        self.passed.clear();
        for (slot, token) in next {
            if self.pos[*slot] == Tmax {
                // The newer half, less one for the token that comes.
                let kept = (Tmax / 2).saturating_sub(1);
                self.history[slot * Tmax..][..Tmax].copy_within(Tmax - kept.., 0);
                self.pos[*slot] = 0;
                self.compute(ops, *slot, kept)?;
            }
            self.history[slot * Tmax + self.pos[*slot]] = *token;
        }

        let B = next.len();
        let shape = Shape { B, N: B, ..self.shape };
        self.a.lay_out_again(shape, self.acts.allocation, self.stats.allocation)?;
        let [tokens, positions, rows] = [self.tokens, self.positions, self.rows].map(|slot| slot.slice(0..B));
        let mut send = |to: Slot<Tok>, of: &dyn Fn(usize, u32) -> u32| -> Result {
            next.iter()
                .zip(&mut self.staging)
                .for_each(|((slot, token), staged)| *staged = of(*slot, *token));
            Ok(ops.upload(to, &self.staging[..B])?)
        };
        send(tokens, &|_, token| token)?;
        // What a sequence holds is the position of the one that comes.
        send(positions, &|slot, _| self.pos[slot] as u32)?;
        send(rows, &|slot, _| slot as u32)?;
        let text = Text { tokens, starts: None, positions: Some(positions) };
        let attend = |layer: usize| {
            let (keys, values) = self.layers[layer];
            Attend::Cache { keys, values, pos: positions, rows: Some(rows), Tmax }
        };
        ops.record(STEP + B as u32)?;
        model::forward_attending(ops, shape, &self.w, &self.a, text, Regularize::NONE, attend)?;
        model::last_logits_forward(ops, shape, &self.w, &self.a)?;
        ops.submit()?;
        for (slot, token) in next {
            self.pos[*slot] += 1;
            self.drawing.go_on(*slot, *token);
            self.passed.push(*slot);
        }
        Ok(())
    }

    fn attention<O: Ops>(&mut self, ops: &mut O, slot: usize) -> Result<Vec<f32>> {
        self.check(slot, &[])?;
        let (Tmax, Shape { C, HS, .. }) = (self.Tmax, self.shape);
        let row = self.last().1.row_of(slot)?;
        let Some(((keys, _), block)) = self.layers.last().zip(self.a.blocks.last()) else {
            return Err(Error::Config("the model has no layer that looks at anything".into()));
        };
        // All blocks share one block's memory, which nothing after the last attention writes to: (B,T,3C).
        let T = block.qkv.len / (self.passed.len() * 3 * C);
        let at = ((row + 1) * T - 1) * 3 * C;
        let (mut query, mut held) = (vec![0.0; C], vec![0.0; self.pos[slot] * C]);
        ops.download(&mut query, block.qkv.slice(at..at + C))?;
        ops.download(&mut held, keys.slice(slot * Tmax * C..(slot * Tmax + self.pos[slot]) * C))?;
        Ok(attention(&query, &held, HS))
    }

    fn fork<O: Ops>(&mut self, ops: &mut O, from: usize, to: usize) -> Result {
        self.check(from, &[])?;
        self.check(to, &[])?;
        self.check_begun(from)?;
        if from == to {
            return Ok(());
        }
        let (Tmax, C) = (self.Tmax, self.shape.C);
        let pos = self.pos[from];
        for (keys, values) in &self.layers {
            for cache in [keys, values] {
                let held = |slot: usize| cache.slice(slot * Tmax * C..(slot * Tmax + pos) * C);
                ops.copy(held(to), held(from))?;
            }
        }
        self.history.copy_within(from * Tmax..from * Tmax + pos, to * Tmax);
        self.drawing.fork(from, to);
        self.pos[to] = pos;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use wikigpt_ops::reference::Reference;

    use super::*;
    use crate::network::Network;
    use crate::{Batch, init};

    /// What is told of the attention is what a pass over the whole text gathers by: with one head, att = Σ p·v.
    #[test]
    fn attention_is_that_of_the_last_token() {
        let config = Config { n_head: 1, n_embd: 12, context: 16, ..Config::preset("tiny", 256).unwrap() };
        let mut params = init(&config, 3).unwrap();
        // Far from the even attention of small initial weights.
        params.iter_mut().for_each(|param| *param *= 4.0);
        let mut generator = Generator::new(Reference::new(), &config, &params, 3).unwrap();
        let (C, Tmax) = (config.n_embd, config.context);
        let mut largest = 0.0_f32;
        let mut check = |generator: &mut Generator<Reference>, slot: usize| {
            let weights = generator.attention(slot).unwrap();
            let T = generator.window(slot);
            assert_eq!(weights.len(), T);
            let (cache, ops) = (&generator.cache, generator.backend.get());
            let mut values = vec![0.0; T * C];
            let held = cache.layers[config.n_layer - 1].1;
            ops.download(&mut values, held.slice(slot * Tmax * C..(slot * Tmax + T) * C)).unwrap();

            let mut ops = Reference::new();
            let mut net = Network::new(&mut ops, &config, 1, T, Purpose::Train, 0).unwrap();
            net.set_params(&mut ops, &params).unwrap();
            let text = &cache.history[slot * Tmax..][..T];
            net.forward(&mut ops, Batch::new(text, text)).unwrap();
            let mut att = vec![0.0; T * C];
            ops.download(&mut att, net.a.blocks[config.n_layer - 1].att).unwrap();
            for (c, att) in att[(T - 1) * C..].iter().enumerate() {
                let gathered: f32 = weights.iter().zip(values.chunks_exact(C)).map(|(p, v)| p * v[c]).sum();
                assert!((gathered - att).abs() < 1e-4 * (1.0 + att.abs()), "{gathered} instead of {att}");
            }
            largest = weights.iter().fold(largest, |largest, weight| largest.max(weight * T as f32));
        };
        generator.prefill(2, &[7, 80, 91, 200, 4]).unwrap();
        check(&mut generator, 2);
        generator.prefill(0, &[9, 8, 7]).unwrap();
        assert!(generator.attention(2).is_err() && generator.attention(3).is_err());
        generator.step(&[(2, 12), (0, 13)]).unwrap();
        check(&mut generator, 2);
        check(&mut generator, 0);
        assert!(generator.attention(1).is_err());
        // The older half forgotten.
        for token in 0..14 {
            generator.step(&[(0, token), (2, token + 1)]).unwrap();
        }
        check(&mut generator, 0);
        assert!(largest > 1.5, "too even to tell anything: {largest} times the mean");
    }
}
