//! The daemon's life: one per home, adopts the sites it finds, serves until it is told to stop.
//!
//! ```text
//! lock ─> listen ─> adopt sites ─> ready ─> serve ─(stop request, SIGTERM, SIGINT)─> end
//! ```
//!
//! Machines belong to their shims: they run on when the daemon ends, however it ends.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::future::IntoFuture;
use std::io::{self, Read, Write};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use gridgate_protocol::site_api::{DaemonInfo, ErrorKind};
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use crate::failure::{Failure, Hint, caused, failure};
use crate::home::{Home, private_dir};
use crate::site::Site;
use crate::task::Slot;
use crate::{api, services, wanted};

/// Number of the pipe on which a starter waits for readiness.
const READY_FD: &str = "GRIDGATE_READY_FD";

/// What answers under way get to be finished when the daemon ends.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Everything the daemon holds.
pub struct Daemon {
    /// Its home.
    pub home: Home,
    /// Wakes when it shall end.
    pub stop: Notify,
    /// The depot's task under way.
    pub depot: Slot,
    sites: Mutex<BTreeMap<String, Arc<Site>>>,
}

impl Daemon {
    /// All sites by name.
    pub fn sites(&self) -> Vec<Arc<Site>> {
        self.sites.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// A site that has been brought up before.
    pub fn site(&self, name: &str) -> Result<Arc<Site>, Failure> {
        let sites = self.sites.lock().unwrap_or_else(PoisonError::into_inner);
        sites.get(name).cloned().ok_or_else(|| {
            let known: Vec<_> = sites.keys().map(String::as_str).collect();
            let hint = match known.as_slice() {
                [] => "no site has been brought up yet: `gridgate up site.toml`".to_owned(),
                known => format!("known sites: {}", known.join(", ")),
            };
            failure(ErrorKind::NotFound, format!("there is no site {name}")).hint(hint)
        })
    }

    /// The site of this name, new if need be.
    pub fn site_or_new(&self, name: &str) -> Arc<Site> {
        let mut sites = self.sites.lock().unwrap_or_else(PoisonError::into_inner);
        sites.entry(name.to_owned()).or_insert_with(|| Site::new(&self.home, name)).clone()
    }

    /// Forgets a destroyed site.
    pub fn forget(&self, name: &str) {
        self.sites.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// Who this is.
    pub fn info(&self) -> DaemonInfo {
        DaemonInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            build: build_id().to_owned(),
            pid: std::process::id(),
            home: self.home.path().to_owned(),
        }
    }
}

/// The running executable, also when its file has been replaced.
pub fn executable() -> PathBuf {
    PathBuf::from("/proc/self/exe")
}

/// Tells one build of gridgate from another: the first 16 hex digits of the executable's SHA-256.
pub fn build_id() -> &'static str {
    static ID: OnceLock<String> = OnceLock::new();
    ID.get_or_init(|| match hash(&executable()) {
        Ok(digest) => digest,
        Err(e) => {
            tracing::error!("the running executable could not be read: {e}");
            "unknown".to_owned()
        }
    })
}

fn hash(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex::encode(&hash.finalize()[..8])),
            n => hash.update(&buffer[..n]),
        }
    }
}

/// Runs the daemon until it is told to stop. Gives the process's exit code.
pub fn daemon_main(home: &Path) -> i32 {
    match run(Home::new(home)) {
        Ok(()) => 0,
        Err(failure) => {
            tracing::error!("{}: {}", failure.what, failure.why.join(": "));
            i32::from(failure.kind.exit_code())
        }
    }
}

fn run(home: Home) -> Result<(), Failure> {
    let fault = |what: &str, e: &dyn std::error::Error| caused(ErrorKind::Host, what, e);
    private_dir(&home.sites()).map_err(|e| fault("the home could not be made", &e))?;
    let lock = lock(&home)?;
    // A panic here would mean that another part of this program has chosen otherwise before.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        tracing::debug!("a cryptography provider was installed before");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| fault("the daemon could not start its threads", &e))?;
    let daemon = Arc::new(Daemon {
        home,
        stop: Notify::new(),
        depot: Slot::default(),
        sites: Mutex::new(BTreeMap::new()),
    });
    let served = runtime.block_on(serve(&daemon));
    runtime.shutdown_background();
    drop(lock);
    served
}

