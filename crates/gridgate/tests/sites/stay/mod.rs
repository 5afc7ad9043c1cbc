//! Staying as the profile says, on a real site of two small machines: what was changed by hand is found and
//! put back. Needs root and the Debian archive. One story; the chapters are named in the output.

mod drift;
mod package;
mod update;

use crate::lab::{self, Lab};
use crate::traces;

#[test]
fn a_site_stays_as_its_profile_says() {
    let lab = Lab::new("stay", PROFILE);
    lab.write_component("needs-tree", NEEDS_TREE);
    lab.chapter("up", || {
        let events = lab.events(&["--json", "up", "--no-check", &lab.profile()]);
        assert_eq!(lab::node(&lab::done(&events)["status"], "one")["state"], "running");
        let identity = |node| lab.text(&["exec", node, "--", "cat", "/etc/machine-id"]);
        assert_ne!(identity("one"), identity("two"), "each node has an identity of its own");
    });
    lab.chapter("what was changed by hand is found, and nothing is touched", || drift::found(&lab));
    lab.chapter("it is put back", || drift::put_back(&lab));
    lab.chapter("where the profile wants it, it is put back unasked", || drift::watched(&lab));
    lab.chapter("another lock is rolled out, and the daemon dies twice", || {
        update::rolled_out(&lab);
    });
    lab.chapter("a node is rolled back by hand, and the daemon dies", || {
        update::rolled_back_by_hand(&lab);
    });
    lab.chapter("a node that gets ill is rolled back, and the daemon dies", || {
        update::unhealthy(&lab);
    });
    lab.chapter("destroy leaves nothing", || traces::none_after_destroy(&lab));
}

const PROFILE: &str = r#"
[site]
name = "stay"
domain = "stay.test"

[network]
prefix = "198.51.100.0/24"

[roles.small]
extends = "base"
components = ["needs-tree"]
packages = ["ed"]

[[roles.small.files]]
path = "/etc/motd.site"
content = "welcome\nto a site that stays\n"

[nodes.one]
role = "small"

[nodes.two]
role = "small"
"#;

/// A component whose health hangs on a package.
const NEEDS_TREE: &str = r#"
description = "Is healthy where tree is"
packages = ["tree"]

[[checks]]
name = "tree"
run = ["tree", "--version"]
user = "root"
"#;
