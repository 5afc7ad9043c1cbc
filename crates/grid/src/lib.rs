//! Placeholder for the grid room; see docs/architecture.md.
