//! Where each parameter lies in the one flat array that holds them all.
//!
//! Gradients and the optimizer's moments mirror it, so that the gradient norm, clipping and checkpoints each walk one
//! array.

use std::ops::Range;

use crate::{Config, Error, Result};

/// Slices start at multiples of this many elements: 256 bytes of f32, 128 of bf16, what vector loads and cache
/// lines ask for. The gaps are 0 in parameters and gradients, and stay 0.
const ALIGNMENT: usize = 64;

/// A layer norm's parameters, (C) each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Norm {
    /// Scale.
    pub weight: Range<usize>,
    /// Shift.
    pub bias: Option<Range<usize>>,
}

/// A linear layer's parameters: `weight` (OC,C), `bias` (OC).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linear {
    /// Each output channel's weights, contiguous.
    pub weight: Range<usize>,
    /// Added to the output channels.
    pub bias: Option<Range<usize>>,
}

/// One block's parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Before the attention.
    pub ln_1: Norm,
    /// Queries, keys and values: OC = 3·C.
    pub c_attn: Linear,
    /// The attention's output projection: OC = C.
    pub attn_c_proj: Linear,
    /// Before the hidden layer.
    pub ln_2: Norm,
    /// Up: OC = 4·C.
    pub c_fc: Linear,
    /// Down: (C,4·C).
    pub mlp_c_proj: Linear,
}

/// The arrays that training goes on from, each in the order of the [`Layout`], or of adapters'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Array {
    /// The parameters.
    Params,
    /// AdamW's first moments.
    M,
    /// AdamW's second moments.
    V,
}

/// One named tensor of the flat array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Hugging Face's name, without `transformer.`: `h.0.attn.c_attn.weight`.
    pub name: String,
    /// The shape without padding: (V,C) for the token embedding, (OC,C) for a linear layer's weight, (C) for a bias.
    pub shape: Vec<usize>,
    /// Where it lies, padding rows included.
    pub range: Range<usize>,
}

impl Tensor {
    /// Elements without padding.
    pub fn size(&self) -> usize {
        self.shape.iter().product()
    }

    /// Where the elements without padding lie: padding rows come last.
    pub fn live(&self) -> Range<usize> {
        self.range.start..self.range.start + self.size()
    }

    /// Whether weight decay applies: to tensors of two or more dimensions.
    pub fn decays(&self) -> bool {
        self.shape.len() >= 2
    }
}

/// The table of all parameters of a [`Config`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Token embedding (Vp,C); rows from V on are padding.
    pub wte: Range<usize>,
    /// Position embedding (context,C).
    pub wpe: Range<usize>,
    /// The blocks.
    pub blocks: Vec<Block>,
    /// Before the head.
    pub ln_f: Norm,
    /// The head's weights (Vp,C), where they are not the token embedding's: `lm_head.weight`, or a classifier's `score.weight`.
    pub head: Option<Range<usize>>,
    /// Every tensor, in the order of the array.
    pub tensors: Vec<Tensor>,
    /// Elements of the array.
    pub len: usize,
}

impl Layout {
    /// Lays out the parameters.
    ///
    /// # Errors
    /// [`Error::Config`] when the shape is none that a model can have, or is too large to count.
    pub fn new(config: &Config) -> Result<Layout> {
        config.validate()?;
        let (C, V, Vp) = (config.n_embd, config.vocab_size, config.padded_vocab());
        let mut b = Builder::new(config.bias);
        let wte = b.tensor("wte.weight".into(), vec![V, C], Vp);
        let wpe = b.tensor("wpe.weight".into(), vec![config.context, C], config.context);
        let mut blocks = Vec::new();
        for layer in 0..config.n_layer {
            if b.len.is_none() {
                break;
            }
            let name = |part: &str| format!("h.{layer}.{part}");
            blocks.push(Block {
                ln_1: b.norm(&name("ln_1"), C),
                c_attn: b.linear(&name("attn.c_attn"), 3 * C, C),
                attn_c_proj: b.linear(&name("attn.c_proj"), C, C),
                ln_2: b.norm(&name("ln_2"), C),
                c_fc: b.linear(&name("mlp.c_fc"), 4 * C, C),
                mlp_c_proj: b.linear(&name("mlp.c_proj"), C, 4 * C),
            });
        }
        let ln_f = b.norm("ln_f", C);
        let name = if config.is_classifier() { "score.weight" } else { "lm_head.weight" };
        let head =
            (!config.tied).then(|| b.tensor(name.into(), vec![config.outputs(), C], config.padded_outputs()));
        let (tensors, len) = b.finish()?;
        Ok(Layout { wte, wpe, blocks, ln_f, head, tensors, len })
    }

