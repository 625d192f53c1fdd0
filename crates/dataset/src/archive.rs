//! The published archives of WikiText: where they are, what is known of them, and reading one.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use zip::ZipArchive;
use zip::result::ZipError;

use crate::digest;
use crate::error::{Error, IoContext, Result};
use crate::manifest::Split;

/// Where the archives are, the best place first.
pub(crate) const MIRRORS: [&str; 1] = ["https://wikitext.smerity.com"];

/// The most bytes that one text of an archive may have: several times WikiText-103's.
const MEMBER_LIMIT: u64 = 4 << 30;

/// What is published of an archive.
#[derive(Debug)]
pub(crate) struct Archive {
    /// The corpus, and the folder in the archive.
    pub name: &'static str,
    /// The archive's file name.
    pub file: &'static str,
    /// The archive's MD5.
    pub md5: &'static str,
    /// SHA-256 of the texts whose digests are published.
    pub texts: &'static [(Split, &'static str)],
}

/// WikiText-2: about two million words.
pub(crate) const WIKITEXT_2: Archive = Archive {
    name: "wikitext-2",
    file: "wikitext-2-v1.zip",
    md5: "542ccefacc6c27f945fb54453812b3cd",
    texts: &[
        (Split::Valid, "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8"),
        (Split::Test, "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0"),
    ],
};

/// WikiText-103: about a hundred million words.
pub(crate) const WIKITEXT_103: Archive = Archive {
    name: "wikitext-103",
    file: "wikitext-103-v1.zip",
    md5: "9ddaacaf6af0710eda8c456decff7832",
    texts: &[],
};

impl Archive {
    /// Reads a split's text from an archive.
    ///
    /// # Errors
    /// A file that is no archive, is damaged, or is the archive of another corpus.
    pub fn read(&self, path: &Path, split: Split) -> Result<String> {
        let file = File::open(path).while_trying("open", path)?;
        if file.metadata().while_trying("open", path)?.is_dir() {
            return Err(Error::file(path, format!("a folder, not the archive {}", self.file)));
        }
        let mut archive = ZipArchive::new(file).map_err(|error| broken(path, "cannot be read", error))?;
        let inside = format!("wiki.{split}.tokens");
        let wanted = [format!("{}/{inside}", self.name), inside];
        let Some(index) = wanted.iter().find_map(|name| archive.index_for_name(name)) else {
            let names: Vec<String> =
                archive.file_names().filter_map(|name| Some(name.ok()?.into_owned())).take(8).collect();
            return Err(Error::file(
                path,
                format!(
                    "the archive has no {}, but {}: it is not {}",
                    wanted[0],
                    names.join(", "),
                    self.file
                ),
            ));
        };
        let member = archive.by_index(index).map_err(|error| broken(path, &wanted[0], error))?;
        if member.size() > MEMBER_LIMIT {
            return Err(Error::file(path, format!("{} claims to have {} bytes", wanted[0], member.size())));
        }
        let mut bytes = Vec::with_capacity(member.size() as usize);
        let read = member.take(MEMBER_LIMIT).read_to_end(&mut bytes);
        read.map_err(|error| broken(path, &wanted[0], ZipError::Io(error)))?;
        String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            Error::file(path, format!("{} is not UTF-8 text: wrong at byte {at}", wanted[0]))
        })
    }

    /// Compares a text with the published digest, if there is one.
    ///
    /// # Errors
    /// Both digests where they differ.
    pub fn check_text(&self, split: Split, text: &str) -> std::result::Result<(), String> {
        let Some((_, published)) = self.texts.iter().find(|(name, _)| *name == split) else { return Ok(()) };
        let found = digest::sha256(text.as_bytes());
        if found == *published {
            return Ok(());
        }
        Err(format!("wiki.{split}.tokens has SHA-256 {found}, but {published} is published"))
    }
}

fn broken(path: &Path, what: &str, error: ZipError) -> Error {
    Error::file(path, format!("not a whole zip archive ({what}): {error}"))
}
