//! Training: gradients of micro-batches, gathered, and the optimizer's step.

use wikigpt_ops::{Act, AdamW, Grad, Kind, Ops, Rounding, Slot, Stat, Ticket, Update, stochastic_bits};

use crate::activations::Purpose;
use crate::generator::Generator;
use crate::layout::check_len;
use crate::lora::{AdapterLayout, Lora};
use crate::model::{self, Regularize};
use crate::network::{Network, mean};
use crate::shape::Shape;
use crate::tensors::Tensors;
use crate::{Array, Batch, Config, Error, Layout, Result, Tensor};

/// Gradients hold this NaN until something is written there, so that a parameter the backward forgets is found. Its
/// upper half is what a bf16 backend keeps of it, and no arithmetic makes it.
const UNTOUCHED: u32 = 0x7fe5_0000;

/// Elements uploaded or looked at in one piece.
const PIECE: usize = 1 << 16;

/// Micro-batches whose losses wait on the device to be read together.
const WAITING: usize = 256;

/// What one optimizer step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// The mean loss in nats over the targets of all micro-batches, weighted by their weights, before the update; 0 where no target
    /// counts.
    pub loss: f64,
    /// The global norm of the gradient, before clipping.
    pub grad_norm: f64,
    /// Whether the norm was not finite, and so nothing was changed.
    pub skipped: bool,
}

/// A model in training: parameters, gradients and moments, three arrays in the order of [`Layout`], and the activations
/// of one micro-batch. Nothing is allocated after construction, but for [`generator`](Trainer::generator) and what is
/// returned in a `Vec`.
///
/// A trainer of [adapters](Trainer::with_adapters) has those of the adapters instead, in the order of [`AdapterLayout`], and a model
/// beside them that stays as it is.
///
/// A step is one [`accumulate`](Trainer::accumulate) for each micro-batch, the first with [`Update::Set`], then one
/// [`step`](Trainer::step). Who has a device that works on its own puts [`update`](Trainer::update) in its place and asks for the
/// [`report`](Trainer::report) later, when the next step's gradients are on their way: then the device never waits for the host.
pub struct Trainer<O: Ops> {
    ops: O,
    net: Network,
    /// The tensors that are trained, in the order of the arrays, and by what the learning rate of each is multiplied.
    tensors: Vec<(Tensor, f32)>,
    /// The parameters that are trained: the model's, or those of adapters.
    params: Slot<Act>,
    /// The same in f32, where the backend's precision is less: what the optimizer updates.
    master: Option<Slot<Stat>>,
    grads: Slot<Grad>,
    dw: Tensors<Grad>,
    m: Slot<Stat>,
    v: Slot<Stat>,
    /// The global gradient norm: (1).
    norm: Slot<Stat>,
    /// The losses of micro-batches, summed: (WAITING). It follows `norm` in one allocation.
    sums: Slot<Stat>,
    /// Both.
    outcome: Slot<Stat>,
    /// How many of `sums` are waiting.
    waiting: usize,
    /// The sum of losses read so far in this step.
    loss: f64,
    /// By how much the losses of this step count.
    count: f64,
    /// Micro-batches in this step.
    micro_batches: usize,
    /// Whether every trained parameter is known to have received a gradient.
    complete: bool,
    /// The lowest blocks that are not trained, nor the embeddings.
    frozen: Option<usize>,
    /// Where the first trained parameter lies: those not trained come before.
    trained: usize,
    /// The shapes of micro-batches so far: each is a sequence of its own to the backend.
    shapes: Vec<(usize, usize)>,
    /// The step whose report has not been asked for.
    pending: Option<Pending>,
}

/// A step on its way.
struct Pending {
    /// The norm and the losses that were not read before.
    outcome: Ticket,
    /// Elements of the outcome.
    len: usize,
    /// The sum of losses read before.
    loss: f64,
    /// By how much the losses count.
    count: f64,
}

/// Numbers of the sequences that a step is made of.
mod sequence {
    use wikigpt_ops::Update;

    use crate::Batch;

    /// The optimizer.
    pub const UPDATE: u32 = 0;

    /// Kinds of micro-batches of one shape.
    pub const KINDS: u32 = 8;

