//! Fetching from a server of our own on the loopback device.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use super::*;

const CONTENT: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// Answers `answers.len()` connections, each by the next function; gives the requests.
fn serve(answers: Vec<fn(&mut TcpStream, &str)>) -> (Mirrors, thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let mut requests = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let reader = BufReader::new(stream.try_clone().unwrap());
            let lines = reader.lines().map_while(Result::ok).take_while(|line| !line.is_empty());
            let request = lines.collect::<Vec<_>>().join("\n").to_lowercase();
            answer(&mut stream, &request);
            requests.push(request);
        }
        requests
    });
    let mirrors = Mirrors { debian: format!("http://{address}/debian"), ..Mirrors::default() };
    (mirrors, server)
}

fn whole(stream: &mut TcpStream, _: &str) {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", 36);
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(CONTENT).unwrap();
}

/// Promises everything, sends ten bytes, breaks off.
fn broken(stream: &mut TcpStream, _: &str) {
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 36\r\n\r\n").unwrap();
    stream.write_all(&CONTENT[..10]).unwrap();
}

/// The rest from byte ten.
fn rest(stream: &mut TcpStream, request: &str) {
    assert!(request.contains("range: bytes=10-"), "{request}");
    let head = "HTTP/1.1 206 Partial Content\r\nContent-Length: 26\r\n\
        Content-Range: bytes 10-35/36\r\nConnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&CONTENT[10..]).unwrap();
}

fn missing(stream: &mut TcpStream, _: &str) {
    let head = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
}

fn fetch(mirrors: &Mirrors, sha256: &str, target: &Path) -> Result<(), FetchError> {
    let expected = Expected { file: "pool/x+1.deb", sha256, size: CONTENT.len() as u64 };
    let fetcher = Fetcher::new(mirrors, 1).unwrap();
    fetcher.fetch(expected, target, &AtomicBool::new(false), &|_| ())
}

#[test]
fn continues_where_it_broke_off() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("x");
    let (mirrors, server) = serve(vec![broken, rest]);
    fetch(&mirrors, &crate::hash::of_bytes(CONTENT), &target).unwrap();
    assert_eq!(fs::read(&target).unwrap(), CONTENT);
    let requests = server.join().unwrap();
    assert!(requests[0].starts_with("get /debian/pool/x%2b1.deb "), "{}", requests[0]);
    assert!(!requests[0].contains("range:") && !part_path(&target).exists());
}

#[test]
fn continues_what_an_earlier_run_left() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("x");
    fs::write(part_path(&target), &CONTENT[..10]).unwrap();
    let (mirrors, server) = serve(vec![rest]);
    fetch(&mirrors, &crate::hash::of_bytes(CONTENT), &target).unwrap();
    assert_eq!(fs::read(&target).unwrap(), CONTENT);
    server.join().unwrap();
    // Nobody serves any more: a file that is there is not asked for.
    fetch(&mirrors, &crate::hash::of_bytes(CONTENT), &target).unwrap();
}

#[test]
fn refuses_a_wrong_hash_and_forgets_it() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("x");
    let (mirrors, server) = serve(vec![whole]);
    let error = fetch(&mirrors, &"0".repeat(64), &target).unwrap_err();
    assert!(matches!(error, FetchError::WrongHash { .. }), "{error}");
    assert!(!error.to_string().contains("127.0.0.1"), "names the mirror: {error}");
    assert!(!target.exists() && !part_path(&target).exists());
    server.join().unwrap();
}

#[test]
fn names_status_and_unreachable_mirrors() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("x");
    let (mirrors, server) = serve(vec![missing]);
    let error = fetch(&mirrors, &"0".repeat(64), &target).unwrap_err();
    assert!(matches!(error, FetchError::Status { status: 404, .. }), "{error}");
    server.join().unwrap();
    let error = fetch(&mirrors, &"0".repeat(64), &target).unwrap_err();
    assert!(matches!(error, FetchError::Unreachable { .. }), "{error}");
}
