//! `wikigpt train`.

mod sample;
mod save;
mod start;
mod steps;
mod validate;

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::flags::Flags;

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