    /// A micro-batch of the first shape; of each other shape the next [`KINDS`] numbers. Other kernels run where gradients are added,
    /// where rows hold several texts, and where weights are given.
    pub fn micro_batch(batch: &Batch, update: Update) -> u32 {
        let flags = [update == Update::Add, batch.starts.is_some(), batch.weights.is_some()];
        1 + flags.iter().fold(0, |number, flag| 2 * number + u32::from(*flag))
    }
}

impl<O: Ops> Trainer<O> {
    /// Allocates a model for micro-batches of B sequences of T tokens, the largest there will be; its parameters are 0.
    ///
    /// # Errors
    /// [`Error::Config`] when the shape is impossible, [`Error::Ops`] when there is no memory.
    pub fn new(mut ops: O, config: &Config, B: usize, T: usize) -> Result<Trainer<O>> {
        let net = Network::new(&mut ops, config, B, T, Purpose::Train, 0)?;
        let tensors = net.layout.tensors.iter().map(|tensor| (tensor.clone(), 1.0)).collect();
        let (params, grads) = (net.params, ops.alloc(net.layout.len)?);
        let dw = Tensors::new(config, &net.layout, grads);
        Trainer::of(ops, net, tensors, params, grads, dw)
    }

    /// Allocates adapters for a model with these parameters, which stay as they are. They are drawn from a seed, and change nothing yet.
    ///
    /// ```
    /// use wikigpt_gpt::{Config, Lora, Trainer, init};
    /// use wikigpt_ops::reference::Reference;
    ///
    /// let config = Config { n_embd: 16, context: 8, ..Config::preset("tiny", 256)? };
    /// let params = init(&config, 42)?;
    /// let trainer = Trainer::with_adapters(Reference::new(), &config, &params, &Lora::new(4), 1, 1, 8)?;
    /// # assert!(trainer.adapters().is_some());
    /// # Ok::<(), wikigpt_gpt::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`new`](Trainer::new), and [`Error::Config`] when the parameters are not as many as the model has or it can have no such
    /// adapters.
    pub fn with_adapters(
        mut ops: O,
        config: &Config,
        params: &[f32],
        lora: &Lora,
        seed: u64,
        B: usize,
        T: usize,
    ) -> Result<Trainer<O>> {
        let layout = AdapterLayout::new(config, lora)?;
        let first = layout.init(config, params, seed)?;
        // b holds α/R times what the paper's B does, and is moved by as much more.
        let scale = |tensor: &Tensor| {
            if tensor.name.ends_with("lora_B.weight") { lora.scale() as f32 } else { 1.0 }
        };
        let tensors = layout.tensors.iter().map(|tensor| (tensor.clone(), scale(tensor))).collect();
        let len = layout.len;
        let all: Slot<Grad> = ops.alloc(len + 2 * config.n_embd)?;
        let (grads, spare) = (all.slice(0..len), all.slice(len..all.len));
        let dw = Tensors::frozen(config, spare).with_adapters(&layout, grads);
        let mut net = Network::new(&mut ops, config, B, T, Purpose::Train, lora.rank)?;
        net.set_params(&mut ops, params)?;
        let adapters = net.adapt(&mut ops, layout)?;
        let mut trainer = Trainer::of(ops, net, tensors, adapters, grads, dw)?;
        trainer.frozen = Some(lora.frozen);
        trainer.set_params(&first)?;
        Ok(trainer)
    }

