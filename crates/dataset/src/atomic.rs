//! Files that are there whole or not at all.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::{IoContext, Result};

/// A file that is written beside its final name (with `.tmp` at the end) and gets that name only when it is whole
/// and on the disk. Dropped before that, it leaves nothing.
pub(crate) struct AtomicFile {
    temporary: PathBuf,
    /// `None` once the contents are on the disk.
    writer: Option<BufWriter<File>>,
    renamed: bool,
}

impl AtomicFile {
    /// Begins the file that will be `path`.
    pub fn create(path: &Path) -> Result<Self> {
        let mut temporary = OsString::from(path);
        temporary.push(".tmp");
        let temporary = PathBuf::from(temporary);
        let file = File::create(&temporary).while_trying("create", &temporary)?;
        let writer = Some(BufWriter::with_capacity(1 << 18, file));
        Ok(AtomicFile { temporary, writer, renamed: false })
    }

    /// Begins a file and puts its whole contents on the disk.
    pub fn with_contents(path: &Path, contents: &[u8]) -> Result<Self> {
        let mut file = AtomicFile::create(path)?;
        file.write_all(contents)?;
        file.sync()?;
        Ok(file)
    }

    /// Where the contents are until the file has its name.
    pub fn temporary(&self) -> &Path {
        &self.temporary
    }

    fn writer(&mut self) -> &mut BufWriter<File> {
        self.writer.as_mut().expect("nothing is written after sync")
    }

    /// Appends bytes.
    pub fn write_all(&mut self, bytes: &[u8]) -> Result {
        self.writer().write_all(bytes).while_trying("write", &self.temporary)
    }

    /// Replaces bytes at the start of the file.
    pub fn write_header(&mut self, header: &[u8]) -> Result {
        self.writer().seek(SeekFrom::Start(0)).while_trying("write", &self.temporary)?;
        self.write_all(header)
    }

    /// Puts all contents on the disk: afterwards only the name is missing.
    pub fn sync(&mut self) -> Result {
        let Some(mut writer) = self.writer.take() else { return Ok(()) };
        writer.flush().while_trying("write", &self.temporary)?;
        writer.get_ref().sync_all().while_trying("write", &self.temporary)
    }

    /// Gives the file its name, in the folder it was begun in.
    pub fn rename_to(mut self, path: &Path) -> Result {
        self.sync()?;
        fs::rename(&self.temporary, path).while_trying("create", path)?;
        self.renamed = true;
        Ok(())
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if !self.renamed {
            // Nothing more can be done about a temporary file that cannot be removed.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Puts a folder's list of names on the disk, where the system can.
pub(crate) fn sync_folder(folder: &Path) {
    // Not every system lets a folder be opened; the files themselves are safe without.
    if let Ok(file) = File::open(folder) {
        let _ = file.sync_all();
    }
}
