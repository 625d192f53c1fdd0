//! A model's shape.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The logits' rows are padded to a multiple of this, so that matrix tiles and 16-byte accesses fit any vocabulary.
const VOCABULARY_TILE: usize = 128;

/// The shape of a GPT: GPT-2's architecture (pre-norm, learned positions, tanh GELU, a hidden layer of 4·C).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// V: tokens that the model knows.
    pub vocab_size: usize,
    /// The most positions that the model sees at once, and the rows of its position table.
    pub context: usize,
    /// L: blocks.
    pub n_layer: usize,
    /// NH: attention heads.
    pub n_head: usize,
    /// C: channels.
    pub n_embd: usize,
    /// Whether linear layers and layer norms have biases.
    #[serde(default = "yes")]
    pub bias: bool,
    /// Whether the head shares the token embedding's weights.
    #[serde(default = "yes")]
    pub tied: bool,
    /// What layer norms add to the variance.
    #[serde(default = "layernorm_eps")]
    pub layernorm_eps: f32,
    /// The names of what a classifier tells apart, in the order of its head's rows; none for a language model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
}

fn yes() -> bool {
    true
}

fn layernorm_eps() -> f32 {
    1e-5
}

/// A preset's name, then L, NH, C and the context.
const PRESETS: [(&str, usize, usize, usize, usize); 8] = [
    ("tiny", 2, 2, 64, 64),
    ("small", 4, 4, 128, 128),
    ("medium", 6, 6, 384, 256),
    ("gpt2", 12, 12, 768, 1024),
    ("gpt2-124m", 12, 12, 768, 1024),
    ("gpt2-355m", 24, 16, 1024, 1024),
    ("gpt2-774m", 36, 20, 1280, 1024),
    ("gpt2-1558m", 48, 25, 1600, 1024),
];

impl Config {
    /// A preset of a given vocabulary: `tiny`, `small`, `medium`, and GPT-2's four sizes.
    ///
    /// # Errors
    /// [`Error::Config`] when there is no such preset.
    pub fn preset(name: &str, vocab_size: usize) -> Result<Config> {
        let found = PRESETS.iter().find(|preset| preset.0.eq_ignore_ascii_case(name));
        let Some(&(_, n_layer, n_head, n_embd, context)) = found else {
            let names = Self::preset_names().collect::<Vec<_>>().join(", ");
            return Err(Error::Config(format!("there is no preset '{name}': choose one of {names}")));
        };
        Ok(Config {
            vocab_size,
            context,
            n_layer,
            n_head,
            n_embd,
            bias: true,
            tied: true,
            layernorm_eps: layernorm_eps(),
            labels: Vec::new(),
        })
    }

    /// The names that [`Config::preset`] takes.
    pub fn preset_names() -> impl Iterator<Item = &'static str> {
        PRESETS.iter().map(|preset| preset.0)
    }

    /// Refuses a shape that no model can have.
    ///
    /// # Errors
    /// [`Error::Config`] naming the dimension.
    pub fn validate(&self) -> Result {
        let dimensions = [
            ("the vocabulary", self.vocab_size),
            ("the context", self.context),
            ("the number of layers", self.n_layer),
            ("the number of heads", self.n_head),
            ("the number of channels", self.n_embd),
        ];
        for (name, size) in dimensions {
            // The token u32::MAX is IGNORE; no dimension of a real model comes near it.
            if size == 0 || size >= u32::MAX as usize {
                return Err(Error::Config(format!("{name} must be between 1 and 4294967294, got {size}")));
            }
        }
        // The tables of layers are lists in host memory; the deepest GPT has some hundred layers.
        if self.n_layer > 65_536 {
            return Err(Error::Config(format!(
                "the number of layers must be at most 65536, got {}",
                self.n_layer
            )));
        }
        if !self.n_embd.is_multiple_of(self.n_head) {
            return Err(Error::Config(format!(
                "{} channels cannot be shared out among {} heads: make n_embd a multiple of n_head",
                self.n_embd, self.n_head
            )));
        }
        if !(self.layernorm_eps.is_finite() && self.layernorm_eps > 0.0) {
            return Err(Error::Config(format!(
                "layernorm_eps must be above 0 and finite, got {}",
                self.layernorm_eps
            )));
        }
        self.validate_labels()
    }

    fn validate_labels(&self) -> Result {
        let refuse = |message: String| Err(Error::Config(message));
        if self.is_classifier() && self.tied {
            return refuse("a classifier's head has weights of its own: `tied` must be false".into());
        }
        if let [only] = &self.labels[..] {
            return refuse(format!(
                "a classifier tells two labels apart at least, and '{only}' is the only one"
            ));
        }
        let mut seen = HashSet::new();
        match self.labels.iter().find(|label| !seen.insert(*label)) {
            Some(twice) => refuse(format!("two of a classifier's labels are '{twice}'")),
            None => Ok(()),
        }
    }

    /// The same model with a head that tells these labels apart instead of tokens.
    pub fn classifier(self, labels: Vec<String>) -> Config {
        Config { labels, tied: false, ..self }
    }

    /// Whether the head tells labels apart; else it is a language model's.
    pub fn is_classifier(&self) -> bool {
        !self.labels.is_empty()
    }

    /// The head's rows: the labels of a classifier, the vocabulary of a language model.
    pub fn outputs(&self) -> usize {
        if self.is_classifier() { self.labels.len() } else { self.vocab_size }
    }

    /// The same, padded to a multiple of 128.
    pub fn padded_outputs(&self) -> usize {
        self.outputs().next_multiple_of(VOCABULARY_TILE)
    }

    /// HS = C / NH.
    pub fn head_size(&self) -> usize {
        self.n_embd / self.n_head
    }

    /// Vp: the vocabulary padded to a multiple of 128.
    pub fn padded_vocab(&self) -> usize {
        self.vocab_size.next_multiple_of(VOCABULARY_TILE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_valid() {
        for name in Config::preset_names() {
            Config::preset(name, 50_257).unwrap().validate().unwrap();
        }
    }

    #[test]
    fn impossible_shapes_are_named() {
        let good = Config::preset("small", 256).unwrap();
        let bad = [
            (Config { n_head: 3, ..good.clone() }, "128 channels cannot be shared out among 3 heads"),
            (Config { n_layer: 0, ..good.clone() }, "the number of layers must be between"),
            (Config { vocab_size: u32::MAX as usize, ..good.clone() }, "the vocabulary must be between"),
            (Config { layernorm_eps: f32::NAN, ..good.clone() }, "layernorm_eps must be above 0"),
        ];
        let labelled =
            |labels: &[&str]| good.clone().classifier(labels.iter().map(|l| (*l).into()).collect());
        let bad = bad.into_iter().chain([
            (labelled(&["yes"]), "'yes' is the only one"),
            (labelled(&["yes", "no", "yes"]), "two of a classifier's labels are 'yes'"),
            (Config { tied: true, ..labelled(&["yes", "no"]) }, "`tied` must be false"),
        ]);
        for (config, message) in bad {
            let error = config.validate().unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
        assert!(Config::preset("huge", 256).unwrap_err().to_string().contains("gpt2-124m"));
    }
}
