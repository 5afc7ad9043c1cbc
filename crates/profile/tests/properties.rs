//! What holds for every input.

mod support;

use gridgate_profile::{Faults, SiteFiles, compile};
use proptest::prelude::*;
use support::{facts, files, parsed};

const PROFILE: &str = include_str!("../../../examples/single-box/site.toml");

/// Faults are never empty, always in order, and can always be shown.
fn sound(faults: &Faults) {
    assert!(!faults.faults.is_empty());
    for fault in &faults.faults {
        assert!(!fault.rule.is_empty());
        assert!(fault.place.span.start <= fault.place.source.text.len());
    }
    assert!(!faults.render(false).is_empty());
    assert!(serde_json::to_string(faults).is_ok());
}

fn try_all(files: &SiteFiles) {
    match parsed(files) {
        Err(faults) => sound(&faults),
        Ok(site) => match compile(&site, &facts()) {
            Err(faults) => sound(&faults),
            Ok(compiled) => assert_eq!(Ok(compiled), compile(&site, &facts())),
        },
    }
}

/// The profile with some pieces cut out, doubled or replaced.
fn mutations() -> impl Strategy<Value = String> {
    let places = proptest::collection::vec((0usize..700, 0usize..30, "[\\PC\\n]{0,8}"), 1..5);
    places.prop_map(|cuts| {
        let mut characters: Vec<char> = PROFILE.chars().collect();
        for (at, length, new) in cuts {
            let at = at.min(characters.len());
            let end = (at + length).min(characters.len());
            characters.splice(at..end, new.chars());
        }
        characters.into_iter().collect()
    })
}

/// Profiles made of plausible lines, most of them right.
fn plausible() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        Just("\"256 MiB\"".to_owned()),
        Just("2".to_owned()),
        Just("[\"alpha\"]".to_owned()),
        Just("[\"8080 -> 80\"]".to_owned()),
        Just("\"198.51.100.20\"".to_owned()),
        Just("true".to_owned()),
        Just("{ x = 1 }".to_owned()),
        Just("1979-05-27".to_owned()),
        Just("nan".to_owned()),
        "\"\\PC{0,6}\"",
    ];
    let key = prop::sample::select(vec![
        "memory",
        "disk",
        "swap",
        "cpus",
        "count",
        "address",
        "components",
        "without",
        "packages",
        "publish",
        "data",
        "files",
        "vmm",
        "security",
        "role",
    ]);
    let line = (key, value).prop_map(|(key, value)| format!("{key} = {value}\n"));
    let role = prop::sample::select(vec!["head", "worker", "empty", "hed"]);
    let node =
        ("[a-e]", role, proptest::collection::vec(line, 0..3)).prop_map(|(name, role, lines)| {
            format!("[nodes.{name}]\nrole = \"{role}\"\n{}", lines.concat())
        });
    proptest::collection::vec(node, 1..5)
        .prop_map(|nodes| format!("{}{}", support::HEAD, nodes.concat()))
}

/// Sites without a fault.
fn good() -> impl Strategy<Value = String> {
    let users = proptest::collection::btree_set("[a-d]{1,3}", 0..4);
    let nodes = proptest::collection::btree_map(
        "[f-h][a-c]?",
        (
            prop::sample::select(vec!["worker", "empty"]),
            proptest::option::of(64u32..512),
            any::<bool>(),
        ),
        1..5,
    );
    (users, nodes).prop_map(|(users, nodes)| {
        let mut text = support::HEAD.to_owned();
        for (index, user) in users.iter().enumerate() {
            text +=
                &format!("[users.u-{user}]\nfull_name = \"U {user}\"\nuid = {}\n", 2000 + index);
        }
        for (name, (role, memory, alpha)) in nodes {
            text += &format!("[nodes.{name}]\nrole = \"{role}\"\n");
            if let Some(memory) = memory {
                text += &format!("memory = \"{memory} MiB\"\n");
            }
            if alpha {
                text += "components = [\"alpha\"]\n";
            }
        }
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        try_all(&files(&String::from_utf8_lossy(&bytes)));
    }

    #[test]
    fn no_mutation_makes_the_parser_panic(text in mutations()) {
        try_all(&files(&text));
    }

    #[test]
    fn no_wrong_value_makes_the_compiler_panic(text in plausible()) {
        try_all(&files(&text));
    }

    #[test]
    fn no_component_file_makes_the_compiler_panic(
        manifest in "[\\PC\\n]{0,200}",
        template in "[{}%# a-z.|\\n]{0,60}",
    ) {
        let text = format!("{}[nodes.n]\nrole = \"empty\"\ncomponents = [\"web\"]\n", support::HEAD);
        let whole = "description = \"x\"\n[[files]]\npath = \"/x\"\ntemplate = \"x.j2\"\n";
        for manifest in [manifest.as_str(), whole] {
            let contents = [("component.toml", manifest), ("x.j2", template.as_str())];
            try_all(&support::with_component(&text, "web", &contents));
        }
    }

    #[test]
    fn good_sites_compile_and_equal_input_gives_equal_output(text in good()) {
        let site = parsed(&files(&text)).map_err(|f| TestCaseError::fail(f.render(false)))?;
        let compiled =
            compile(&site, &facts()).map_err(|f| TestCaseError::fail(f.render(false)))?;
        let again = compile(&parsed(&files(&text)).expect("again"), &facts()).expect("again");
        let versions = |c: &gridgate_profile::Compiled| -> Vec<String> {
            c.nodes.iter().map(|node| node.profile.version()).collect()
        };
        prop_assert_eq!(versions(&compiled), versions(&again));
        prop_assert_eq!(&compiled, &again);
        let addresses: std::collections::BTreeSet<_> =
            site.nodes.iter().map(|node| node.address).collect();
        prop_assert_eq!(addresses.len(), site.nodes.len());
        let macs: std::collections::BTreeSet<_> = site.nodes.iter().map(|n| &n.mac).collect();
        prop_assert_eq!(macs.len(), site.nodes.len());
    }

    #[test]
    fn the_order_of_users_does_not_matter(text in good()) {
        let mut blocks: Vec<&str> = text.split("[users.").collect();
        let last = blocks.pop().unwrap_or_default();
        let (last_user, nodes) = last.split_at(last.find("[nodes.").unwrap_or(last.len()));
        if blocks.is_empty() {
            return Ok(());
        }
        let head = blocks.remove(0);
        let mut turned = head.to_owned();
        for block in [last_user].into_iter().chain(blocks.into_iter().rev()) {
            turned += &format!("[users.{block}");
        }
        turned += nodes;
        let compile_text = |text: &str| compile(&parsed(&files(text)).expect("good"), &facts());
        prop_assert_eq!(compile_text(&text), compile_text(&turned));
    }
}
