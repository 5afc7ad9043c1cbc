//! The comparison of locks, and its promises for any two of them.

use proptest::prelude::*;

use super::*;
use crate::archive::own::pin;
use crate::lock::RoleLock;

type Sets = BTreeMap<String, BTreeMap<String, u8>>;

fn lock(sets: &Sets) -> Lock {
    let mut lock = Lock { suite: "trixie".to_owned(), ..Lock::default() };
    for (set, packages) in sets {
        let packages: Vec<_> =
            packages.iter().map(|(name, version)| pin(name, &version.to_string())).collect();
        if set == "uml" {
            lock.uml = packages;
        } else {
            let requested = BTreeSet::new();
            lock.roles.insert(set.clone(), RoleLock { requested, packages });
        }
    }
    lock
}

fn some() -> impl Strategy<Value = Sets> {
    let packages = prop::collection::btree_map("[a-e]", 1..4_u8, 0..5);
    prop::collection::btree_map("ce|ui|uml", packages, 0..4)
}

/// What a change list makes of a lock's sets.
fn applied(mut sets: Sets, changes: &[Change]) -> Sets {
    for change in changes {
        for set in &change.sets {
            let packages = sets.entry(set.clone()).or_default();
            let before = packages.get(&change.name).map(u8::to_string);
            assert_eq!(before, change.from, "{change:?}");
            match &change.to {
                Some(version) => packages.insert(change.name.clone(), version.parse().unwrap()),
                None => packages.remove(&change.name),
            };
        }
    }
    sets.retain(|_, packages| !packages.is_empty());
    sets
}

proptest! {
    #[test]
    fn the_changes_lead_from_the_old_lock_to_the_new(old in some(), new in some()) {
        let changes = compare(&lock(&old), &lock(&new), &BTreeSet::new());
        prop_assert_eq!(applied(old, &changes), applied(new, &[]));
    }

    #[test]
    fn each_change_is_said_once_and_nothing_else(old in some(), new in some()) {
        let (old, new) = (lock(&old), lock(&new));
        prop_assert_eq!(compare(&old, &old, &BTreeSet::new()), []);
        let changes = compare(&old, &new, &BTreeSet::new());
        let back = compare(&new, &old, &BTreeSet::new());
        let turned: BTreeSet<_> = back
            .into_iter()
            .map(|change| Change { from: change.to, to: change.from, ..change })
            .collect();
        prop_assert_eq!(changes.iter().cloned().collect::<BTreeSet<_>>(), turned);
        for change in &changes {
            prop_assert!(change.from != change.to && !change.sets.is_empty());
        }
    }
}

#[test]
fn marks_security_updates_by_hash() {
    let one =
        |version| Sets::from([("ce".to_owned(), BTreeMap::from([("a".to_owned(), version)]))]);
    let security = BTreeSet::from([pin("a", "2").sha256]);
    let changes = compare(&lock(&one(1)), &lock(&one(2)), &security);
    assert_eq!(changes.len(), 1);
    assert!(changes[0].security);
    assert!(!compare(&lock(&one(2)), &lock(&one(1)), &security)[0].security);
}
