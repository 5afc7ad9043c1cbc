//! The checks of a site.

use super::{Planned, SiteFacts};

/// Certificate on the UI whose subject stands in no grid-mapfile.
pub const UNMAPPED_CERTIFICATE: &str = "/var/lib/gridgate/check/unmappedcert.pem";

/// Its key, readable by the first grid user.
pub const UNMAPPED_KEY: &str = "/var/lib/gridgate/check/unmappedkey.pem";

/// Every check, in the order in which they are shown.
pub fn site_checks(_facts: &SiteFacts) -> Vec<Planned> {
    Vec::new()
}
