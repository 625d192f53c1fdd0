//! `wikigpt train`.

mod sample;
pub mod save;
mod start;
mod steps;
mod validate;

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::flags::Flags;

/// What `--help` ends with.
pub const EXAMPLES: &str = "\
Examples:
  wikigpt train
  wikigpt train --data data/wikitext-2 --preset medium --epochs 2 --out runs/medium
  wikigpt train --n-layer 6 --n-head 6 --n-embd 384 --context 256 --batch 8 --tokens-per-step 8192 --lr 6e-4
  wikigpt train --config runs/001/config.toml --seed 2
  wikigpt train --resume runs/001 --steps 2000

Ctrl-C and SIGTERM let the step under way end, save and stop (exit status 0); a second signal stops at once. \
`wikigpt train --resume RUN` goes on from the newest good checkpoint, bit for bit as if it had never stopped.";

/// Flags of `wikigpt train`.
#[derive(Args)]
pub struct Arguments {
    /// Settings from a TOML file: its keys are these flags without their dashes; flags win
    #[arg(long, value_name = "TOML")]
    config: Option<PathBuf>,
    /// Go on with a run from its newest checkpoint; with --steps N, to step N in all
    #[arg(long, value_name = "RUN", conflicts_with_all = ["config", "out", "init"])]
    resume: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
}

/// Trains.
pub fn run(arguments: Arguments) -> Result<()> {
    match &arguments.resume {
        Some(run) => start::resumed(run, &arguments.flags),
        None => start::fresh(arguments.config.as_deref(), &arguments.flags),
    }
}
