//! Answers that are too large for memory: made by a thread while they are sent, at most a few pieces ahead of the client.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Bytes sent at once.
const CHUNK: usize = 256 << 10;

/// Chunks that may wait for the client.
const AHEAD: usize = 2;

/// A body that `work` writes on a thread of its own. When `work` fails, the connection breaks off, so that the
/// client does not take the part for the whole.
pub fn written(work: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static) -> Body {
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(AHEAD);
    tokio::task::spawn_blocking(move || {
        let mut out = io::BufWriter::with_capacity(CHUNK, Sending(sender.clone()));
        if let Err(error) = work(&mut out).and_then(|()| out.flush()) {
            tracing::debug!(%error, "an answer broke off");
            // When the client has gone, nobody wants the reason.
            drop(sender.blocking_send(Err(error)));
        }
    });
    Body::from_stream(ReceiverStream::new(receiver))
}

struct Sending(mpsc::Sender<io::Result<Bytes>>);

impl Write for Sending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes))).map_err(gone)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file, or the part of it that `Range` asks for. Its content never changes under its name, so clients may keep it.
pub async fn file(path: &Path, headers: &HeaderMap, tag: &str) -> io::Result<Response> {
    let opened = path.to_owned();
    let (file, length) = tokio::task::spawn_blocking(move || {
        let file = File::open(opened)?;
        let length = file.metadata()?.len();
        Ok::<_, io::Error>((file, length))
    })
    .await
    .map_err(io::Error::other)??;
    let asked = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let (from, to) = match asked.map(|text| range(text, length)) {
        None | Some(Asked::Whole) => (0, length),
        Some(Asked::Part(from, to)) => (from, to),
        Some(Asked::Outside) => {
            let all = [(header::CONTENT_RANGE, format!("bytes */{length}"))];
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, all).into_response());
        }
    };
    let body = written(move |out| {
        let mut file = file;
        file.seek(SeekFrom::Start(from))?;
        let sent = io::copy(&mut file.take(to - from), out)?;
        if sent == to - from { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    });
    let mut answer = (
        [
            (header::CONTENT_LENGTH, (to - from).to_string()),
            (header::ACCEPT_RANGES, "bytes".to_owned()),
            (header::ETAG, format!("\"{tag}\"")),
            (header::CACHE_CONTROL, "private, max-age=31536000, immutable".to_owned()),
        ],
        body,
    )
        .into_response();
    if to - from != length {
        *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
        let part = format!("bytes {from}-{}/{length}", to - 1);
        if let Ok(value) = part.parse() {
            answer.headers_mut().insert(header::CONTENT_RANGE, value);
        }
    }
    Ok(answer)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// All: also what is asked for in a way that may be ignored (several ranges, other units; RFC 9110, 14.2).
    Whole,
    /// From here to there, the end not included.
    Part(u64, u64),
    /// Nothing of the file.
    Outside,
}

/// What a `Range` header asks of a file of this length.
fn range(text: &str, length: u64) -> Asked {
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|part| part.split_once('-'))
    else {
        return Asked::Whole;
    };
    match (first.parse::<u64>(), last.parse::<u64>(), first.is_empty(), last.is_empty()) {
        (Ok(from), _, _, true) if from < length => Asked::Part(from, length),
        (Ok(from), Ok(to), ..) if from <= to && from < length => {
            Asked::Part(from, to.saturating_add(1).min(length))
        }
        (Ok(from), Ok(to), ..) if from > to => Asked::Whole,
        (Ok(_), _, _, true) | (Ok(_), Ok(_), ..) => Asked::Outside,
        (_, Ok(0), true, _) => Asked::Outside,
        (_, Ok(count), true, _) if length > 0 => Asked::Part(length - count.min(length), length),
        _ => Asked::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let asked = [
            ("bytes=0-", Asked::Part(0, 100)),
            ("bytes=10-19", Asked::Part(10, 20)),
            ("bytes=90-1000", Asked::Part(90, 100)),
            ("bytes=-10", Asked::Part(90, 100)),
            ("bytes=-1000", Asked::Part(0, 100)),
            ("bytes=100-", Asked::Outside),
            ("bytes=200-300", Asked::Outside),
            ("bytes=-0", Asked::Outside),
            ("bytes=20-10", Asked::Whole),
            ("bytes=0-1,5-6", Asked::Whole),
            ("lines=0-1", Asked::Whole),
            ("bytes=", Asked::Whole),
        ];
        for (text, wanted) in asked {
            assert_eq!(range(text, 100), wanted, "{text}");
        }
        assert_eq!(range("bytes=0-", 0), Asked::Outside);
    }
}
