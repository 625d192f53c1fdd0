//! Downloads from a server in this process that behaves as servers do on bad days.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;

use super::*;
use crate::progress::Silent;

/// What the server does with one request.
#[derive(Clone, Copy, Debug)]
enum Answer {
    /// Gives what was asked for, ranges too.
    Good,
    /// Gives the whole file, whatever was asked for.
    Whole,
    /// Gives the file without saying how long it is.
    WithoutLength,
    /// Gives a range that was not asked for.
    WrongRange,
    /// Says that there is nothing after the range's start.
    NothingThere,
    /// Gives so many bytes and closes.
    Cut(usize),
    /// Gives so many bytes, then nothing more.
    Stall(usize),
    /// Gives nothing.
    Silence,
    /// Gives other bytes, as many.
    Wrong,
    /// Has a status for an answer.
    Status(&'static str),
}

/// Serves a file on a port of this machine, each request as the next answer has it.
struct Server {
    address: String,
    /// The `Range` that each request asked for.
    ranges: Receiver<Option<usize>>,
}

impl Server {
    fn start(file: Vec<u8>, answers: &'static [Answer]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (sender, ranges) = channel();
        thread::spawn(move || {
            // Connections that stall stay open as long as the server.
            let mut open = Vec::new();
            for answer in answers {
                let Ok((mut stream, _)) = listener.accept() else { return };
                let range = range_of_request(&stream);
                let _ = sender.send(range);
                let _ = reply(*answer, &mut stream, range, &file);
                if matches!(answer, Answer::Stall(_) | Answer::Silence) {
                    open.push(stream);
                }
            }
            // Whoever asks once more than expected gets no connection.
            drop(listener);
            thread::sleep(Duration::from_secs(if open.is_empty() { 0 } else { 20 }));
        });
        Server { address, ranges }
    }

    fn url(&self) -> String {
        format!("{}/corpus.zip", self.address)
    }
}

fn range_of_request(stream: &TcpStream) -> Option<usize> {
    let lines =
        BufReader::new(stream).lines().map_while(|line| line.ok().filter(|line| !line.is_empty())).fuse();
    let mut ranges = lines.filter_map(|line| {
        let (name, value) = line.split_once(": ")?;
        let from = value.strip_prefix("bytes=")?.strip_suffix('-')?;
        name.eq_ignore_ascii_case("range").then(|| from.parse().unwrap())
    });
    let range = ranges.next();
    ranges.for_each(drop);
    range
}

fn reply(answer: Answer, stream: &mut TcpStream, range: Option<usize>, file: &[u8]) -> std::io::Result<()> {
    let mut head = |status: &str, more: &str, length: usize| {
        write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{more}\r\n")
    };
    let whole = file.len();
    match (answer, range) {
        (Answer::Good, Some(from)) => {
            let more = format!("Content-Range: bytes {from}-{}/{whole}\r\n", whole - 1);
            head("206 Partial Content", &more, whole - from)?;
            stream.write_all(&file[from..])
        }
        (Answer::WrongRange, Some(_)) => {
            head("206 Partial Content", &format!("Content-Range: bytes 0-{}/{whole}\r\n", whole - 1), whole)?;
            stream.write_all(file)
        }
        (Answer::Good | Answer::Whole | Answer::WrongRange, _) => {
            head("200 OK", "", whole)?;
            stream.write_all(file)
        }
        (Answer::WithoutLength, _) => {
            write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
            stream.write_all(file)
        }
        (Answer::NothingThere, _) => head("416 Range Not Satisfiable", "", 0),
        (Answer::Cut(n) | Answer::Stall(n), _) => {
            head("200 OK", "", whole)?;
            stream.write_all(&file[..n])
        }
        (Answer::Silence, _) => Ok(()),
        (Answer::Wrong, _) => {
            head("200 OK", "", whole)?;
            stream.write_all(&vec![7; whole])
        }
        (Answer::Status(status), _) => head(status, "", 0),
    }
}

/// A file to serve, and a folder to download it to.
struct Desk {
    top: tempfile::TempDir,
    file: Vec<u8>,
    md5: String,
    /// How long a server may be silent.
    patience: Duration,
}

impl Desk {
    fn new() -> Self {
        let top = tempfile::tempdir().unwrap();
        let file: Vec<u8> = (0..300_000_u32).flat_map(|i| (i % 251).to_le_bytes()).collect();
        fs::write(top.path().join("original"), &file).unwrap();
        let md5 = digest::md5_of_file(&top.path().join("original")).unwrap();
        Desk { top, file, md5, patience: Duration::from_secs(20) }
    }

    fn target(&self) -> PathBuf {
        self.top.path().join("corpus.zip")
    }

    fn part(&self) -> PathBuf {
        self.top.path().join("corpus.zip.part")
    }

    fn download(&self, servers: &[&Server]) -> Result {
        let urls: Vec<String> = servers.iter().map(|server| server.url()).collect();
        let patience = Patience { connect: Duration::from_secs(20), read: self.patience };
        download(&urls, &self.target(), &self.md5, patience, &mut Silent)
    }

    #[track_caller]
    fn assert_whole(&self) {
        assert!(fs::read(self.target()).unwrap() == self.file);
        assert!(!self.part().exists());
    }

