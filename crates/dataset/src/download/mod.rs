//! Fetching an archive over HTTP into the user's cache folder.
//!
//! Bytes go to a `.part` file, which gets its name when it is whole and its digest is right. What a broken connection has
//! left in it is continued if the server can (`Range`), else fetched anew; a wrong join shows in the digest.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ureq::Agent;
use ureq::http::StatusCode;
use ureq::http::header::{CONTENT_RANGE, RANGE};

use crate::digest;
use crate::error::{Error, IoContext, Result};
use crate::progress::Progress;

/// How long a server may be silent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Until a connection stands.
    pub connect: Duration,
    /// Until the next bytes come.
    pub read: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience { connect: Duration::from_secs(20), read: Duration::from_secs(30) }
    }
}

/// The user's cache folder for this program; `None` if the system names none.
pub fn cache_folder() -> Option<PathBuf> {
    let variable = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = |below: &str| variable("HOME").map(|home| home.join(below));
    let base = variable("XDG_CACHE_HOME").or_else(|| {
        if cfg!(windows) {
            variable("LOCALAPPDATA")
        } else if cfg!(target_os = "macos") {
            home("Library/Caches")
        } else {
            home(".cache")
        }
    });
    base.map(|base| base.join("wikigpt"))
}

/// Fetches a file of known MD5 from the first of `urls` that has it whole, to `target`.
///
/// # Errors
/// That of the last address, if none has it. Nothing is under the name of `target` then.
pub(crate) fn download(
    urls: &[String],
    target: &Path,
    md5: &str,
    patience: Patience,
    progress: &mut dyn Progress,
) -> Result {
    let mut part = target.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .accept_encoding("identity")
        .user_agent(concat!("wikigpt/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(patience.connect))
        .timeout_recv_response(Some(patience.read))
        .timeout_per_read(Some(patience.read))
        .build();
    let agent = Agent::new_with_config(config);
    let mut outcome = Err(Error::argument("no address to download from"));
    for url in urls {
        let attempt = Attempt { agent: &agent, url, part: &part, md5, patience };
        outcome = attempt.run(progress);
        progress.end();
        if outcome.is_ok() {
            break;
        }
    }
    outcome?;
    fs::rename(&part, target).while_trying("create", target)
}

/// One address, tried.
struct Attempt<'a> {
    agent: &'a Agent,
    url: &'a str,
    part: &'a Path,
    md5: &'a str,
    patience: Patience,
}

impl Attempt<'_> {
    /// Gets the whole file to `part`. What is there already is continued first; if that leads to nothing, it starts anew.
    fn run(&self, progress: &mut dyn Progress) -> Result {
        let there = fs::metadata(self.part).map_or(0, |metadata| metadata.len());
        if there > 0 && self.fetch(there, progress)? {
            if digest::md5_of_file(self.part)? == self.md5 {
                return Ok(());
            }
            progress.end();
            progress.note("the rest of an earlier download does not fit its beginning: starting anew");
        }
        self.fetch(0, progress)?;
        let found = digest::md5_of_file(self.part)?;
        if found == self.md5 {
            return Ok(());
        }
        // Nothing of it can be used again.
        fs::remove_file(self.part).while_trying("remove", self.part)?;
        Err(self.error(format!(
            "the file has MD5 {found}, but {} is published; it was damaged or changed on the way and has been deleted: try \
             again, or give another copy with --archive",
            self.md5
        )))
    }

    fn error(&self, message: impl Into<String>) -> Error {
        Error::Download { url: self.url.to_owned(), message: message.into() }
    }

    /// Asks for the bytes from `start` on and appends them; whether the server gave just those. A server that always
    /// gives the whole file replaces what was there.
    fn fetch(&self, start: u64, progress: &mut dyn Progress) -> Result<bool> {
        let mut request = self.agent.get(self.url);
        if start > 0 {
            request = request.header(RANGE, format!("bytes={start}-"));
        }
        let response = request.call().map_err(|error| self.error(self.explain(&error)))?;
        let status = response.status();
        let continues = match status {
            StatusCode::OK => false,
            StatusCode::PARTIAL_CONTENT if start > 0 => {
                let range = response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
                if !range.is_some_and(|range| range.starts_with(&format!("bytes {start}-"))) {
                    return Ok(false);
                }
                true
            }
            // Nothing after `start`: what is there is as long as the file, or of another file.
            StatusCode::RANGE_NOT_SATISFIABLE if start > 0 => {
                return Ok(digest::md5_of_file(self.part)? == self.md5);
            }
            _ => {
                return Err(self.error(format!(
                    "the server answers {status}: look for another copy and give it with --archive"
                )));
            }
        };
        let mut options = OpenOptions::new();
        let file =
            if continues { options.append(true) } else { options.write(true).create(true).truncate(true) };
        let file = file.open(self.part).while_trying("create", self.part)?;
        let before = if continues { start } else { 0 };
        let body = response.into_body();
        let total = body.content_length().map(|length| before + length);
        let name = self.url.rsplit('/').next().unwrap_or(self.url);
        progress.begin(&format!("downloading {name}"), total);
        progress.advance(before);
        let got = before + self.copy(body.into_reader(), file, before, total, progress)?;
        match total {
            Some(total) if got != total => Err(self.cut_short(got, Some(total), "the connection ended")),
            _ => Ok(true),
        }
    }

    /// Copies a body to the file; the bytes copied.
    fn copy(
        &self,
        mut body: impl Read,
        mut file: File,
        before: u64,
        total: Option<u64>,
        progress: &mut dyn Progress,
    ) -> Result<u64> {
        let mut buffer = vec![0; 1 << 16];
        let mut copied = 0;
        loop {
            let n = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) => {
                    let why = self.explain(&ureq::Error::from(error));
                    return Err(self.cut_short(before + copied, total, &why));
                }
            };
            file.write_all(&buffer[..n]).while_trying("write", self.part)?;
            copied += n as u64;
            progress.advance(n as u64);
        }
        file.sync_all().while_trying("write", self.part)?;
        Ok(copied)
    }

    fn cut_short(&self, got: u64, total: Option<u64>, why: &str) -> Error {
        let of = total.map(|total| format!(" of {total}")).unwrap_or_default();
        self.error(format!("{why} after {got}{of} bytes; run the command again and it goes on from there"))
    }

    /// An error in words that say what to do.
    fn explain(&self, error: &ureq::Error) -> String {
        let seconds = |duration: Duration| format!("{} s", duration.as_secs_f64());
        match error {
            ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
                format!("no connection within {}", seconds(self.patience.connect))
            }
            ureq::Error::Timeout(_) => format!("the server was silent for {}", seconds(self.patience.read)),
            ureq::Error::HostNotFound => {
                "there is no such host, or no network: give a local copy with --archive".to_owned()
            }
            other => other.to_string(),
        }
    }
}

#[cfg(test)]
mod tests;
