//! A corpus into a dataset folder.

use std::fs;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::archive::{Archive, MIRRORS, WIKITEXT_2, WIKITEXT_103};
use crate::atomic::{AtomicFile, sync_folder};
use crate::corpus::Text;
use crate::digest;
use crate::download::{self, Patience};
use crate::error::{Error, IoContext, Result};
use crate::manifest::{MANIFEST_FILE, Manifest, Split, SplitInfo};
use crate::progress::Progress;
use crate::shard::{Format, MAX_SHARD_TOKENS, TokenWriter, Written};
use crate::text_file;
use crate::tokenizer::{Tokenizer, TokenizerSpec};

/// Parts of a text that are encoded before their tokens are written: enough for all threads, little memory.
const PARTS_AT_ONCE: usize = 256;

/// Where text comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// WikiText-2 (Merity et al. 2016), two million words of Wikipedia.
    WikiText2,
    /// WikiText-103, a hundred million words.
    WikiText103,
    /// Text files in UTF-8; each is a document, or several if it is in WikiText's layout.
    Text(Vec<PathBuf>),
}

/// What to prepare, and how.
#[derive(Clone, Debug)]
pub struct Prepare {
    /// Where the text comes from.
    pub source: Source,
    /// A local archive of WikiText, instead of a download.
    pub archive: Option<PathBuf>,
    /// How text becomes tokens.
    pub tokenizer: TokenizerSpec,
    /// Share of [`Source::Text`] that is held back for validation, from 0 (none) to below 1.
    pub valid_fraction: f64,
    /// Whether tokenizers that have `<|endoftext|>` put it before each document.
    pub document_tokens: bool,
    /// Whether to write bare u16 tokens (nanoGPT) instead of files with a header (llm.c).
    pub raw_u16: bool,
    /// The folder to write.
    pub out: PathBuf,
    /// Address of the folder that has the archives, instead of the known ones.
    pub mirror: Option<String>,
    /// Folder that keeps downloaded archives, instead of the user's cache folder.
    pub cache: Option<PathBuf>,
}

impl Prepare {
    /// The usual choices: a tenth of a text for validation, `<|endoftext|>` before documents, files with a header.
    pub fn new(source: Source, tokenizer: TokenizerSpec, out: impl Into<PathBuf>) -> Self {
        Prepare {
            source,
            archive: None,
            tokenizer,
            valid_fraction: 0.1,
            document_tokens: true,
            raw_u16: false,
            out: out.into(),
            mirror: None,
            cache: None,
        }
    }
}

/// Text, and what the manifest says of it.
struct Corpus {
    texts: Vec<(Split, Text)>,
    source: String,
    archive_sha256: Option<String>,
}

/// Makes a dataset folder: token files, the tokenizer, `dataset.json` last. A dataset that is there already is replaced
/// when the new one is whole; until then, and if anything fails, it stays as it is.
///
/// # Errors
/// Text that is not there, not UTF-8 or empty; a download that fails; a tokenizer that does not fit; a folder that cannot
/// be written. Nothing new is left behind then (but for the `.part` of a download, which the next call goes on with).
pub fn prepare(prepare: &Prepare, progress: &mut dyn Progress) -> Result<Manifest> {
    if !(0.0..1.0).contains(&prepare.valid_fraction) {
        let fraction = prepare.valid_fraction;
        return Err(Error::argument(format!("valid fraction {fraction}: it must be at least 0 and below 1")));
    }
    // First, so that a folder that cannot be written is known before the work.
    let folder = NewFolder::create(&prepare.out)?;
    let corpus = match &prepare.source {
        Source::WikiText2 => wikitext(&WIKITEXT_2, prepare, progress)?,
        Source::WikiText103 => wikitext(&WIKITEXT_103, prepare, progress)?,
        Source::Text(files) => text_files(files, prepare.valid_fraction)?,
    };
    let manifest = write(prepare, &corpus, progress);
    progress.end();
    let manifest = manifest?;
    folder.keep();
    Ok(manifest)
}