    #[track_caller]
    fn fails(&self, servers: &[&Server], expected: &[&str]) {
        let error = self.download(servers).unwrap_err();
        let text = error.to_string();
        assert!(expected.iter().all(|part| text.contains(part)), "no {expected:?} in: {text}");
        assert!(!error.is_bad_input(), "{text}");
        assert!(!self.target().exists(), "nothing under the final name");
    }
}

#[test]
fn whole_files_arrive() {
    for answers in [&[Answer::Good], &[Answer::Whole], &[Answer::WithoutLength]] {
        let desk = Desk::new();
        desk.download(&[&Server::start(desk.file.clone(), answers)]).unwrap();
        desk.assert_whole();
    }
}

#[test]
fn a_truncated_download_goes_on_where_it_was_cut() {
    let desk = Desk::new();
    let server = Server::start(desk.file.clone(), &[Answer::Cut(500_000), Answer::Good]);
    desk.fails(&[&server], &["500000 of 1200000 bytes", "again", &server.url()]);
    assert_eq!(fs::metadata(desk.part()).unwrap().len(), 500_000);
    desk.download(&[&server]).unwrap();
    desk.assert_whole();
    assert_eq!(server.ranges.try_iter().collect::<Vec<_>>(), [None, Some(500_000)]);
}

#[test]
fn a_server_without_ranges_is_asked_for_the_whole() {
    let desk = Desk::new();
    let server = Server::start(desk.file.clone(), &[Answer::Cut(500_000), Answer::Whole]);
    desk.fails(&[&server], &["500000"]);
    desk.download(&[&server]).unwrap();
    desk.assert_whole();
    let desk = Desk::new();
    let server = Server::start(desk.file.clone(), &[Answer::Cut(1000), Answer::WrongRange, Answer::Good]);
    desk.fails(&[&server], &["1000"]);
    desk.download(&[&server]).unwrap();
    desk.assert_whole();
    assert_eq!(server.ranges.try_iter().collect::<Vec<_>>(), [None, Some(1000), None]);
}

#[test]
fn a_beginning_of_something_else_is_thrown_away() {
    // The server continues it as if it were its own; only the digest shows that it is not.
    let desk = Desk::new();
    fs::write(desk.part(), vec![9; 1000]).unwrap();
    let server = Server::start(desk.file.clone(), &[Answer::Good, Answer::Good]);
    desk.download(&[&server]).unwrap();
    desk.assert_whole();
    assert_eq!(server.ranges.try_iter().collect::<Vec<_>>(), [Some(1000), None]);
    // Longer than the file.
    let desk = Desk::new();
    fs::write(desk.part(), vec![9; 2_000_000]).unwrap();
    desk.download(&[&Server::start(desk.file.clone(), &[Answer::NothingThere, Answer::Good])]).unwrap();
    desk.assert_whole();
    // Whole already: only the name was missing.
    let desk = Desk::new();
    fs::write(desk.part(), &desk.file).unwrap();
    desk.download(&[&Server::start(desk.file.clone(), &[Answer::NothingThere])]).unwrap();
    desk.assert_whole();
}

#[test]
fn a_wrong_digest_names_both() {
    let desk = Desk::new();
    let server = Server::start(desk.file.clone(), &[Answer::Wrong]);
    fs::write(desk.top.path().join("wrong"), vec![7; desk.file.len()]).unwrap();
    let wrong = digest::md5_of_file(&desk.top.path().join("wrong")).unwrap();
    desk.fails(&[&server], &[&desk.md5, &wrong, "--archive"]);
    assert!(!desk.part().exists(), "nothing of it can be used again");
}

#[test]
fn statuses_are_reported() {
    for status in ["404 Not Found", "500 Internal Server Error", "403 Forbidden"] {
        let desk = Desk::new();
        let answers: &'static [Answer] = Box::leak(Box::new([Answer::Status(status)]));
        desk.fails(&[&Server::start(desk.file.clone(), answers)], &[status, "--archive"]);
        assert!(!desk.part().exists());
    }
}

#[test]
fn a_silent_server_is_given_up() {
    let begun = Instant::now();
    let short = Duration::from_millis(300);
    let desk = Desk { patience: short, ..Desk::new() };
    let server = Server::start(desk.file.clone(), &[Answer::Stall(200_000), Answer::Good]);
    desk.fails(&[&server], &["silent for 0.3 s", "of 1200000", "goes on from there"]);
    let desk = Desk { patience: Duration::from_secs(20), ..desk };
    desk.download(&[&server]).unwrap();
    desk.assert_whole();
    let desk = Desk { patience: short, ..Desk::new() };
    desk.fails(&[&Server::start(desk.file.clone(), &[Answer::Silence])], &["silent for 0.3 s"]);
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

#[test]
fn the_next_mirror_goes_on_where_the_first_broke() {
    let desk = Desk::new();
    let gone = Server::start(desk.file.clone(), &[Answer::Status("410 Gone")]);
    let broken = Server::start(desk.file.clone(), &[Answer::Cut(100_000)]);
    let good = Server::start(desk.file.clone(), &[Answer::Good]);
    desk.download(&[&gone, &broken, &good]).unwrap();
    desk.assert_whole();
    assert_eq!(good.ranges.try_iter().collect::<Vec<_>>(), [Some(100_000)]);
}

#[test]
fn no_server_is_an_error() {
    let desk = Desk::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let nobody = Server { address, ranges: channel().1 };
    desk.fails(&[&nobody], &[&nobody.url(), "refused"]);
    let nowhere = Server { address: "http://no-such-host.invalid".to_owned(), ranges: channel().1 };
    desk.fails(&[&nowhere], &["no-such-host.invalid"]);
}
