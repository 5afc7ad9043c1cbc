//! The developer's entry: `cargo xtask <task>`.
//!
//! | task | what |
//! |---|---|
//! | `bench-image` | the image of 700 packages, made by the depot and with mmdebstrap, in one run |
//! | `licences` | fails when a dependency has a licence that the project does not accept |
//! | `xen-lab`, `kvm-lab` | a nested computer with a real Xen, or with KVM: `run`, `test`, `site`, `shell` |

mod bench_image;
mod lab;
mod licences;
mod spdx;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Result, bail};
use lab::Hypervisor;

const USAGE: &str =
    "usage: cargo xtask bench-image | licences | (xen-lab | kvm-lab) (run | test | site | shell)";

fn main() -> Result<ExitCode> {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let (task, rest) = match arguments.split_first() {
        Some((task, rest)) => (task.to_string_lossy(), rest),
        None => bail!("no task given; {USAGE}"),
    };
    let code = match (&*task, rest) {
        ("bench-image", rest) => bench_image::main(rest)?,
        ("licences", []) => licences::check().map(|()| 0)?,
        ("xen-lab", rest) => lab::main(Hypervisor::Xen, rest)?,
        ("kvm-lab", rest) => lab::main(Hypervisor::Kvm, rest)?,
        // This program again: see the depot's chambers, and `lab::boot`.
        ("chamber", rest) => gridgate_depot::chamber_main(rest),
        ("lab-qemu", rest) => lab::qemu_main(rest)?,
        _ => bail!("there is no task `{task}`; {USAGE}"),
    };
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}
