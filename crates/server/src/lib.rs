//! The site daemon and the install server inside it.
//!
//! The daemon is the only one that changes a site's state, with one task per site at a time:
//!
//! ```text
//! profile ──compile──> Wanted ─┐
//!                              ├─plan──> steps ──up──> disks, machines, published profiles
//! disks, machines, reports ────┘ (observe)                 │
//!              ▲                                           │
//!              └──────────── agents (install server) ◄─────┘
//! ```
//!
//! It never talks to a VMM itself (`gridgate-machine` does) and never parses a site
//! profile itself (`gridgate-profile` does).

mod access;
mod api;
mod arrangement;
mod begin;
mod checks;
mod choice;
mod convert;
mod daemon;
mod depot_tasks;
mod disks;
mod drift;
mod failure;
mod filling;
mod home;
pub mod host;
mod images;
mod install;
mod installer;
mod installing;
mod launch;
mod memory;
mod news;
mod observe;
mod overlay;
mod pace;
mod plan;
mod present;
pub mod probing;
mod references;
#[doc(hidden)]
pub mod rehearsal;
mod reunion;
mod rollout;
mod services;
mod site;
mod software;
mod stop;
mod task;
mod turns;
mod up;
mod update;
pub mod verdicts;
mod vmms;
mod wait;
mod wanted;

pub use daemon::{build_id, daemon_main};
pub use home::Home;
