//! A daemon on a socket that says what a test gives it, and a home for the command line to find it in.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use gridgate_protocol::site_api::{ApiError, DaemonInfo, ErrorKind, Event};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// What a request is answered with.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A status and a JSON document.
    Value(u16, String),
    /// Events, then the end of the stream.
    Events(Vec<Event>),
    /// Events, then silence until the client goes away.
    Open(Vec<Event>),
    /// 204, and the process with this id is ended.
    EndProcess(u32),
}

/// A value with status 200.
pub fn value(value: &impl Serialize) -> Answer {
    Answer::Value(200, serde_json::to_string(value).expect("JSON"))
}

/// A refusal.
pub fn refusal(status: u16, kind: ErrorKind, what: &str) -> Answer {
    Answer::Value(status, serde_json::to_string(&error(kind, what)).expect("JSON"))
}

/// An error without details.
pub fn error(kind: ErrorKind, what: &str) -> ApiError {
    ApiError {
        kind,
        what: what.into(),
        why: Vec::new(),
        hint: None,
        faults: None,
        faults_json: None,
    }
}

/// The hash that the daemon under test would give as its build.
pub fn build() -> String {
    let executable = std::fs::read(env!("CARGO_BIN_EXE_gridgate")).expect("the executable");
    hex::encode(&Sha256::digest(executable)[..8])
}

/// A home with a daemon in it.
pub struct Fake {
    home: TempDir,
    answers: Arc<Mutex<HashMap<String, Answer>>>,
    /// `POST /v1/… body`, as they come.
    pub requests: Receiver<String>,
}

impl Fake {
    /// A daemon of the build under test.
    pub fn new() -> Fake {
        Fake::of(&DaemonInfo {
            version: "0".into(),
            build: build(),
            pid: std::process::id(),
            home: "/".into(),
        })
    }

    /// A daemon that says this of itself.
    pub fn of(info: &DaemonInfo) -> Fake {
        let home = tempfile::tempdir().expect("a home");
        let listener = UnixListener::bind(home.path().join("daemon.sock")).expect("a socket");
        let answers = Arc::new(Mutex::new(HashMap::new()));
        let (sender, requests) = channel();
        let fake = Fake { home, answers: answers.clone(), requests };
        fake.answer("GET /v1/daemon", value(info));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, answers, sender) =
                    (stream.expect("a client"), answers.clone(), sender.clone());
                thread::spawn(move || serve(stream, &answers, &sender));
            }
        });
        fake
    }

    /// From now on, `METHOD /path` is answered so.
    pub fn answer(&self, request: &str, answer: Answer) {
        self.answers.lock().expect("no test panicked").insert(request.into(), answer);
    }

    /// The home.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The command line with these words.
    pub fn command(&self, words: &[&str]) -> Command {
        gridgate(self.home(), words)
    }

    /// Runs it to its end.
    pub fn run(&self, words: &[&str]) -> Ran {
        Ran::of(self.command(words).output().expect("gridgate runs"))
    }
}

/// The command line in a home, away from the terminal and the user's settings.
pub fn gridgate(home: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gridgate"));
    command
        .args(words)
        .env("GRIDGATE_HOME", home)
        .env_remove("GRIDGATE_MIRROR")
        .env_remove("NO_COLOR")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// What a run left behind.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn of(output: Output) -> Ran {
        Ran {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).expect("UTF-8"),
            err: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }
}

fn serve(stream: UnixStream, answers: &Mutex<HashMap<String, Answer>>, requests: &Sender<String>) {
    let mut reader = BufReader::new(stream);
    let mut request = String::new();
    if reader.read_line(&mut request).unwrap_or(0) == 0 {
        return;
    }
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).expect("a header");
        let header = header.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    let request = request.trim().trim_end_matches(" HTTP/1.1").to_owned();
    let answer = answers.lock().expect("no test panicked").get(&request).cloned();
    let _ = requests.send(format!("{request} {}", String::from_utf8_lossy(&body)));
    let answer =
        answer.unwrap_or_else(|| refusal(500, ErrorKind::Internal, &format!("asked {request}")));
    // A client that went away is part of some tests.
    let _ = reply(reader.into_inner(), answer);
}

fn reply(mut stream: UnixStream, answer: Answer) -> std::io::Result<()> {
    match answer {
        Answer::Value(status, body) => write!(
            stream,
            "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        ),
        Answer::Events(events) => say(&mut stream, &events),
        Answer::Open(events) => {
            say(&mut stream, &events)?;
            stream.read_to_end(&mut Vec::new()).map(drop)
        }
        Answer::EndProcess(pid) => {
            let pid = rustix::process::Pid::from_raw(pid.cast_signed()).expect("a process");
            rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
            write!(stream, "HTTP/1.1 204 X\r\nConnection: close\r\n\r\n")
        }
    }
}

fn say(stream: &mut UnixStream, events: &[Event]) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
    for event in events {
        writeln!(stream, "{}", serde_json::to_string(event).expect("JSON"))?;
    }
    stream.flush()
}
