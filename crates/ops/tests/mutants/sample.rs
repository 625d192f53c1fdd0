//! Faults of `sample`.

use wikigpt_ops::host::{Float, Kernels};
use wikigpt_ops::reference::sample::{draw, holds, mark};
use wikigpt_ops::{IGNORE, Knobs};

use crate::fault::{Fault, Faults};

pub const FAULTS: Faults = &[(
    "sample",
    &[
        "V is Vp",
        "knobs of the first row for all",
        "uniform of the first row for all",
        "uniform upside down",
        "rows not looked at",
        "drawn token not marked",
        "token after it marked",
        "marked where nothing is drawn",
        "greedy takes the last",
        "temperature ignored",
        "temperature multiplies",
        "penalty ignored",
        "penalty of what the text does not hold",
        "penalty always divides",
        "penalty always multiplies",
        "penalty beyond the largest number",
        "penalty after the filters",
        "top-k ignored",
        "top-k one less",
        "top-k one more",
        "top-k drops ties",
        "top-p ignored",
        "top-p one less",
        "top-p one more",
        "top-p drops ties",
        "top-p before top-k",
        "top-p before temperature",
        "in the order of likelihood",
        "excluded tokens drawn",
        "NaN passed over",
        "infinity passed over",
        "first token where none is finite",
    ],
)];

/// The plain loops with one fault.
pub struct Mutant<F>(pub Fault<F>);

/// The tokens that have finite logits, the likeliest first.
fn by_size(x: &[f64]) -> Vec<usize> {
    let mut tokens: Vec<usize> = (0..x.len()).filter(|v| x[*v].is_finite()).collect();
    tokens.sort_by(|a, b| x[*b].total_cmp(&x[*a]).then(a.cmp(b)));
    tokens
}

/// Excludes all but some tokens.
fn keep(x: &mut [f64], kept: &[usize]) {
    (0..x.len()).filter(|v| !kept.contains(v)).for_each(|v| x[v] = f64::NEG_INFINITY);
}

/// How many of the likeliest tokens top-p keeps, ties aside: those before which likelier ones sum to less than p.
fn probable(x: &[f64], tokens: &[usize], temperature: f64, p: f64) -> usize {
    let weights = tokens.iter().map(|v| ((x[*v] - x[tokens[0]]) / temperature).exp());
    let total: f64 = weights.clone().sum();
    let mut sum = 0.0;
    let before = weights.map(|weight| {
        sum += weight;
        sum - weight
    });
    before.take_while(|before| *before < p * total).count().max(1)
}

