//! One file per command: its arguments, its call, what it shows.

pub mod bench;
pub mod check;
pub mod completions;
pub mod console;
pub mod convert;
pub mod daemon;
pub mod depot;
pub mod destroy;
pub mod doctor;
pub mod down;
pub mod drift;
pub mod exec;
pub mod image;
pub mod init;
pub mod install;
pub mod install_log;
pub mod list;
pub mod logs;
pub mod man;
pub mod power;
pub mod profile;
pub mod ssh;
pub mod status;
pub mod target;
pub mod up;
pub mod update;
