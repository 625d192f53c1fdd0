//! Folders that appear under their name whole or not at all.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::archive::file;
use crate::{Error, Result};

/// What a file must look like to be whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Digest {
    /// Length.
    pub bytes: u64,
    /// CRC-32C of the contents.
    pub crc32c: u32,
}

/// A folder that is filled beside its place and then renamed; dropped before that, it is removed.
pub(super) struct NewFolder {
    temporary: PathBuf,
    place: PathBuf,
    written: RefCell<BTreeMap<String, Digest>>,
    done: bool,
}

impl NewFolder {
    /// Makes `temporary`, which must be on the file system of `place`; folders above both are made too.
    pub fn create(place: PathBuf, temporary: PathBuf) -> Result<NewFolder> {
        let parent = parent(&place);
        fs::create_dir_all(&parent).map_err(|source| Error::Io { path: parent, source })?;
        fs::create_dir(&temporary).map_err(|source| Error::Io { path: temporary.clone(), source })?;
        Ok(NewFolder { temporary, place, written: RefCell::default(), done: false })
    }

    /// One whose place is new or empty.
    pub fn vacant(place: &Path) -> Result<NewFolder> {
        let place = vacant(place)?;
        let name = place.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let temporary = place.with_file_name(format!(".tmp-{name}-{}", std::process::id()));
        NewFolder::create(place, temporary)
    }

    /// Where the folder is while it is being filled.
    pub fn path(&self) -> &Path {
        &self.temporary
    }

    /// Where it will be.
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// Writes a file of `bytes` bytes and waits until it has reached the disk.
    pub fn write(&self, name: &str, bytes: u64, fill: impl FnOnce(&mut NewFile) -> Result) -> Result {
        let failed = |source| Error::Write { path: self.place.join(name), bytes, source };
        let file = File::create(self.temporary.join(name)).map_err(failed)?;
        let digest = Digest { bytes: 0, crc32c: 0 };
        let mut out = NewFile { file: BufWriter::with_capacity(1 << 20, file), digest, failed: &failed };
        fill(&mut out)?;
        let digest = out.digest;
        let file = out.file.into_inner().map_err(|error| failed(error.into_error()))?;
        file.sync_all().map_err(failed)?;
        self.written.borrow_mut().insert(name.to_owned(), digest);
        Ok(())
    }

    /// What each file is like; those that [`NewFolder::write`] wrote are not read again.
    pub fn digests(&self) -> Result<BTreeMap<String, Digest>> {
        let io = |source| Error::Io { path: self.temporary.clone(), source };
        let mut digests = self.written.borrow().clone();
        for entry in fs::read_dir(&self.temporary).map_err(io)? {
            let entry = entry.map_err(io)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Entry::Vacant(other) = digests.entry(name) {
                other.insert(digest(&entry.path())?);
            }
        }
        Ok(digests)
    }

    /// Gives the folder its name. With `replace`, a folder that has it makes way, and is moved back if that fails.
    pub fn finish(mut self, replace: Option<&Path>) -> Result {
        let result = self.rename(replace);
        self.done = result.is_ok();
        result.map_err(|source| Error::Io { path: self.place.clone(), source })
    }

    fn rename(&self, aside: Option<&Path>) -> io::Result<()> {
        for entry in fs::read_dir(&self.temporary)? {
            File::open(entry?.path())?.sync_all()?;
        }
        sync_folder(&self.temporary)?;
        let occupied = aside.filter(|_| self.place.exists());
        if let Some(aside) = occupied {
            fs::rename(&self.place, aside)?;
        }
        if let Err(error) = fs::rename(&self.temporary, &self.place) {
            if let Some(aside) = occupied {
                fs::rename(aside, &self.place)?;
            }
            return Err(error);
        }
        sync_folder(&parent(&self.place))?;
        if let Some(aside) = occupied {
            fs::remove_dir_all(aside)?;
        }
        Ok(())
    }
}

impl Drop for NewFolder {
    fn drop(&mut self) {
        if !self.done {
            // Nothing can be done about a failure here, and what led here has its own error.
            let _ = fs::remove_dir_all(&self.temporary);
        }
    }
}

/// A file of a [`NewFolder`]: counts and digests what is written.
pub(super) struct NewFile<'a> {
    file: BufWriter<File>,
    digest: Digest,
    failed: &'a dyn Fn(io::Error) -> Error,
}

impl NewFile<'_> {
    /// Appends.
    pub fn write(&mut self, bytes: &[u8]) -> Result {
        self.file.write_all(bytes).map_err(self.failed)?;
        self.digest.bytes += bytes.len() as u64;
        self.digest.crc32c = crc32c::crc32c_append(self.digest.crc32c, bytes);
        Ok(())
    }
}

/// The digest of a file as it is.
pub(super) fn digest(path: &Path) -> Result<Digest> {
    let read = || -> io::Result<Digest> {
        let mut digest = Digest { bytes: 0, crc32c: 0 };
        let mut file = File::open(path)?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            let n = match io::Read::read(&mut file, &mut buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                n => n?,
            };
            if n == 0 {
                return Ok(digest);
            }
            digest.bytes += n as u64;
            digest.crc32c = crc32c::crc32c_append(digest.crc32c, &buffer[..n]);
        }
    };
    read().map_err(|source| Error::Io { path: path.to_path_buf(), source })
}

/// Refuses a place that already holds something; returns its name without symbolic links.
fn vacant(place: &Path) -> Result<PathBuf> {
    match fs::read_dir(place) {
        Ok(mut entries) => match entries.next() {
            Some(_) => return Err(file(place, "already holds files: choose a folder that is new or empty")),
            None => place.canonicalize(),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => std::path::absolute(place),
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            return Err(file(place, "is a file, or lies below one: choose a folder that is new or empty"));
        }
        Err(error) => Err(error),
    }
    .map_err(|source| Error::Io { path: place.to_path_buf(), source })
}

/// The folder that `path` is in.
pub(super) fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// Waits until a folder's entries have reached the disk, where the system can say so.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
}
