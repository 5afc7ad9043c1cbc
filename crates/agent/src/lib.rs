//! Placeholder for the agent room; see docs/architecture.md.
