//! `wikigpt finetune`.

pub mod classify;

use anyhow::Result;
use clap::{Args, Subcommand};

/// Flags of `wikigpt finetune`.
#[derive(Args)]
pub struct Arguments {
    /// The task.
    #[command(subcommand)]
    task: Task,
}

/// What a model can be made to do.
#[derive(Subcommand)]
enum Task {
    /// Tell texts apart by labels
    #[command(args_override_self = true, after_help = classify::EXAMPLES)]
    Classify(Box<classify::Arguments>),
}

/// Fine-tunes.
pub fn run(arguments: Arguments) -> Result<()> {
    match arguments.task {
        Task::Classify(arguments) => classify::run(*arguments),
    }
}