    fn of(
        mut ops: O,
        net: Network,
        tensors: Vec<(Tensor, f32)>,
        params: Slot<Act>,
        grads: Slot<Grad>,
        dw: Tensors<Grad>,
    ) -> Result<Trainer<O>> {
        let Shape { B, T, .. } = net.shape;
        let len = params.len;
        let master = if ops.act_bytes() < size_of::<f32>() { Some(ops.alloc(len)?) } else { None };
        let untouched = vec![f32::from_bits(UNTOUCHED); PIECE];
        for (tensor, _) in &tensors {
            for start in tensor.range.clone().step_by(PIECE) {
                let end = tensor.range.end.min(start + PIECE);
                ops.upload(grads.slice(start..end), &untouched[..end - start])?;
            }
        }
        let outcome: Slot<Stat> = ops.alloc(1 + WAITING)?;
        // From now on there is a buffer for the copy that each step asks for.
        let copy = ops.fetch(outcome)?;
        ops.collect(&mut [0.0; 1 + WAITING], copy)?;
        Ok(Trainer {
            m: ops.alloc(len)?,
            v: ops.alloc(len)?,
            norm: outcome.slice(0..1),
            sums: outcome.slice(1..1 + WAITING),
            outcome,
            ops,
            net,
            tensors,
            params,
            master,
            grads,
            dw,
            waiting: 0,
            loss: 0.0,
            count: 0.0,
            micro_batches: 0,
            complete: false,
            frozen: None,
            trained: 0,
            shapes: vec![(B, T)],
            pending: None,
        })
    }

    /// From now on micro-batches are B sequences of T tokens, in the memory of those that the trainer was made for.
    ///
    /// # Errors
    /// [`Error::Config`] when there is not room enough, or the model cannot take them.
    pub fn reshape(&mut self, B: usize, T: usize) -> Result {
        self.net.reshape(B, T)?;
        if !self.shapes.contains(&(B, T)) {
            self.shapes.push((B, T));
        }
        Ok(())
    }

    /// From now on the embeddings and so many of the lowest blocks stay as they are, bit for bit; `None` trains everything. The
    /// head is frozen with the embeddings that it shares.
    ///
    /// # Errors
    /// [`Error::Config`] when the model has fewer blocks, or it is adapters that are trained.
    pub fn freeze(&mut self, frozen: Option<usize>) -> Result {
        if self.net.adapters.is_some() {
            return Err(Error::Config("which blocks have adapters is settled when they are made".into()));
        }
        let Layout { blocks, ln_f, .. } = &self.net.layout;
        if let Some(n) = frozen.filter(|n| *n > blocks.len()) {
            return Err(Error::Config(format!(
                "{n} blocks cannot be frozen: the model has {}",
                blocks.len()
            )));
        }
        let start = |n: usize| blocks.get(n).map_or(ln_f, |block| &block.ln_1).weight.start;
        self.trained = frozen.map_or(0, start);
        (self.frozen, self.complete) = (frozen, false);
        Ok(())
    }

    /// The model's shape.
    pub fn config(&self) -> &Config {
        &self.net.config
    }

    /// Where each of the model's parameters lies in its flat array.
    pub fn layout(&self) -> &Layout {
        &self.net.layout
    }

    /// Where those of adapters lie, if it is adapters that are trained.
    pub fn adapters(&self) -> Option<&AdapterLayout> {
        self.net.adapters.as_ref()
    }

    /// The backend.
    pub fn backend(&mut self) -> &mut O {
        &mut self.ops
    }

    /// The slot on the backend of the parameters that are trained.
    pub fn param_slot(&self) -> Slot<Act> {
        self.params
    }

    /// The gradients' slot on the backend.
    pub fn grad_slot(&self) -> Slot<Grad> {
        self.grads
    }

    /// The slot of the last pass's losses (B,T) on the backend.
    pub fn loss_slot(&self) -> Slot<Stat> {
        self.net.a.losses
    }

    /// Sets the parameters, in the order of [`Layout`]; of a trainer of adapters theirs.
    ///
    /// # Errors
    /// [`Error::Config`] when they are not as many as there are.
    pub fn set_params(&mut self, params: &[f32]) -> Result {
        check_len(params, self.params.len)?;
        self.ops.upload(self.params, params)?;
        Ok(self.master.map_or(Ok(()), |master| self.ops.upload(master, params))?)
    }

    /// The parameters that are trained, in the order of [`Layout`] or [`AdapterLayout`]: the master weights where there are such.
    ///
    /// # Errors
    /// [`Error::Ops`] when the device fails.
    pub fn params(&mut self) -> Result<Vec<f32>> {
        match self.master {
            Some(master) => self.download(master),
            None => self.download(self.params),
        }
    }

    /// Their gradients, in the same order.
    ///
    /// # Errors
    /// [`Error::Ops`] when the device fails.
    pub fn grads(&mut self) -> Result<Vec<f32>> {
        self.download(self.grads)
    }

