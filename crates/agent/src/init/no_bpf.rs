//! Keeps systemd from loading BPF programs of its own.
//!
//! At its start it has the kernel examine two of them, to learn whether the kernel can do what units may ask for
//! (`SocketBindAllow=`, `RestrictNetworkInterfaces=`), which on an emulated processor takes half a second. It opens libbpf for that at run
//! time and does without it where there is none. So the first process, and it alone, finds an empty file in its place: services get an
//! environment of their own, and programs that are linked with the library have it.

use std::fs;

use super::mounts::make_folder;
use super::{InitError, io};

/// In `/run`, so that nothing on the machine's disk depends on its VMM.
const FOLDER: &str = "/run/gridgate/no-bpf";

/// The names by which systemd opens it, in this order.
const NAMES: [&str; 2] = ["libbpf.so.1", "libbpf.so.0"];

/// Makes the folder in which systemd is to look for libraries first.
pub(super) fn folder() -> Result<&'static str, InitError> {
    make_folder(FOLDER)?;
    for name in NAMES {
        let file = format!("{FOLDER}/{name}");
        fs::write(&file, []).map_err(io("write", file))?;
    }
    Ok(FOLDER)
}
