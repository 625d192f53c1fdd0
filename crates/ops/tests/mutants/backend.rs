//! The reference altered outside its loops: broken in its memory, bounds or refusals, or storing activations as bf16.

use wikigpt_ops::reference::Reference;
use wikigpt_ops::{
    Act, AdamW, Dropout, Error, Grad, Kind, Ops, Result, Rounding, Slot, Stat, Tag, Ticket, Tok, Update,
    stochastic_bits,
};

/// The reference with one fault, or in another precision.
pub struct Altered {
    ops: Reference,
    op: &'static str,
    fault: &'static str,
    calls: u32,
    /// Sequences begun, and whether the one under way is left out.
    recorded: u32,
    left_out: bool,
    /// What was fetched, and is copied only when it is collected.
    held: Option<Slot<Stat>>,
    /// The allocations of activations and of gradients, where these are stored as bf16.
    bf16: Option<(Vec<Slot<Act>>, Vec<Slot<Grad>>)>,
}

/// Ops and their faults. What holds for every op is broken in `gelu_forward`.
pub const BACKEND_FAULTS: &[(&str, &[&str])] = &[
    ("device", &["no name", "no size"]),
    ("alloc", &["not zeroed", "out of memory as a bad argument", "one element less"]),
    ("upload", &["last element dropped", "cut to length", "rounds to 16 bits", "beyond the end"]),
    ("download", &["last element dropped", "cut to length"]),
    ("copy", &["last element dropped", "overlaps", "reversed"]),
    ("zero", &["last element dropped", "the whole allocation"]),
    ("free", &["nothing", "a part", "twice"]),
    ("fetch", &["late", "number used again"]),
    ("fetched", &["never", "refuses"]),
    ("collect", &["cut to length", "reversed"]),
    ("record", &["refuses", "leaves a sequence out the second time"]),
    ("submit", &["refuses", "leaves a sequence out at last"]),
    ("adamw", &["rounds to the nearest", "numbered by slot", "the same random numbers at every step"]),
    (
        "gelu_forward",
        &[
            "writes before its output",
            "writes past its output",
            "reads past its input",
            "writes its input",
            "differs from run to run",
            "wrong at odd addresses",
            "cut to length",
            "writes before it refuses",
            "says the wrong op",
            "says no tensor",
            "in place",
        ],
    ),
];

impl Altered {
    pub fn of(op: &'static str, fault: &'static str) -> Self {
        // How masters are rounded shows only where parameters are narrower.
        let bf16 = (op == "adamw").then(Default::default);
        Altered { ops: Reference::new(), op, fault, calls: 0, recorded: 0, left_out: false, held: None, bf16 }
    }

    /// A backend that computes in float64 and stores activations as bf16: no fault, and errors of its own size.
    pub fn bf16() -> Self {
        Altered { bf16: Some(Default::default()), ..Altered::of("", "") }
    }

    /// Rounds all activations and gradients: those that were not written are rounded already.
    fn round(&mut self) -> Result {
        let Some((acts, grads)) = &self.bf16 else { return Ok(()) };
        acts.iter().try_for_each(|slot| round(&mut self.ops, *slot))?;
        grads.iter().try_for_each(|slot| round(&mut self.ops, *slot))
    }

    fn fault(&self, op: &str) -> &'static str {
        if op == self.op { self.fault } else { "" }
    }

    fn get(&mut self, slot: Slot<Act>) -> Result<f32> {
        let mut x = [0.0];
        self.ops.download(&mut x, slot)?;
        Ok(x[0])
    }
}

