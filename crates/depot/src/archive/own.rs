//! For tests: a small archive signed with a key of its own, on disk as the depot stores it.

use std::fs;
use std::io::Write;
use std::path::Path;

use pgp::composed::{CleartextSignedMessage, KeyType, SecretKeyParamsBuilder, SignedSecretKey};
use pgp::types::Password;

use super::keyring::Keyring;
use super::stored;
use crate::lock::PinnedPackage;

/// An archive's key.
pub(crate) struct Own {
    key: SignedSecretKey,
}

impl Own {
    /// A new one.
    pub(crate) fn new() -> Own {
        let params = SecretKeyParamsBuilder::default()
            .key_type(KeyType::Ed25519Legacy)
            .can_certify(true)
            .can_sign(true)
            .primary_user_id("tests <tests@gridgate.invalid>".into())
            .build()
            .unwrap();
        Own { key: params.generate(rand::thread_rng()).unwrap() }
    }

    /// The keyring that trusts it alone.
    pub(crate) fn keyring(&self) -> Keyring {
        Keyring::of(vec![self.key.to_public_key()])
    }

    /// A package index, compressed, and the release file that vouches for it.
    pub(crate) fn suite(&self, suite: &str, date: &str, packages: &[PinnedPackage]) -> Files {
        let stanza = |pin: &PinnedPackage| {
            format!(
                "Package: {}\nVersion: {}\nArchitecture: {}\nSHA256: {}\nSize: {}\nFilename: {}\n",
                pin.name, pin.version, pin.architecture, pin.sha256, pin.size, pin.filename
            )
        };
        let text = packages.iter().map(stanza).collect::<Vec<_>>().join("\n");
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
        encoder.write_all(text.as_bytes()).unwrap();
        let packages = encoder.finish().unwrap();
        let (hash, size) = (crate::hash::of_bytes(&packages), packages.len());
        let name = stored::packages_name();
        let text = format!("Codename: {suite}\nDate: {date}\nSHA256:\n {hash} {size} {name}\n");
        let password = Password::empty();
        let signed = CleartextSignedMessage::sign(rand::thread_rng(), &text, &*self.key, &password);
        let release = signed.unwrap().to_armored_string(Default::default()).unwrap().into_bytes();
        Files { release, packages, hash }
    }
}

/// The files of a suite.
pub(crate) struct Files {
    /// `InRelease`.
    pub(crate) release: Vec<u8>,
    /// `Packages.xz`.
    pub(crate) packages: Vec<u8>,
    /// Its SHA-256.
    pub(crate) hash: String,
}

impl Files {
    /// Stores them in a depot's `index/`.
    pub(crate) fn store(&self, dir: &Path, suite: &str) {
        fs::write(stored::release_path(dir, suite), &self.release).unwrap();
        fs::write(dir.join(format!("{}.xz", self.hash)), &self.packages).unwrap();
    }
}

/// A package of this name, version and content.
pub(crate) fn pin(name: &str, version: &str) -> PinnedPackage {
    let content = content(name, version);
    PinnedPackage {
        name: name.to_owned(),
        version: version.to_owned(),
        architecture: "all".to_owned(),
        sha256: crate::hash::of_bytes(&content),
        size: content.len() as u64,
        filename: format!("pool/main/{name}_{version}_all.deb"),
    }
}

/// What stands for the package's file.
pub(crate) fn content(name: &str, version: &str) -> Vec<u8> {
    format!("{name} {version}").into_bytes()
}