    /// Parameters, without padding.
    pub fn parameters(&self) -> usize {
        self.tensors.iter().map(Tensor::size).sum()
    }

    /// The weights of the head (Vp,C): its own, or the token embedding's.
    pub fn head(&self) -> Range<usize> {
        self.head.clone().unwrap_or_else(|| self.wte.clone())
    }
}

/// Refuses parameters that are not as many as their layout has.
pub(crate) fn check_len(params: &[f32], len: usize) -> Result {
    if params.len() == len {
        return Ok(());
    }
    Err(Error::Config(format!(
        "the parameters must hold {len} values, in the order of their layout, got {}",
        params.len()
    )))
}

/// Copies into the parameters of a model those that it has in common with another: all but a head of other labels, or of another
/// kind.
///
/// # Errors
/// [`Error::Config`] when a shape is impossible, or an array not as long as its model's.
pub fn carry_over(from: &Config, params: &[f32], to: &Config, into: &mut [f32]) -> Result {
    let (old, new) = (Layout::new(from)?, Layout::new(to)?);
    if (params.len(), into.len()) != (old.len, new.len) {
        return Err(Error::Config("the parameters must be as many as their models have".into()));
    }
    let same_labels = from.labels == to.labels;
    for tensor in new.tensors.iter().filter(|tensor| same_labels || tensor.name != "score.weight") {
        let same = |other: &&Tensor| (&other.name, &other.shape) == (&tensor.name, &tensor.shape);
        if let Some(other) = old.tensors.iter().find(same) {
            into[tensor.live()].copy_from_slice(&params[other.live()]);
        }
    }
    Ok(())
}

/// Lays tensors out one after the other.
pub(crate) struct Builder {
    tensors: Vec<Tensor>,
    /// None once the array is longer than a usize can say.
    len: Option<usize>,
    bias: bool,
}

impl Builder {
    /// Nothing yet; whether layers will have biases.
    pub fn new(bias: bool) -> Builder {
        Builder { tensors: Vec::new(), len: Some(0), bias }
    }

    /// The tensors, and how long the array is that holds them.
    pub fn finish(self) -> Result<(Vec<Tensor>, usize)> {
        let len = self.len.ok_or_else(|| {
            Error::Config("the model has more parameters than this machine can count".into())
        })?;
        Ok((self.tensors, len))
    }

    /// Appends a tensor whose first dimension is padded to `rows`.
    pub fn tensor(&mut self, name: String, shape: Vec<usize>, rows: usize) -> Range<usize> {
        let padded = shape[1..].iter().try_fold(rows, |product, d| product.checked_mul(*d));
        let start = self.len.unwrap_or(0);
        // Twice the bytes of f32 must be countable too: moments and checkpoints are written as byte ranges.
        let end = padded
            .and_then(|n| start.checked_add(n))
            .and_then(|end| end.checked_next_multiple_of(ALIGNMENT))
            .filter(|end| *end <= usize::MAX / 16);
        self.len = self.len.and(end);
        let range = if self.len.is_some() { start..start + padded.unwrap_or(0) } else { 0..0 };
        self.tensors.push(Tensor { name, shape, range: range.clone() });
        range
    }

    fn bias(&mut self, name: &str, size: usize) -> Option<Range<usize>> {
        self.bias.then(|| self.tensor(format!("{name}.bias"), vec![size], size))
    }

    fn norm(&mut self, name: &str, C: usize) -> Norm {
        Norm { weight: self.tensor(format!("{name}.weight"), vec![C], C), bias: self.bias(name, C) }
    }