/// Rounds a slot to bf16.
fn round<K: Kind>(ops: &mut Reference, slot: Slot<K>) -> Result {
    let round = |x: &f64| {
        let bits = (*x as f32).to_bits();
        f64::from(f32::from_bits((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF_0000))
    };
    let rounded: Vec<f64> = ops.read(slot)?.iter().map(|x| if x.is_nan() { *x } else { round(x) }).collect();
    ops.write(slot, &rounded)
}

/// The refusal of a good call.
fn refusal(op: &'static str) -> Error {
    Error::Argument { op, message: "refused".into() }
}

/// What an op's error becomes.
fn reworded(error: Error, op: &'static str, message: &str) -> Error {
    match error {
        Error::Argument { .. } => Error::Argument { op, message: message.into() },
        other => other,
    }
}

type A = Slot<Act>;
type G = Slot<Grad>;
type S = Slot<Stat>;
type K = Slot<Tok>;

/// Hands ops on to the reference.
macro_rules! delegate {
    ($($name:ident($($arg:ident: $type:ty),*);)*) => {
        $(fn $name(&mut self, $($arg: $type),*) -> Result {
            self.ops.$name($($arg),*)?;
            self.round()
        })*
    };
}

impl Ops for Altered {
    fn device(&self) -> String {
        if self.fault("device") == "no name" { String::new() } else { self.ops.device() }
    }

    fn act_bytes(&self) -> usize {
        match (self.fault("device"), &self.bf16) {
            ("no size", _) => 0,
            (_, Some(_)) => 2,
            (_, None) => self.ops.act_bytes(),
        }
    }

    fn grad_bytes(&self) -> usize {
        self.act_bytes()
    }

    fn alloc<K: Kind>(&mut self, len: usize) -> Result<Slot<K>> {
        let slot = self.ops.alloc::<K>(len);
        if let (Ok(slot), Some((acts, grads))) = (&slot, &mut self.bf16) {
            match K::TAG {
                Tag::Act => acts.push(Slot::whole(slot.allocation, len)),
                Tag::Grad => grads.push(Slot::whole(slot.allocation, len)),
                Tag::Stat | Tag::Tok => {}
            }
        }
        match (self.fault("alloc"), slot) {
            ("not zeroed", Ok(slot)) => {
                self.ops.upload(slot, bytemuck::cast_slice(&vec![1_u32; len]))?;
                Ok(slot)
            }
            ("out of memory as a bad argument", Err(Error::OutOfMemory { .. })) => {
                Err(Error::Argument { op: "alloc", message: "too much".into() })
            }
            ("one element less", Ok(slot)) => Ok(slot.slice(0..len.saturating_sub(1))),
            (_, result) => result,
        }
    }

    fn free<K: Kind>(&mut self, slot: Slot<K>) -> Result {
        match (self.fault("free"), slot.offset) {
            ("nothing", _) => Ok(()),
            ("a part", 0) => self.ops.free(slot).or(Ok(())),
            ("twice", _) => match self.ops.zero(slot.slice(0..0)) {
                Ok(()) => self.ops.free(slot),
                Err(_) => Ok(()),
            },
            _ => {
                self.ops.free(slot)?;
                if let Some((acts, grads)) = &mut self.bf16 {
                    acts.retain(|held| held.allocation != slot.allocation);
                    grads.retain(|held| held.allocation != slot.allocation);
                }
                Ok(())
            }
        }
    }

    fn upload<K: Kind>(&mut self, dst: Slot<K>, src: &[K::Host]) -> Result {
        match self.fault("upload") {
            "last element dropped" if dst.len == src.len() => {
                self.ops.upload(dst.slice(0..dst.len - 1), &src[..src.len() - 1])
            }
            "cut to length" => {
                let len = dst.len.min(src.len());
                self.ops.upload(dst.slice(0..len), &src[..len])
            }
            "rounds to 16 bits" => {
                let words = bytemuck::cast_slice::<_, u32>(src).iter().map(|bits| bits & 0xFFFF_0000);
                self.ops.upload(dst, bytemuck::cast_slice(&words.collect::<Vec<_>>()))
            }
            "beyond the end" => match self.ops.upload(dst, src) {
                Err(_) if dst.offset > 0 => Ok(()),
                result => result,
            },
            _ => {
                self.ops.upload(dst, src)?;
                self.round()
            }
        }
    }

    fn download<K: Kind>(&mut self, dst: &mut [K::Host], src: Slot<K>) -> Result {
        let len = match self.fault("download") {
            "last element dropped" if dst.len() == src.len => dst.len() - 1,
            "cut to length" => dst.len(),
            _ => return self.ops.download(dst, src),
        };
        let len = len.min(src.len);
        self.ops.download(&mut dst[..len], src.slice(0..len))
    }

    fn copy<K: Kind>(&mut self, dst: Slot<K>, src: Slot<K>) -> Result {
        match self.fault("copy") {
            "last element dropped" if dst.len == src.len => {
                self.ops.copy(dst.slice(0..dst.len - 1), src.slice(0..src.len - 1))
            }
            "overlaps" if dst.len == src.len => self.ops.copy(dst, src).or(Ok(())),
            "reversed" => self.ops.copy(src, dst),
            _ => self.ops.copy(dst, src),
        }
    }

    fn zero<K: Kind>(&mut self, dst: Slot<K>) -> Result {
        match self.fault("zero") {
            "last element dropped" => self.ops.zero(dst.slice(0..dst.len - 1)),
            "the whole allocation" => self.ops.zero(Slot::<K>::whole(dst.allocation, 5)),
            _ => self.ops.zero(dst),
        }
    }

    fn synchronize(&mut self) -> Result {
        self.ops.synchronize()
    }

    fn fetch(&mut self, src: S) -> Result<Ticket> {
        let ticket = self.ops.fetch(src)?;
        match self.fault("fetch") {
            "late" => self.held = Some(src),
            "number used again" => return Ok(Ticket { number: 0, ..ticket }),
            _ => {}
        }
        Ok(ticket)
    }

    fn fetched(&mut self, ticket: &Ticket) -> Result<bool> {
        match self.fault("fetched") {
            "refuses" => Err(refusal("fetched")),
            fault => Ok(fault != "never" && self.ops.fetched(ticket)?),
        }
    }

    fn record(&mut self, number: u32) -> Result {
        self.recorded += 1;
        self.left_out = match (self.fault("record"), self.fault("submit"), self.recorded) {
            ("refuses", ..) => return Err(refusal("record")),
            ("leaves a sequence out the second time", _, 2) => true,
            (_, "leaves a sequence out at last", 5) => true,
            _ => false,
        };
        self.ops.record(number)
    }

    fn submit(&mut self) -> Result {
        self.left_out = false;
        if self.fault("submit") == "refuses" { Err(refusal("submit")) } else { self.ops.submit() }
    }

    fn collect(&mut self, dst: &mut [f32], ticket: Ticket) -> Result {
        match (self.fault("collect"), self.held) {
            ("cut to length", _) => {
                let mut whole = vec![0.0; ticket.len];
                self.ops.collect(&mut whole, ticket)?;
                let len = dst.len().min(whole.len());
                dst[..len].copy_from_slice(&whole[..len]);
                Ok(())
            }
            ("reversed", _) => {
                self.ops.collect(dst, ticket)?;
                dst.reverse();
                Ok(())
            }
            (_, Some(src)) if src.len == dst.len() => self.ops.download(dst, src),
            _ => self.ops.collect(dst, ticket),
        }
    }

    fn gelu_forward(&mut self, out: Slot<Act>, inp: Slot<Act>) -> Result {
        if self.left_out {
            return Ok(());
        }
        let fault = self.fault("gelu_forward");
        let common = out.len.min(inp.len);
        let done = match fault {
            "cut to length" => self.ops.gelu_forward(out.slice(0..common), inp.slice(0..common)),
            _ => self.ops.gelu_forward(out, inp),
        };
        match (fault, done) {
            ("says the wrong op", Err(error)) => Err(reworded(error, "gelu", "inp and out differ")),
            ("says no tensor", Err(error)) => Err(reworded(error, "gelu_forward", "bad argument")),
            ("in place", Err(_)) if out.overlaps(inp) => Ok(()),
            ("writes before it refuses", Err(error)) => {
                self.ops.upload(out.slice(0..1), &[0.0])?;
                Err(error)
            }
            (_, Err(error)) => Err(error),
            (_, Ok(())) => self.spoil(fault, out, inp).and_then(|()| self.round()),
        }
    }

    fn adamw(
        &mut self,
        params: A,
        master: Option<S>,
        m: S,
        v: S,
        grads: G,
        norm: S,
        constants: AdamW,
    ) -> Result {
        let fault = self.fault("adamw");
        let step = if fault == "the same random numbers at every step" { 1 } else { constants.step };
        self.ops.adamw(params, master, m, v, grads, norm, constants)?;
        let (Some(master), true) = (master, self.bf16.is_some()) else { return self.round() };
        let mut finite = [0.0];
        self.ops.download(&mut finite, norm)?;
        if let (Rounding::Stochastic { seed }, true) = (constants.rounding, finite[0].is_finite()) {
            let first = if fault == "numbered by slot" { 0 } else { params.offset as u64 };
            let mut weights = vec![0.0; master.len];
            self.ops.download(&mut weights, master)?;
            for (i, weight) in weights.iter_mut().enumerate() {
                let random = stochastic_bits(seed, step, first + i as u64);
                *weight = f32::from_bits((weight.to_bits() + random) & 0xFFFF_0000);
            }
            if fault != "rounds to the nearest" {
                self.ops.upload(params, &weights)?;
            }
        }
        self.round()
    }

    delegate! {
        embedding_forward(out: A, tokens: K, positions: Option<K>, wte: A, wpe: A, B: usize, T: usize, C: usize);
        embedding_backward(dwte: G, dwpe: G, dout: A, tokens: K, positions: Option<K>, B: usize, T: usize, C: usize, update: Update);
        layernorm_forward(out: A, mean: S, rstd: S, inp: A, weight: A, bias: Option<A>, N: usize, C: usize, eps: f32);
        layernorm_backward(dinp: A, dweight: G, dbias: Option<G>, dout: A, inp: A, weight: A, mean: S, rstd: S, N: usize, C: usize, update_inp: Update, update: Update);
        residual_forward(out: A, a: A, b: A);
        residual_backward(da: A, dout: A, update: Update);
        residual_layernorm_forward(res: A, out: A, mean: S, rstd: S, a: A, b: A, weight: A, bias: Option<A>, N: usize, C: usize, eps: f32);
        matmul_forward(out: A, inp: A, weight: A, bias: Option<A>, N: usize, C: usize, OC: usize);
        matmul_gelu_forward(out: A, pre: A, inp: A, weight: A, bias: Option<A>, N: usize, C: usize, OC: usize);
        matmul_residual_forward(out: A, residual: A, inp: A, weight: A, bias: Option<A>, N: usize, C: usize, OC: usize);
        matmul_backward_input(dinp: A, dout: A, weight: A, N: usize, C: usize, OC: usize, update: Update);
        matmul_gelu_backward_input(dpre: A, dout: A, weight: A, pre: A, N: usize, C: usize, OC: usize);
        matmul_backward_weight(dweight: G, dbias: Option<G>, dout: A, inp: A, N: usize, C: usize, OC: usize, update: Update);
        bias_forward(x: A, bias: A, N: usize, OC: usize);
        bias_backward(dbias: G, dout: A, N: usize, OC: usize, update: Update);
        attention_forward(out: A, lse: S, qkv: A, starts: Option<K>, B: usize, T: usize, NH: usize, HS: usize, dropout: Dropout);
        attention_backward(dqkv: A, dout: A, out: A, lse: S, qkv: A, starts: Option<K>, B: usize, T: usize, NH: usize, HS: usize, dropout: Dropout);
        attention_cached_forward(out: A, kcache: A, vcache: A, qkv: A, pos: K, rows: Option<K>, B: usize, Tn: usize, Tmax: usize, NH: usize, HS: usize);
        attention_scores_forward(scores: A, qkv: A, B: usize, T: usize, NH: usize, HS: usize);
        attention_scores_backward(dqkv: A, dscores: A, qkv: A, B: usize, T: usize, NH: usize, HS: usize);
        softmax_forward(probs: A, scores: A, R: usize, T: usize);
        softmax_backward(dscores: A, dprobs: A, probs: A, R: usize, T: usize);
        attention_values_forward(out: A, probs: A, qkv: A, B: usize, T: usize, NH: usize, HS: usize);
        attention_values_backward(dprobs: A, dqkv: A, dout: A, probs: A, qkv: A, B: usize, T: usize, NH: usize, HS: usize);
        gelu_backward(dinp: A, dout: A, inp: A);
        dropout_forward(out: A, inp: A, dropout: Dropout);
        dropout_backward(dinp: A, dout: A, dropout: Dropout);
        cross_entropy_forward(losses: S, logits: A, targets: K, weights: Option<S>, N: usize, V: usize, Vp: usize);
        cross_entropy_forward_backward(losses: S, logits: A, targets: K, weights: Option<S>, N: usize, V: usize, Vp: usize, scale: f32);
        sample(tokens: K, seen: Option<K>, logits: A, knobs: S, uniforms: K, rows: Option<K>, B: usize, V: usize, Vp: usize);
        sum(out: S, inp: S);
        global_norm(out: S, grads: G);
    }
}

impl Altered {
    /// Breaks what `gelu_forward` has done.
    fn spoil(&mut self, fault: &str, out: Slot<Act>, inp: Slot<Act>) -> Result {
        let element = |of: Slot<Act>, offset: usize| {
            let mut slot = Slot::whole(of.allocation, 1);
            slot.offset = offset;
            slot
        };
        let first = out.slice(0..1);
        match fault {
            "writes before its output" => self.ops.upload(element(out, out.offset - 1), &[0.25]),
            "writes past its output" => self.ops.upload(element(out, out.range().end), &[0.25]),
            "writes its input" => self.ops.upload(inp.slice(0..1), &[0.25]),
            "reads past its input" => {
                let x = self.get(first)? + 0.0 * self.get(element(inp, inp.range().end))?;
                self.ops.upload(first, &[x])
            }
            "differs from run to run" => {
                self.calls += 1;
                let x = self.get(first)? * (1.0 + 1e-6 * self.calls as f32);
                self.ops.upload(first, &[x])
            }
            "wrong at odd addresses" if out.offset % 2 == 1 => self.ops.zero(out),
            _ => Ok(()),
        }
    }
}
