//! `wikigpt export`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::model;

/// What `--help` ends with.
pub const EXAMPLES: &str = "\
Examples:
  wikigpt export runs/001 --out exported/    # transformers: AutoModelForCausalLM.from_pretrained(\"exported/\")
  wikigpt export runs/lora --adapters --base gpt2 --out adapters/    # PEFT: PeftModel.from_pretrained(model, \"adapters/\")

A model with LoRA adapters is written with them added to its weights, unless --adapters asks for them alone.";

/// Flags of `wikigpt export`.
#[derive(Args)]
pub struct Arguments {
    /// A run folder, a checkpoint, a model folder, or one of adapters
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Hugging Face folder to write; must not exist yet, or be empty
    #[arg(long, value_name = "HF_DIR")]
    out: PathBuf,
    /// The model that MODEL's adapters are for [default: where they say that it is]; with --adapters, what they will say
    #[arg(long, value_name = "MODEL")]
    base: Option<PathBuf>,
    /// Write MODEL's adapters alone, as PEFT reads them
    #[arg(long)]
    adapters: bool,
}

/// Writes config.json, generation_config.json, model.safetensors and, where the model has one, its tokenizer.
pub fn run(arguments: Arguments) -> Result<()> {
    let Arguments { model, out, base, adapters } = arguments;
    if adapters {
        return model::export_adapters(&model, base.as_deref(), &out);
    }
    model::convert(&model, base.as_deref(), &out)
}
