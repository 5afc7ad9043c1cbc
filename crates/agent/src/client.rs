//! Speaks to the install server. The connection goes to the address of the
//! identity and nowhere else; the server must show a certificate of the site's
//! CA for `SERVER_NAME`. Everything read is bounded in size and in time.

pub(crate) mod install;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use gridgate_protocol::agent_api::{
    Identity, PackageList, PublishedProfile, Report, RunResult, SERVER_NAME, Work,
};
use gridgate_protocol::drift::DriftReport;
use rustls_pki_types::pem::PemObject;
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::http::Uri;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

/// Time for an ordinary request.
const ORDINARY: Duration = Duration::from_secs(15);

/// Time for a request for work, which the server holds back up to 25 s.
const LONG_POLL: Duration = Duration::from_secs(40);

/// Time for one package.
const DOWNLOAD: Duration = Duration::from_secs(600);

const MIB: u64 = 1024 * 1024;

/// Why the server did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("the site's CA certificate in this node's identity is unusable: {0}")]
    Authority(String),
    #[error("{path}: the install server cannot be reached: {source}")]
    Unreachable { path: String, source: Box<ureq::Error> },
    #[error("{path}: the install server answered {status}: {message}")]
    Refused { path: String, status: u16, message: String },
    #[error("{path}: the install server's answer is larger than {limit} bytes")]
    TooLarge { path: String, limit: u64 },
    #[error("{path}: the install server's answer is not understood: {source}")]
    Answer { path: String, source: serde_json::Error },
}

impl ClientError {
    /// Whether asking again later may help: the server is not there, or not well.
    pub(crate) fn is_not_yet(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { status, .. } => *status >= 500 || *status == 429,
            Self::Authority(_) | Self::TooLarge { .. } | Self::Answer { .. } => false,
        }
    }
}

/// Waits between tries: 50 ms, doubling up to 2 s.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: Duration::from_millis(50) }
    }
}

impl Backoff {
    /// The next wait.
    pub(crate) fn step(&mut self) -> Duration {
        let now = self.next;
        self.next = (now * 2).min(Duration::from_secs(2));
        now
    }
}

/// The one address that there is.
#[derive(Debug)]
struct Fixed(SocketAddr);

impl Resolver for Fixed {
    fn resolve(
        &self,
        _uri: &Uri,
        _config: &ureq::config::Config,
        _timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut addresses = self.empty();
        addresses.push(self.0);
        Ok(addresses)
    }
}

/// A connection to the install server, for use by several threads at once.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    agent: ureq::Agent,
    base: String,
    authorization: String,
}