/// The token of a row by other rules; `row` are its knobs.
fn drawn(fault: &str, logits: &[f64], seen: Option<&[u32]>, row: Knobs, uniform: u32) -> u32 {
    let (mut x, mut knobs, mut uniform) = (logits.to_vec(), row, uniform);
    let (temperature, penalty, k) = (f64::from(row.temperature), f64::from(row.penalty), row.top_k as usize);
    let mut seen = seen.map(<[u32]>::to_vec);
    let inside = |v: &usize| seen.as_ref().is_some_and(|seen| holds(seen, *v)) && logits[*v].is_finite();
    let held: Vec<usize> = (0..x.len()).filter(inside).collect();
    let damaged = x.iter().any(|x| x.is_nan() || *x == f64::INFINITY) || x.iter().all(|x| !x.is_finite());
    let plain = |x: &[f64], seen: Option<&[u32]>, knobs: Knobs, uniform: u32| {
        draw(x, seen, &knobs.row().map(f64::from), uniform, &mut Vec::new())
    };
    match fault {
        "NaN passed over" => x.iter_mut().filter(|x| x.is_nan()).for_each(|x| *x = f64::NEG_INFINITY),
        "infinity passed over" => {
            x.iter_mut().filter(|x| **x == f64::INFINITY).for_each(|x| *x = f32::MAX.into());
        }
        "first token where none is finite" if x.iter().all(|x| *x == f64::NEG_INFINITY) => return 0,
        _ if damaged => {}
        "uniform upside down" => uniform = !uniform,
        "greedy takes the last" if temperature == 0.0 => {
            let x = penalized(&x, &held, penalty);
            let largest = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            return x.iter().rposition(|x| *x == largest).map_or(IGNORE, |v| v as u32);
        }
        "temperature ignored" if temperature > 0.0 => knobs.temperature = 1.0,
        "temperature multiplies" if temperature > 0.0 => knobs.temperature = 1.0 / row.temperature,
        "penalty ignored" => knobs.penalty = 1.0,
        "penalty of what the text does not hold" => {
            seen.iter_mut().flatten().for_each(|word| *word = !*word);
        }
        "penalty always divides" | "penalty always multiplies" if penalty != 1.0 => {
            let divides = fault == "penalty always divides";
            let one = |x: f64| if divides { x / penalty } else { x * penalty };
            held.iter().for_each(|v| x[*v] = one(x[*v]).clamp(f32::MIN.into(), f32::MAX.into()));
            seen = None;
        }
        "penalty beyond the largest number" if penalty != 1.0 => {
            for v in held {
                let by = row.penalty;
                let logit = x[v] as f32;
                x[v] = f64::from(if logit > 0.0 { logit / by } else { logit * by });
            }
            seen = None;
        }
        "penalty after the filters" if k > 0 => {
            let mut kept = by_size(&x);
            kept.truncate(k);
            keep(&mut x, &kept);
        }
        "top-k ignored" => knobs.top_k = 0.0,
        "top-k one less" if k > 1 => knobs.top_k -= 1.0,
        "top-k one more" if k > 0 => knobs.top_k += 1.0,
        "top-p ignored" => knobs.top_p = 1.0,
        "excluded tokens drawn" => {
            x.iter_mut().filter(|x| **x == f64::NEG_INFINITY).for_each(|x| *x = -1.0);
        }
        "in the order of likelihood" if temperature > 0.0 => {
            let x = penalized(&x, &held, penalty);
            let tokens = by_size(&x);
            let sorted: Vec<f64> = tokens.iter().map(|v| x[*v]).collect();
            return tokens[plain(&sorted, None, knobs, uniform) as usize] as u32;
        }
        "top-k drops ties" if k > 0 => {
            x = penalized(&x, &held, penalty);
            seen = None;
            let mut kept = by_size(&x);
            kept.truncate(k);
            keep(&mut x, &kept);
        }
        "top-p one less"
        | "top-p one more"
        | "top-p drops ties"
        | "top-p before top-k"
        | "top-p before temperature"
            if temperature > 0.0 && row.top_p < 1.0 =>
        {
            x = penalized(&x, &held, penalty);
            (seen, knobs.top_p) = (None, 1.0);
            let mut kept = by_size(&x);
            if fault != "top-p before top-k" && k > 0 && k < kept.len() {
                let least = x[kept[k - 1]];
                kept.retain(|v| x[*v] >= least);
            }
            let by = if fault == "top-p before temperature" { 1.0 } else { temperature };
            let count = probable(&x, &kept, by, row.top_p.into());
            let count = match fault {
                "top-p one less" => (count - 1).max(1),
                "top-p one more" => (count + 1).min(kept.len()),
                _ => count,
            };
            let last = x[kept[count - 1]];
            match fault {
                "top-p drops ties" => kept.truncate(count),
                _ => kept.retain(|v| x[*v] >= last),
            }
            keep(&mut x, &kept);
        }
        _ => {}
    }
    plain(&x, seen.as_deref(), knobs, uniform)
}

/// Logits with the penalty, as it should be.
fn penalized(x: &[f64], held: &[usize], penalty: f64) -> Vec<f64> {
    let mut x = x.to_vec();
    for v in held {
        let by = if x[*v] > 0.0 { x[*v] / penalty } else { x[*v] * penalty };
        x[*v] = f64::from(by.clamp(f32::MIN.into(), f32::MAX.into()) as f32);
    }
    x
}

impl<F: Float> Kernels for Mutant<F> {
    type F = F;

    fn device(&self) -> String {
        self.0.device()
    }

    fn sample(
        &mut self,
        tokens: &mut [u32],
        mut seen: Option<&mut [u32]>,
        logits: &[F],
        knobs: &[F],
        uniforms: &[u32],
        rows: Option<&[u32]>,
        V: usize,
        Vp: usize,
    ) {
        let fault = self.0.of("sample");
        let words = V.div_ceil(32);
        for (b, token) in tokens.iter_mut().enumerate() {
            let rows = rows.filter(|_| fault != "rows not looked at");
            let row = rows.map_or(b, |rows| rows[b] as usize);
            let own = seen.as_mut().map(|seen| &mut seen[row * words..][..words]);
            let of = if fault == "knobs of the first row for all" { 0 } else { b };
            let [temperature, top_k, top_p, penalty] =
                std::array::from_fn(|i| knobs[of * Knobs::LEN + i].wide() as f32);
            let uniform = uniforms[if fault == "uniform of the first row for all" { 0 } else { b }];
            let x: Vec<f64> = logits[b * Vp..][..Vp].iter().map(|x| x.wide()).collect();
            let x = if fault == "V is Vp" { &x[..] } else { &x[..V] };
            let held = own.as_deref().filter(|_| fault != "V is Vp");
            *token = drawn(fault, x, held, Knobs { temperature, top_k, top_p, penalty }, uniform);
            match (fault, *token) {
                ("drawn token not marked", _) => {}
                ("token after it marked", at) if at != IGNORE && (at as usize) < V - 1 => mark(own, at + 1),
                ("marked where nothing is drawn", IGNORE) => mark(own, 0),
                ("V is Vp", at) if at as usize >= V => {}
                (_, at) => mark(own, at),
            }
        }
    }
}
