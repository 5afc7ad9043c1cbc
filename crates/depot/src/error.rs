//! The one error of the depot's operations; each room of it has its own below.

/// Why the depot could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum DepotError {
    /// Not written yet.
    #[error("not available")]
    Unavailable,
}
