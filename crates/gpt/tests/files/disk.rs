//! Disks that are full and folders that cannot be written to.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::tempdir;
use wikigpt_gpt::files::{Checkpoints, Extras, save_model};
use wikigpt_gpt::{Error, Result};

use crate::foreign::{contents, params, reader, small};

fn save_checkpoint(run: &Path, step: u64) -> Result<PathBuf> {
    let config = small();
    let arrays = [(); 3].map(|()| params(&config));
    Checkpoints::of(run).save(step, &config, &step, &Extras::default(), reader(&arrays))
}

fn export(folder: &Path) -> Result {
    let config = small();
    save_model(folder, &config, &params(&config), &Extras::default())
}

/// Asserts that an error names a file under its final name and how long it would have become.
fn assert_names(error: &Error, path: &Path, system: &str) {
    let Error::Write { path: found, bytes, .. } = error else { panic!("{error}") };
    assert!(found == path && *bytes > 100_000, "{found:?}, {bytes} bytes");
    let message = error.to_string();
    let expected = format!("{}: cannot write its {bytes} bytes: {system}", path.display());
    assert!(message.starts_with(&expected), "{message}");
}

/// A file system of a size, unmounted when dropped.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    /// `None` where mounting is not allowed.
    fn mount(options: &str) -> Option<Tmpfs> {
        let folder = tempdir().unwrap();
        let arguments = ["-t", "tmpfs", "-o", options, "tmpfs"];
        let mounted = Command::new("mount").args(arguments).arg(folder.path()).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Tmpfs(folder))
    }

    fn remount(&self, options: &str) {
        let mut mount = Command::new("mount");
        assert!(
            mount.arg("-o").arg(format!("remount,{options}")).arg(self.0.path()).status().unwrap().success()
        );
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_is_named_and_the_last_checkpoint_stays() {
    let Some(disk) = Tmpfs::mount("size=1m") else {
        println!(
            "skipped: a_full_disk_is_named_and_the_last_checkpoint_stays: a tmpfs cannot be mounted here"
        );
        return;
    };
    let run = disk.0.path().join("run");
    save_checkpoint(&run, 1).unwrap();
    let second = save_checkpoint(&run, 2).unwrap();
    // The model of the third fits, the optimizer's moments do not.
    let error = save_checkpoint(&run, 3).unwrap_err();
    assert_names(
        &error,
        &run.join("checkpoints/step-00000003/optimizer.safetensors"),
        "No space left on device",
    );
    assert_eq!(fs::read_dir(run.join("checkpoints")).unwrap().count(), 2);
    let newest = Checkpoints::of(&run).newest_good().unwrap().unwrap();
    assert_eq!(
        (newest.checkpoint.folder(), &contents(&newest.checkpoint).unwrap()[0]),
        (&*second, &params(&small()))
    );

    fs::write(disk.0.path().join("filler"), vec![0; 500_000]).unwrap_err();
    let error = export(&disk.0.path().join("export")).unwrap_err();
    assert_names(&error, &disk.0.path().join("export/model.safetensors"), "No space left on device");
    assert_eq!(fs::read_dir(disk.0.path()).unwrap().count(), 2);
}

#[test]
fn a_folder_that_cannot_be_written_to_is_named() {
    let below_a_file = tempdir().unwrap();
    fs::write(below_a_file.path().join("file"), "x").unwrap();
    let run = below_a_file.path().join("file/run");
    let message = save_checkpoint(&run, 1).unwrap_err().to_string();
    assert!(message.starts_with(&run.join("checkpoints").display().to_string()), "{message}");

    let Some(disk) = Tmpfs::mount("size=1m") else {
        println!("skipped: a_folder_that_cannot_be_written_to_is_named: a tmpfs cannot be mounted here");
        return;
    };
    disk.remount("ro");
    for error in
        [save_checkpoint(disk.0.path(), 1).unwrap_err(), export(&disk.0.path().join("new")).unwrap_err()]
    {
        let message = error.to_string();
        assert!(
            message.contains("Read-only file system") && message.contains(&*disk.0.path().to_string_lossy())
        );
    }
}

/// Runs itself in a process that may not write files of more than 100 KiB; needs no rights.
#[test]
fn a_limit_on_files_is_met_like_a_full_disk() {
    const FOLDER: &str = "WIKIGPT_TEST_LIMITED";
    if let Some(folder) = std::env::var_os(FOLDER) {
        let folder = Path::new(&folder);
        let error = export(&folder.join("export")).unwrap_err();
        assert_names(&error, &folder.join("export/model.safetensors"), "File too large");
        let error = save_checkpoint(folder, 1).unwrap_err();
        assert_names(&error, &folder.join("checkpoints/step-00000001/model.safetensors"), "File too large");
        std::process::exit(77);
    }
    let folder = tempdir().unwrap();
    // The shell ignores the signal that the limit would kill it by, and so does what it becomes.
    let status = Command::new("sh")
        .args([
            "-c",
            "trap '' XFSZ; ulimit -f 200; exec \"$0\" --exact disk::a_limit_on_files_is_met_like_a_full_disk",
        ])
        .arg(std::env::current_exe().unwrap())
        .env(FOLDER, folder.path())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(77));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "the folder of checkpoints");
    assert_eq!(fs::read_dir(folder.path().join("checkpoints")).unwrap().count(), 0);
}
