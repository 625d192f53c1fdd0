//! Folders and files that appear whole or not at all.

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

/// Creates a folder under its final name only once `fill` has filled it and everything has reached the disk.
///
/// `fill` gets a folder beside the final one, which is removed if anything fails. What had the final name is replaced.
pub fn write_whole(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let parent = parent(path);
    let created = create_with_parents(&parent)?;
    let partial = parent.join(partial_name(path));
    let result = fs::create_dir(&partial)
        .with_context(|| format!("cannot create a folder in {}", parent.display()))
        .and_then(|()| fill(&partial))
        .and_then(|()| sync_all(&partial))
        .and_then(|()| replace(path, &partial).with_context(|| format!("cannot write {}", path.display())));
    if result.is_err() {
        let _ = fs::remove_dir_all(&partial);
        // Leave nothing behind that was not there before; fails, rightly, where something else has moved in.
        for folder in created.iter().rev() {
            let _ = fs::remove_dir(folder);
        }
    }
    result
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
pub fn remove_partial(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if is_partial(&entry.file_name().to_string_lossy()) {
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
    }
    Ok(())
}

fn partial_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    format!(".{name}.partial-{}", std::process::id())
}

fn is_partial(name: &str) -> bool {
    name.starts_with('.') && name.contains(".partial-")
}

/// The folder that holds `path`; `.` for a bare name.
fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// Creates a folder and those above it; returns the ones that were not there, outermost first.
fn create_with_parents(folder: &Path) -> Result<Vec<PathBuf>> {
    let missing =
        folder.ancestors().take_while(|f| !f.as_os_str().is_empty() && !f.exists()).map(Path::to_path_buf);
    let mut missing: Vec<_> = missing.collect();
    missing.reverse();
    fs::create_dir_all(folder).with_context(|| format!("cannot create the folder {}", folder.display()))?;
    Ok(missing)
}

/// Gives `partial` the name `path`, whatever has it now.
fn replace(path: &Path, partial: &Path) -> std::io::Result<()> {
    // Renaming over an empty folder works; one with files has to step aside first.
    let mut old = partial.as_os_str().to_owned();
    old.push("-old");
    let occupied = fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
    if occupied {
        fs::rename(path, &old)?;
    }
    if let Err(error) = fs::rename(partial, path) {
        if occupied {
            let _ = fs::rename(&old, path);
        }
        return Err(error);
    }
    File::open(parent(path))?.sync_all()?;
    if occupied {
        fs::remove_dir_all(&old)?;
    }
    Ok(())
}

/// Waits until all files of a folder (one level) and the folder itself have reached the disk.
fn sync_all(folder: &Path) -> Result<()> {
    let sync = || -> std::io::Result<()> {
        for entry in fs::read_dir(folder)? {
            File::open(entry?.path())?.sync_all()?;
        }
        File::open(folder)?.sync_all()
    };
    sync().with_context(|| format!("cannot write to {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_leaves_nothing_behind() {
        let top = tempfile::tempdir().unwrap();
        let target = top.path().join("a/b/model");
        let result = write_whole(&target, |folder| {
            fs::write(folder.join("half"), b"x")?;
            anyhow::bail!("disk full")
        });
        assert!(result.is_err());
        assert_eq!(fs::read_dir(top.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_older_folder_is_replaced_as_a_whole() {
        let top = tempfile::tempdir().unwrap();
        let target = top.path().join("model");
        for (file, content) in [("old", "1"), ("new", "2")] {
            write_whole(&target, |folder| Ok(fs::write(folder.join(file), content)?)).unwrap();
        }
        assert!(!target.join("old").exists());
        assert_eq!(fs::read_to_string(target.join("new")).unwrap(), "2");
        assert_eq!(fs::read_dir(top.path()).unwrap().count(), 1);
    }

    #[test]
    fn leftovers_of_a_kill_are_removed_and_nothing_else() {
        let top = tempfile::tempdir().unwrap();
        fs::create_dir(top.path().join(".step-00000005.partial-77")).unwrap();
        fs::write(top.path().join(".config.toml.partial-9"), "x").unwrap();
        fs::create_dir(top.path().join("step-00000005")).unwrap();
        remove_partial(top.path()).unwrap();
        let left: Vec<_> = fs::read_dir(top.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["step-00000005"]);
    }
}
