//! An install server for tests: real TLS, the agent's whole protocol, one thread
//! a connection.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use gridgate_protocol::agent_api::{
    Identity, PackageList, PublishedProfile, Report, RunRequest, RunResult, SERVER_NAME, Work,
};
use gridgate_protocol::drift::{DriftCommand, DriftReport, DriftRequest};
use gridgate_protocol::node_profile::NodeProfile;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::authority::Authority;
use super::machine::PATIENCE;

pub(crate) const SECRET: &str = "a munge key";

const TOKEN: &str = "0123abcd";

/// How long a question for work is held back.
const HOLD: Duration = Duration::from_secs(25);

#[derive(Clone)]
pub(crate) struct TestServer {
    shared: Arc<Shared>,
}

struct Shared {
    authority: Authority,
    port: u16,
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    published: Option<PublishedProfile>,
    ails: Option<u16>,
    runs: Vec<RunRequest>,
    looks: Vec<DriftRequest>,
    drifts: BTreeMap<u64, DriftReport>,
    reapply: bool,
    power_off: bool,
    reports: Vec<Report>,
    results: BTreeMap<u64, RunResult>,
}

type Answer = (u16, Vec<u8>);

impl TestServer {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let authority = Authority::new();
        let (certificate, key) = authority.server(SERVER_NAME);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from(certificate)],
                PrivateKeyDer::try_from(key).unwrap(),
            )
            .unwrap();
        let config = Arc::new(config);
        let shared = Arc::new(Shared {
            authority,
            port: listener.local_addr().unwrap().port(),
            inner: Mutex::default(),
            changed: Condvar::new(),
        });
        let server = Self { shared };
        let serving = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (server, config) = (serving.clone(), Arc::clone(&config));
                std::thread::spawn(move || server.serve(stream, config));
            }
        });
        server
    }

    pub(crate) fn port(&self) -> u16 {
        self.shared.port
    }

    pub(crate) fn identity(&self) -> Identity {
        Identity {
            site: "dublin".into(),
            node: "wn1".into(),
            domain: "dublin.test".into(),
            mac: "02:67:00:00:00:14".into(),
            address: Ipv4Addr::LOCALHOST,
            prefix_length: 24,
            server: Ipv4Addr::LOCALHOST,
            port: self.port(),
            ca: self.shared.authority.pem(),
            token: TOKEN.into(),
        }
    }

    fn change(&self, change: impl FnOnce(&mut Inner)) {
        change(&mut self.shared.inner.lock().unwrap());
        self.shared.changed.notify_all();
    }

    pub(crate) fn publish(&self, profile: &NodeProfile) {
        let published = PublishedProfile {
            version: profile.version(),
            profile: profile.clone(),
            packages: None,
        };
        self.change(|inner| inner.published = Some(published));
    }

    pub(crate) fn ail(&self, status: u16) {
        self.change(|inner| inner.ails = Some(status));
    }

    pub(crate) fn recover(&self) {
        self.change(|inner| inner.ails = None);
    }

    pub(crate) fn run(&self, request: RunRequest) {
        self.change(|inner| inner.runs.push(request));
    }

    pub(crate) fn look(&self, id: u64, command: DriftCommand) -> DriftReport {
        self.change(|inner| inner.looks.push(DriftRequest { id, command }));
        self.wait("a look's answer", |inner| inner.drifts.contains_key(&id)).drifts[&id].clone()
    }

    pub(crate) fn reapply(&self) {
        self.change(|inner| inner.reapply = true);
    }

    pub(crate) fn power_off(&self) {
        self.change(|inner| inner.power_off = true);
    }

    pub(crate) fn forget_reports(&self) {
        self.change(|inner| inner.reports.clear());
    }

    pub(crate) fn reports(&self) -> Vec<Report> {
        self.shared.inner.lock().unwrap().reports.clone()
    }

    fn wait(&self, what: &str, arrived: impl Fn(&Inner) -> bool) -> MutexGuard<'_, Inner> {
        let inner = self.shared.inner.lock().unwrap();
        let (inner, waited) = self
            .shared
            .changed
            .wait_timeout_while(inner, PATIENCE, |inner| !arrived(inner))
            .unwrap();
        assert!(!waited.timed_out(), "{what} never came; last report {:?}", inner.reports.last());
        inner
    }

    /// Waits for a report that fits; one that came before counts too.
    pub(crate) fn wait_report(&self, fits: impl Fn(&Report) -> bool) -> Report {
        let inner = self.wait("a report", |inner| inner.reports.iter().any(&fits));
        inner.reports.iter().rev().find(|report| fits(report)).unwrap().clone()
    }

    pub(crate) fn wait_result(&self, id: u64) -> RunResult {
        self.wait("a result", |inner| inner.results.contains_key(&id)).results[&id].clone()
    }

    fn serve(&self, stream: TcpStream, config: Arc<ServerConfig>) {
        let connection = ServerConnection::new(config).unwrap();
        let mut stream = BufReader::new(StreamOwned::new(connection, stream));
        // Ends when the agent hangs up or does not trust us.
        while let Some((line, authorized, body)) = read_request(&mut stream) {
            let mut parts = line.split(' ');
            let (method, path) = (parts.next().unwrap(), parts.next().unwrap());
            let (status, answer) = if authorized {
                self.answer(method, path, &body)
            } else {
                (401, br#"{"error":"who are you"}"#.to_vec())
            };
            let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n", answer.len());
            let mut out = head.into_bytes();
            out.extend(answer);
            if stream.get_mut().write_all(&out).and_then(|()| stream.get_mut().flush()).is_err() {
                return;
            }
        }
    }

    fn answer(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        let ails = self.shared.inner.lock().unwrap().ails;
        if let Some(status) = ails {
            return (status, br#"{"error":"not well"}"#.to_vec());
        }
        let path = path.strip_prefix("/v1/node/").unwrap();
        match (method, path) {
            ("GET", "profile") => match &self.shared.inner.lock().unwrap().published {
                Some(published) => (200, serde_json::to_vec(published).unwrap()),
                None => (404, b"nothing yet".to_vec()),
            },
            ("GET", "secrets/munge-key") => (200, SECRET.into()),
            ("GET", "packages") => {
                (200, serde_json::to_vec(&PackageList { packages: vec![] }).unwrap())
            }
            ("POST", "certificates/host") => {
                let request = std::str::from_utf8(body).unwrap();
                (200, self.shared.authority.sign(request, 300).into_bytes())
            }
            ("POST", "report") => {
                let report = serde_json::from_slice(body).unwrap();
                self.change(|inner| inner.reports.push(report));
                (204, vec![])
            }
            ("GET", _) if path.starts_with("work?applied=") => {
                let query = path.strip_prefix("work?applied=").unwrap();
                self.work(query.split('&').next().unwrap())
            }
            ("POST", _) if path.starts_with("runs/") => {
                let id = path.strip_prefix("runs/").unwrap().parse().unwrap();
                let result = serde_json::from_slice(body).unwrap();
                self.change(|inner| drop(inner.results.insert(id, result)));
                (204, vec![])
            }
            ("POST", _) if path.starts_with("drift/") => {
                let id = path.strip_prefix("drift/").unwrap().parse().unwrap();
                let report = serde_json::from_slice(body).unwrap();
                self.change(|inner| drop(inner.drifts.insert(id, report)));
                (204, vec![])
            }
            _ => (404, br#"{"error":"no such thing"}"#.to_vec()),
        }
    }

    fn work(&self, applied: &str) -> Answer {
        let inner = self.shared.inner.lock().unwrap();
        let version = |inner: &Inner| {
            inner.published.as_ref().map_or(String::new(), |published| published.version.clone())
        };
        let idle = |inner: &mut Inner| {
            inner.runs.is_empty()
                && inner.looks.is_empty()
                && !inner.reapply
                && !inner.power_off
                && version(inner) == applied
        };
        let (mut inner, _) = self.shared.changed.wait_timeout_while(inner, HOLD, idle).unwrap();
        let work = Work {
            published: version(&inner),
            reapply: std::mem::take(&mut inner.reapply),
            packages: None,
            drift: std::mem::take(&mut inner.looks),
            runs: std::mem::take(&mut inner.runs),
            power_off: std::mem::take(&mut inner.power_off),
        };
        (200, serde_json::to_vec(&work).unwrap())
    }
}

/// Request line, whether the token is right, body; none at the connection's end.
fn read_request(stream: &mut impl BufRead) -> Option<(String, bool, Vec<u8>)> {
    let mut line = String::new();
    if stream.read_line(&mut line).ok()? == 0 {
        return None;
    }
    let (mut length, mut authorized) = (0, false);
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).ok()?;
        let header = header.trim_end();
        if header.is_empty() {
            break;
        }
        let (name, value) = header.split_once(": ")?;
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().ok()?,
            "authorization" => authorized = value == format!("Bearer {TOKEN}"),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((line, authorized, body))
}
