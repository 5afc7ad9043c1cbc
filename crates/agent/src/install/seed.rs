//! The seed partition: what the node's agent needs for its first start, as the host would have written it.

use std::io::Read;
use std::os::unix::fs::FileExt;

use gridgate_protocol::install_api::{InstallFailure, Stage};

use super::again;
use super::disk::Part;
use crate::client::install::InstallClient;
use crate::client::until_reachable;

/// Bytes of one write.
const CHUNK: usize = 1 << 20;

/// An archive ends where two blocks of zeros stand: tar(5). What an earlier life left there must not.
const END: usize = 64 << 10;

/// Writes it. A connection that breaks begins it again.
pub(super) fn write(client: &InstallClient, part: &Part) -> Result<(), InstallFailure> {
    let fault = |what: String| again(Stage::NodeConfiguration, what);
    let mut tries = 0;
    loop {
        let mut seed =
            until_reachable(|| client.seed(part.block.bytes)).map_err(|e| fault(e.to_string()))?;
        match copy(&mut seed, part) {
            Ok(()) => return Ok(()),
            Err(error) if tries < 3 => {
                tracing::warn!(%error, "the seed broke off");
                tries += 1;
            }
            Err(error) => return Err(fault(format!("write the seed: {error}"))),
        }
    }
}

fn copy(seed: &mut dyn Read, part: &Part) -> std::io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut at = 0;
    loop {
        let mut filled = 0;
        while filled < buffer.len() {
            match seed.read(&mut buffer[filled..])? {
                0 => break,
                read => filled += read,
            }
        }
        part.file.write_all_at(&buffer[..filled], at)?;
        at += filled as u64;
        if filled < buffer.len() {
            break;
        }
    }
    let room = part.block.bytes.saturating_sub(at).min(END as u64) as usize;
    part.file.write_all_at(&vec![0; room], at)
}
