//! Placeholder for the net room; see docs/architecture.md.
