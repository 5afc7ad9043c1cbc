//! One virtual machine: started in a jail, owned by a small shim process that
//! outlives everything else, and spoken to through [`Machine`].
//!
//! ```text
//! daemon or command line          shim (root, one per machine)           jail
//! ┌──────────┐  spawn, report   ┌───────────────────────────┐  exec  ┌─────────────────────┐
//! │ start()  ├────────────────▶│ locks, cgroup, console     ├──────▶│ VMM: own uid,        │
//! │ Machine  │◀───────────────▶│ shim.sock, console.log     │◀─────▶│ namespaces, pivoted  │
//! └──────────┘  JSON lines      └───────────────────────────┘ pipes  └─────────────────────┘
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`spec`] | what a machine is: data only |
//! | [`state`] | what became of it: data only, `state.json` |
//! | [`vmm`] | the [`Vmm`] trait; its backends are [`uml`], [`qemu`] and [`xen`] |
//! | [`capability`] | what a VMM may offer beyond it, and changes to a running machine |
//! | [`machine`] | [`start`], [`find`] and the handle |
//! | [`console`] | reading from and writing to a guest's console |
//! | [`shim`] | the process that owns one machine |
//! | [`jail`] | what the VMM process may see and do |
//! | [`throttle`] | limits on what its network card carries |
//! | [`cgroup`] | limits and accounting, cgroup v1 and v2 |
//! | `placement` | which of the host's processors a machine is on |
//!
//! It never reads a site profile, makes a tap or a disk image, or runs a program
//! of the host other than this binary itself (as shim, jail and keeper) and, for Xen, its toolstack.

#![deny(unsafe_code)]

mod atomic;
pub mod capability;
pub mod cgroup;
pub mod console;
mod error;
pub mod jail;
mod lock;
pub mod machine;
mod namespace;
mod overhead;
mod patience;
mod placement;
mod probe;
mod process;
pub mod qemu;
pub mod shim;
mod socket;
pub mod spec;
pub mod state;
pub mod throttle;
pub mod uml;
mod usage;
pub mod vmm;
pub mod xen;

pub use capability::{Capability, Change, Rate};
pub use console::{Console, ConsoleAccess};
pub use error::{MachineError, StartFailure};
pub use jail::jail_main;
pub use machine::{Launcher, Machine, StopOutcome, Stopping, find, start, sweep};
pub use overhead::Split;
pub use probe::{Probe, probe};
pub use shim::shim_main;
pub use spec::{
    Accelerator, Disk, Limits, MachineSpec, Nic, QemuMachine, UmlSecurity, VmmSpec, XenBoot,
    XenGuest, XenTuning,
};
pub use state::{Exit, MachineState};
pub use usage::Usage;
pub use vmm::{Vmm, VmmKind};
pub use xen::keeper_main;
