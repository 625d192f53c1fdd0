//! A backend broken outside its loops: memory, bounds, refusals.

use std::cell::Cell;

use wikigpt_ops::reference::Reference;
use wikigpt_ops::{Act, AdamW, Dropout, Error, Kind, Ops, Result, Slot, Stat, Tok, Update};

/// The reference with one fault.
pub struct Broken {
    ops: Reference,
    op: &'static str,
    fault: &'static str,
    calls: Cell<u32>,
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

impl Broken {
    pub fn of(op: &'static str, fault: &'static str) -> Self {
        Broken { ops: Reference::new(), op, fault, calls: Cell::new(0) }
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

/// What an op's error becomes.
fn reworded(error: Error, op: &'static str, message: &str) -> Error {
    match error {
        Error::Argument { .. } => Error::Argument { op, message: message.into() },
        other => other,
    }
}

/// Hands ops on to the reference.
macro_rules! delegate {
    ($($name:ident($($arg:ident: $type:ty),*);)*) => {
        $(fn $name(&mut self, $($arg: $type),*) -> Result {
            self.ops.$name($($arg),*)
        })*
    };
}

impl Ops for Broken {
    fn device(&self) -> String {
        if self.fault("device") == "no name" { String::new() } else { self.ops.device() }
    }

    fn act_bytes(&self) -> usize {
        if self.fault("device") == "no size" { 0 } else { self.ops.act_bytes() }
    }

    fn alloc<K: Kind>(&mut self, len: usize) -> Result<Slot<K>> {
        match (self.fault("alloc"), self.ops.alloc(len)) {
            ("not zeroed", Ok(slot)) => {
                self.ops.upload(slot, bytemuck::cast_slice(&vec![1_u32; len]))?;
                Ok(slot)
            }
            ("out of memory as a bad argument", Err(Error::OutOfMemory { .. })) => {
                Err(Error::Argument { op: "alloc", message: "too much".into() })
            }
            ("one element less", Ok(slot)) => Ok(slot.slice(0..len - 1)),
            (_, result) => result,
        }
    }

    fn free<K: Kind>(&mut self, slot: Slot<K>) -> Result {
        match (self.fault("free"), slot.offset) {
            ("nothing", _) => Ok(()),
            ("a part", 0) => self.ops.free(slot).or(Ok(())),
            ("twice", _) => match self.ops.zero(slot) {
                Ok(()) => self.ops.free(slot),
                Err(_) => Ok(()),
            },
            _ => self.ops.free(slot),
        }
    }

    fn upload<K: Kind>(&mut self, dst: Slot<K>, src: &[K::Host]) -> Result {
        match self.fault("upload") {
            "last element dropped" => self.ops.upload(dst.slice(0..dst.len - 1), &src[..src.len() - 1]),
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
            _ => self.ops.upload(dst, src),
        }
    }

    fn download<K: Kind>(&mut self, dst: &mut [K::Host], src: Slot<K>) -> Result {
        let len = match self.fault("download") {
            "last element dropped" => dst.len() - 1,
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

    fn gelu_forward(&mut self, out: Slot<Act>, inp: Slot<Act>) -> Result {
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
            (_, Ok(())) => self.spoil(fault, out, inp),
        }
    }

    delegate! {
        embedding_forward(out: Slot<Act>, tokens: Slot<Tok>, wte: Slot<Act>, wpe: Slot<Act>, B: usize, T: usize, C: usize, pos: usize);
        embedding_backward(dwte: Slot<Act>, dwpe: Slot<Act>, dout: Slot<Act>, tokens: Slot<Tok>, B: usize, T: usize, C: usize, update: Update);
        layernorm_forward(out: Slot<Act>, mean: Slot<Stat>, rstd: Slot<Stat>, inp: Slot<Act>, weight: Slot<Act>, bias: Option<Slot<Act>>, N: usize, C: usize, eps: f32);
        layernorm_backward(dinp: Slot<Act>, dweight: Slot<Act>, dbias: Option<Slot<Act>>, dout: Slot<Act>, inp: Slot<Act>, weight: Slot<Act>, mean: Slot<Stat>, rstd: Slot<Stat>, N: usize, C: usize, update_inp: Update, update: Update);
        residual_forward(out: Slot<Act>, a: Slot<Act>, b: Slot<Act>);
        residual_backward(da: Slot<Act>, dout: Slot<Act>, update: Update);
        residual_layernorm_forward(res: Slot<Act>, out: Slot<Act>, mean: Slot<Stat>, rstd: Slot<Stat>, a: Slot<Act>, b: Slot<Act>, weight: Slot<Act>, bias: Option<Slot<Act>>, N: usize, C: usize, eps: f32);
        matmul_forward(out: Slot<Act>, inp: Slot<Act>, weight: Slot<Act>, bias: Option<Slot<Act>>, N: usize, C: usize, OC: usize);
        matmul_gelu_forward(out: Slot<Act>, pre: Slot<Act>, inp: Slot<Act>, weight: Slot<Act>, bias: Option<Slot<Act>>, N: usize, C: usize, OC: usize);
        matmul_residual_forward(out: Slot<Act>, residual: Slot<Act>, inp: Slot<Act>, weight: Slot<Act>, bias: Option<Slot<Act>>, N: usize, C: usize, OC: usize);
        matmul_backward_input(dinp: Slot<Act>, dout: Slot<Act>, weight: Slot<Act>, N: usize, C: usize, OC: usize, update: Update);
        matmul_gelu_backward_input(dpre: Slot<Act>, dout: Slot<Act>, weight: Slot<Act>, pre: Slot<Act>, N: usize, C: usize, OC: usize);
        matmul_backward_weight(dweight: Slot<Act>, dbias: Option<Slot<Act>>, dout: Slot<Act>, inp: Slot<Act>, N: usize, C: usize, OC: usize, update: Update);
        bias_forward(x: Slot<Act>, bias: Slot<Act>, N: usize, OC: usize);
        bias_backward(dbias: Slot<Act>, dout: Slot<Act>, N: usize, OC: usize, update: Update);
        attention_forward(out: Slot<Act>, lse: Slot<Stat>, qkv: Slot<Act>, B: usize, T: usize, NH: usize, HS: usize, dropout: Dropout);
        attention_backward(dqkv: Slot<Act>, dout: Slot<Act>, out: Slot<Act>, lse: Slot<Stat>, qkv: Slot<Act>, B: usize, T: usize, NH: usize, HS: usize, dropout: Dropout);
        attention_cached_forward(out: Slot<Act>, kcache: Slot<Act>, vcache: Slot<Act>, qkv: Slot<Act>, B: usize, Tn: usize, pos: usize, Tmax: usize, NH: usize, HS: usize);
        attention_scores_forward(scores: Slot<Act>, qkv: Slot<Act>, B: usize, T: usize, NH: usize, HS: usize);
        attention_scores_backward(dqkv: Slot<Act>, dscores: Slot<Act>, qkv: Slot<Act>, B: usize, T: usize, NH: usize, HS: usize);
        softmax_forward(probs: Slot<Act>, scores: Slot<Act>, R: usize, T: usize);
        softmax_backward(dscores: Slot<Act>, dprobs: Slot<Act>, probs: Slot<Act>, R: usize, T: usize);
        attention_values_forward(out: Slot<Act>, probs: Slot<Act>, qkv: Slot<Act>, B: usize, T: usize, NH: usize, HS: usize);
        attention_values_backward(dprobs: Slot<Act>, dqkv: Slot<Act>, dout: Slot<Act>, probs: Slot<Act>, qkv: Slot<Act>, B: usize, T: usize, NH: usize, HS: usize);
        gelu_backward(dinp: Slot<Act>, dout: Slot<Act>, inp: Slot<Act>);
        dropout_forward(out: Slot<Act>, inp: Slot<Act>, dropout: Dropout);
        dropout_backward(dinp: Slot<Act>, dout: Slot<Act>, dropout: Dropout);
        cross_entropy_forward(losses: Slot<Stat>, logits: Slot<Act>, targets: Slot<Tok>, N: usize, V: usize, Vp: usize);
        cross_entropy_forward_backward(losses: Slot<Stat>, logits: Slot<Act>, targets: Slot<Tok>, N: usize, V: usize, Vp: usize, scale: f32);
        sum(out: Slot<Stat>, inp: Slot<Stat>);
        global_norm(out: Slot<Stat>, grads: Slot<Act>);
        adamw(params: Slot<Act>, m: Slot<Stat>, v: Slot<Stat>, grads: Slot<Act>, norm: Slot<Stat>, constants: AdamW);
    }
}

impl Broken {
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
                self.calls.set(self.calls.get() + 1);
                let x = self.get(first)? * (1.0 + 1e-6 * self.calls.get() as f32);
                self.ops.upload(first, &[x])
            }
            "wrong at odd addresses" if out.offset % 2 == 1 => self.ops.zero(out),
            _ => Ok(()),
        }
    }
}
