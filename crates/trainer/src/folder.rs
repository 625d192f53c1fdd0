//! Files that appear whole or not at all, and folders that must be new.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::fault::bad_input;

/// Refuses a folder to be written that already holds something.
pub fn check_new(path: &Path, flag: &str) -> Result<()> {
    match fs::read_dir(path) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                bad_input!(
                    "{flag} {} already holds files: choose a folder that is new or empty",
                    path.display()
                );
            }
            Ok(())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(_) if path.is_file() => bad_input!("{flag} {} is a file, not a folder", path.display()),
        Err(error) => Err(error).with_context(|| format!("cannot look into {flag} {}", path.display())),
    }
}

/// Writes a file under its final name only once all of it has reached the disk.
pub fn write_file(path: &Path, contents: &[u8]) -> Result<()> {
    let partial = parent(path).join(partial_name(path));
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&partial)?;
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&partial, path)?;
        File::open(parent(path))?.sync_all()
    };
    write()
        .inspect_err(|_| _ = fs::remove_file(&partial))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Removes what killed processes left half-written in a folder.
pub fn remove_partial(folder: &Path) -> Result<()> {
    let remove = || -> std::io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with('.') && name.contains(PARTIAL) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    };
    remove().with_context(|| format!("cannot tidy up {}", folder.display()))
}

const PARTIAL: &str = ".partial-";

fn partial_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    format!(".{name}{PARTIAL}{}", std::process::id())
}

/// The folder that holds `path`; `.` for a bare name.
fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_or_not_at_all() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("config.toml");
        write_file(&path, b"a longer text").unwrap();
        write_file(&path, b"short").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"short");
        // A folder in the way cannot be replaced by a file.
        let way = top.path().join("way");
        fs::create_dir_all(way.join("inside")).unwrap();
        assert!(write_file(&way, b"text").unwrap_err().to_string().contains("way"));
        assert_eq!(fs::read_dir(top.path()).unwrap().count(), 2, "nothing half-written");
    }

    #[test]
    fn leftovers_of_a_kill_are_removed_and_nothing_else() {
        let top = tempfile::tempdir().unwrap();
        for name in [".config.toml.partial-9", "config.toml", ".lock", "my.partial-1"] {
            fs::write(top.path().join(name), "x").unwrap();
        }
        remove_partial(top.path()).unwrap();
        let left = fs::read_dir(top.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut left: Vec<_> = left.collect();
        left.sort();
        assert_eq!(left, [".lock", "config.toml", "my.partial-1"]);
    }

    #[test]
    fn only_new_or_empty_folders_are_written_to() {
        let top = tempfile::tempdir().unwrap();
        let check = |path: &Path| check_new(path, "--out").map_err(|error| error.to_string());
        assert_eq!(check(&top.path().join("new")), Ok(()));
        assert_eq!(check(top.path()), Ok(()));
        fs::write(top.path().join("file"), "").unwrap();
        assert!(check(top.path()).unwrap_err().contains("already holds files"));
        assert!(check(&top.path().join("file")).unwrap_err().contains("is a file"));
    }
}
