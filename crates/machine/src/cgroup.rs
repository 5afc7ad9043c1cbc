//! Limits and accounting by control groups.
