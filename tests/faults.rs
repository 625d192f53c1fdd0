//! A disk that fills up, and folders that cannot be written.

mod common;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{TINY, ok, run, text, train_tiny, tree};

/// A small file system in memory, unmounted at the end.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// Mounts one of so many KiB, or prints why the test is skipped.
    fn mount(test: &str, kib: usize) -> Option<SmallDisk> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={kib}k"), "tmpfs"]).arg(folder.path());
        match mount.output() {
            Ok(output) if output.status.success() => Some(SmallDisk(folder)),
            Ok(output) => {
                println!("skipped: {test}: cannot mount a tmpfs ({})", text(&output.stderr).trim());
                None
            }
            Err(error) => {
                println!("skipped: {test}: cannot run mount ({error})");
                None
            }
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Leaves so many KiB free.
    fn fill_but(&self, kib: usize) {
        let path = self.at("filler");
        let mut file = File::create(&path).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
        let length = file.metadata().unwrap().len();
        file.set_len(length.saturating_sub(kib as u64 * 1024)).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

/// Fails as for a full disk: status 1, one sentence that says so.
#[track_caller]
fn assert_disk_full(arguments: &[&str]) {
    let output = run(arguments);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("No space left on device") || stderr.contains("no space"), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    assert_eq!(stderr.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{stderr}");
}

#[test]
fn prepare_on_a_full_disk() {
    let Some(disk) = SmallDisk::mount("prepare_on_a_full_disk", 512) else { return };
    let top = tempfile::tempdir().unwrap();
    let source = top.path().join("text.txt");
    fs::write(&source, "A line of text that is long enough to matter.\n".repeat(20_000)).unwrap();
    let (source, out) = (source.to_str().unwrap(), disk.at("data"));
    assert_disk_full(&["prepare", "--text", source, "--tokenizer", "bytes", "--out", out.to_str().unwrap()]);
    assert!(tree(disk.0.path()).is_empty(), "left behind: {:?}", tree(disk.0.path()));
}

#[test]
fn a_checkpoint_on_a_full_disk() {
    let Some(disk) = SmallDisk::mount("a_checkpoint_on_a_full_disk", 4096) else { return };
    let folder = disk.at("run");
    train_tiny(&folder, &["--steps", "10", "--keep", "0"]);
    let good = tree(&folder.join("checkpoints"));
    disk.fill_but(24);
    assert_disk_full(&["train", "--resume", folder.to_str().unwrap(), "--steps", "20"]);
    assert_eq!(tree(&folder.join("checkpoints")), good, "the last good checkpoint, and nothing else");
    // With room again the run goes on.
    fs::remove_file(disk.at("filler")).unwrap();
    ok(["train", "--resume", folder.to_str().unwrap(), "--steps", "20"]);
}

#[test]
fn export_on_a_full_disk() {
    let Some(disk) = SmallDisk::mount("export_on_a_full_disk", 256) else { return };
    let top = tempfile::tempdir().unwrap();
    let folder = top.path().join("run");
    train_tiny(&folder, &["--steps", "1"]);
    disk.fill_but(16);
    let out = disk.at("model");
    assert_disk_full(&["export", folder.to_str().unwrap(), "--out", out.to_str().unwrap()]);
    assert_eq!(tree(disk.0.path()), [disk.at("filler")]);
}

#[test]
fn folders_that_cannot_be_written() {
    // Root may write anywhere but below a file and in /proc.
    let top = tempfile::tempdir().unwrap();
    let source = top.path().join("text.txt");
    fs::write(&source, "text\n".repeat(1000)).unwrap();
    let folder = top.path().join("run");
    train_tiny(&folder, &["--steps", "1"]);
    let below_a_file = source.join("out");
    for out in [below_a_file.as_path(), Path::new("/proc/wikigpt/out")] {
        let out = out.to_str().unwrap();
        let train = [&["train", "--steps", "1", "--out", out], TINY].concat();
        let prepare = ["prepare", "--text", source.to_str().unwrap(), "--tokenizer", "bytes", "--out", out];
        let export = ["export", folder.to_str().unwrap(), "--out", out];
        for arguments in [&train[..], &prepare, &export] {
            let output = run(arguments);
            let stderr = text(&output.stderr);
            assert!(matches!(output.status.code(), Some(1 | 2)), "{arguments:?}: {stderr}");
            assert!(
                stderr.contains(out) || stderr.contains("text.txt") || stderr.contains("/proc"),
                "{stderr}"
            );
            assert!(!stderr.contains("panicked"), "{stderr}");
            assert_eq!(stderr.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{stderr}");
        }
    }
}
