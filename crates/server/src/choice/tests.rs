//! Decisions on made-up hosts.

use std::collections::BTreeMap;

use gridgate_profile::{CompiledNode, Facts, Hardware, Security, SiteFiles, compile, parse_site};

use super::{Before, Choice, Known, Standing, choose};
use crate::arrangement::Arrangement;
use crate::verdicts::Engine;

/// The one node of a site whose `[nodes.n]` has these lines.
fn node(lines: &str) -> CompiledNode {
    let text = format!(
        "[site]\nname = \"s\"\ndomain = \"s.test\"\n[network]\nprefix = \"198.51.100.0/24\"\n\
         [nodes.n]\nrole = \"base\"\n{lines}\n"
    );
    let files = SiteFiles { name: "site.toml".into(), text, components: BTreeMap::new() };
    let site = parse_site(&files).unwrap_or_else(|faults| panic!("{}", faults.render(false)));
    let facts =
        Facts { ca_certificate: "pem".into(), ca_hash: "00000000".into(), admin_keys: Vec::new() };
    let compiled =
        compile(&site, &facts).unwrap_or_else(|faults| panic!("{}", faults.render(false)));
    compiled.nodes.into_iter().next().unwrap()
}

/// A host without Xen, whose KVM stands like this.
fn host(kvm: Standing) -> Known {
    Known {
        standings: vec![
            (Engine::Xen, Standing::Broken("this host does not run on Xen".into())),
            (Engine::Kvm, kvm),
            (Engine::Uml, Standing::Likely),
            (Engine::Tcg, Standing::Likely),
        ],
    }
}

fn stalled() -> Standing {
    Standing::Broken("the kernel stalled".into())
}

fn decided(lines: &str, before: Before, known: &Known) -> Choice {
    choose(&node(lines), before, known).unwrap()
}

#[test]
fn auto_takes_kvm_only_where_it_is_proven() {
    let none = Before::default();
    assert_eq!(decided("", none, &host(Standing::Proven)).engine, Engine::Kvm);
    let unproven = decided("", none, &host(Standing::Unproven("not tried yet".into())));
    assert_eq!(unproven.engine, Engine::Uml);
    assert_eq!(unproven.why.as_deref(), Some("qemu (kvm): not tried yet"));
    let broken = decided("", none, &host(stalled()));
    assert_eq!(broken.engine, Engine::Uml);
    assert_eq!(broken.why.as_deref(), Some("qemu (kvm): the kernel stalled"));
}

#[test]
fn a_node_with_several_cpus_goes_where_it_can_have_them() {
    let none = Before::default();
    assert_eq!(decided("cpus = 2", none, &host(stalled())).engine, Engine::Tcg);
    assert_eq!(decided("cpus = 2", none, &host(Standing::Proven)).engine, Engine::Kvm);
    let was_uml = Before { started: Some(Engine::Uml), moved: None };
    assert_eq!(decided("cpus = 2", was_uml, &host(stalled())).engine, Engine::Tcg);
}

#[test]
fn a_verdict_moves_no_node_and_convert_does() {
    let started = Before { started: Some(Engine::Uml), moved: None };
    assert_eq!(decided("", started, &host(Standing::Proven)).engine, Engine::Uml);
    let moved = Before { started: Some(Engine::Uml), moved: Some(Engine::Tcg) };
    assert_eq!(decided("", moved, &host(Standing::Proven)).engine, Engine::Tcg);
    let gone = Before { started: Some(Engine::Kvm), moved: None };
    assert_eq!(decided("", gone, &host(stalled())).engine, Engine::Uml, "KVM is there no more");
}

#[test]
fn what_the_profile_names_counts_and_its_settings_come_along() {
    let before = Before { started: Some(Engine::Tcg), moved: Some(Engine::Tcg) };
    let uml = decided("vmm = \"uml\"\nsecurity = \"ptrace\"", before, &host(Standing::Proven));
    assert_eq!(uml.arrangement, Arrangement::Uml(Security::Ptrace));
    assert_eq!(uml.why, None);
    let none = Before::default();
    let qemu = decided("vmm = \"qemu\"\nmachine = \"q35\"", none, &host(stalled()));
    assert_eq!(qemu.arrangement, Arrangement::Tcg(Hardware::Q35));
    let kvm = decided("vmm = \"qemu\"", none, &host(Standing::Proven));
    assert_eq!(kvm.engine, Engine::Kvm);
}

#[test]
fn what_cannot_work_is_said() {
    let wanted = node("vmm = \"qemu\"\naccelerator = \"kvm\"");
    let why = choose(&wanted, Before::default(), &host(stalled())).unwrap_err();
    assert_eq!(why, "qemu (kvm) is asked for, and the kernel stalled");
    let why = choose(&node("vmm = \"xen\""), Before::default(), &host(stalled())).unwrap_err();
    assert_eq!(why, "xen is asked for, and this host does not run on Xen");
    let mut nothing = host(stalled());
    for (_, standing) in &mut nothing.standings {
        *standing = Standing::Broken("no".into());
    }
    let why = choose(&node(""), Before::default(), &nothing).unwrap_err();
    assert!(why.contains("xen: no; qemu (kvm): no; uml: no; qemu (tcg): no"), "{why}");
}

#[test]
fn an_unproven_engine_is_used_when_it_alone_is_asked_for() {
    let unproven = host(Standing::Unproven("not tried yet".into()));
    let kvm = decided("vmm = \"qemu\"\naccelerator = \"kvm\"", Before::default(), &unproven);
    assert_eq!((kvm.engine, kvm.why), (Engine::Kvm, None));
}
