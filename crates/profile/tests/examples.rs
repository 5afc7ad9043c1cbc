//! The shipped examples with the shipped components.

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use gridgate_profile::{ComponentFiles, Site, SiteFiles, compile, parse_site};
use support::{component_folder, entries, facts, file_name};

fn example(name: &str) -> SiteFiles {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name);
    let text = std::fs::read_to_string(folder.join("site.toml")).expect("the example's profile");
    let components: BTreeMap<String, ComponentFiles> = entries(&folder.join("components"))
        .iter()
        .map(|path| (file_name(path), component_folder(path)))
        .collect();
    SiteFiles { name: "site.toml".into(), text, components }
}

fn site(name: &str) -> Site {
    parse_site(&example(name)).unwrap_or_else(|faults| panic!("{}", faults.render(false)))
}

#[test]
fn single_box_compiles_to_four_nodes() {
    let site = site("single-box");
    let compiled =
        compile(&site, &facts()).unwrap_or_else(|faults| panic!("{}", faults.render(false)));
    let names: Vec<&str> = compiled.nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["ce", "se", "ui", "wn1"]);
    insta::assert_json_snapshot!("single_box", compiled);
}

#[test]
fn web_node_compiles_with_its_own_component() {
    let site = site("web-node");
    let compiled =
        compile(&site, &facts()).unwrap_or_else(|faults| panic!("{}", faults.render(false)));
    let [www] = compiled.nodes.as_slice() else { panic!("one node") };
    assert_eq!(www.publish[0].listen.to_string(), "127.0.0.1:8080");
    assert!(www.packages.contains("busybox"));
    assert!(www.ports.iter().any(|port| port.number == 80 && port.component == "web-server"));
    let page = www.profile.files.iter().find(|file| file.path == "/srv/www/index.html");
    let page = format!("{:?}", page.expect("the page").content);
    assert!(page.contains("Served from a machine"), "{page}");
    assert!(page.contains("<li>www.web.test (web, 198.51.100.10)</li>"), "{page}");
}

#[test]
fn the_benchmark_s_node_wants_all_of_its_list() {
    let site = site("bench/ui-700");
    let compiled =
        compile(&site, &facts()).unwrap_or_else(|faults| panic!("{}", faults.render(false)));
    let [ui] = compiled.nodes.as_slice() else { panic!("one node") };
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/bench/ui-700.txt");
    let list = std::fs::read_to_string(list).expect("the list");
    let lines = list.lines().filter(|line| !line.starts_with('#'));
    for name in lines.flat_map(str::split_whitespace) {
        assert!(ui.packages.contains(name), "{name}");
    }
}
