//! Stories and properties of the account files.

use proptest::prelude::*;

use super::*;

fn accounts() -> Accounts {
    Accounts {
        passwd: Table::parse(
            "root:x:0:0:root:/root:/bin/bash\n+nis\nmunge:x:998:998::/:/bin/false\n",
        ),
        group: Table::parse("root:x:0:\nmunge:x:998:\nadm:x:4:root\n"),
        shadow: Table::parse("root:*:1:0:99999:7:::\nmunge:!:1::::::\n"),
        gshadow: Table::parse("root:*::\nmunge:!::\nadm:*::root\n"),
    }
}

fn group(name: &str, gid: u32) -> Group {
    Group { name: name.into(), gid, component: "c".into() }
}

fn user(name: &str, uid: u32, group: &str, groups: &[&str]) -> User {
    User {
        name: name.into(),
        uid,
        group: group.into(),
        groups: groups.iter().map(|g| (*g).to_owned()).collect(),
        home: format!("/home/{name}"),
        create_home: true,
        shell: "/bin/bash".into(),
        full_name: "Alice Example".into(),
        component: "c".into(),
    }
}

#[test]
fn a_user_is_added_once_with_its_groups() {
    let mut all = accounts();
    assert_eq!(all.ensure_group(&group("grid", 5000)), Ok(Effect::Changed));
    let alice = user("alice", 5001, "grid", &["adm"]);
    assert_eq!(all.ensure_user(&alice, &[], 20_000), Ok(Effect::Changed));
    assert!(all.passwd.text().ends_with("alice:x:5001:5000:Alice Example:/home/alice:/bin/bash\n"));
    assert!(all.shadow.text().ends_with("alice:*:20000:0:99999:7:::\n"));
    assert!(all.group.text().contains("adm:x:4:root,alice\n"));
    assert!(all.gshadow.text().contains("adm:*::root,alice\n"));
    let login = all.login("alice").unwrap();
    assert_eq!((login.uid, login.gid, login.groups), (5001, 5000, vec![5000, 4]));
    let before = all.clone();
    assert_eq!(all.ensure_user(&alice, &[], 30_000), Ok(Effect::Unchanged));
    assert_eq!(all, before);
}

#[test]
fn a_group_that_is_no_longer_wanted_is_left() {
    let mut all = accounts();
    all.ensure_user(&user("alice", 5001, "root", &["adm"]), &[], 1).unwrap();
    let alice = user("alice", 5001, "root", &[]);
    assert_eq!(all.ensure_user(&alice, &["adm".into()], 1), Ok(Effect::Changed));
    assert!(all.group.text().contains("adm:x:4:root\n"));
}

#[test]
fn ids_are_never_changed_or_shared() {
    let mut all = accounts();
    let before = all.clone();
    assert!(matches!(all.ensure_group(&group("munge", 5)), Err(AccountError::OtherId { .. })));
    assert!(matches!(all.ensure_group(&group("other", 998)), Err(AccountError::Taken { .. })));
    let other = all.ensure_user(&user("munge", 5, "munge", &[]), &[], 1);
    assert!(matches!(other, Err(AccountError::OtherId { .. })));
    let taken = all.ensure_user(&user("bob", 998, "munge", &[]), &[], 1);
    assert!(matches!(taken, Err(AccountError::Taken { .. })));
    let nowhere = all.ensure_user(&user("bob", 77, "nowhere", &[]), &[], 1);
    assert!(matches!(nowhere, Err(AccountError::NoGroup { .. })));
    assert_eq!(all, before);
}

#[test]
fn what_would_break_a_line_is_refused() {
    let mut all = accounts();
    for name in ["", "a:b", "a\nroot2", "-x", "1a", "a b"] {
        assert!(all.ensure_group(&group(name, 70)).is_err(), "{name:?}");
    }
    let mut bad = user("bob", 77, "root", &[]);
    bad.full_name = "x:0:0\n".into();
    assert!(matches!(all.ensure_user(&bad, &[], 1), Err(AccountError::Invalid { .. })));
}

prop_compose! {
    fn any_user()(
        name in "[a-z_][a-z0-9_-]{0,10}",
        uid in 0u32..2000,
        primary in prop::sample::select(vec!["root", "munge", "adm", "nogroup"]),
        groups in prop::collection::vec(prop::sample::select(vec!["root", "munge", "adm"]), 0..3),
        full_name in "[^:\n\0\r]{0,12}",
    ) -> User {
        User { full_name, ..user(&name, uid, primary, &groups) }
    }
}

proptest! {
    /// Whatever is asked for, other accounts' lines stay, every line keeps its
    /// number of fields, doing it twice changes nothing, a refusal changes nothing.
    #[test]
    fn editing_is_safe_and_idempotent(users in prop::collection::vec(any_user(), 0..12)) {
        let mut all = accounts();
        for user in users {
            let before = all.clone();
            match all.ensure_user(&user, &[], 20_000) {
                Err(_) => prop_assert_eq!(&all, &before),
                Ok(_) => {
                    let after = all.clone();
                    prop_assert_eq!(all.ensure_user(&user, &[], 20_001), Ok(Effect::Unchanged));
                    prop_assert_eq!(&all, &after);
                    prop_assert_eq!(all.uid(&user.name), Some(user.uid));
                }
            }
            for (old, new) in before.passwd.lines.iter().zip(&all.passwd.lines) {
                let own = format!("{}:", user.name);
                prop_assert!(old == new || old.starts_with(&own));
            }
        }
        for line in all.passwd.lines.iter().filter(|line| !line.starts_with('+')) {
            prop_assert_eq!(line.split(':').count(), 7);
        }
        prop_assert!(all.group.lines.iter().all(|line| line.split(':').count() == 4));
        let ids: Vec<_> = all.passwd.lines.iter().filter_map(|l| l.split(':').nth(2)).collect();
        let unique: std::collections::BTreeSet<_> = ids.iter().collect();
        prop_assert_eq!(ids.len(), unique.len());
    }

    /// Text that nothing is asked of comes out as it went in.
    #[test]
    fn text_survives(lines in prop::collection::vec("[a-z:+#0-9]{0,20}", 0..10)) {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        prop_assert_eq!(Table::parse(&text).text(), text);
    }
}