/// Held while the daemon lives: two daemons of one home would fight over its sites.
fn lock(home: &Home) -> Result<File, Failure> {
    let path = home.lock_file();
    let fault = |e: &dyn std::error::Error| {
        caused(ErrorKind::Host, format!("{} is not usable", path.display()), e)
    };
    let mut file = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|e| fault(&e))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| failure(ErrorKind::Busy, "another daemon serves this home"))?;
    file.set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(|e| fault(&e))?;
    Ok(file)
}

async fn serve(daemon: &Arc<Daemon>) -> Result<(), Failure> {
    let socket = daemon.home.socket();
    let fault = |e: &dyn std::error::Error| {
        caused(ErrorKind::Host, format!("the daemon could not listen on {}", socket.display()), e)
    };
    // The lock is ours, so whoever made this socket is gone.
    match fs::remove_file(&socket) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(fault(&e)),
        _ => {}
    }
    let listener = tokio::net::UnixListener::bind(&socket).map_err(|e| fault(&e))?;
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o600)).map_err(|e| fault(&e))?;
    adopt_all(daemon).await;
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| fault(&e))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| fault(&e))?;
    tell_ready();
    tracing::info!(pid = std::process::id(), build = build_id(), "ready");
    let router = api::router(daemon.clone());
    let ending = Arc::new(Notify::new());
    let told = ending.clone();
    let server =
        axum::serve(listener, router).with_graceful_shutdown(async move { told.notified().await });
    let mut server = std::pin::pin!(server.into_future());
    tokio::select! {
        served = &mut server => served.map_err(|e| fault(&e))?,
        () = daemon.stop.notified() => tracing::info!("told to stop"),
        _ = terminate.recv() => tracing::info!("SIGTERM"),
        _ = interrupt.recv() => tracing::info!("SIGINT"),
    }
    // Answers under way are finished, that to the stop request among them; event streams of a task are not waited for.
    ending.notify_one();
    if tokio::time::timeout(LAST_ANSWERS, server).await.is_err() {
        tracing::info!("ended while a client still listened to a task");
    }
    let _ = fs::remove_file(&socket);
    Ok(())
}

/// Takes up every site of the home. A site that cannot be taken up does not keep the daemon from serving others.
async fn adopt_all(daemon: &Arc<Daemon>) {
    let entries = fs::read_dir(daemon.home.sites()).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Err(failure) = adopt(daemon, &name).await {
            tracing::error!(site = name, "{}: {}", failure.what, failure.why.join(": "));
        }
    }
}

async fn adopt(daemon: &Arc<Daemon>, name: &str) -> Result<(), Failure> {
    let site = daemon.site_or_new(name);
    let Some(source) = wanted::load(&site.dir)? else { return Ok(()) };
    let (wanted, ca) = wanted::compile(&daemon.home, source)?;
    let wanted = site.set_wanted(wanted, ca);
    if gridgate_net::exists(&wanted.network.namespace) {
        services::open(&site, &wanted, None).await?;
    }
    services::republish(&site, &wanted)
}

/// Tells a starter that the socket answers, by closing its pipe after a word.
fn tell_ready() {
    let Some(fd) = std::env::var(READY_FD).ok().and_then(|text| text.parse::<RawFd>().ok()) else {
        return;
    };
    if fd <= 2 {
        return;
    }
    // SAFETY: the starter passed this descriptor for this one use; nothing else here knows its number.
    let pipe = unsafe { OwnedFd::from_raw_fd(fd) };
    if let Err(e) = File::from(pipe).write_all(b"ready\n") {
        tracing::debug!("nobody waits for readiness: {e}");
    }
}
