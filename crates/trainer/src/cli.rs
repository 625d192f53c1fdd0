//! The command line: what there is to type. What each command does is in `commands` and `train`.

use clap::{Parser, Subcommand};

use crate::commands::{
    classify, complete, doctor, eval, export, finetune, generate, import, inspect, plan, prepare, score,
    serve,
};
use crate::train;

const AFTER_HELP: &str = "\
Examples:
  wikigpt train
  wikigpt generate runs/001 --prompt \"The river\"
  wikigpt prepare wikitext-2 --tokenizer gpt2 --out data/wikitext-2
  wikigpt train --data data/wikitext-2 --preset medium --out runs/wikitext-2
  wikigpt eval runs/wikitext-2 --data data/wikitext-2 --split test --stride 128

Results go to stdout, everything else to stderr. Exit status: 0 success (also where Ctrl-C or SIGTERM made a run save \
and stop), 2 wrong usage or bad input, 1 anything else that failed.";

/// Trains, evaluates and samples GPT models, with hand-written operations and a hand-derived backward pass.
///
/// Begin with `wikigpt train`: it needs nothing, and trains a small model on articles that are part of this program.
#[derive(Parser)]
#[command(name = "wikigpt", version, max_term_width = 110, subcommand_required = true, after_help = AFTER_HELP)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done.
#[derive(Subcommand)]
pub enum Command {
    /// Turn a corpus into token files
    #[command(args_override_self = true, after_help = prepare::EXAMPLES)]
    Prepare(prepare::Arguments),
    /// Train a model
    #[command(args_override_self = true, after_help = train::EXAMPLES)]
    Train(Box<train::Arguments>),
    /// Teach a trained model a task
    Finetune(finetune::Arguments),
    /// Label texts
    #[command(args_override_self = true, after_help = classify::EXAMPLES)]
    Classify(classify::Arguments),
    /// Complete prompts with a model that was fine-tuned for it
    #[command(args_override_self = true, after_help = complete::EXAMPLES)]
    Complete(Box<complete::Arguments>),
    /// Measure a model's loss and perplexity on a split
    #[command(args_override_self = true, after_help = eval::EXAMPLES)]
    Eval(eval::Arguments),
    /// Let a model write
    #[command(args_override_self = true, after_help = generate::EXAMPLES)]
    Generate(generate::Arguments),
    /// Score texts beside references: BLEU, ROUGE-L, exact match and F1
    #[command(args_override_self = true, after_help = score::EXAMPLES)]
    Score(score::Arguments),
    /// Answer requests over HTTP as OpenAI does, and show a page to try a model in
    #[command(args_override_self = true, after_help = serve::EXAMPLES)]
    Serve(serve::Arguments),
    /// Say what a model would cost, before anything is allocated
    #[command(args_override_self = true, after_help = plan::EXAMPLES)]
    Plan(Box<plan::Arguments>),
    /// Say what a file or folder is and what is in it
    #[command(args_override_self = true, after_help = inspect::EXAMPLES)]
    Inspect(inspect::Arguments),
    /// Turn a Hugging Face GPT-2 folder into a model folder
    #[command(args_override_self = true, after_help = import::EXAMPLES)]
    Import(import::Arguments),
    /// Turn a model into a Hugging Face GPT-2 folder
    #[command(args_override_self = true, after_help = export::EXAMPLES)]
    Export(export::Arguments),
    /// Describe this machine and what wikigpt can use of it
    #[command(args_override_self = true, after_help = doctor::EXAMPLES)]
    Doctor(doctor::Arguments),
}

impl Command {
    /// Does it.
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Command::Prepare(arguments) => prepare::run(arguments),
            Command::Train(arguments) => train::run(*arguments),
            Command::Finetune(arguments) => finetune::run(arguments),
            Command::Classify(arguments) => classify::run(arguments),
            Command::Complete(arguments) => complete::run(*arguments),
            Command::Eval(arguments) => eval::run(arguments),
            Command::Generate(arguments) => generate::run(arguments),
            Command::Score(arguments) => score::run(arguments),
            Command::Serve(arguments) => serve::run(arguments),
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
