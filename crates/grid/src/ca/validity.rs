//! From when to when certificates hold. All are backdated against clock skew.

use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, date_time_ymd};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// How long a kind of certificate holds.
pub(super) struct Validity {
    before: Duration,
    after: Duration,
}

/// The CA: ten years, backdated a day.
pub(super) const AUTHORITY: Validity =
    Validity { before: DAY, after: Duration::from_secs(3652 * 24 * 3600) };

/// Hosts and persons: a year, backdated an hour.
pub(super) const END_ENTITY: Validity =
    Validity { before: HOUR, after: Duration::from_secs(365 * 24 * 3600) };

impl Validity {
    /// Puts the times into the certificate, which ends no later than its issuer.
    pub(super) fn put(
        &self,
        params: &mut CertificateParams,
        now: SystemTime,
        issuer_ends: Option<i64>,
    ) {
        let now = unix(now);
        let issuer_left = issuer_ends.map(|end| end.saturating_sub_unsigned(now.as_secs()));
        let after = match issuer_left {
            Some(left) => self.after.min(Duration::from_secs(left.max(0).unsigned_abs())),
            None => self.after,
        };
        let epoch = date_time_ymd(1970, 1, 1);
        params.not_before = epoch + now.saturating_sub(self.before);
        params.not_after = epoch + now + after;
    }
}

/// Seconds since 1970; a clock before that counts as 1970.
pub(super) fn unix(time: SystemTime) -> Duration {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
