//! Grid users: numeric ids and subjects that are theirs alone.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::GridUser;
use super::declare::DeclaredUser;
use crate::fault::{FaultCode, FaultSink};

/// First id given to users without one.
const FIRST: u64 = 20_000;
/// How many ids there are for them.
const COUNT: u64 = 40_000;

/// The id of a user whose profile gives none: always the same for a name, so that
/// it is the same on every node and at every site.
pub(super) fn stable_uid(name: &str) -> u32 {
    let hash = Sha256::digest(name);
    let mut head = [0u8; 8];
    head.copy_from_slice(&hash[..8]);
    // Below 60,000, so it fits.
    (FIRST + u64::from_be_bytes(head) % COUNT) as u32
}

/// Users by name, each with its own id and subject.
pub(super) fn resolve(declared: &[DeclaredUser], sink: &FaultSink) -> Vec<GridUser> {
    let mut by_uid: BTreeMap<u32, &DeclaredUser> = BTreeMap::new();
    let mut by_full_name: BTreeMap<&str, &DeclaredUser> = BTreeMap::new();
    let mut users = Vec::new();
    // Given ids first: a chosen one must not take a given one.
    let (given, chosen): (Vec<_>, Vec<_>) = declared.iter().partition(|user| user.uid.is_some());
    for user in given.into_iter().chain(chosen) {
        let uid = user.uid.as_ref().map_or_else(|| stable_uid(&user.name.value), |uid| uid.value);
        if let Some(first) = by_uid.get(&uid) {
            let spot = user.uid.as_ref().map_or(&user.name.spot, |uid| &uid.spot);
            let rule =
                format!("{} and {} would both have uid {uid}", first.name.value, user.name.value);
            let fault = spot
                .fault(FaultCode::Conflict, rule)
                .related(&first.name.spot, "the other stands at");
            sink.push(fault.suggest("give one of them a uid of its own: uid = 20001"));
        } else {
            by_uid.insert(uid, user);
        }
        if let Some(first) = by_full_name.get(user.full_name.value.as_str()) {
            let rule = format!(
                "{} and {} have one full name: their certificates could not be told apart",
                first.name.value, user.name.value
            );
            let fault = user.full_name.spot.fault(FaultCode::Conflict, rule);
            sink.push(fault.related(&first.full_name.spot, "the other stands at"));
        } else {
            by_full_name.insert(&user.full_name.value, user);
        }
        let full_name = user.full_name.value.clone();
        users.push(GridUser { name: user.name.value.clone(), uid, full_name });
    }
    users.sort_by(|a, b| a.name.cmp(&b.name));
    users
}
