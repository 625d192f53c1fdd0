//! `wikigpt finetune`.

pub mod classify;
pub mod complete;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::tuning::Given;

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
    Classify(Box<Given<classify::Arguments>>),
    /// Complete prompts: translate, summarise, answer
    #[command(args_override_self = true, after_help = complete::EXAMPLES)]
    Complete(Box<Given<complete::Arguments>>),
}

/// Fine-tunes.
pub fn run(arguments: Arguments) -> Result<()> {
    match arguments.task {
        Task::Classify(arguments) => classify::run(*arguments),
        Task::Complete(arguments) => complete::run(*arguments),
    }
}