    /// AdamW's first and second moments of them, in the same order.
    ///
    /// # Errors
    /// [`Error::Ops`] when the device fails.
    pub fn moments(&mut self) -> Result<[Vec<f32>; 2]> {
        Ok([self.download(self.m)?, self.download(self.v)?])
    }

    /// Reads a part of an array into `out`, from element `start` on: without a copy of the whole.
    ///
    /// # Errors
    /// [`Error::Ops`] when the device fails.
    ///
    /// # Panics
    /// When the array has no such part.
    pub fn read(&mut self, array: Array, start: usize, out: &mut [f32]) -> Result {
        let part = start..start + out.len();
        Ok(match (array, self.master) {
            (Array::Params, None) => self.ops.download(out, self.params.slice(part)),
            (Array::Params, Some(master)) => self.ops.download(out, master.slice(part)),
            (Array::M, _) => self.ops.download(out, self.m.slice(part)),
            (Array::V, _) => self.ops.download(out, self.v.slice(part)),
        }?)
    }

    /// Sets a part of an array, from element `start` on.
    ///
    /// # Errors
    /// [`Error::Ops`] when the device fails.
    ///
    /// # Panics
    /// When the array has no such part.
    pub fn write(&mut self, array: Array, start: usize, values: &[f32]) -> Result {
        let part = start..start + values.len();
        if let (Array::Params, Some(master)) = (array, self.master) {
            self.ops.upload(master.slice(part.clone()), values)?;
        }
        Ok(match array {
            Array::Params => self.ops.upload(self.params.slice(part), values),
            Array::M => self.ops.upload(self.m.slice(part), values),
            Array::V => self.ops.upload(self.v.slice(part), values),
        }?)
    }

    /// Rounds the master weights as update number `step` has rounded them: where rounding is stochastic, that is how training goes on
    /// from a checkpoint with the same bits. [`write`](Trainer::write) rounds to the nearest. Without master weights it does nothing.
    ///
    /// # Errors
    /// [`Error::Ops`] when the device fails.
    pub fn round_params(&mut self, rounding: Rounding, step: u64) -> Result {
        let (Some(master), Rounding::Stochastic { seed }) = (self.master, rounding) else { return Ok(()) };
        if step == 0 {
            return Ok(());
        }
        let mut piece = vec![0.0_f32; PIECE];
        for (tensor, _) in &self.tensors {
            let live = tensor.live();
            for start in live.clone().step_by(PIECE) {
                let end = live.end.min(start + PIECE);
                let piece = &mut piece[..end - start];
                self.ops.download(piece, master.slice(start..end))?;
                for (i, weight) in piece.iter_mut().enumerate() {
                    let bits = weight.to_bits().wrapping_add(stochastic_bits(seed, step, (start + i) as u64));
                    *weight = f32::from_bits(bits & 0xffff_0000);
                }
                self.ops.upload(self.params.slice(start..end), piece)?;
            }
        }
        Ok(())
    }

    /// The mean loss in nats over the targets of a batch (B,T) that are not [`IGNORE`](wikigpt_ops::IGNORE), weighted by its
    /// weights, without dropout; 0 where all are. Gradients stay as they are.
    ///
    /// # Errors
    /// [`Error::Config`] when a length is not B·T, a token is not in the vocabulary, or a start or weight is none.
    pub fn forward(&mut self, batch: Batch) -> Result<f64> {
        self.net.forward(&mut self.ops, batch)
    }

    /// The losses (B,T) of the last [`forward`](Trainer::forward) or [`accumulate`](Trainer::accumulate), each times its
    /// weight, 0 where the target is [`IGNORE`](wikigpt_ops::IGNORE).
    ///
    /// # Errors
    /// [`Error::Ops`] when the device fails.
    pub fn losses(&mut self) -> Result<&[f32]> {
        self.net.losses(&mut self.ops)
    }

