//! Placeholder for the depot room; see docs/architecture.md.
