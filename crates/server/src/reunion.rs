//! A daemon that has just begun knows nothing yet of the agents in machines that ran before it: each speaks again
//! as soon as it sees that its connection broke, within about two seconds. Until then a look at the site would call
//! nodes unheard that are fine.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::failure::Failure;
use crate::observe::{self, Found};
use crate::site::Site;
use crate::wait::blocking;
use crate::wanted::Wanted;

/// After this long since the daemon took up the site, whoever has not spoken is not waited for.
const LIMIT: Duration = Duration::from_secs(4);

/// Waits until every machine that is older than the daemon's knowledge of this site was heard, if there is time left.
pub async fn wait(site: &Arc<Site>, wanted: &Arc<Wanted>) -> Result<(), Failure> {
    let until = site.opened + LIMIT;
    let mut changes = site.links.watch();
    while Instant::now() < until {
        changes.mark_unchanged();
        let (of, nodes) = (site.clone(), wanted.clone());
        let strangers = blocking(move || {
            let names = nodes.compiled.nodes.iter().map(|node| node.name.as_str());
            names.into_iter().any(|name| is_stranger(&of, name))
        });
        if !strangers.await? {
            break;
        }
        if tokio::time::timeout_at(until.into(), changes.changed()).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// Whether a node's machine ran before the daemon took up the site, and its agent has not spoken since. Blocking.
fn is_stranger(site: &Site, node: &str) -> bool {
    site.links.heard(node).is_none()
        && match observe::machine(&site.dir.node(node)) {
            Found::Running(_, since) => is_older(site, since),
            Found::None | Found::Ended { .. } => false,
        }
}

/// Whether a machine that has run for so many milliseconds did so before the daemon took up the site.
pub fn is_older(site: &Site, since: u64) -> bool {
    u128::from(since) > site.opened.elapsed().as_millis()
}
