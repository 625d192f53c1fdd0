//! Hugging Face's `config.json` and `generation_config.json` of a GPT-2.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::adapters::Base;
use super::archive::{file, read_json};
use crate::{Config, Lora, Result};

/// What Hugging Face calls a GPT-2 that tells labels apart.
const CLASSIFIER: &str = "GPT2ForSequenceClassification";

/// What is read. Other keys change nothing that is computed here: dropout, cache, generation, `reorder_and_upcast_attn`.
#[derive(Deserialize)]
struct Read {
    vocab_size: usize,
    n_positions: usize,
    n_ctx: Option<usize>,
    n_embd: usize,
    n_layer: usize,
    n_head: usize,
    n_inner: Option<usize>,
    activation_function: Option<String>,
    layer_norm_epsilon: Option<f32>,
    scale_attn_weights: Option<bool>,
    scale_attn_by_inverse_layer_idx: Option<bool>,
    add_cross_attention: Option<bool>,
    tie_word_embeddings: Option<bool>,
    architectures: Option<Vec<String>>,
    id2label: Option<BTreeMap<String, String>>,
    wikigpt: Option<Marker>,
}

/// What Hugging Face's configuration has no word for; `transformers` keeps it and reads past it.
#[derive(Default, Serialize, Deserialize)]
struct Marker {
    #[serde(skip_serializing_if = "Option::is_none")]
    bias: Option<bool>,
    /// Of the model that adapters are for, in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    base_crc32c: Option<String>,
    /// The α that these adapters were trained with; their own file has it in `b`.
    #[serde(skip_serializing_if = "Option::is_none")]
    lora_alpha: Option<f64>,
}

/// A `config.json` that has been checked.
pub(super) struct Settings {
    /// The shape; `bias` and `tied` are as the file would have them, and the tensors have the last word.
    pub config: Config,
    /// Whether the file says that the head has weights of its own.
    pub untied: bool,
    /// Whether the file says that the model is a classifier.
    pub classifies: bool,
    /// The names of a classifier's labels, where the file has any.
    pub labels: Option<Vec<String>>,
    /// [`Base::crc32c`](super::Base::crc32c), where the file lies beside adapters.
    pub base_crc32c: Option<u32>,
    /// The α of those adapters.
    pub lora_alpha: Option<f64>,
}

impl Settings {
    /// The shape as the file has it, where there are no tensors to settle it.
    pub fn alone(self) -> Config {
        let Settings { config, untied, classifies, labels, .. } = self;
        match labels.filter(|_| classifies) {
            Some(labels) => config.classifier(labels),
            None => Config { tied: !untied, ..config },
        }
    }
}

