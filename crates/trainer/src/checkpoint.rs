//! Checkpoint folders: written whole, checked before use, the oldest removed.
//!
//! `checkpoints/step-NNNNNNNN` (N = steps done) is a model folder like any other, with `model.safetensors`,
//! `config.json` and the tokenizer, plus `optimizer.safetensors` and `state.json`. The latter holds each file's
//! length and CRC-32C, and is what makes a folder a checkpoint. What the files hold is the callers' affair.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::fault::bad_input;
use crate::folder;

/// `state.json`: where in training a checkpoint stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Version of this file's layout.
    pub format: u32,
    /// Steps done; the number of the step that comes next.
    pub step: u64,
    /// Micro-batches taken from the data, which is the position in it.
    pub micro_batches: u64,
    /// Tokens trained on.
    pub tokens: u64,
    /// Updates that the optimizer's moments have seen.
    pub optimizer_step: u64,
    /// SHA-256 of the training tokens, so that going on with other data is noticed.
    pub data_sha256: String,
    /// Every other file of the checkpoint.
    pub files: BTreeMap<String, Digest>,
}

/// `state.json` as written: the state, and a checksum of it.
#[derive(Serialize, Deserialize)]
struct Sealed {
    #[serde(flatten)]
    state: State,
    /// CRC-32C of the state as compact JSON.
    crc32c: u32,
}

impl State {
    fn crc32c(&self) -> Result<u32> {
        Ok(crc32c::crc32c(&serde_json::to_vec(self)?))
    }
}

/// What a file must look like to be whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// Length.
    pub bytes: u64,
    /// CRC-32C of the contents.
    pub crc32c: u32,
}

/// The layout that this program writes.
pub const FORMAT: u32 = 1;
const STATE: &str = "state.json";

/// The folder of the checkpoint of `step`.
pub fn path(checkpoints: &Path, step: u64) -> PathBuf {
    checkpoints.join(format!("step-{step:08}"))
}

/// Writes the checkpoint of `state.step`: `fill` writes its files into a folder, which then gets its name.
pub fn save(checkpoints: &Path, mut state: State, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let step = state.step;
    let path = path(checkpoints, step);
    folder::write_whole(&path, |partial| {
        fill(partial)?;
        for entry in fs::read_dir(partial)? {
            let entry = entry?;
            state.files.insert(entry.file_name().to_string_lossy().into_owned(), digest(&entry.path())?);
        }
        let sealed = Sealed { crc32c: state.crc32c()?, state };
        fs::write(partial.join(STATE), serde_json::to_vec_pretty(&sealed)?).context("cannot write state.json")
    })
    .with_context(|| format!("cannot save the checkpoint of step {step}"))?;
    Ok(path)
}

/// Removes all but the newest `keep` checkpoints; none if 0.
pub fn remove_old(checkpoints: &Path, keep: usize) -> Result<()> {
    if keep == 0 {
        return Ok(());
    }
    let all = list(checkpoints)?;
    for (_, old) in &all[..all.len().saturating_sub(keep)] {
        remove(old).with_context(|| format!("cannot remove the old checkpoint {}", old.display()))?;
    }
    Ok(())
}

/// The newest checkpoint that is whole, if any; damaged ones are reported to `warn`.
pub fn newest(checkpoints: &Path, mut warn: impl FnMut(&str)) -> Result<Option<(PathBuf, State)>> {
    for (_, path) in list(checkpoints)?.into_iter().rev() {
        match verify(&path) {
            Ok(state) => return Ok(Some((path, state))),
            Err(error) => warn(&format!("passing over a damaged checkpoint: {error:#}")),
        }
    }
    Ok(None)
}

/// Sets checkpoints from `step` on aside: they are of no use, and their names will be needed.
pub fn set_aside_from(checkpoints: &Path, step: u64) -> Result<()> {
    for (number, path) in list(checkpoints)? {
        if number >= step {
            let aside = path.with_extension("damaged");
            let renamed = fs::remove_dir_all(&aside).or(Ok(())).and_then(|()| fs::rename(&path, &aside));
            renamed.with_context(|| format!("cannot rename {}", path.display()))?;
        }
    }
    Ok(())
}

/// All checkpoints by step, oldest first, damaged ones too.
pub fn list(checkpoints: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let entries = match fs::read_dir(checkpoints) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot look into {}", checkpoints.display()));
        }
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let digits =
            name.strip_prefix("step-").filter(|d| d.len() >= 8 && d.bytes().all(|b| b.is_ascii_digit()));
        if let Some(step) = digits.and_then(|digits| digits.parse().ok()) {
            found.push((step, path.clone()));
        }
    }
    found.sort();
    Ok(found)
}

/// Whether a folder says that it is a checkpoint.
pub fn is_checkpoint(path: &Path) -> bool {
    path.join(STATE).is_file()
}

