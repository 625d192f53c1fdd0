//! The binary `wikigpt`.
#![allow(non_snake_case)] // dimensions keep the field's upper-case names

mod classify;
mod cli;
mod commands;
mod complete;
mod config;
mod corpus;
mod device;
mod fault;
mod flags;
mod folder;
mod log;
mod metrics;
mod model;
mod origin;
mod output;
mod progress;
mod run_folder;
mod sampling;
mod scores;
mod seed;
mod serve;
mod settings;
mod shape;
mod signals;
mod stop;
mod tensorboard;
mod train;
mod tuning;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match cli::Cli::parse().command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if fault::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::note(&format!("error: {}", fault::sentence(&error)));
            fault::exit_status(&error).into()
        }
    }
}
