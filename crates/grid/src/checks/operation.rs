//! The grid operations' command lines.

/// Removes a file on the SE. Neither `globus-url-copy` nor anything else of the
/// Globus packages can, Debian has no `uberftp`, and `gfal-rm` aborts at times
/// over gsiftp.
pub const DELETE_COMMAND: &str = "arcrm";
