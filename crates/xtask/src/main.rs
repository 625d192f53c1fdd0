//! What developers and CI run: `cargo xtask COMMAND`.

mod emulator;
mod interop;
mod kernels;
mod python;
mod test;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::Parser;

/// Tasks of the workspace.
#[derive(Parser)]
#[command(name = "cargo xtask")]
enum Task {
    /// Every test of the workspace, and TensorBoard's own reader on the events of a run.
    ///
    /// Tests on real text find it by WIKIGPT_DATA, a folder with wikitext-2/wikitext-2-v1.zip; without it they are
    /// skipped, and the last lines say so.
    Test,
    /// Loads an exported model in Hugging Face transformers and compares its logits with ours.
    ///
    /// Installs CPU PyTorch and transformers into target/peers-venv; too heavy for each run of CI.
    Interop,
    /// What each kernel takes of a multiprocessor, by NVRTC's report, and what it does to memory, counted on the emulator.
    ///
    /// Fails if a kernel is compiled with a warning or keeps registers in local memory.
    Kernels {
        /// Only programs and ops whose names contain it.
        #[arg(default_value = "")]
        filter: String,
        /// For every architecture that there are kernels for, not only sm_90a.
        #[arg(long)]
        all: bool,
        /// This is the emulator: how the program calls itself.
        #[arg(long, hide = true)]
        on_emulator: bool,
    },
    /// Builds the emulated driver, target/emulator/libcuda.so, and sees that NVRTC is there.
    ///
    /// Without a CUDA toolkit NVRTC is installed into target/nvrtc-venv.
    Emulator,
    /// Runs a program on the emulated driver: `cargo xtask emulated -- PROGRAM ARGS`.
    Emulated {
        /// The program and its arguments.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    let done = match Task::parse() {
        Task::Test => test::run(),
        Task::Interop => interop::run(),
        Task::Kernels { filter, all, on_emulator: true } => kernels::report(&filter, all),
        Task::Kernels { filter, all, .. } => kernels::run(&filter, all),
        Task::Emulator => emulator::run(),
        Task::Emulated { command } => emulator::emulated(&command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The workspace's root folder.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .expect("xtask lies in the workspace")
}

/// Where cargo builds.
fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The cargo that runs this program.
fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Runs a command to its end; an error unless it succeeds.
fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{command:?} did not start"))?;
    if !status.success() {
        bail!("{command:?} failed: {status}");
    }
    Ok(())
}
