//! Components: what stands in a component folder, read and checked, templates not
//! yet filled in. New middleware needs no Rust: it is a folder.
//!
//! This module holds the data; [`read`] reads a folder, [`library`] keeps all of
//! them, [`order`] puts a node's components in order.

use std::collections::BTreeMap;
use std::sync::Arc;

use gridgate_protocol::node_profile::{CertificateKind, UnitState};

use crate::compile::{Protocol, SecretFormat};
use crate::fault::{Located, Spot};
use crate::source::Source;

pub(crate) mod library;
pub(crate) mod order;
pub(crate) mod parameter;
mod read;
mod resources;
pub(crate) mod summary;

pub(crate) use library::Library;
pub(crate) use parameter::{Parameter, Value};

/// A string that may hold template marks.
pub(crate) type Text = Located<String>;

/// One component.
#[derive(Clone, Debug)]
pub(crate) struct Component {
    pub name: String,
    pub description: String,
    pub requires: Vec<Located<String>>,
    pub packages: Vec<Located<String>>,
    pub parameters: BTreeMap<String, Parameter>,
    pub publish: BTreeMap<String, Text>,
    pub resources: Resources,
    /// The folder's text files by path, `component.toml` excepted.
    pub templates: BTreeMap<String, Arc<Source>>,
}

/// The tables of a component file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Resources {
    pub secrets: Vec<Entry<Secret>>,
    pub groups: Vec<Entry<Group>>,
    pub users: Vec<Entry<User>>,
    pub directories: Vec<Entry<Directory>>,
    pub files: Vec<Entry<File>>,
    pub links: Vec<Entry<Link>>,
    pub certificates: Vec<Entry<Certificate>>,
    pub commands: Vec<Entry<Command>>,
    pub units: Vec<Entry<Unit>>,
    pub checks: Vec<Entry<Check>>,
    pub ports: Vec<Entry<Port>>,
}

/// One table of a list, with what every such table takes.
#[derive(Clone, Debug)]
pub(crate) struct Entry<T> {
    pub spot: Spot,
    /// Expression: the entry counts only where it is true.
    pub when: Option<Text>,
    /// Expression: the entry is repeated for each element of this list.
    pub each: Option<Text>,
    pub body: T,
}

#[derive(Clone, Debug)]
pub(crate) struct Secret {
    pub name: Text,
    pub bytes: u32,
    pub format: SecretFormat,
}

#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub name: Text,
    pub gid: Text,
}

#[derive(Clone, Debug)]
pub(crate) struct User {
    pub name: Text,
    pub uid: Text,
    pub group: Option<Text>,
    pub groups: Vec<Text>,
    pub home: Option<Text>,
    pub create_home: bool,
    pub shell: Option<Text>,
    pub full_name: Option<Text>,
}

/// Owner, group and mode of a file or directory.
#[derive(Clone, Debug)]
pub(crate) struct Ownership {
    pub owner: Option<Text>,
    pub group: Option<Text>,
    pub mode: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct Directory {
    pub path: Text,
    pub ownership: Ownership,
}

#[derive(Clone, Debug)]
pub(crate) enum FileContent {
    /// Name of a template of the folder.
    Template(Located<String>),
    Text(Text),
    /// Name of a secret.
    Secret(Text),
}

#[derive(Clone, Debug)]
pub(crate) struct File {
    pub path: Text,
    pub content: FileContent,
    pub ownership: Ownership,
}

#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub path: Text,
    pub target: Text,
}

/// Where a certificate and its key go.
#[derive(Clone, Debug)]
pub(crate) struct PairPaths {
    pub certificate_path: Text,
    pub key_path: Text,
    pub owner: Option<Text>,
    pub group: Option<Text>,
}

#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    pub name: Text,
    pub kind: CertificateKind,
    pub subject: Vec<(String, Text)>,
    pub dns: Vec<Text>,
    pub paths: PairPaths,
    pub copies: Vec<PairPaths>,
}

#[derive(Clone, Debug)]
pub(crate) struct Command {
    pub name: Text,
    pub run: Vec<Text>,
    pub creates: Option<Text>,
    pub on_change: Vec<Text>,
}

#[derive(Clone, Debug)]
pub(crate) struct Unit {
    pub name: Text,
    pub state: UnitState,
    pub restart_on: Vec<Text>,
    pub reload: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum CheckTest {
    Unit(Text),
    Listening(Text),
    Run { run: Vec<Text>, user: Option<Text>, expect: Option<Text> },
    Mounted { path: Text, filesystem: Text },
}

#[derive(Clone, Debug)]
pub(crate) struct Check {
    pub name: Text,
    pub test: CheckTest,
}

#[derive(Clone, Debug)]
pub(crate) struct Port {
    pub number: Text,
    pub protocol: Protocol,
    pub description: Option<Text>,
}
