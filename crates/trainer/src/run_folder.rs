//! A run's folder: where things are in it, and that only one process writes there.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::fault::bad_input;
use crate::{config, folder};

/// A run folder that this process holds.
pub struct RunFolder {
    path: PathBuf,
    /// Whether this process made it.
    is_new: bool,
    // Held until the process ends, however it ends.
    _lock: File,
}

impl RunFolder {
    /// Makes a folder for a new run: `out`, or the next free number under `runs`.
    pub fn create(out: Option<&Path>) -> Result<Self> {
        let path = match out {
            Some(path) => {
                folder::check_new(path, "--out")?;
                fs::create_dir_all(path)
                    .with_context(|| format!("cannot create the run folder {}", path.display()))?;
                path.to_path_buf()
            }
            None => create_numbered(Path::new("runs"))?,
        };
        let run = Self::lock(path.clone()).inspect_err(|_| _ = fs::remove_dir_all(&path))?;
        Ok(RunFolder { is_new: true, ..run })
    }

    /// Opens the folder of a run that is to go on; `file` is what such runs of `wikigpt COMMAND` have.
    pub fn open(path: &Path, file: &str, command: &str) -> Result<Self> {
        if !path.is_dir() {
            bad_input!("--resume {}: there is no such run folder", path.display());
        }
        if !path.join(file).is_file() {
            bad_input!(
                "--resume {}: not a run folder of `wikigpt {command}` (it has no {file})",
                path.display()
            );
        }
        Self::lock(path.to_path_buf())
    }

    fn lock(path: PathBuf) -> Result<Self> {
        let name = path.join(".lock");
        let file = OpenOptions::new().create(true).append(true).open(&name);
        let file = file.with_context(|| format!("cannot write into {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(RunFolder { path, is_new: false, _lock: file }),
            Err(TryLockError::WouldBlock) => bad_input!("another process is training in {}", path.display()),
            // File systems without locks: nothing to be done.
            Err(TryLockError::Error(_)) => Ok(RunFolder { path, is_new: false, _lock: file }),
        }
    }

    /// Removes the folder of a run that could not begin; one that was there before stays.
    pub fn discard(&self) {
        if self.is_new {
            let _ = fs::remove_dir_all(&self.path);
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The settings that repeat the run.
    pub fn config(&self) -> PathBuf {
        self.path.join(config::FILE)
    }
}

/// Creates the next of `runs/001`, `runs/002`, …
fn create_numbered(runs: &Path) -> Result<PathBuf> {
    let create = || -> std::io::Result<PathBuf> {
        fs::create_dir_all(runs)?;
        let number =
            |entry: std::io::Result<fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse::<u64>().ok();
        let mut next = fs::read_dir(runs)?.filter_map(number).max().unwrap_or(0) + 1;
        loop {
            let path = runs.join(format!("{next:03}"));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(path),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => next += 1,
                Err(error) => return Err(error),
            }
        }
    };
    create().with_context(|| format!("cannot create a run folder in {}", runs.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_numbered() {
        let top = tempfile::tempdir().unwrap();
        let runs = top.path().join("runs");
        assert_eq!(create_numbered(&runs).unwrap(), runs.join("001"));
        fs::create_dir(runs.join("041")).unwrap();
        fs::create_dir(runs.join("my run")).unwrap();
        assert_eq!(create_numbered(&runs).unwrap(), runs.join("042"));
    }

    #[test]
    fn a_new_run_that_cannot_begin_leaves_nothing() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("run");
        RunFolder::create(Some(&path)).unwrap().discard();
        assert!(!path.exists());
    }

    #[test]
    fn a_run_has_one_writer() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("run");
        let first = RunFolder::create(Some(&path)).unwrap();
        fs::write(first.config(), "").unwrap();
        let open = || RunFolder::open(&path, config::FILE, "train");
        assert!(open().err().unwrap().to_string().contains("another process"));
        drop(first);
        open().unwrap().discard();
        assert!(path.is_dir(), "a run that was there is not discarded");
        assert!(RunFolder::create(Some(&path)).err().unwrap().to_string().contains("already holds files"));
    }
}