/// Reads and checks a `config.json`.
pub(super) fn read(path: &Path) -> Result<Settings> {
    let value: Value = read_json(path)?;
    let refuse = |message: String| Err(file(path, message));
    match value.get("model_type").and_then(Value::as_str) {
        Some("gpt2") => {}
        Some(other) => return refuse(format!("its model_type is '{other}'; only 'gpt2' can be read")),
        None => return refuse("it has no model_type; 'gpt2' is expected".into()),
    }
    let read: Read = match serde_json::from_value(value) {
        Ok(read) => read,
        Err(error) => return refuse(format!("not the configuration of a GPT-2: {error}")),
    };
    if let Some(activation) = read.activation_function
        && activation != "gelu_new"
        && activation != "gelu_pytorch_tanh"
    {
        return refuse(format!(
            "its activation_function is '{activation}'; only 'gelu_new' (the tanh form) can be computed"
        ));
    }
    if let Some(n_inner) = read.n_inner
        && Some(n_inner) != read.n_embd.checked_mul(4)
    {
        let C = read.n_embd;
        return refuse(format!(
            "its n_inner is {n_inner}; only 4·n_embd, with n_embd = {C}, can be computed"
        ));
    }
    if let Some(n_ctx) = read.n_ctx
        && n_ctx != read.n_positions
    {
        return refuse(format!("n_ctx is {n_ctx} but n_positions {}: they must be equal", read.n_positions));
    }
    for (name, setting, computed) in [
        ("scale_attn_weights", read.scale_attn_weights, true),
        ("scale_attn_by_inverse_layer_idx", read.scale_attn_by_inverse_layer_idx, false),
        ("add_cross_attention", read.add_cross_attention, false),
    ] {
        if setting.is_some_and(|setting| setting != computed) {
            return refuse(format!("its {name} is {}; only {computed} can be computed", !computed));
        }
    }
    let marker = read.wikigpt.unwrap_or_default();
    let config = Config {
        vocab_size: read.vocab_size,
        context: read.n_positions,
        n_layer: read.n_layer,
        n_head: read.n_head,
        n_embd: read.n_embd,
        bias: marker.bias.unwrap_or(true),
        tied: true,
        layernorm_eps: read.layer_norm_epsilon.unwrap_or(1e-5),
        labels: Vec::new(),
    };
    match config.validate() {
        Ok(()) => {}
        Err(error) => return refuse(error.to_string()),
    }
    let classifies = read.architectures.iter().flatten().any(|name| name == CLASSIFIER);
    let labels = match read.id2label.map(labels).transpose() {
        Ok(labels) => labels,
        Err(key) => {
            return refuse(format!("its id2label has the key '{key}', but labels are numbered from 0 on"));
        }
    };
    let crc = marker.base_crc32c.map(|crc| u32::from_str_radix(&crc, 16).map_err(|_| crc));
    let base_crc32c = match crc.transpose() {
        Ok(crc) => crc,
        Err(crc) => return refuse(format!("its base_crc32c is '{crc}', which is no CRC-32C in hexadecimal")),
    };
    let untied = read.tie_word_embeddings == Some(false);
    Ok(Settings { config, untied, classifies, labels, base_crc32c, lora_alpha: marker.lora_alpha })
}

/// The names of labels numbered from 0 on, in their order; else a key that is out of place.
fn labels(id2label: BTreeMap<String, String>) -> std::result::Result<Vec<String>, String> {
    let mut names = vec![None; id2label.len()];
    for (key, name) in id2label {
        match key.parse::<usize>().ok().and_then(|id| names.get_mut(id)) {
            Some(place @ None) => *place = Some(name),
            _ => return Err(key),
        }
    }
    Ok(names.into_iter().flatten().collect())
}

/// What `transformers` writes besides for a classifier.
#[derive(Serialize)]
struct LabelsWritten<'a> {
    id2label: BTreeMap<usize, &'a str>,
    label2id: BTreeMap<&'a str, usize>,
    /// What pads texts to one length at their end. Without it `transformers` takes one text at a time.
    pad_token_id: Option<u32>,
    problem_type: &'static str,
}

impl LabelsWritten<'_> {
    fn of(config: &Config, pad: Option<u32>) -> Option<LabelsWritten<'_>> {
        let names = || config.labels.iter().map(String::as_str);
        config.is_classifier().then(|| LabelsWritten {
            id2label: names().enumerate().collect(),
            label2id: names().zip(0..).collect(),
            pad_token_id: pad,
            problem_type: "single_label_classification",
        })
    }
}

/// What is written: the keys that `transformers` writes for a GPT-2.
#[derive(Serialize)]
struct Written<'a> {
    architectures: [&'static str; 1],
    model_type: &'static str,
    vocab_size: usize,
    n_positions: usize,
    n_ctx: usize,
    n_embd: usize,
    n_layer: usize,
    n_head: usize,
    n_inner: Option<usize>,
    activation_function: &'static str,
    resid_pdrop: f32,
    embd_pdrop: f32,
    attn_pdrop: f32,
    layer_norm_epsilon: f32,
    initializer_range: f32,
    scale_attn_weights: bool,
    scale_attn_by_inverse_layer_idx: bool,
    reorder_and_upcast_attn: bool,
    use_cache: bool,
    bos_token_id: Option<u32>,
    eos_token_id: Option<u32>,
    tie_word_embeddings: bool,
    torch_dtype: &'static str,
    #[serde(flatten)]
    labels: Option<LabelsWritten<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wikigpt: Option<Marker>,
}