/// Encodes a corpus and writes everything.
fn write(prepare: &Prepare, corpus: &Corpus, progress: &mut dyn Progress) -> Result<Manifest> {
    let train = corpus.texts.iter().find(|(split, _)| *split == Split::Train).map(|(_, text)| text.as_str());
    let tokenizer = Tokenizer::build(&prepare.tokenizer, train.unwrap_or_default())?;
    let format = if prepare.raw_u16 { Format::RawU16 } else { Format::LlmC };
    let mut written = Vec::new();
    let mut manifest = Manifest {
        tokenizer: prepare.tokenizer.clone(),
        vocab_size: tokenizer.vocab_size(),
        format,
        document_tokens: prepare.document_tokens && tokenizer.end_of_text().is_some(),
        source: corpus.source.clone(),
        archive_sha256: corpus.archive_sha256.clone(),
        train: SplitInfo::default(),
        valid: None,
        test: None,
    };
    let document_token = tokenizer.end_of_text().filter(|_| prepare.document_tokens);
    for (split, text) in &corpus.texts {
        let writer = TokenWriter::create(
            &prepare.out,
            split.name(),
            format,
            tokenizer.vocab_size(),
            MAX_SHARD_TOKENS,
        )?;
        progress.begin(&format!("tokenizing {split}"), Some(text.as_str().len() as u64));
        let files = encode(text, &tokenizer, document_token, writer, progress)?;
        if files.tokens == 0 {
            let message = format!("the {split} split has no tokens: its text is nothing but white space");
            return Err(Error::argument(message));
        }
        let info = SplitInfo {
            file: files.pattern.clone(),
            tokens: files.tokens,
            words: text.words(),
            bytes: text.as_str().len() as u64,
            sha256: digest::sha256_of_files(files.contents())?,
        };
        match split {
            Split::Train => manifest.train = info,
            Split::Valid => manifest.valid = Some(info),
            Split::Test => manifest.test = Some(info),
        }
        written.push(files);
    }
    let tokenizer_files = tokenizer.files(&prepare.out)?;
    let path = prepare.out.join(MANIFEST_FILE);
    let json = serde_json::to_string_pretty(&manifest).expect("a manifest is JSON") + "\n";
    let manifest_file = AtomicFile::with_contents(&path, json.as_bytes())?;

    // Everything is on the disk. Between the old manifest's end and the new one's name the folder is no dataset.
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).while_trying("replace", &path)?
        }
        _ => {}
    }
    for files in written {
        files.rename()?;
    }
    for (path, file) in tokenizer_files {
        file.rename_to(&path)?;
    }
    sync_folder(&prepare.out);
    manifest_file.rename_to(&path)?;
    sync_folder(&prepare.out);
    Ok(manifest)
}

/// Encodes a text's documents on all threads; the tokens do not depend on how many there are.
fn encode(
    text: &Text,
    tokenizer: &Tokenizer,
    document_token: Option<u32>,
    mut writer: TokenWriter,
    progress: &mut dyn Progress,
) -> Result<Written> {
    let mut parts: Vec<(bool, &str)> = Vec::new();
    for document in text.documents() {
        parts.extend(tokenizer.parts(document).into_iter().enumerate().map(|(i, part)| (i == 0, part)));
    }
    for parts in parts.chunks(PARTS_AT_ONCE) {
        let encoded: Vec<Vec<u32>> =
            parts.par_iter().map(|(_, part)| tokenizer.encode(part)).collect::<Result<_>>()?;
        for ((first, part), tokens) in parts.iter().zip(&encoded) {
            if let Some(token) = document_token.filter(|_| *first) {
                writer.push(&[token])?;
            }
            writer.push(tokens)?;
            progress.advance(part.len() as u64);
        }
    }
    writer.finish()
}

/// Takes WikiText from its archive, which is downloaded unless there is one.
fn wikitext(archive: &Archive, prepare: &Prepare, progress: &mut dyn Progress) -> Result<Corpus> {
    let path = match &prepare.archive {
        Some(path) => path.clone(),
        None => fetch(archive, prepare, progress)?,
    };
    let mut texts = Vec::new();
    let mut differences = Vec::new();
    for split in Split::ALL {
        let whole = archive.read(&path, split)?;
        if whole.is_empty() {
            return Err(Error::file(&path, format!("wiki.{split}.tokens is empty")));
        }
        differences.extend(archive.check_text(split, &whole).err());
        let mut text = Text::default();
        text.push_file(whole);
        texts.push((split, text));
    }
    if prepare.archive.is_some() {
        let found = digest::md5_of_file(&path)?;
        if found != archive.md5 {
            differences.push(format!("the archive has MD5 {found}, but {} is published", archive.md5));
        }
        if !differences.is_empty() {
            progress.note(&format!(
                "{} is not the published {}: {}; figures may not compare with others'",
                path.display(),
                archive.file,
                differences.join("; ")
            ));
        }
    } else if let Some(difference) = differences.first() {
        return Err(Error::file(&path, difference));
    }
    let archive_sha256 = Some(digest::sha256_of_files([path.as_path()])?);
    Ok(Corpus { texts, source: archive.name.to_owned(), archive_sha256 })
}

