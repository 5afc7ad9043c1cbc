//! Role images: what is asked for, what is delivered, why it was built.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::lock::{Lock, PinnedPackage};

/// What a role image must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoleImageRequest {
    /// Role name.
    pub role: String,
    /// Packages wanted by name; their dependencies are added by apt.
    pub packages: BTreeSet<String>,
    /// What is laid over the packages.
    pub overlay: Overlay,
    /// A kernel's module folder (its last path component is the release), copied
    /// to `/usr/lib/modules/<release>`.
    pub modules: Option<PathBuf>,
}

/// What is laid over the packages of an image. All paths are absolute in the image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overlay {
    /// Files owned by root.
    pub files: Vec<OverlayFile>,
    /// Units (any kind, with their suffix) linked to `/dev/null` in `/etc/systemd/system`;
    /// a name with a slash (`system-generators/x`) is taken below `/etc/systemd`.
    pub masked_units: Vec<String>,
    /// Units linked into a folder of `/etc/systemd/system`: (`x.service`, `multi-user.target.wants`).
    pub enabled_units: Vec<(String, String)>,
    /// Other symbolic links.
    pub links: Vec<OverlayLink>,
}

/// A file of an overlay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverlayFile {
    /// Absolute path in the image.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Whole content.
    pub content: Vec<u8>,
}

/// A symbolic link of an overlay; replaces a file or link that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverlayLink {
    /// Absolute path of the link in the image.
    pub path: String,
    /// What it points at.
    pub target: String,
}

/// A finished role image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleImage {
    /// Role name.
    pub role: String,
    /// Hash of all inputs, hex.
    pub key: String,
    /// The raw ext4 file system, one sparse file.
    pub path: PathBuf,
    /// Apparent size in bytes.
    pub size: u64,
    /// Bytes allocated on disk.
    pub used: u64,
    /// All packages in it, sorted by name.
    pub packages: Vec<PinnedPackage>,
    /// Whether it was there before.
    pub reused: bool,
}

/// What [`crate::Depot::role_images`] delivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// One image per request, in the requests' order.
    pub images: Vec<RoleImage>,
    /// The lock that fits these images; keeps a given lock's other parts.
    pub lock: Lock,
}

/// Why an image is what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Role name.
    pub role: String,
    /// The key; none while the lock does not pin this role's packages.
    pub key: Option<String>,
    /// Whether the depot holds this image.
    pub reused: bool,
    /// Everything that goes into the key.
    pub inputs: Vec<Input>,
    /// Key of the cached image that differs least; none when there are none.
    pub nearest: Option<String>,
    /// In what the nearest one differs; empty when `reused`.
    pub differences: Vec<Difference>,
}

/// One input of an image, e.g. `package libc6` = `2.41-12 …`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Input {
    /// What it is: `recipe`, `package <name>`, `file <path>`, `masked <unit>`,
    /// `enabled <unit>`, `link <path>`, `modules`.
    pub name: String,
    /// Its version or hash.
    pub value: String,
}

/// One difference between the wanted inputs and a cached image's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The input's name.
    pub name: String,
    /// Its value in the wanted image; none when it has no such input.
    pub wanted: Option<String>,
    /// Its value in the cached image; none when it has no such input.
    pub cached: Option<String>,
}
