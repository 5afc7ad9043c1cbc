//! The site profile: from `site.toml` and component folders to what each node
//! must be.
//!
//! ```text
//! SiteFiles ─parse_site→ Site ─compile(facts)→ Compiled { CompiledNode { NodeProfile, machine, … } }
//! ```
//!
//! The crate is pure: it reads no file and opens no connection; the caller hands
//! in texts and gets values back. Equal input gives equal output. Whatever is
//! wrong with the input comes back as [`Faults`]: all at once, each with its place.
//!
//! | module | what stands there |
//! |---|---|
//! | [`site`] | the site as declared, inheritance resolved |
//! | [`fault`] | located faults and how they are shown |
//! | [`mod@compile`] | templates applied: one node profile per node |
//! | `component` | component files, parameters, the shipped catalogue |
//! | `template` | filling in templates |
//! | `document` | TOML with the place of every value |
//! | `edit` | changing a setting in a profile's text |

pub mod compile;
mod component;
mod document;
mod edit;
pub mod fault;
pub mod init;
mod names;
pub mod site;
pub mod size;
pub mod source;
mod suggestion;
mod template;

pub use compile::{
    Compiled, CompiledNode, Facts, Port, Protocol, SecretFormat, SecretSpec, compile,
};
pub use component::library::Catalogue;
pub use component::summary::{ComponentSummary, ParameterSummary};
pub use edit::{EditError, set_vmm};
pub use fault::{Fault, FaultCode, Faults};
pub use init::{check_site_name, init_text};
pub use site::{
    Accelerator, ComponentFiles, DataDisk, GridUser, Guest, Hardware, Node, Publish, Security,
    Site, SiteFiles, Vmm, parse_site, parse_site_with,
};
