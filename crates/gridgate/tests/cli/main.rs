//! The real binary: alone, and against a daemon that plays a part.

mod alone;
mod bench;
mod daemon;
mod fake;
