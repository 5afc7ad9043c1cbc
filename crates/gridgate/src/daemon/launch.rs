//! A daemon of this very executable: found, or started, or put in the place of one of another build.
//!
//! ```text
//!             answers, same build ───────────────────────────────► use it
//! socket ───┤ answers, other build, a task under way ────────────► use it, and say so
//!             answers, other build, idle ── stop, wait for its end ─┐
//!             silent ───────────────────────────────────────────────┴► start, wait for "ready" ► use it
//! ```
//! What stands after the first arrow is done under a lock, so that two command lines start one daemon.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use gridgate_protocol::site_api::DaemonInfo;
use rustix::fs::{FlockOperation, flock};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

use super::client::{Client, Presence};
use super::process;
use crate::failure::Failure;
use crate::settings::Settings;
use crate::show::screen;

/// How long a daemon may take to end before we stop waiting and say so.
const END_LIMIT: Duration = Duration::from_secs(60);

/// Lines of the daemon's log that are shown when it does not start.
const LOG_LINES: usize = 12;

/// A client of a daemon that answers.
pub async fn connect(settings: &Settings) -> Result<Client, Failure> {
    let client = Client::new(&settings.socket());
    let build = own_build();
    if let Presence::Answers(info) = client.presence().await?
        && info.build == build
    {
        return Ok(client);
    }
    make_home(&settings.home)?;
    let _lock = lock(&settings.home)?;
    // Another command line may have done it while we waited for the lock.
    if let Presence::Answers(info) = client.presence().await? {
        if info.build == build {
            return Ok(client);
        }
        if let Some(task) = task_under_way(&client).await? {
            if !settings.quiet {
                screen::error(&format!(
                    "note: the daemon is of another build ({}) and busy with {task}; it is used as it is\n",
                    info.version
                ));
            }
            return Ok(client);
        }
        stop(&client, &info).await?;
    }
    start(settings).await?;
    Ok(client)
}

/// Stops a daemon and waits until its process has ended.
pub async fn stop(client: &Client, info: &DaemonInfo) -> Result<(), Failure> {
    // Opened before the request: a process id may be given again once its process is gone.
    let failed = || Failure::host(format!("the daemon (process {}) did not end", info.pid));
    let ending = process::Ending::of(info.pid).map_err(|e| failed().because(&e))?;
    client.tell("/v1/daemon/stop").await?;
    match tokio::time::timeout(END_LIMIT, ending.wait()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(failed().because(&error)),
        Err(_) => Err(failed()
            .why(format!("it was asked to {} s ago", END_LIMIT.as_secs()))
            .hint(format!("kill {}; machines run on without it", info.pid))),
    }
}

/// The hash that tells this executable from another build.
pub fn own_build() -> &'static str {
    gridgate_server::build_id()
}

async fn task_under_way(client: &Client) -> Result<Option<String>, Failure> {
    for summary in client.sites().await? {
        if let Some(task) = client.site(&summary.site).await?.task {
            return Ok(Some(format!("{task} of {}", summary.site)));
        }
    }
    Ok(None)
}

async fn start(settings: &Settings) -> Result<(), Failure> {
    let log_path = settings.home.join("daemon.log");
    let failed = || Failure::host("the site daemon cannot be started");
    let mut log = File::options()
        .create(true)
        .append(true)
        .read(true)
        .mode(0o600)
        .open(&log_path)
        .map_err(|e| failed().why(log_path.display().to_string()).because(&e))?;
    let begin = log.seek(SeekFrom::End(0)).map_err(|e| failed().because(&e))?;
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(|e| failed().because(&e))?;
    let mut child =
        process::spawn_daemon(&settings.home, &log, write).map_err(|e| failed().because(&e))?;
    let mut receiver = Receiver::from_owned_fd(read).map_err(|e| failed().because(&e))?;
    let mut said = String::new();
    receiver.read_to_string(&mut said).await.map_err(|e| failed().because(&e))?;
    if said.starts_with("ready") {
        return Ok(());
    }
    Err(not_ready(&mut child, &mut log, begin).hint(format!("see {}", log_path.display())))
}

/// The daemon closed its pipe without a word: it has ended or is about to.
fn not_ready(child: &mut Child, log: &mut File, begin: u64) -> Failure {
    let failure = Failure::host("the site daemon did not start");
    let failure = match child.wait() {
        Ok(status) => failure.why(format!("it ended with {status}")),
        Err(error) => failure.because(&error),
    };
    let mut text = String::new();
    let read = log.seek(SeekFrom::Start(begin)).and_then(|_| log.read_to_string(&mut text));
    let lines: Vec<&str> = text.lines().collect();
    let last = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
    if read.is_ok() && !last.is_empty() { failure.why(last) } else { failure }
}

fn make_home(home: &Path) -> Result<(), Failure> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(home);
    made.map_err(|error| {
        let failure = Failure::host(format!("{} cannot be made", home.display())).because(&error);
        match error.kind() {
            io::ErrorKind::PermissionDenied => {
                failure.hint("run this as root, or name a folder of your own with --home")
            }
            _ => failure,
        }
    })
}

/// Held while a daemon is looked for and started; released when the file is closed, however we end.
fn lock(home: &Path) -> Result<File, Failure> {
    let path = home.join("daemon.start");
    let failed = || Failure::host(format!("{} cannot be locked", path.display()));
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(|e| failed().because(&e))?;
    flock(&file, FlockOperation::LockExclusive).map_err(|e| failed().because(&e))?;
    Ok(file)
}
