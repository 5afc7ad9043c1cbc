//! A client that speaks as an installer does: HTTPS, the site's CA, a bearer token.

use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;

use gridgate_protocol::agent_api::SERVER_NAME;
use gridgate_protocol::install_api::{Begin, Order};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::Serialize;
use ureq::http::Uri;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

#[derive(Debug)]
struct Fixed(SocketAddr);

impl Resolver for Fixed {
    fn resolve(
        &self,
        _: &Uri,
        _: &ureq::config::Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut addresses = self.empty();
        addresses.push(self.0);
        Ok(addresses)
    }
}

/// One installer.
#[derive(Clone)]
pub struct Client {
    agent: ureq::Agent,
    token: String,
}

/// What the server said.
pub struct Answer {
    pub status: u16,
    pub headers: ureq::http::HeaderMap,
    pub body: Vec<u8>,
}

impl Client {
    pub fn new(address: SocketAddr, ca: &str, token: &str) -> Client {
        let der = CertificateDer::from_pem_slice(ca.as_bytes()).expect("a certificate");
        let root = Certificate::from_der(der.as_ref()).to_owned();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .root_certs(RootCerts::Specific(Arc::new(vec![root])))
            .unversioned_rustls_crypto_provider(provider)
            .build();
        let config = ureq::Agent::config_builder()
            .tls_config(tls)
            .https_only(true)
            .proxy(None)
            .http_status_as_error(false)
            .input_buffer_size(256 << 10)
            .build();
        let agent = ureq::Agent::with_parts(config, DefaultConnector::default(), Fixed(address));
        Client { agent, token: token.to_owned() }
    }

    /// The same machine with another token.
    pub fn with(&self, token: &str) -> Client {
        Client { agent: self.agent.clone(), token: token.to_owned() }
    }

    pub fn get(&self, path: &str) -> Answer {
        self.get_with(path, None)
    }

    pub fn get_with(&self, path: &str, range: Option<&str>) -> Answer {
        let request = self
            .agent
            .get(format!("https://{SERVER_NAME}:8140{path}"))
            .header("Authorization", format!("Bearer {}", self.token));
        let request = match range {
            Some(range) => request.header("Range", range),
            None => request,
        };
        answer(request.call().expect("an answer"))
    }

    pub fn post(&self, path: &str, body: &impl Serialize) -> Answer {
        let request = self
            .agent
            .post(format!("https://{SERVER_NAME}:8140{path}"))
            .header("Authorization", format!("Bearer {}", self.token));
        answer(request.send_json(body).expect("an answer"))
    }

    /// Begins, and is the session from then on.
    pub fn begin(&self, boot: &str) -> (Client, Order) {
        let answer = self.post("/v1/install/begin", &begin(boot));
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        let order: Order = serde_json::from_slice(&answer.body).expect("an order");
        (self.with(&order.session), order)
    }
}

pub fn begin(boot: &str) -> Begin {
    Begin {
        boot_id: boot.to_owned(),
        kernel: "7.2".to_owned(),
        disk: 4 << 30,
        partitions: Vec::new(),
        clock: 0,
    }
}

fn answer(response: ureq::http::Response<ureq::Body>) -> Answer {
    let (parts, body) = response.into_parts();
    let mut bytes = Vec::new();
    body.into_reader().read_to_end(&mut bytes).expect("a whole body");
    Answer { status: parts.status.as_u16(), headers: parts.headers, body: bytes }
}
