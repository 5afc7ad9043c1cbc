//! Requests to the daemon: HTTP/1 and JSON on its Unix socket, one connection per request.

use std::io;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use gridgate_protocol::site_api::{ApiError, DaemonInfo, Event, SiteStatus, SiteSummary};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::failure::Failure;

/// Longest line of an event stream, bytes; a daemon that sends more is not ours.
const LONGEST_LINE: usize = 16 << 20;

/// The daemon behind one socket.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

/// Who answers on a socket.
#[derive(Debug)]
pub enum Presence {
    /// A daemon.
    Answers(DaemonInfo),
    /// Nobody.
    Silent,
}

impl Client {
    /// A client of the daemon on this socket; nothing is connected yet.
    pub fn new(socket: &Path) -> Client {
        Client { socket: socket.to_owned() }
    }

    /// Who is there.
    pub async fn presence(&self) -> Result<Presence, Failure> {
        match UnixStream::connect(&self.socket).await {
            Ok(stream) => {
                let response = self.send(stream, Method::GET, "/v1/daemon", Bytes::new()).await?;
                Ok(Presence::Answers(self.value(response).await?))
            }
            Err(error) if is_silence(&error) => Ok(Presence::Silent),
            Err(error) => Err(self.unreachable(&error)),
        }
    }

    /// All sites.
    pub async fn sites(&self) -> Result<Vec<SiteSummary>, Failure> {
        self.get("/v1/sites").await
    }

    /// One site.
    pub async fn site(&self, site: &str) -> Result<SiteStatus, Failure> {
        self.get(&format!("/v1/sites/{site}")).await
    }

    /// A value.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let response = self.request(Method::GET, path, Bytes::new()).await?;
        self.value(response).await
    }

    /// A value in answer to a value.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        let response = self.request(Method::POST, path, json(body)).await?;
        self.value(response).await
    }

    /// Something done, with nothing to tell.
    pub async fn tell(&self, path: &str) -> Result<(), Failure> {
        self.request(Method::POST, path, Bytes::new()).await.map(drop)
    }

    /// A task's events.
    pub async fn events(&self, path: &str, body: &impl Serialize) -> Result<Events, Failure> {
        let response = self.request(Method::POST, path, json(body)).await?;
        Ok(Events { body: response.into_body(), buffer: BytesMut::new() })
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, Failure> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|e| self.unreachable(&e))?;
        self.send(stream, method, path, body).await
    }

    /// Sends, and turns an error answer into a failure.
    async fn send(
        &self,
        stream: UnixStream,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, Failure> {
        let broken = |e: hyper::Error| self.broken(path, &e);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // Drives the connection; its fault reaches us through the response as well.
        tokio::spawn(async move { drop(connection.await) });
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "gridgate")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|e| Failure::input(format!("{path:?} cannot be asked for")).because(&e))?;
        let response = sender.send_request(request).await.map_err(broken)?;
        if response.status().is_success() {
            Ok(response)
        } else {
            Err(self.refused(path, response).await)
        }
    }

    async fn value<T: DeserializeOwned>(&self, response: Response<Incoming>) -> Result<T, Failure> {
        let body =
            response.into_body().collect().await.map_err(|e| self.broken("its answer", &e))?;
        serde_json::from_slice(&body.to_bytes()).map_err(|e| misunderstood().because(&e))
    }

    async fn refused(&self, path: &str, response: Response<Incoming>) -> Failure {
        let status = response.status();
        let body = match response.into_body().collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return self.broken(path, &error),
        };
        match serde_json::from_slice::<ApiError>(&body) {
            Ok(error) => error.into(),
            Err(_) if status == StatusCode::NOT_FOUND => {
                Failure::internal(format!("the daemon does not know {path}"))
            }
            Err(_) => Failure::internal(format!("the daemon answered {status} to {path}"))
                .why(String::from_utf8_lossy(&body).trim().to_owned()),
        }
    }

    fn unreachable(&self, error: &io::Error) -> Failure {
        let failure =
            Failure::host(format!("the daemon's socket {} cannot be used", self.socket.display()))
                .because(error);
        match error.kind() {
            io::ErrorKind::PermissionDenied => {
                failure.hint("run this as the user whose home it is (root)")
            }
            _ => failure,
        }
    }

    fn broken(&self, what: &str, error: &hyper::Error) -> Failure {
        Failure::internal(format!("the daemon broke off at {what}"))
            .because(error)
            .hint(format!("see {}", self.socket.with_file_name("daemon.log").display()))
    }
}

/// Whether this error of `connect` means that there is no daemon.
fn is_silence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

fn json(body: &impl Serialize) -> Bytes {
    serde_json::to_vec(body).expect("requests have string keys only").into()
}

fn misunderstood() -> Failure {
    Failure::internal("the daemon's answer is not understood")
        .hint("gridgate daemon stop, then again")
}

/// A stream of events, one JSON document a line.
#[derive(Debug)]
pub struct Events {
    body: Incoming,
    buffer: BytesMut,
}

impl Events {
    /// The next event; none when the daemon has closed the stream. Can be dropped while it waits without
    /// losing anything.
    pub async fn next(&mut self) -> Result<Option<Event>, Failure> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end + 1);
                if line.trim_ascii().is_empty() {
                    continue;
                }
                let event = serde_json::from_slice(&line);
                return event.map(Some).map_err(|e| misunderstood().because(&e));
            }
            if self.buffer.len() > LONGEST_LINE {
                return Err(misunderstood().why("an event is longer than any event is"));
            }
            match self.body.frame().await {
                // What breaks off is told apart from what ends by the caller: by the missing last event.
                None | Some(Err(_)) => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}
