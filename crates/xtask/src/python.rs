//! Python environments of the project's own, below `target`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{run, target};

/// A virtual environment `target/NAME` with the packages that `requirements` lists, made once; its interpreter.
///
/// It is made anew when the list has changed since.
pub fn environment(name: &str, requirements: &Path) -> Result<PathBuf> {
    let venv = target().join(name);
    let python = venv.join("bin/python");
    let stamp = venv.join("installed-requirements.txt"); // tools/peers/setup.sh writes it too
    let wanted =
        std::fs::read(requirements).with_context(|| format!("reading {}", requirements.display()))?;
    if python.exists() && std::fs::read(&stamp).is_ok_and(|have| have == wanted) {
        return Ok(python);
    }
    eprintln!("installing {} into {}", requirements.display(), venv.display());
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))
        .context("making a virtual environment (Debian's package is python3-venv)")?;
    // The lists name everything that is needed: what a package would pull in besides is for other uses of it.
    let pip = ["-m", "pip", "install", "--quiet", "--no-deps", "--requirement"];
    run(Command::new(&python).args(pip).arg(requirements))?;
    std::fs::write(&stamp, wanted)?;
    Ok(python)
}
