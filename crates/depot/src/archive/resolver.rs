//! Asks for each host's address once a run: the HTTP client would ask for every
//! request, and one lost answer of a name server costs five seconds.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// A resolver with a memory. Askers for a host that is being asked for wait.
#[derive(Debug, Default)]
pub(super) struct Remembering {
    inner: DefaultResolver,
    known: Mutex<HashMap<String, ResolvedSocketAddrs>>,
}

impl Resolver for Remembering {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let scheme = uri.scheme_str().unwrap_or_default();
        let key = format!("{scheme}://{}", uri.authority().map_or("", |a| a.as_str()));
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(&key) {
            let mut copy = self.empty();
            found.iter().for_each(|address| copy.push(*address));
            return Ok(copy);
        }
        let found = self.inner.resolve(uri, config, timeout)?;
        let mut copy = self.empty();
        found.iter().for_each(|address| copy.push(*address));
        known.insert(key, copy);
        Ok(found)
    }
}