    /// The logits (B,T,V) of `inputs` (B,T), texts that begin at `starts` as in a [`Batch`], without dropout.
    ///
    /// # Errors
    /// Those of [`forward`](Trainer::forward).
    pub fn logits(&mut self, inputs: &[u32], starts: Option<&[u32]>) -> Result<Vec<f32>> {
        self.net.logits(&mut self.ops, inputs, starts)
    }

    /// The logits (positions,V) of `inputs` (B,T) at some positions b·T + t, without dropout.
    ///
    /// # Errors
    /// Those of [`forward`](Trainer::forward).
    ///
    /// # Panics
    /// When a position is not in the batch.
    pub fn logits_at(&mut self, inputs: &[u32], positions: &[usize]) -> Result<Vec<f32>> {
        self.net.logits_at(&mut self.ops, inputs, None, positions.iter().copied())
    }

    /// Forward and backward of one micro-batch (B,T): the gradient of scale·Σ losses is set or added. With `scale` = 1/(the
    /// [count](Batch::count) of the whole step) the step's gradient is that of the mean loss.
    ///
    /// # Errors
    /// [`Error::Config`] when a length is not B·T, a token is not in the vocabulary, a start or weight is none, or `scale` is not
    /// finite; [`Error::Ops`] when the dropout is not in [0, 1).
    pub fn accumulate(&mut self, batch: Batch, scale: f32, regularize: Regularize, update: Update) -> Result {
        if !scale.is_finite() {
            return Err(Error::Config(format!("the loss cannot be scaled by {scale}")));
        }
        if self.waiting == WAITING {
            self.read_losses()?;
        }
        if update == Update::Set {
            (self.waiting, self.loss, self.count, self.micro_batches) = (0, 0.0, 0.0, 0);
        }
        let (ops, net) = (&mut self.ops, &mut self.net);
        let (text, targets) = net.set_batch(ops, batch)?;
        let (shape, w, a) = (net.shape, &net.w, &net.a);
        let known = self.shapes.iter().position(|known| *known == (shape.B, shape.T)).unwrap_or(0);
        ops.record(sequence::micro_batch(&batch, update) + sequence::KINDS * known as u32)?;
        model::forward(ops, shape, w, a, text, regularize)?;
        model::losses_forward_backward(ops, shape, w, a, targets, scale)?;
        model::backward(ops, shape, w, &self.dw, a, text, regularize, update, self.frozen)?;
        ops.sum(self.sums.slice(self.waiting..self.waiting + 1), a.losses)?;
        ops.submit()?;
        self.waiting += 1;
        self.count += batch.count();
        self.micro_batches += 1;
        Ok(())
    }

    /// One AdamW update from the gathered gradients; weight decay applies to tensors of two or more dimensions.
    /// `adamw.step` is the update's number, from 1. A gradient whose norm is not finite changes nothing.
    ///
    /// # Errors
    /// [`Error::Config`] when nothing was accumulated since the last step, or `adamw.step` is 0;
    /// [`Error::NoGradient`] when a parameter has received none, checked at the first step.
    pub fn step(&mut self, adamw: AdamW) -> Result<StepReport> {
        self.update(adamw)?;
        match self.report()? {
            Some(report) => Ok(report),
            None => Err(Error::Config("the step's report has been asked for already".into())),
        }
    }

    /// The same without waiting for what comes of it. The report of the update before must have been asked for.
    ///
    /// # Errors
    /// Those of [`step`](Trainer::step).
    pub fn update(&mut self, adamw: AdamW) -> Result {
        if self.pending.is_some() {
            return Err(Error::Config("the report of the update before has not been asked for".into()));
        }
        if self.micro_batches == 0 {
            return Err(Error::Config("there is no gradient to step along: accumulate comes first".into()));
        }
        if adamw.step == 0 {
            return Err(Error::Config("updates are numbered from 1".into()));
        }
        if !self.complete {
            self.ops.global_norm(self.norm, self.trained_grads())?;
            self.check_complete()?;
        }
        self.ops.record(sequence::UPDATE)?;
        self.ops.global_norm(self.norm, self.trained_grads())?;
        for (tensor, scale) in self.tensors.iter().filter(|(tensor, _)| tensor.range.start >= self.trained) {
            let live = tensor.live();
            let at = |slot: Slot<Stat>| slot.slice(live.clone());
            let lr = adamw.lr * scale;
            // What decays by itself does so at the rate of all.
            let weight_decay = if tensor.decays() { adamw.weight_decay / scale } else { 0.0 };
            self.ops.adamw(
                self.params.slice(live.clone()),
                self.master.map(at),
                at(self.m),
                at(self.v),
                self.grads.slice(live.clone()),
                self.norm,
                AdamW { lr, weight_decay, ..adamw },
            )?;
        }
        self.ops.submit()?;
        let len = 1 + self.waiting;
        let outcome = self.ops.fetch(self.outcome.slice(0..len))?;
        self.pending = Some(Pending { outcome, len, loss: self.loss, count: self.count });
        (self.waiting, self.loss, self.count, self.micro_batches) = (0, 0.0, 0.0, 0);
        Ok(())
    }

