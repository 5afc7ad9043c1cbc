//! Placeholder for the disk room; see docs/architecture.md.
