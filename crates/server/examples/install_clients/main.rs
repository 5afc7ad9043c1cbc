//! How fast one install server feeds many nodes that install themselves at once: simulated installers in a process
//! of their own, over TLS, each fetching and checking every piece of an image.
//!
//! ```sh
//! cargo run --release -p gridgate-server --example install_clients -- [IMAGE]
//! ```
//! Without an image, one of 512 MiB is made whose content compresses to about half. Clients decompress nothing and write
//! nothing, so that the figure is the server's.

#![allow(clippy::print_stdout, reason = "the figures are this program's output")]

#[allow(dead_code, reason = "the measurement looks at bodies only")]
#[path = "../../tests/install_server/client.rs"]
mod client;

use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use client::Client;
use gridgate_protocol::install_api::ImageManifest;
use gridgate_server::rehearsal::{Play, Rehearsal};
use sha2::{Digest, Sha256};

/// How many install at once.
const ROUNDS: [u32; 4] = [1, 2, 5, 20];

/// Bytes of the image that is made.
const SIZE: u64 = 512 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["client", address, ca, tokens @ ..] => clients(address.parse()?, ca, tokens),
        [] => serve(None),
        [image] => serve(Some(Path::new(image))),
        _ => Err("usage: install_clients [IMAGE]".into()),
    }
}

fn serve(image: Option<&Path>) -> Result<(), Box<dyn Error>> {
    // Nobody else is in this process.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let folder = tempfile::tempdir_in(".")?;
    let image = match image {
        Some(path) => path.to_owned(),
        None => made(folder.path())?,
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    println!(
        "{:>7}  {:>8}  {:>10}  {:>12}  {:>10}  {:>9}",
        "CLIENTS", "TIME", "SENT", "ALL TOGETHER", "SERVER CPU", "HOST BUSY"
    );
    for nodes in ROUNDS {
        let home = folder.path().join(format!("home-{nodes}"));
        let rehearsal = runtime.block_on(async { Rehearsal::open(&home, nodes) });
        let rehearsal = rehearsal.map_err(|e| e.what)?;
        let tokens = rehearsal.ready(&Play::Image(image.clone())).map_err(|e| e.what)?;
        round(&rehearsal, &folder.path().join("ca.pem"), &tokens[..nodes as usize])?;
        fs::remove_dir_all(home)?;
    }
    Ok(())
}

fn round(
    rehearsal: &Rehearsal,
    ca: &Path,
    tokens: &[(String, String)],
) -> Result<(), Box<dyn Error>> {
    fs::write(ca, &rehearsal.ca)?;
    let (before, busy) = (cpu(), host_busy()?);
    let began = Instant::now();
    let output = Command::new(std::env::current_exe()?)
        .args(["client", &rehearsal.address.to_string(), &ca.display().to_string()])
        .args(tokens.iter().map(|(_, token)| token))
        .stderr(Stdio::inherit())
        .output()?;
    let time = began.elapsed().as_secs_f64();
    if !output.status.success() {
        return Err("the clients failed".into());
    }
    let sent: u64 = String::from_utf8(output.stdout)?.trim().parse()?;
    let (after, busy_after) = (cpu(), host_busy()?);
    let mib = sent as f64 / f64::from(1 << 20);
    let busy = 100.0 * (busy_after.0 - busy.0) / (busy_after.1 - busy.1);
    println!(
        "{:>7}  {time:>6.1} s  {mib:>6.0} MiB  {:>6.0} MiB/s  {:>8.1} s  {busy:>7.0} %",
        tokens.len(),
        mib / time,
        after - before,
    );
    Ok(())
}

/// CPU time of this process, seconds.
fn cpu() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Ticks of all processors: busy, all.
fn host_busy() -> Result<(f64, f64), Box<dyn Error>> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().ok_or("no /proc/stat")?;
    let ticks: Vec<f64> = line.split_whitespace().skip(1).filter_map(|t| t.parse().ok()).collect();
    let all: f64 = ticks.iter().take(8).sum();
    Ok((all - ticks.get(3).unwrap_or(&0.0) - ticks.get(4).unwrap_or(&0.0), all))
}

/// All clients, one thread each; prints the bytes they got.
fn clients(address: SocketAddr, ca: &str, tokens: &[&str]) -> Result<(), Box<dyn Error>> {
    let ca = fs::read_to_string(ca)?;
    let sent: u64 = std::thread::scope(|scope| {
        let one = |token: &str| {
            let (session, _) = Client::new(address, &ca, token).begin(token);
            install(&session)
        };
        let threads: Vec<_> = tokens.iter().map(|token| scope.spawn(move || one(token))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a client ends well")).sum()
    });
    writeln!(io::stdout(), "{sent}")?;
    Ok(())
}

/// Fetches and checks every piece; gives their bytes.
fn install(client: &Client) -> u64 {
    let manifest = client.get("/v1/install/image").body;
    let manifest: ImageManifest = serde_json::from_slice(&manifest).expect("a manifest");
    let mut sent = 0;
    for (number, piece) in manifest.pieces.iter().enumerate() {
        let bytes = client.get(&format!("/v1/install/image/pieces/{number}")).body;
        assert_eq!(hex::encode(Sha256::digest(&bytes)), piece.sha256, "piece {number}");
        sent += bytes.len() as u64;
    }
    sent
}

/// An image of random and of repeated bytes by turns.
fn made(folder: &Path) -> io::Result<PathBuf> {
    let path = folder.join("image.ext4");
    let file = fs::File::create(&path)?;
    let mut block = vec![0_u8; 1 << 20];
    for start in (0..SIZE).step_by(1 << 20) {
        let half = block.len() / 2;
        rustix::rand::getrandom(&mut block[..half], rustix::rand::GetRandomFlags::empty())?;
        file.write_all_at(&block, start)?;
    }
    Ok(path)
}
