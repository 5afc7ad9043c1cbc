//! From a profile to node profiles, on small components of its own.

mod support;

use gridgate_profile::{Security, Vmm, compile};
use support::{HEAD, compiled, facts, faults, files, lines, parsed, site, with_component};

const SITE: &str = r#"
[site]
name = "dublin"
domain = "dublin.test"
time_zone = "Europe/Dublin"

[network]
prefix = "198.51.100.0/24"

[components.alpha]
cache = "64 MiB"

[defaults]
memory = "128 MiB"
packages = ["less"]

[users.bob]
full_name = "Bob Example"
uid = 30001

[users.alice]
full_name = "Alice Example"
uid = 20001

[roles.big]
extends = "worker"
memory = "1 GiB"
security = "seccomp"

[nodes.head]
role = "head"
publish = ["8080 -> 80", "0.0.0.0:1234"]
data = [{ name = "store", size = "10 GiB", mount = "/srv/my-store" }]

[nodes.head.components.store]
path = "/srv/store"

[[nodes.head.files]]
path = "/etc/motd"
content = "{{ not a template }}\n"
mode = "0600"

[nodes.wn]
role = "worker"
count = 2
packages = ["vim-tiny"]

[nodes.big]
role = "big"
address = "198.51.100.10"
vmm = "uml"
"#;

#[test]
fn a_site_compiles_as_recorded() {
    insta::assert_json_snapshot!(compiled(SITE));
}

#[test]
fn compiling_twice_gives_the_same() {
    assert_eq!(compiled(SITE), compiled(SITE));
    let version = |compiled: gridgate_profile::Compiled| compiled.nodes[0].profile.version();
    assert_eq!(version(compiled(SITE)), version(compiled(SITE)));
}

#[test]
fn values_come_from_node_then_role_then_site() {
    let site = site(SITE);
    let of = |name: &str| site.node(name).unwrap_or_else(|| panic!("{name}"));
    assert_eq!(of("head").memory, 128 << 20);
    assert_eq!(of("big").memory, 1 << 30);
    assert_eq!((of("head").security, of("wn1").security), (Security::Seccomp, Security::Ptrace));
    assert_eq!((of("big").security, of("big").vmm), (Security::Seccomp, Vmm::Uml));
    assert_eq!(of("wn2").swap, 128 << 20);
    assert_eq!(of("wn2").disk, 4 << 30);
}

#[test]
fn nodes_without_an_address_get_the_next_free_one() {
    let site = site(SITE);
    let addresses: Vec<String> =
        site.nodes.iter().map(|node| format!("{} {}", node.name, node.address)).collect();
    let expected =
        ["head 198.51.100.11", "wn1 198.51.100.12", "wn2 198.51.100.13", "big 198.51.100.10"];
    assert_eq!(addresses, expected);
    assert_eq!(site.server.to_string(), "198.51.100.1");
}

#[test]
fn users_keep_their_ids() {
    let text = format!(
        "{HEAD}[users.carol]\nfull_name = \"Carol Example\"\n[nodes.wn]\nrole = \"worker\"\n"
    );
    let uid = site(&text).users[0].uid;
    assert_eq!(uid, site(&text).users[0].uid);
    assert!((20_000..60_000).contains(&uid));
}

#[test]
fn a_dropped_component_is_gone_and_a_required_one_stays() {
    let text = format!(
        "{HEAD}[nodes.a]\nrole = \"head\"\nwithout = [\"store\"]\ncomponents = [\"beta\"]\n"
    );
    let names: Vec<String> = site(&text).nodes[0].components().map(str::to_owned).collect();
    assert_eq!(names, ["gamma", "alpha", "beta"]);

    let text = text.replace("[\"store\"]", "[\"store\", \"gamma\"]");
    let found = lines(&faults(&files(&text)));
    assert_eq!(
        found,
        [
            "site.toml:8:21 nodes.a.without[1]: `gamma` cannot be dropped from a: `alpha` requires it"
        ]
    );
}

#[test]
fn a_template_that_fails_names_component_file_and_line() {
    let text = format!("{HEAD}[nodes.wn]\nrole = \"empty\"\ncount = 3\ncomponents = [\"web\"]\n");
    let manifest = "description = \"x\"\n[[files]]\npath = \"/etc/web\"\ntemplate = \"web.j2\"\n";
    let template = "first\nsecond {{ node.nmae }}\n";
    let files = with_component(&text, "web", &[("component.toml", manifest), ("web.j2", template)]);
    let found = faults(&files);
    assert_eq!(
        lines(&found),
        ["components/web/web.j2:2:11 files[0].template: undefined value: `node.nmae` is undefined"]
    );
    assert_eq!(found.faults[0].nodes, ["wn1", "wn2", "wn3"]);
}

#[test]
fn a_template_that_does_not_end_is_stopped() {
    let text = format!("{HEAD}[nodes.wn]\nrole = \"empty\"\ncomponents = [\"web\"]\n");
    let manifest = "description = \"x\"\n[[files]]\npath = \"/etc/web\"\n\
                    content = \"{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}\"\n";
    let found = faults(&with_component(&text, "web", &[("component.toml", manifest)]));
    assert!(lines(&found)[0].contains("engine ran out of fuel"), "{:?}", lines(&found));
}

/// One component of the site's own beside gamma and alpha on one node.
fn conflict(manifest: &str) -> Vec<String> {
    let text = format!(
        "{HEAD}[nodes.n]\nrole = \"empty\"\ncomponents = [\"alpha\", \"web\"]\n\
         files = [{{ path = \"/etc/motd\", content = \"hello\" }}]\n"
    );
    let manifest = format!("description = \"x\"\n{manifest}");
    lines(&faults(&with_component(&text, "web", &[("component.toml", &manifest)])))
}

