//! Command line ↔ site daemon about the depot; see [`crate::site_api`] for the transport.
//!
//! | method and path | request | answer |
//! |---|---|---|
//! | `POST /v1/depot/fill` | [`FillRequest`] | events |
//! | `POST /v1/depot/export` | [`ExportRequest`] | events |
//! | `POST /v1/depot/import` | [`ImportRequest`] | events |
//! | `POST /v1/depot/gc` | [`GcRequest`] | events |
//! | `POST /v1/depot/verify` | [`VerifyRequest`] | events |
//!
//! What came of it is one [`crate::site_api::Event::Depot`] before the end.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::site_api::{SiteSource, VmmName};

/// Fetch and make all software of a site, and touch no node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FillRequest {
    /// Its profile.
    pub source: SiteSource,
    /// What nodes shall run on there whose profile leaves it open; none: what they would run on here.
    #[serde(default)]
    pub vmms: Vec<VmmName>,
    /// Debian mirror given on the command line.
    pub mirror: Option<String>,
    /// What the client's environment says of mirror and proxies.
    pub environment: BTreeMap<String, String>,
}

/// Write a site's software to a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportRequest {
    /// Site name.
    pub site: String,
    /// Absolute path of the new file.
    pub file: PathBuf,
}

/// Take a site's software in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportRequest {
    /// Absolute path.
    pub file: PathBuf,
}

/// Remove what no site needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcRequest {
    /// Only say what would go.
    pub dry_run: bool,
}

/// Look for damage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyRequest {
    /// Remove what is damaged and fetch packages again.
    pub mend: bool,
    /// Debian mirror given on the command line.
    pub mirror: Option<String>,
    /// What the client's environment says of mirror and proxies.
    pub environment: BTreeMap<String, String>,
}

/// What came of work in the depot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DepotReport {
    /// In one line.
    pub summary: String,
    /// What to do next; may be empty.
    pub next: String,
    /// What was removed, damaged or is to be known, one by one.
    pub items: Vec<DepotItem>,
}

/// A thing in the depot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DepotItem {
    /// The depot's folder it lies in.
    pub folder: String,
    /// Its name.
    pub name: String,
    /// Bytes on disk.
    pub bytes: u64,
    /// What is said of it.
    pub remark: String,
}

/// Move a site's lock to what the archive has now (`POST /v1/sites/{site}/update`, events).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateRequest {
    /// Debian mirror given on the command line.
    pub mirror: Option<String>,
    /// What the client's environment says of mirror and proxies.
    pub environment: BTreeMap<String, String>,
    /// Only say what would change.
    pub plan_only: bool,
}

/// What an update changes: one [`crate::site_api::Event::Update`] before the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateReport {
    /// Package by package.
    pub changes: Vec<PackageChange>,
    /// Where the earlier lock was kept.
    pub kept: Option<PathBuf>,
    /// Whether the new lock was written.
    pub written: bool,
}

/// A package in another version, come or gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageChange {
    /// Debian package name.
    pub name: String,
    /// Version before; none when it is added.
    pub from: Option<String>,
    /// Version after; none when it is removed.
    pub to: Option<String>,
    /// Whether it comes from the security archive.
    pub security: bool,
    /// Nodes that it is for.
    pub nodes: Vec<String>,
    /// Kernels and VMMs that it is for: `uml`, `linux`, `qemu`.
    pub tools: Vec<String>,
}
