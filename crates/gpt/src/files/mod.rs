//! Model files: Hugging Face GPT-2 folders, checkpoints, and what [`describe`] says of either.
//!
//! A model folder holds `config.json` and `model.safetensors` in Hugging Face's names and layouts, so that
//! `transformers` reads it as it is; a checkpoint is such a folder with `optimizer.safetensors` and `state.json`
//! beside. Adapters are in a folder as PEFT writes it, which says where their model is. Nothing here trusts a file: sizes are checked against its length before anything is allocated, and every
//! refusal is a sentence that names the file and the tensor.

mod adapters;
mod archive;
mod checkpoint;
mod config_json;
mod describe;
mod folder;
mod huggingface;
mod locate;
mod tensors;

pub use adapters::{BASE, Base, export_adapters, link_model};
pub use checkpoint::{Checkpoint, Checkpoints, Found};
pub use describe::{AdaptersDescription, Description, TensorDescription, describe};
pub use huggingface::{Extras, Fill, Model, load_adapted, load_model, load_weights, save_model};
pub use locate::{ModelKind, ModelPath, model_path};
