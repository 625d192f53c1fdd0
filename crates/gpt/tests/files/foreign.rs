//! Model folders written here by hand, with the safetensors crate's own serializer: what other programs write.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};
use wikigpt_gpt::files::Checkpoint;
use wikigpt_gpt::{Array, Config, Layout, Result, Tensor};

/// Tensors by name: type, shape, bytes.
pub type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// A shape with a square attention projection, a vocabulary to be padded, and several layers.
pub fn small() -> Config {
    Config { n_layer: 2, n_head: 2, n_embd: 34, context: 9, ..Config::preset("tiny", 65).unwrap() }
}

/// A value for each element of a tensor: exact in bf16, distinct between neighbours.
pub fn value(name: &str, at: usize) -> f32 {
    let seed = name.bytes().fold(7, |sum, byte| (sum * 31 + usize::from(byte)) % 97);
    let step = (seed * 13 + at * 7) % 251;
    (step as f32 - 125.0) / 64.0
}

/// Flat parameters of these values, in the layout's own order within each tensor.
pub fn params(config: &Config) -> Vec<f32> {
    let layout = Layout::new(config).unwrap();
    let mut params = vec![0.0; layout.len];
    for tensor in &layout.tensors {
        for (at, out) in params[tensor.live()].iter_mut().enumerate() {
            *out = value(&tensor.name, at);
        }
    }
    params
}

/// Parameters and moments, by [`Array`].
pub type Arrays = [Vec<f32>; 3];

/// What a checkpoint of these is saved from.
pub fn reader(arrays: &Arrays) -> impl FnMut(Array, usize, &mut [f32]) -> Result {
    move |array, start, out| {
        out.copy_from_slice(&arrays[array as usize][start..start + out.len()]);
        Ok(())
    }
}

/// What a checkpoint holds.
pub fn contents(checkpoint: &Checkpoint) -> Result<Arrays> {
    contents_of(checkpoint, Layout::new(checkpoint.config())?.len)
}

/// The same where the arrays are so long.
pub fn contents_of(checkpoint: &Checkpoint, len: usize) -> Result<Arrays> {
    let mut arrays = [(); 3].map(|()| vec![0.0; len]);
    checkpoint.read(|array, start, values| {
        arrays[array as usize][start..start + values.len()].copy_from_slice(values);
        Ok(())
    })?;
    Ok(arrays)
}

/// The matrices that Hugging Face keeps as (in,out).
fn is_conv1d(tensor: &Tensor) -> bool {
    ["c_attn.weight", "c_proj.weight", "c_fc.weight"].iter().any(|end| tensor.name.ends_with(end))
}

/// [`params`] as Hugging Face would hold them: `T[i][o]` of a linear layer's file is `w[o][i]`.
pub fn tensors(config: &Config, prefix: &str, dtype: Dtype) -> Tensors {
    let mut tensors = Tensors::new();
    for tensor in &Layout::new(config).unwrap().tensors {
        let mut values: Vec<f32> = (0..tensor.size()).map(|at| value(&tensor.name, at)).collect();
        let mut shape = tensor.shape.clone();
        if is_conv1d(tensor) {
            let [rows, columns] = shape[..] else { panic!("a matrix") };
            values = (0..tensor.size()).map(|k| values[k % rows * columns + k / rows]).collect();
            shape.reverse();
        }
        let prefix = if tensor.name.starts_with("lm_head") { "" } else { prefix };
        tensors.insert(format!("{prefix}{}", tensor.name), (dtype, shape, bytes(&values, dtype)));
    }
    tensors
}

/// Values as bytes of a type.
pub fn bytes(values: &[f32], dtype: Dtype) -> Vec<u8> {
    let of = |value: &f32| match dtype {
        Dtype::F32 => value.to_le_bytes().to_vec(),
        Dtype::F16 => f16::from_f32(*value).to_le_bytes().to_vec(),
        Dtype::BF16 => bf16::from_f32(*value).to_le_bytes().to_vec(),
        Dtype::F64 => f64::from(*value).to_le_bytes().to_vec(),
        other => panic!("{other}"),
    };
    values.iter().flat_map(of).collect()
}

/// A `config.json` with nothing but what a GPT-2 needs.
pub fn config_json(config: &Config) -> Value {
    json!({
        "model_type": "gpt2",
        "vocab_size": config.vocab_size,
        "n_positions": config.context,
        "n_embd": config.n_embd,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
    })
}

/// A safetensors file of these tensors.
pub fn serialize(tensors: &Tensors) -> Vec<u8> {
    let views = tensors.iter().map(|(name, (dtype, shape, bytes))| {
        (name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    safetensors::serialize(views, None).unwrap()
}

/// Writes a model folder.
pub fn write(folder: &Path, config: &Value, tensors: &Tensors) {
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    fs::write(folder.join("model.safetensors"), serialize(tensors)).unwrap();
}