/// The archive in the cache folder, downloaded if it is not there or not right.
fn fetch(archive: &Archive, prepare: &Prepare, progress: &mut dyn Progress) -> Result<PathBuf> {
    let cache = prepare.cache.clone().or_else(download::cache_folder).ok_or_else(|| {
        Error::argument(
            "no cache folder to download to: set HOME or XDG_CACHE_HOME, or give a local copy with --archive",
        )
    })?;
    fs::create_dir_all(&cache).while_trying("create", &cache)?;
    let path = cache.join(archive.file);
    if path.exists() {
        let found = digest::md5_of_file(&path)?;
        if found == archive.md5 {
            return Ok(path);
        }
        progress.note(&format!(
            "{} has MD5 {found}, but {} is published: downloading it again",
            path.display(),
            archive.md5
        ));
    }
    let urls: Vec<String> = match &prepare.mirror {
        Some(mirror) => vec![format!("{}/{}", mirror.trim_end_matches('/'), archive.file)],
        None => MIRRORS.iter().map(|mirror| format!("{mirror}/{}", archive.file)).collect(),
    };
    download::download(&urls, &path, archive.md5, Patience::default(), progress)?;
    Ok(path)
}

/// Reads text files and holds some of them back.
fn text_files(files: &[PathBuf], valid_fraction: f64) -> Result<Corpus> {
    let mut whole = Text::default();
    for path in files {
        let text = text_file::read(path)?;
        if text.is_empty() {
            return Err(Error::file(path, "the file is empty: there is no text in it"));
        }
        whole.push_file(text);
    }
    if files.is_empty() {
        return Err(Error::argument("no text files were named"));
    }
    let (train, valid) = whole.split(valid_fraction);
    let mut texts = vec![(Split::Train, train)];
    if !valid.as_str().is_empty() {
        texts.push((Split::Valid, valid));
    }
    let names: Vec<String> = files.iter().map(|path| path.display().to_string()).collect();
    Ok(Corpus { texts, source: names.join(", "), archive_sha256: None })
}

/// A folder that is removed again, with those above it that had to be made, unless it is kept.
struct NewFolder {
    /// Folders that were made, the outermost first.
    made: Vec<PathBuf>,
}

impl NewFolder {
    fn create(path: &Path) -> Result<Self> {
        let missing =
            path.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists());
        let mut made: Vec<PathBuf> = missing.map(Path::to_path_buf).collect();
        made.reverse();
        fs::create_dir_all(path).while_trying("create", path)?;
        Ok(NewFolder { made })
    }

    fn keep(mut self) {
        self.made.clear();
    }
}

impl Drop for NewFolder {
    fn drop(&mut self) {
        for folder in self.made.iter().rev() {
            // Only empty folders are removed: what somebody else put there stays.
            let _ = fs::remove_dir(folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;

    use super::*;
    use crate::dataset::Dataset;
    use crate::progress::Silent;

    /// A small archive in the layout of WikiText's.
    fn archive(path: &Path) -> &'static Archive {
        let mut zip = zip::ZipWriter::new(fs::File::create(path).unwrap());
        for split in Split::ALL {
            let name = format!("tiny/wiki.{split}.tokens");
            zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
            write!(zip, " \n = {split} = \n \n A river . \n").unwrap();
        }
        zip.finish().unwrap();
        let md5 = digest::md5_of_file(path).unwrap().leak();
        Box::leak(Box::new(Archive { name: "tiny", file: "tiny.zip", md5, texts: &[] }))
    }

    #[test]
    fn an_archive_is_downloaded_once_and_again_if_it_is_damaged() {
        let top = tempfile::tempdir().unwrap();
        let original = top.path().join("original.zip");
        let archive = archive(&original);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mirror = format!("http://{}/below/", listener.local_addr().unwrap());
        let body = fs::read(&original).unwrap();
        // Two requests are answered, no third.
        let server = thread::spawn(move || {
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 1024];
                let n = stream.read(&mut request).unwrap();
                assert!(request[..n].starts_with(b"GET /below/tiny.zip "));
                let length = body.len();
                write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")
                    .unwrap();
                stream.write_all(&body).unwrap();
            }
        });
        let options = Prepare {
            mirror: Some(mirror),
            cache: Some(top.path().join("cache/of/mine")),
            ..Prepare::new(Source::WikiText2, TokenizerSpec::Words, top.path().join("data"))
        };
        let texts = |corpus: Corpus| -> Vec<String> {
            corpus.texts.into_iter().map(|(split, text)| format!("{split}{}", text.as_str())).collect()
        };
        let first = texts(wikitext(archive, &options, &mut Silent).unwrap());
        assert_eq!(first[1], "valid \n = valid = \n \n A river . \n");
        assert_eq!(texts(wikitext(archive, &options, &mut Silent).unwrap()), first, "from the cache");
        fs::write(top.path().join("cache/of/mine/tiny.zip"), "damaged").unwrap();
        assert_eq!(texts(wikitext(archive, &options, &mut Silent).unwrap()), first, "downloaded again");
        server.join().unwrap();
    }

