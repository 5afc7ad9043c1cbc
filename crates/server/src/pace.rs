//! How slow a site's machines are, by how long they took to come up: what is right for one that does so in seconds is too
//! short for one that is emulated, or shares a busy host. A slow machine is not a failed one.

use std::time::Duration;

use gridgate_protocol::agent_api::HealthReport;

use crate::site::Site;
use crate::stop;

/// A node that has passed its first health check so long after its kernel's start, or sooner, is an ordinary one.
const ORDINARY: Duration = Duration::from_secs(10);

const MOST: u32 = 12;

/// A check that a profile brings later passes first in the days after. What is first seen after this long says nothing of how
/// the node came up.
const SAYS_NOTHING: Duration = Duration::from_secs(3600);

/// How many times as long as usual things may take in this site: as much as its slowest node needs.
pub fn of(site: &Site) -> u32 {
    let heard = stop::names(&site.dir).into_iter().filter_map(|name| site.links.heard(&name));
    heard.map(|heard| of_node(&heard.report.health)).max().unwrap_or(1)
}

fn of_node(checks: &[HealthReport]) -> u32 {
    let first = checks.iter().filter_map(|check| check.since_ms).map(Duration::from_millis).min();
    let first = first.filter(|first| *first < SAYS_NOTHING).unwrap_or_default();
    let times = first.as_secs() / ORDINARY.as_secs();
    u32::try_from(times).unwrap_or(MOST).clamp(1, MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pace of a node whose checks first passed then, milliseconds after its start.
    fn pace(first_passed: &[Option<u64>]) -> u32 {
        let health = first_passed.iter().map(|since_ms| HealthReport {
            name: "ssh".into(),
            ok: since_ms.is_some(),
            detail: String::new(),
            since_ms: *since_ms,
        });
        of_node(&health.collect::<Vec<_>>())
    }

    #[test]
    fn a_node_that_is_slow_to_come_up_has_more_time() {
        assert_eq!(pace(&[Some(7_000), Some(3_500)]), 1);
        assert_eq!(pace(&[None, None]), 1, "nothing is known of it");
        assert_eq!(pace(&[Some(131_000), Some(58_900), None]), 5, "the first check counts");
        assert_eq!(pace(&[Some(600_000)]), MOST);
        assert_eq!(pace(&[Some(3 * 86_400_000)]), 1, "all of its checks came later");
    }
}
