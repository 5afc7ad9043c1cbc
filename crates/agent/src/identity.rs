//! Reads who this node is from the unpacked seed. Never writes it.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use gridgate_protocol::agent_api::{Identity, SEED_IDENTITY};

/// More than any identity with a CA certificate in it needs.
const LIMIT: u64 = 256 * 1024;

/// Why the identity cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    #[error("cannot read this node's identity from {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path} is not a node's identity: {source}")]
    Parse { path: PathBuf, source: serde_json::Error },
}

/// The identity in the state folder `state`.
pub(crate) fn read(state: &Path) -> Result<Identity, IdentityError> {
    let path = state.join(SEED_IDENTITY);
    let mut text = Vec::new();
    fs::File::open(&path)
        .and_then(|file| file.take(LIMIT).read_to_end(&mut text))
        .map_err(|source| IdentityError::Read { path: path.clone(), source })?;
    serde_json::from_slice(&text).map_err(|source| IdentityError::Parse { path, source })
}
