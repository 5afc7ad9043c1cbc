//! Placeholder for the profile room; see docs/architecture.md.
