//! The shipped examples with the shipped components.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use gridgate_profile::{ComponentFiles, Facts, Site, SiteFiles, compile, parse_site};

fn example(name: &str) -> SiteFiles {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name);
    let text = std::fs::read_to_string(folder.join("site.toml")).expect("the example's profile");
    let mut components: BTreeMap<String, ComponentFiles> = BTreeMap::new();
    for path in entries(&folder.join("components")) {
        let files = entries(&path)
            .into_iter()
            .map(|file| (file_name(&file), std::fs::read(&file).expect("a component's file")))
            .collect();
        components.insert(file_name(&path), files);
    }
    SiteFiles { name: "site.toml".into(), text, components }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries.map(|entry| entry.expect("a folder entry").path()).collect()
}

fn file_name(path: &Path) -> String {
    path.file_name().expect("a name").to_string_lossy().into_owned()
}

fn facts() -> Facts {
    Facts {
        ca_certificate: "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n".into(),
        ca_hash: "0a1b2c3d".into(),
        admin_keys: vec!["ssh-ed25519 AAAA admin@host".into()],
    }
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
