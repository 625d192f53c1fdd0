//! A disk that fills up, and folders that cannot be written.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{TINY, assert_fails, ok_line, path, run, text, train_tiny, tree, wikigpt};

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
        let mut file = File::create(self.at("filler")).unwrap();
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
fn assert_disk_full(line: &str, more: &[&str]) {
    let output = wikigpt(line).args(more).output().unwrap();
    assert_fails(&output, 1, &["No space left on device"], line);
}

#[test]
fn prepare_on_a_full_disk() {
    let Some(disk) = SmallDisk::mount("prepare_on_a_full_disk", 512) else { return };
    let top = tempfile::tempdir().unwrap();
    let (source, out) = (top.path().join("text.txt"), disk.at("data"));
    fs::write(&source, "A line of text that is long enough to matter.\n".repeat(20_000)).unwrap();
    assert_disk_full("prepare --tokenizer bytes", &["--text", path(&source), "--out", path(&out)]);
    assert!(tree(disk.0.path()).is_empty(), "left behind: {:?}", tree(disk.0.path()));
}

#[test]
fn a_checkpoint_on_a_full_disk() {
    let Some(disk) = SmallDisk::mount("a_checkpoint_on_a_full_disk", 4096) else { return };
    let folder = disk.at("run");
    train_tiny(&folder, "--steps 10 --keep 0");
    let good = tree(&folder.join("checkpoints"));
    disk.fill_but(24);
    assert_disk_full("train --steps 20", &["--resume", path(&folder)]);
    assert_eq!(tree(&folder.join("checkpoints")), good, "the last good checkpoint, and nothing else");
    // With room again the run goes on.
    fs::remove_file(disk.at("filler")).unwrap();
    ok_line("train --steps 20", &["--resume", path(&folder)]);
}

#[test]
fn export_on_a_full_disk() {
    let Some(disk) = SmallDisk::mount("export_on_a_full_disk", 256) else { return };
    let top = tempfile::tempdir().unwrap();
    let folder = top.path().join("run");
    train_tiny(&folder, "--steps 1");
    disk.fill_but(16);
    assert_disk_full("export", &[path(&folder), "--out", path(&disk.at("model"))]);
    assert_eq!(tree(disk.0.path()), [disk.at("filler")]);
}

#[test]
fn folders_that_cannot_be_written() {
    // Root may write anywhere but below a file and in /proc.
    let top = tempfile::tempdir().unwrap();
    let source = top.path().join("text.txt");
    fs::write(&source, "text\n".repeat(1000)).unwrap();
    let folder = top.path().join("run");
    train_tiny(&folder, "--steps 1");
    for out in [source.join("out").as_path(), Path::new("/proc/wikigpt/out")] {
        let train = format!("train {TINY} --steps 1");
        let cases: [(&str, &[&str]); 3] = [
            (&train, &[]),
            ("prepare --tokenizer bytes", &["--text", path(&source)]),
            ("export", &[path(&folder)]),
        ];
        for (line, more) in cases {
            let output = wikigpt(line).args(more).args(["--out", path(out)]).output().unwrap();
            // Whether the name or the permissions are at fault, the system says in its own way.
            let status = output.status.code().unwrap();
            assert!(matches!(status, 1 | 2), "{line}: {}", text(&output.stderr));
            assert_fails(
                &output,
                status,
                &[if out.starts_with("/proc") { "/proc" } else { "text.txt" }],
                line,
            );
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn readers_that_go_away_are_no_failure() {
    let top = tempfile::tempdir().unwrap();
    let folder = top.path().join("run");
    train_tiny(&folder, "--steps 1");
    // /dev/full takes nothing; a closed pipe is what `| head` leaves.
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut generate = wikigpt("generate --max-new-tokens 50 --seed 1");
    let output = generate.arg(&folder).stdout(full).output().unwrap();
    assert_fails(&output, 1, &["No space left on device"], "generate to a full disk");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status =
        wikigpt("generate --max-new-tokens 50 --seed 1").arg(&folder).stdout(writer).status().unwrap();
    assert_eq!(status.code(), Some(0));
    // Nobody reads stderr: training goes on.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let other = top.path().join("other");
    let mut train = wikigpt(&format!("train {TINY} --steps 3 --log-every 1 --out"));
    assert_eq!(train.arg(&other).stderr(writer).status().unwrap().code(), Some(0));
    assert!(run([Path::new("inspect"), &other]).status.success());
}