    /// Whether [`report`](Trainer::report) would not have to wait.
    ///
    /// # Errors
    /// [`Error::Ops`] when the device fails.
    pub fn report_is_there(&mut self) -> Result<bool> {
        Ok(match &self.pending {
            Some(pending) => self.ops.fetched(&pending.outcome)?,
            None => true,
        })
    }

    /// What the last [`update`](Trainer::update) did, once; none if it has been told.
    ///
    /// # Errors
    /// [`Error::Ops`] when the device fails.
    pub fn report(&mut self) -> Result<Option<StepReport>> {
        let Some(Pending { outcome, len, loss, count }) = self.pending.take() else { return Ok(None) };
        let mut read = [0.0; 1 + WAITING];
        let read = &mut read[..len];
        self.ops.collect(read, outcome)?;
        let grad_norm = f64::from(read[0]);
        let loss = loss + read[1..].iter().map(|sum| f64::from(*sum)).sum::<f64>();
        Ok(Some(StepReport { loss: mean(loss, count), grad_norm, skipped: !grad_norm.is_finite() }))
    }

    /// A generator of so many slots from the parameters as they are; its own memory is given back when it is dropped.
    ///
    /// # Errors
    /// Those of [`Generator::new`].
    pub fn generator(&mut self, slots: usize) -> Result<Generator<'_, O>> {
        let Network { config, w, shape, .. } = &self.net;
        Generator::borrowing(&mut self.ops, config, w.clone(), shape.R, slots)
    }

    fn download<K: Kind<Host = f32>>(&mut self, slot: Slot<K>) -> Result<Vec<f32>> {
        let mut values = vec![0.0; slot.len];
        self.ops.download(&mut values, slot)?;
        Ok(values)
    }

    fn trained_grads(&self) -> Slot<Grad> {
        self.grads.slice(self.trained..self.grads.len)
    }

    fn grad_norm(&mut self) -> Result<f64> {
        let mut norm = [0.0];
        self.ops.download(&mut norm, self.norm)?;
        Ok(norm[0].into())
    }

    /// Adds the losses that wait on the device to this step's, in float64.
    fn read_losses(&mut self) -> Result {
        let mut sums = [0.0; WAITING];
        let sums = &mut sums[..self.waiting];
        self.ops.download(sums, self.sums.slice(0..self.waiting))?;
        self.loss += sums.iter().map(|sum| f64::from(*sum)).sum::<f64>();
        self.waiting = 0;
        Ok(())
    }

    /// Finds a parameter that received no gradient. A finite norm says that there is none: nothing else is read then.
    fn check_complete(&mut self) -> Result {
        if !self.grad_norm()?.is_finite() {
            let mut piece = vec![0.0; PIECE];
            for (tensor, _) in self.tensors.iter().filter(|(tensor, _)| tensor.range.start >= self.trained) {
                for start in tensor.range.clone().step_by(PIECE) {
                    let end = tensor.range.end.min(start + PIECE);
                    let piece = &mut piece[..end - start];
                    self.ops.download(piece, self.grads.slice(start..end))?;
                    if piece.iter().any(|gradient| gradient.to_bits() >> 16 == UNTOUCHED >> 16) {
                        return Err(Error::NoGradient { tensor: tensor.name.clone() });
                    }
                }
            }
        }
        self.complete = true;
        Ok(())
    }
}