impl Client {
    /// A client for the server that `identity` names. Connects to nothing yet.
    pub(crate) fn new(identity: &Identity) -> Result<Self, ClientError> {
        let authority = rustls_pki_types::CertificateDer::from_pem_slice(identity.ca.as_bytes())
            .map_err(|error| ClientError::Authority(error.to_string()))?;
        let root = Certificate::from_der(authority.as_ref()).to_owned();
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .root_certs(RootCerts::Specific(Arc::new(vec![root])))
            .unversioned_rustls_crypto_provider(Arc::new(
                rustls::crypto::aws_lc_rs::default_provider(),
            ))
            .build();
        let config = ureq::Agent::config_builder()
            .tls_config(tls)
            .https_only(true)
            .proxy(None)
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(Duration::from_secs(5)))
            .timeout_global(Some(ORDINARY))
            .max_idle_connections(3)
            .input_buffer_size(16 * 1024)
            .output_buffer_size(8 * 1024)
            .user_agent(concat!("gridgate-agent/", env!("CARGO_PKG_VERSION")))
            .build();
        let address = SocketAddr::new(IpAddr::V4(identity.server), identity.port);
        Ok(Self {
            agent: ureq::Agent::with_parts(config, DefaultConnector::default(), Fixed(address)),
            base: format!("https://{SERVER_NAME}:{}", identity.port),
            authorization: format!("Bearer {}", identity.token),
        })
    }

    /// The profile that the server publishes for this node.
    pub(crate) fn profile(&self) -> Result<PublishedProfile, ClientError> {
        self.get_json("/v1/node/profile", ORDINARY, 64 * MIB)
    }

    /// The locked packages of this node.
    pub(crate) fn packages(&self) -> Result<PackageList, ClientError> {
        self.get_json("/v1/node/packages", ORDINARY, 16 * MIB)
    }

    /// One package file of at most `size` bytes, into `into`.
    pub(crate) fn package(
        &self,
        sha256: &str,
        size: u64,
        into: &mut dyn std::io::Write,
    ) -> Result<std::io::Result<u64>, ClientError> {
        let path = format!("/v1/node/packages/{sha256}");
        let answer = self.ask(&path, DOWNLOAD)?;
        let mut body = answer.into_body();
        let mut reader = body.with_config().limit(size.saturating_add(1)).reader();
        Ok(std::io::copy(&mut reader, into))
    }

    /// A secret's bytes.
    pub(crate) fn secret(&self, name: &str) -> Result<Vec<u8>, ClientError> {
        self.get(&format!("/v1/node/secrets/{name}"), ORDINARY, MIB)
    }

    /// Has a certificate request signed; both are PEM.
    pub(crate) fn certificate(&self, name: &str, request: &str) -> Result<String, ClientError> {
        let path = format!("/v1/node/certificates/{name}");
        let answer = self.post(&path, "application/x-pem-file", request.as_bytes())?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// Says how the node does.
    pub(crate) fn report(&self, report: &Report) -> Result<(), ClientError> {
        self.post_json("/v1/node/report", report)
    }

    /// What there is to do for a node that took note of version `applied` and of
    /// the package list `packages`; waits for it.
    pub(crate) fn work(&self, applied: &str, packages: &str) -> Result<Work, ClientError> {
        let path = format!("/v1/node/work?applied={applied}&packages={packages}");
        self.get_json(&path, LONG_POLL, 16 * MIB)
    }

    /// Says how the node differs from its profile.
    pub(crate) fn drift(&self, id: u64, report: &DriftReport) -> Result<(), ClientError> {
        self.post_json(&format!("/v1/node/drift/{id}"), report)
    }

    /// Says what came of a run.
    pub(crate) fn run_result(&self, id: u64, result: &RunResult) -> Result<(), ClientError> {
        self.post_json(&format!("/v1/node/runs/{id}"), result)
    }

    fn get_json<T: DeserializeOwned>(
        &self,
        path: &str,
        time: Duration,
        limit: u64,
    ) -> Result<T, ClientError> {
        let body = self.get(path, time, limit)?;
        serde_json::from_slice(&body)
            .map_err(|source| ClientError::Answer { path: path.to_owned(), source })
    }

    fn get(&self, path: &str, time: Duration, limit: u64) -> Result<Vec<u8>, ClientError> {
        read(path, self.ask(path, time)?, limit)
    }

    fn ask(
        &self,
        path: &str,
        time: Duration,
    ) -> Result<ureq::http::Response<ureq::Body>, ClientError> {
        let answer = self
            .agent
            .get(format!("{}{path}", self.base))
            .header("authorization", &self.authorization)
            .config()
            .timeout_global(Some(time))
            .build()
            .call()
            .map_err(|source| unreachable(path, source))?;
        accept(path, answer)
    }

    fn post(&self, path: &str, kind: &str, body: &[u8]) -> Result<Vec<u8>, ClientError> {
        let answer = self
            .agent
            .post(format!("{}{path}", self.base))
            .header("authorization", &self.authorization)
            .header("content-type", kind)
            .send(body)
            .map_err(|source| unreachable(path, source))?;
        read(path, accept(path, answer)?, MIB)
    }

    /// Posts JSON and reads JSON.
    fn post_for<T: DeserializeOwned>(
        &self,
        path: &str,
        value: &impl Serialize,
        time: Duration,
        limit: u64,
    ) -> Result<T, ClientError> {
        let fault = |source| ClientError::Answer { path: path.to_owned(), source };
        let body = serde_json::to_vec(value).map_err(fault)?;
        let answer = self
            .agent
            .post(format!("{}{path}", self.base))
            .header("authorization", &self.authorization)
            .header("content-type", "application/json")
            .config()
            .timeout_global(Some(time))
            .build()
            .send(&body[..])
            .map_err(|source| unreachable(path, source))?;
        serde_json::from_slice(&read(path, accept(path, answer)?, limit)?).map_err(fault)
    }

    fn post_json(&self, path: &str, value: &impl Serialize) -> Result<(), ClientError> {
        let body = serde_json::to_vec(value)
            .map_err(|source| ClientError::Answer { path: path.to_owned(), source })?;
        self.post(path, "application/json", &body).map(drop)
    }
}

/// Asks until the server is there; only an answer that will not get better is an error.
pub(crate) fn until_reachable<T>(
    mut ask: impl FnMut() -> Result<T, ClientError>,
) -> Result<T, ClientError> {
    let mut backoff = Backoff::default();
    let mut said = false;
    loop {
        match ask() {
            Err(error) if error.is_not_yet() => {
                if !std::mem::replace(&mut said, true) {
                    tracing::info!(%error, "waiting for the install server");
                }
                thread::sleep(backoff.step());
            }
            answer => return answer,
        }
    }
}

fn unreachable(path: &str, source: ureq::Error) -> ClientError {
    ClientError::Unreachable { path: path.to_owned(), source: Box::new(source) }
}

fn read(
    path: &str,
    mut answer: ureq::http::Response<ureq::Body>,
    limit: u64,
) -> Result<Vec<u8>, ClientError> {
    let body = answer.body_mut().with_config().limit(limit).read_to_vec();
    body.map_err(|source| match source {
        ureq::Error::BodyExceedsLimit(limit) => {
            ClientError::TooLarge { path: path.to_owned(), limit }
        }
        source => unreachable(path, source),
    })
}

/// Lets only successful answers through.
fn accept(
    path: &str,
    mut answer: ureq::http::Response<ureq::Body>,
) -> Result<ureq::http::Response<ureq::Body>, ClientError> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    #[derive(serde::Deserialize)]
    struct Fault {
        error: String,
    }
    let body = answer.body_mut().with_config().limit(64 * 1024).read_to_vec().unwrap_or_default();
    let message = serde_json::from_slice::<Fault>(&body)
        .map(|fault| fault.error)
        .unwrap_or_else(|_| String::from_utf8_lossy(&body).chars().take(300).collect());
    Err(ClientError::Refused { path: path.to_owned(), status: status.as_u16(), message })
}