    #[test]
    fn many_tokens_are_written_as_several_files() {
        let folder = tempfile::tempdir().unwrap();
        let tokens: Vec<u32> = (0..25).collect();
        let mut writer = TokenWriter::create(folder.path(), "train", Format::LlmC, 100, 10).unwrap();
        writer.push(&tokens[..3]).unwrap();
        writer.push(&tokens[3..]).unwrap();
        let written = writer.finish().unwrap();
        assert_eq!((written.pattern.as_str(), written.tokens), ("train_*_of_00003.bin", 25));
        let digest = digest::sha256_of_files(written.contents()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().filter(|f| is_named(f.as_ref().unwrap())).count(), 0);
        written.rename().unwrap();
        let tokens_read =
            crate::Tokens::open(folder.path().join("train_*_of_00003.bin"), Format::LlmC).unwrap();
        let mut read = vec![0; 25];
        tokens_read.read(0, &mut read);
        assert_eq!(read, tokens);
        let files = [0, 1, 2].map(|i| folder.path().join(format!("train_{i:05}_of_00003.bin")));
        assert_eq!(digest::sha256_of_files(files.iter().map(PathBuf::as_path)).unwrap(), digest);
        assert_eq!(files.map(|file| fs::metadata(file).unwrap().len()), [1044, 1044, 1034]);

        // Exactly full files, and a writer that is given up.
        let mut writer = TokenWriter::create(folder.path(), "valid", Format::LlmC, 100, 5).unwrap();
        writer.push(&tokens[..10]).unwrap();
        assert_eq!(writer.finish().unwrap().pattern, "valid_*_of_00002.bin");
        let names = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(names, 3, "what was not renamed is gone");
    }

    fn is_named(entry: &fs::DirEntry) -> bool {
        entry.path().extension().is_none_or(|extension| extension != "tmp")
    }

    #[test]
    fn a_full_disk_leaves_nothing() {
        // /dev/full takes no byte; a link to it stands where the temporary file would be.
        if !Path::new("/dev/full").exists() {
            println!("skipped: a_full_disk_leaves_nothing: no /dev/full");
            return;
        }
        let top = tempfile::tempdir().unwrap();
        let text = top.path().join("text.txt");
        fs::write(&text, "one line\n".repeat(1000)).unwrap();
        let out = top.path().join("data");
        let options = Prepare::new(Source::Text(vec![text]), TokenizerSpec::Bytes, &out);
        prepare(&options, &mut Silent).unwrap();
        for name in ["train.bin", "valid.bin", "tokenizer.json", "dataset.json"] {
            #[cfg(unix)]
            std::os::unix::fs::symlink("/dev/full", out.join(format!("{name}.tmp"))).unwrap();
            let error = prepare(&options, &mut Silent).unwrap_err();
            assert!(error.to_string().contains(name) && error.to_string().contains("space"), "{error}");
            assert!(!error.is_bad_input());
            let mut names = fs::read_dir(&out).unwrap();
            assert!(names.all(|entry| is_named(&entry.unwrap())), "no temporary file is left");
            Dataset::open(&out).unwrap();
        }
    }
}