/// Reads `state.json` and checks that every file is there as it was written.
pub fn verify(path: &Path) -> Result<State> {
    let name = path.join(STATE);
    let text = fs::read_to_string(&name).with_context(|| format!("cannot read {}", name.display()))?;
    let Sealed { state, crc32c } = match serde_json::from_str(&text) {
        Ok(sealed) => sealed,
        Err(error) => bad_input!("{}: not a checkpoint's state: {error}", name.display()),
    };
    if state.format != FORMAT {
        let format = state.format;
        bad_input!("{}: layout {format}, but this program knows layout {FORMAT} only", name.display());
    }
    if state.crc32c()? != crc32c {
        bad_input!("{}: its contents have changed since it was written (CRC-32C)", name.display());
    }
    for (file, expected) in &state.files {
        let file = path.join(file);
        let found = digest(&file)?;
        if found.bytes != expected.bytes {
            bad_input!("{} has {} bytes instead of {}", file.display(), found.bytes, expected.bytes);
        }
        if found.crc32c != expected.crc32c {
            bad_input!("{}: its contents have changed since it was written (CRC-32C)", file.display());
        }
    }
    Ok(state)
}

fn digest(path: &Path) -> Result<Digest> {
    let mut digest = Digest { bytes: 0, crc32c: 0 };
    let mut read = || -> std::io::Result<()> {
        let mut file = BufReader::new(File::open(path)?);
        let mut buffer = vec![0; 1 << 20];
        loop {
            let n = file.read(&mut buffer)?;
            if n == 0 {
                return Ok(());
            }
            digest.bytes += n as u64;
            digest.crc32c = crc32c::crc32c_append(digest.crc32c, &buffer[..n]);
        }
    };
    read().with_context(|| format!("cannot read {}", path.display()))?;
    Ok(digest)
}

/// Removes a checkpoint so that a kill on the way leaves nothing that looks like one.
fn remove(path: &Path) -> std::io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = path.with_file_name(format!(".{name}.partial-{}", std::process::id()));
    fs::rename(path, &aside)?;
    fs::remove_dir_all(aside)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(step: u64) -> State {
        State {
            format: FORMAT,
            step,
            micro_batches: step,
            tokens: step * 10,
            optimizer_step: step,
            data_sha256: "x".into(),
            files: BTreeMap::new(),
        }
    }

    fn checkpoints(steps: &[u64], keep: usize) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for &step in steps {
            save(folder.path(), state(step), |f| Ok(fs::write(f.join("model"), step.to_string())?)).unwrap();
            remove_old(folder.path(), keep).unwrap();
        }
        folder
    }

    fn newest_step(folder: &Path) -> (Option<u64>, Vec<String>) {
        let mut warnings = Vec::new();
        let found = newest(folder, |w| warnings.push(w.to_owned())).unwrap();
        (found.map(|(_, state)| state.step), warnings)
    }

    #[test]
    fn the_newest_are_kept() {
        let folder = checkpoints(&[5, 10, 15, 20], 2);
        let steps: Vec<_> = list(folder.path()).unwrap().into_iter().map(|(step, _)| step).collect();
        assert_eq!(steps, [15, 20]);
        assert_eq!(list(checkpoints(&[1, 2, 3], 0).path()).unwrap().len(), 3);
    }

    #[test]
    fn a_damaged_one_is_passed_over_with_a_warning() {
        type Damage = fn(&Path);
        let damages: [(Damage, &str); 5] = [
            (|f| fs::write(f.join("model"), "21").unwrap(), "contents have changed"),
            (|f| fs::write(f.join("model"), "2").unwrap(), "1 bytes instead of 2"),
            (|f| fs::remove_file(f.join("model")).unwrap(), "cannot read"),
            (|f| fs::write(f.join(STATE), "{").unwrap(), "not a checkpoint's state"),
            (|f| fs::remove_file(f.join(STATE)).unwrap(), "cannot read"),
        ];
        for (damage, expected) in damages {
            let folder = checkpoints(&[10, 20], 0);
            damage(&folder.path().join("step-00000020"));
            let (step, warnings) = newest_step(folder.path());
            assert_eq!(step, Some(10));
            assert!(warnings.len() == 1 && warnings[0].contains(expected), "{warnings:?} lacks {expected}");
            set_aside_from(folder.path(), 11).unwrap();
            assert_eq!(list(folder.path()).unwrap().len(), 1);
        }
    }

    #[test]
    fn a_failed_save_leaves_the_last_one() {
        let folder = checkpoints(&[10], 1);
        let failed = save(folder.path(), state(20), |f| {
            fs::write(f.join("model"), "half")?;
            anyhow::bail!("disk full")
        });
        assert!(failed.unwrap_err().to_string().contains("step 20"));
        assert_eq!(newest_step(folder.path()).0, Some(10));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn no_checkpoint_is_no_error() {
        assert_eq!(newest_step(Path::new("/nonexistent/checkpoints")).0, None);
    }

    proptest::proptest! {
        #[test]
        fn no_change_of_a_byte_goes_unnoticed(at in 0..1_000usize, flip in 1..=255u8) {
            let folder = checkpoints(&[10], 0);
            let path = folder.path().join("step-00000010");
            let intact = verify(&path).unwrap();
            let files = [path.join("model"), path.join(STATE)];
            let lengths = files.each_ref().map(|file| fs::metadata(file).unwrap().len() as usize);
            let at = at % (lengths[0] + lengths[1]);
            let (file, at) = if at < lengths[0] { (&files[0], at) } else { (&files[1], at - lengths[0]) };
            let mut bytes = fs::read(file).unwrap();
            bytes[at] ^= flip;
            fs::write(file, bytes).unwrap();
            // A changed state.json may say the same: 1.0 for 1, another name for a space.
            if let Ok(found) = verify(&path) {
                proptest::prop_assert_eq!(file, &files[1]);
                proptest::prop_assert_eq!(found, intact);
            }
        }
    }
}
