//! A node's disk: one sparse file holding a GUID partition table and, in this order,
//! the seed, the swap space, the data partitions and, last so that it can grow, the root.
//!
//! | partition | content |
//! |---|---|
//! | `gridgate-seed` | a tar archive from byte 0, see [`write_seed`] |
//! | `gridgate-swap` | a swap header, ready for `swapon` |
//! | `gridgate-data-NAME` | nothing: the node's agent makes the file system |
//! | `gridgate-root` | the used blocks of a role image |
//!
//! ```text
//!            create                    grow
//! (nothing) ────────▶ complete disk ────────▶ complete, larger disk
//!     │  killed: nothing     │ ▲     killed: the smaller or the larger disk
//!     ▼                      └─┘ write_seed (killed: write it again before launching)
//! (nothing)
//! ```
//!
//! [`copy`] keeps a whole disk's present state beside it.
//!
//! It never overwrites a disk, never shrinks one, never mounts anything, and does
//! not know who uses a disk: the caller sees to it that no machine runs on a disk
//! which is being grown or given a new seed.

mod clone;
mod create;
mod device;
mod error;
mod layout;
mod reflink;
mod seed;
mod snapshot;
mod space;
mod stranger;
mod swap;
mod table;
mod temporary;

pub use clone::Method;
pub use create::{Created, create};
pub use device::{
    DevicePlan, Partitioned, check_kept, give_back, make_swap, partition, read_partitions,
};
pub use error::DiskError;
pub use layout::{DataPartition, DiskPlan};
pub use seed::{SeedChange, SeedEntry, SeedSource, write_seed, write_seed_archive};
pub use snapshot::{Copied, copy};
pub use space::check_space;
pub use stranger::strangers;
pub use table::{DiskInfo, Partition, PartitionKind, grow, inspect};

/// Name of the partition that holds the root file system.
pub const ROOT: &str = "gridgate-root";
/// Name of the swap partition.
pub const SWAP: &str = "gridgate-swap";
/// Name of the partition that holds the seed archive.
pub const SEED: &str = "gridgate-seed";
/// Start of a data partition's name.
pub const DATA_PREFIX: &str = "gridgate-data-";
