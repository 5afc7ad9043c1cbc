//! Placeholder for the machine room; see docs/architecture.md.
