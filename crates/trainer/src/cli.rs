//! The command line: what there is to type. What each command does is in `commands` and `train`.

use clap::{Parser, Subcommand};

use crate::commands::{doctor, eval, export, generate, import, inspect, plan, prepare};
use crate::train;

/// Trains, evaluates and samples GPT models, with hand-written operations and a hand-derived backward pass.
///
/// Begin with `wikigpt train`: it needs nothing, and trains a small model on articles that are part of this program.
#[derive(Parser)]
#[command(name = "wikigpt", version, max_term_width = 110, subcommand_required = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done.
#[derive(Subcommand)]
pub enum Command {
    /// Turn a corpus into token files
    Prepare(prepare::Arguments),
    /// Train a model
    #[command(args_override_self = true)]
    Train(Box<train::Arguments>),
    /// Measure a model's loss and perplexity on a split
    Eval(eval::Arguments),
    /// Let a model write
    Generate(generate::Arguments),
    /// Say what a model would cost, before anything is allocated
    #[command(args_override_self = true)]
    Plan(Box<plan::Arguments>),
    /// Say what a file or folder is and what is in it
    Inspect(inspect::Arguments),
    /// Turn a Hugging Face GPT-2 folder into a model folder
    Import(import::Arguments),
    /// Turn a model into a Hugging Face GPT-2 folder
    Export(export::Arguments),
    /// Describe this machine and what wikigpt can use of it
    Doctor(doctor::Arguments),
}

impl Command {
    /// Does it.
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Command::Prepare(arguments) => prepare::run(arguments),
            Command::Train(arguments) => train::run(*arguments),
            Command::Eval(arguments) => eval::run(arguments),
            Command::Generate(arguments) => generate::run(arguments),
            Command::Plan(arguments) => plan::run(*arguments),
            Command::Inspect(arguments) => inspect::run(arguments),
            Command::Import(arguments) => import::run(arguments),
            Command::Export(arguments) => export::run(arguments),
            Command::Doctor(arguments) => doctor::run(arguments),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_definitions_are_consistent() {
        super::Cli::command().debug_assert();
    }
}