    fn linear(&mut self, name: &str, OC: usize, C: usize) -> Linear {
        Linear { weight: self.tensor(format!("{name}.weight"), vec![OC, C], OC), bias: self.bias(name, OC) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpt2_has_its_published_number_of_parameters() {
        let counts = [
            ("gpt2-124m", 124_439_808),
            ("gpt2-355m", 354_823_168),
            ("gpt2-774m", 774_030_080),
            ("gpt2-1558m", 1_557_611_200),
        ];
        for (name, parameters) in counts {
            let layout = Layout::new(&Config::preset(name, 50_257).unwrap()).unwrap();
            assert_eq!(layout.parameters(), parameters, "{name}");
        }
    }

    #[test]
    fn tensors_follow_one_another_aligned_and_apart() {
        let config = Config { n_embd: 30, n_head: 3, tied: false, ..Config::preset("tiny", 65).unwrap() };
        let layout = Layout::new(&config).unwrap();
        let mut end = 0;
        for tensor in &layout.tensors {
            assert_eq!(tensor.range.start, usize::next_multiple_of(end, ALIGNMENT), "{}", tensor.name);
            assert!(tensor.live().end <= tensor.range.end);
            end = tensor.range.end;
        }
        assert_eq!(layout.len, end.next_multiple_of(ALIGNMENT));
        assert_eq!(layout.wte.len(), 128 * 30);
        assert_eq!(layout.head(), layout.head.clone().unwrap());
        assert_eq!(layout.tensors.len(), 2 + 2 * 12 + 2 + 1);
    }

    #[test]
    fn without_biases_only_weights_are_left() {
        let config = Config { bias: false, ..Config::preset("tiny", 256).unwrap() };
        let layout = Layout::new(&config).unwrap();
        assert!(layout.tensors.iter().all(|tensor| tensor.name.ends_with(".weight")));
        assert_eq!(layout.head(), layout.wte);
    }

    #[test]
    fn a_classifiers_head_has_a_row_a_label() {
        let base = Config { tied: false, ..Config::preset("tiny", 300).unwrap() };
        let labels = ["a", "b", "c"].map(String::from).to_vec();
        let (language, classifier) =
            (Layout::new(&base).unwrap(), Layout::new(&base.classifier(labels)).unwrap());
        let (last, others) = classifier.tensors.split_last().unwrap();
        assert_eq!(
            (&*last.name, &last.shape[..], last.range.len()),
            ("score.weight", &[3, 64][..], 128 * 64)
        );
        assert_eq!(others, &language.tensors[..others.len()]);
        assert_eq!(classifier.head(), last.range);
    }

    #[test]
    fn what_two_models_have_in_common_is_carried_over() {
        let base = Config::preset("tiny", 300).unwrap();
        let labelled = |labels: [&str; 2]| base.clone().classifier(labels.map(String::from).to_vec());
        let (old, new) = (labelled(["a", "b"]), labelled(["a", "c"]));
        let layout = Layout::new(&old).unwrap();
        let carry = |from: &Config, to: &Config| {
            let params: Vec<f32> = (0..Layout::new(from).unwrap().len).map(|i| i as f32).collect();
            let mut into = vec![-1.0; Layout::new(to).unwrap().len];
            carry_over(from, &params, to, &mut into).unwrap();
            (params, into)
        };
        let head = layout.tensors.last().unwrap().live();
        for (from, to, with_head) in [(&old, &old, true), (&old, &new, false), (&base, &old, false)] {
            let (params, into) = carry(from, to);
            for tensor in &layout.tensors[..layout.tensors.len() - 1] {
                assert_eq!(into[tensor.live()], params[tensor.live()], "{}", tensor.name);
            }
            assert_eq!(into[head.clone()].iter().all(|value| *value == -1.0), !with_head);
            assert!(!with_head || into[head.clone()] == params[head.clone()]);
        }
        let (_, into) = carry(&old, &base);
        assert!(
            Layout::new(&base).unwrap().tensors.iter().all(|t| into[t.range.start] == t.range.start as f32)
        );
        assert!(carry_over(&old, &[0.0], &new, &mut [0.0]).is_err());
    }

    #[test]
    fn a_model_too_large_to_count_is_refused() {
        let config =
            Config { n_embd: 4_294_967_292, n_head: 1, ..Config::preset("tiny", 4_000_000_000).unwrap() };
        assert!(Layout::new(&config).unwrap_err().to_string().contains("more parameters"));
    }
}
