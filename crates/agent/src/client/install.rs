//! The installer's requests; `gridgate_protocol::install_api` has the table.

use std::io::Read;
use std::time::Duration;

use gridgate_protocol::agent_api::{Identity, LockedPackage};
use gridgate_protocol::install_api::{Begin, ImageManifest, Order, Piece, Progress};

use super::{Client, ClientError, DOWNLOAD, MIB};

/// An order or manifest is not larger than this, bytes.
const ORDER: u64 = 64 * MIB;

/// An overlay holds a kernel's modules and is not larger than this, bytes.
const OVERLAY: u64 = 2048 * MIB;

/// Time for `begin` and for a manifest, which the server may have to make first.
const PREPARE: Duration = Duration::from_secs(300);

/// A client with the session of one installation.
#[derive(Clone, Debug)]
pub(crate) struct InstallClient {
    client: Client,
}

impl InstallClient {
    /// Begins with the one-time token of `identity`, and goes on with the session that the order brings.
    pub(crate) fn begin(identity: &Identity, begin: &Begin) -> Result<(Self, Order), ClientError> {
        let mut client = Client::new(identity)?;
        let order: Order = client.post_for("/v1/install/begin", begin, PREPARE, ORDER)?;
        client.authorization = format!("Bearer {}", order.session);
        Ok((Self { client }, order))
    }

    /// Says how far it is.
    pub(crate) fn progress(&self, progress: &Progress) -> Result<(), ClientError> {
        self.client.post_json("/v1/install/progress", progress)
    }

    /// Says that the node is installed.
    pub(crate) fn done(&self, progress: &Progress) -> Result<(), ClientError> {
        self.client.post_json("/v1/install/done", progress)
    }

    /// The image's pieces.
    pub(crate) fn manifest(&self) -> Result<ImageManifest, ClientError> {
        self.client.get_json("/v1/install/image", PREPARE, ORDER)
    }

    /// A piece as stored, not checked.
    pub(crate) fn piece(&self, number: usize, piece: &Piece) -> Result<Vec<u8>, ClientError> {
        let path = format!("/v1/install/image/pieces/{number}");
        self.client.get(&path, DOWNLOAD, u64::from(piece.stored))
    }

    /// A package's file, not checked, into `into`.
    pub(crate) fn package(
        &self,
        package: &LockedPackage,
        into: &mut dyn std::io::Write,
    ) -> Result<std::io::Result<u64>, ClientError> {
        let path = format!("/v1/install/packages/{}", package.sha256);
        let answer = self.client.ask(&path, DOWNLOAD)?;
        let body = answer.into_body().into_with_config().limit(package.size.saturating_add(1));
        Ok(std::io::copy(&mut body.reader(), into))
    }

    /// What a role has beside its packages: a tar archive, to be read as it comes.
    pub(crate) fn overlay(&self) -> Result<impl Read + use<>, ClientError> {
        let answer = self.client.ask("/v1/install/overlay", DOWNLOAD)?;
        Ok(answer.into_body().into_with_config().limit(OVERLAY).reader())
    }

    /// The content of the seed partition, at most `limit` bytes, to be read as it comes.
    pub(crate) fn seed(&self, limit: u64) -> Result<impl Read + use<>, ClientError> {
        let answer = self.client.ask("/v1/install/seed", DOWNLOAD)?;
        Ok(answer.into_body().into_with_config().limit(limit).reader())
    }
}
