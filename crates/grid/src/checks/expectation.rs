//! What the output of a check must show.

/// How a check's transcript is judged; see [`super::judge`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expectation {
    /// Placeholder until the checks are in.
    Nothing,
}
