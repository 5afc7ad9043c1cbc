//! Debian archive access, package store, lock, root trees and role images.
//!
//! ```text
//! InRelease ─signature→ Packages.xz ─hash→ index ─bootstrap→ base root ─apt→ pins ─hash→ packages
//!                                                                └──── common root ── role roots ── images
//! ```
//!
//! The depot is content-addressed and shared by all sites of a host. Whatever it
//! holds under its final name is complete: everything is written below `temp/`
//! and renamed. It never runs anything of a package outside a build chamber, never
//! mounts anything in the host's mount namespace, and knows no nodes and no VMs.
//!
//! | folder | content |
//! |---|---|
//! | `packages/<aa>/<sha256>.deb` | packages, checked |
//! | `index/` | signed release files and package indexes, checked |
//! | `roots/<key>/` | root trees: base and what the roles of a site share |
//! | `images/<key>/` | `image.ext4` and `image.json`, its inputs; `pieces/` and `pieces.json`, the same compressed |
//! | `vmm/uml-<key>/` | the User Mode Linux kernel with its libraries and modules |
//! | `vmm/linux-<key>/` | Debian's cloud kernel, packed and not, its modules, and the modules disk |
//! | `vmm/qemu-<key>/` | QEMU with its libraries and firmware |
//! | `vmm/qemu-host-<key>/` | the host's own, taken with its libraries and firmware |
//! | `vmm/initramfs-<key>/` | the initial RAM file system of one kernel |
//! | `temp/` | what is being made; removed by the next run |

mod apt;
mod archive;
mod base;
mod build;
mod chamber;
mod common;
mod deb;
mod depot;
mod elf;
mod error;
mod explain;
mod export;
mod ext4;
mod extract;
mod files;
mod finish;
mod gc;
mod hash;
mod host_qemu;
mod image;
mod import;
mod initramfs;
mod inputs;
mod install;
mod larder;
mod late;
mod linux;
mod lock;
mod loose;
mod mirrors;
mod modules;
mod order;
mod overlay_tar;
mod pieces;
mod pool;
mod progress;
mod provision;
mod qemu;
mod recipe;
mod role;
mod roots;
mod scratch;
mod seal;
mod stage;
mod store;
mod tree;
mod uml;
mod unpack;
mod update;
mod verify;

pub use archive::fetch::FetchError;
pub use archive::keyring::SignatureError;
pub use chamber::{ChamberError, chamber_main};
pub use depot::{Depot, Held, Linux, Qemu, Uml};
pub use error::DepotError;
pub use export::Exported;
pub use gc::{Item, References, Swept};
pub use image::{
    Built, Difference, Explanation, Input, Overlay, OverlayFile, OverlayLink, RoleImage,
    RoleImageRequest,
};
pub use import::Imported;
pub use initramfs::{CLOCK_FILE, Initramfs, InitramfsFile, InitramfsRequest};
pub use linux::bzimage::vmlinux as unpacked_kernel;
pub use lock::{Lock, LockError, PinnedPackage, RoleLock};
pub use loose::{Loose, LooseRequest};
pub use mirrors::{MirrorError, Mirrors};
pub use overlay_tar::{overlay_release, write_overlay};
pub use pieces::{ImagePiece, ImagePieces, PieceFound};
pub use pool::{Pool, PoolFile, is_out_of_reach};
pub use progress::{DepotEvent, Progress, Silent, Stage, Unit};
pub use provision::Provision;
pub use recipe::{Recipe, RecipeFile, recipe};
pub use update::{Change, Updated, compare};
pub use verify::Verified;
