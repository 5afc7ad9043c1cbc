//! Placeholder for the server room; see docs/architecture.md.