#[test]
fn components_that_contradict_each_other_are_both_named() {
    let cases = [
        (
            "[[files]]\npath = \"/etc/alpha.conf\"\ncontent = \"x\"\nmode = \"0600\"\n",
            "component `alpha` and component `web` both set /etc/alpha.conf, and differ in: content, mode (0644, 0600)",
        ),
        (
            "[[files]]\npath = \"/etc/motd\"\ncontent = \"bye\"\n",
            "component `web` and the site profile both set /etc/motd",
        ),
        (
            "[[directories]]\npath = \"/etc/alpha.conf\"\n",
            "/etc/alpha.conf is a directory for component `web` and a file for component `alpha`",
        ),
        (
            "[[directories]]\npath = \"/var/lib/alpha\"\n",
            "both set /var/lib/alpha, and differ in: group (alpha, root), mode (0750, 0755), owner (alpha, root)",
        ),
        ("[[users]]\nname = \"alpha\"\nuid = 901\n", "both set the user alpha"),
        (
            "[[users]]\nname = \"web\"\nuid = 900\n",
            "the users alpha and web would both have the id 900",
        ),
        (
            "[[groups]]\nname = \"web\"\ngid = 900\n",
            "the groups alpha and web would both have the id 900",
        ),
        (
            "[[units]]\nname = \"gamma.service\"\nstate = \"masked\"\n",
            "both set the unit gamma.service",
        ),
        ("[[checks]]\nname = \"alpha\"\nunit = \"a.service\"\n", "both have a check named “alpha”"),
        ("[[ports]]\nnumber = 1234\n", "both serve port 1234"),
        (
            "[[commands]]\nname = \"prepare alpha\"\nrun = [\"/bin/true\"]\n",
            "both set the command prepare alpha",
        ),
        (
            "[[links]]\npath = \"/etc/alpha/cert.pem\"\ntarget = \"x\"\n",
            "/etc/alpha/cert.pem is a certificate for component `alpha` and a link for component `web`",
        ),
        (
            "[[files]]\npath = \"/etc/alpha.conf/below\"\ncontent = \"\"\n",
            "cannot be below /etc/alpha.conf",
        ),
        (
            "[[secrets]]\nname = \"alpha-key\"\nbytes = 16\n",
            "component `alpha` and component `web` declare the secret alpha-key differently",
        ),
        (
            "[[files]]\npath = \"/etc/web\"\nsecret = \"nobodys-key\"\n",
            "no component of this node declares such a secret",
        ),
        ("[[files]]\npath = \"{{ 'etc' }}\"\ncontent = \"\"\n", "a path starts with /"),
        ("[[ports]]\nnumber = \"{{ 70000 }}\"\n", "this must be a number from 0 to 65535"),
        ("[[units]]\nname = \"web\"\n", "a unit name ends in its kind"),
        (
            "[[units]]\nname = \"web.service\"\nwhen = \"has_component('gmma')\"\n",
            "there is no component `gmma`",
        ),
        (
            "[[units]]\nname = \"web.service\"\nwhen = \"role_nodes('wurker')\"\n",
            "there is no role `wurker`",
        ),
        ("[publish]\nweb = \"{{ published }}\"\n", "undefined value"),
    ];
    for (manifest, expected) in cases {
        let found = conflict(manifest);
        assert!(
            found.len() == 1 && found[0].contains(expected),
            "{manifest}\n{expected}\n{found:#?}"
        );
    }
}

#[test]
fn equal_wishes_are_one() {
    let text = format!("{HEAD}[nodes.n]\nrole = \"empty\"\ncomponents = [\"alpha\", \"web\"]\n");
    let manifest = "description = \"x\"\nrequires = [\"alpha\"]\n\
        [[directories]]\npath = \"/var/lib/alpha\"\nowner = \"alpha\"\ngroup = \"alpha\"\nmode = \"0750\"\n\
        [[units]]\nname = \"alpha.service\"\nrestart_on = [\"/etc/web\"]\n\
        [[files]]\npath = \"/etc/web.key\"\nsecret = \"alpha-key\"\n";
    let files = with_component(&text, "web", &[("component.toml", manifest)]);
    let site = parsed(&files).unwrap_or_else(|faults| panic!("{}", faults.render(false)));
    let compiled =
        compile(&site, &facts()).unwrap_or_else(|faults| panic!("{}", faults.render(false)));
    let profile = &compiled.nodes[0].profile;
    let units: Vec<_> = profile.units.iter().filter(|u| u.name == "alpha.service").collect();
    assert_eq!(units.len(), 1);
    assert_eq!(units[0].restart_on, ["/etc/alpha.conf", "/etc/alpha/cert.pem", "/etc/web"]);
    assert_eq!(profile.directories.iter().filter(|d| d.path == "/var/lib/alpha").count(), 1);
    assert_eq!(compiled.nodes[0].secrets.len(), 1);
}

#[test]
fn a_site_of_its_own_component_replaces_a_shipped_one() {
    let text = format!("{HEAD}[nodes.n]\nrole = \"worker\"\n");
    let files = with_component(&text, "beta", &[("component.toml", "description = \"mine\"\n")]);
    let site = parsed(&files).unwrap_or_else(|faults| panic!("{}", faults.render(false)));
    assert_eq!(site.nodes[0].components().collect::<Vec<_>>(), ["beta"]);
    let mine = site.components().into_iter().find(|component| component.name == "beta");
    assert_eq!(mine.expect("beta").description, "mine");
}
