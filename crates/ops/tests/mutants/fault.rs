//! A fault, and what several families of mutants need.

use std::marker::PhantomData;

use wikigpt_ops::Update;
use wikigpt_ops::host::Float;
use wikigpt_ops::reference::attention::Heads;

/// Ops and the names of their faults.
pub type Faults = &'static [(&'static str, &'static [&'static str])];

/// One fault of one op, in a backend that computes in `F`.
pub struct Fault<F> {
    op: &'static str,
    name: &'static str,
    float: PhantomData<F>,
}

impl<F> Fault<F> {
    pub fn new(op: &'static str, name: &'static str) -> Self {
        Fault { op, name, float: PhantomData }
    }

    /// The fault of an op, or nothing.
    pub fn of(&self, op: &str) -> &'static str {
        if op == self.op { self.name } else { "" }
    }

    pub fn device(&self) -> String {
        format!("{} with the fault {:?}", self.op, self.name)
    }
}

pub fn reversed(update: Update) -> Update {
    match update {
        Update::Set => Update::Add,
        Update::Add => Update::Set,
    }
}

/// The update, reversed if the fault says so.
pub fn perhaps(fault: &str, update: Update) -> Update {
    if fault == "update reversed" { reversed(update) } else { update }
}

/// All but the last `n` elements.
pub fn but<F>(x: &[F], n: usize) -> &[F] {
    &x[..x.len() - n]
}

pub fn but_mut<F>(x: &mut [F], n: usize) -> &mut [F] {
    let len = x.len() - n;
    &mut x[..len]
}

pub fn zeros<F: Float>(len: usize) -> Vec<F> {
    vec![F::zero(); len]
}

/// Attention with a scale of 1 for 1/√HS: its queries are √HS times as large.
pub fn unscaled<F: Float>(qkv: &[F], heads: Heads) -> Vec<F> {
    let C = heads.NH * heads.HS;
    let root = F::of(heads.HS as f64).sqrt();
    qkv.iter().enumerate().map(|(i, x)| if i % (3 * C) < C { *x * root } else { *x }).collect()
}

/// Which part of a row of `qkv` element `i` belongs to: q, k or v.
pub fn part(i: usize, heads: Heads) -> usize {
    i / (heads.NH * heads.HS) % 3
}