/// The text of `config.json`; beside adapters, with the CRC-32C of the model that they are for, and their α.
pub(super) fn config_json(
    config: &Config,
    bos: Option<u32>,
    eos: Option<u32>,
    adapters: Option<(&Base, &Lora)>,
) -> String {
    let marker = Marker {
        bias: (!config.bias).then_some(false),
        base_crc32c: adapters.and_then(|(base, _)| base.crc32c).map(|crc| format!("{crc:08x}")),
        lora_alpha: adapters.map(|(_, lora)| lora.alpha),
    };
    pretty(&Written {
        architectures: [if config.is_classifier() { CLASSIFIER } else { "GPT2LMHeadModel" }],
        model_type: "gpt2",
        vocab_size: config.vocab_size,
        n_positions: config.context,
        n_ctx: config.context,
        n_embd: config.n_embd,
        n_layer: config.n_layer,
        n_head: config.n_head,
        n_inner: None,
        activation_function: "gelu_new",
        // GPT-2's own, which transformers applies in training only.
        resid_pdrop: 0.1,
        embd_pdrop: 0.1,
        attn_pdrop: 0.1,
        layer_norm_epsilon: config.layernorm_eps,
        initializer_range: 0.02,
        scale_attn_weights: true,
        scale_attn_by_inverse_layer_idx: false,
        reorder_and_upcast_attn: false,
        use_cache: true,
        bos_token_id: bos,
        eos_token_id: eos,
        // A classifier has no head for words; as a language model it would have to share the embeddings.
        tie_word_embeddings: config.tied || config.is_classifier(),
        torch_dtype: "float32",
        labels: LabelsWritten::of(config, eos),
        wikigpt: (marker.bias.is_some() || adapters.is_some()).then_some(marker),
    })
}

#[derive(Serialize)]
struct Generation {
    _from_model_config: bool,
    bos_token_id: Option<u32>,
    eos_token_id: Option<u32>,
}

/// The text of `generation_config.json`.
pub(super) fn generation_config_json(bos: Option<u32>, eos: Option<u32>) -> String {
    pretty(&Generation { _from_model_config: true, bos_token_id: bos, eos_token_id: eos })
}

#[derive(Serialize)]
struct TokenizerConfig<'a> {
    tokenizer_class: &'static str,
    model_max_length: usize,
    clean_up_tokenization_spaces: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    bos_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    eos_token: Option<&'a str>,
}

/// The text of `tokenizer_config.json` beside a `tokenizer.json`; `None` if that is no JSON.
///
/// Without it transformers takes the tokenizer for GPT-2's and adds `<|endoftext|>` to a vocabulary that has none.
pub(super) fn tokenizer_config_json(
    tokenizer: &str,
    config: &Config,
    bos: Option<u32>,
    eos: Option<u32>,
) -> Option<String> {
    let tokenizer: Value = serde_json::from_str(tokenizer).ok()?;
    let added = tokenizer.get("added_tokens").and_then(Value::as_array);
    let content = |id: Option<u32>| {
        let id = u64::from(id?);
        let token = added?.iter().find(|token| token.get("id").and_then(Value::as_u64) == Some(id))?;
        token.get("content")?.as_str()
    };
    Some(pretty(&TokenizerConfig {
        tokenizer_class: "PreTrainedTokenizerFast",
        model_max_length: config.context,
        clean_up_tokenization_spaces: false,
        bos_token: content(bos),
        eos_token: content(eos),
    }))
}

/// JSON for people.
pub(super) fn pretty<T: Serialize>(value: &T) -> String {
    serde_json::to_string_pretty(value).expect("strings, numbers and options") + "\n"
}
