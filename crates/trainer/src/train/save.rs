//! What a checkpoint holds, and how it is put into a model again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use wikigpt_dataset::Dataset;
use wikigpt_gpt::{Gpt, hf};
use wikigpt_ops::Ops;

use super::steps::Position;
use crate::checkpoint::{self, FORMAT, State};
use crate::fault::bad_input;

const OPTIMIZER: &str = "optimizer.safetensors";

/// Saves a model, its optimizer and its place in the data.
pub fn save<O: Ops>(
    gpt: &mut Gpt<O>,
    checkpoints: &Path,
    position: &Position,
    dataset: &Dataset,
) -> Result<PathBuf> {
    let moments = gpt.optimizer()?;
    let state = State {
        format: FORMAT,
        step: position.step,
        micro_batches: position.micro_batches,
        tokens: position.tokens,
        optimizer_step: moments.step,
        data_sha256: data_digest(dataset),
        files: BTreeMap::new(),
    };
    let weights = gpt.weights()?;
    checkpoint::save(checkpoints, state, |folder| {
        hf::write_folder(folder, gpt.config(), &weights)?;
        dataset.tokenizer().save(folder)?;
        // Flat arrays in the order of the parameters, as training has them.
        let path = folder.join(OPTIMIZER);
        let tensors = [("exp_avg", &moments.m), ("exp_avg_sq", &moments.v)];
        let views = tensors.map(|(name, values)| {
            let view = TensorView::new(Dtype::F32, vec![values.len()], bytemuck::cast_slice(values));
            (name, view.expect("as many bytes as the shape says"))
        });
        serialize_to_file(views, None, &path)
            .map_err(safetensors_error)
            .context("cannot write the optimizer's state")
    })
}

/// Puts a checkpoint's moments into the model's optimizer.
pub fn load_optimizer<O: Ops>(gpt: &mut Gpt<O>, folder: &Path, state: &State) -> Result<()> {
    let path = folder.join(OPTIMIZER);
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let tensors = match SafeTensors::deserialize(&bytes) {
        Ok(tensors) => tensors,
        Err(error) => bad_input!("{}: not a safetensors file: {error}", path.display()),
    };
    let flat = |name: &str| -> Result<Vec<f32>> {
        match tensors.tensor(name) {
            Ok(view) if view.dtype() == Dtype::F32 => {
                let (values, _) = view.data().as_chunks();
                Ok(values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
            }
            _ => bad_input!("{}: no tensor {name} of f32 in it", path.display()),
        }
    };
    let (m, v) = (flat("exp_avg")?, flat("exp_avg_sq")?);
    gpt.set_optimizer(&m, &v, state.optimizer_step).with_context(|| format!("cannot use {}", path.display()))
}

/// What training data is recognised by.
pub fn data_digest(dataset: &Dataset) -> String {
    dataset.info().train.sha256.clone()
}

/// A full disk hides in the crate's own error: bring it out, so that it is reported as one.
fn safetensors_error(error: safetensors::SafeTensorError) -> anyhow::Error {
    match error {
        safetensors::SafeTensorError::IoError(error) => error.into(),
        other => other.into(),
    }
}
