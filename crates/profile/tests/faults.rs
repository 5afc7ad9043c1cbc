//! Bad input: all faults at once, each in its place, never too many.

mod support;

use std::time::{Duration, Instant};

use support::{HEAD, faults, files, lines, with_component};

/// One of every fault a profile can have, but for those of the text itself.
const EVERY_FAULT: &str = r#"
nmae = "top-level key that means nothing"

[site]
name = "Dublin_Site"
domain = "-dublin.test"
mirror = "mirror.example"
time_zone = "Mars/Olympus Mons"
vmm = "kvm"
colour = "blue"

[network]
prefix = "198.51.100.7/24"
server = "198.51.100"

[defaults]
memory = 256
disk = "20 GB"
swap = "0.3 GiB"
cpus = "2"
packages = "vim"

[components.alpha]
port = 70000
cahce = "1 MiB"
cache = "2 GiB"
mode = "fsat"
tag = "A1"
lines = ["a", "b", "c", "d"]
verbose = "yes"

[components.alhpa]
port = 1

[users.root]
full_name = "Charlie Root"

[users.alice]
full_name = "Alice/CN=Mallory"
uid = 12

[users.bob]

[roles.one]
extends = "two"

[roles.two]
extends = "one"

[roles.three]
extends = "heed"
components = ["alpha", "bta"]

[nodes.CE]
role = "head"

[nodes.wn2]
role = "worker"
address = "192.0.2.1"

[nodes.wn]
role = "wroker"
count = 2

[nodes.none]
address = "198.51.100.30/24"
memory = "1 MiB"
packages = ["Vim", "ok"]
publish = ["0 -> 80", "80 -> 80 -> 80", 2119]

[nodes.disks]
role = "empty"
count = 0
security = "selinux"
data = [
    { name = "a", size = "1 GiB", mount = "/srv/a" },
    { name = "a", size = "1 KiB", mount = "srv/b" },
    { name = "a", size = "1 GiB", mount = "/srv/a" },
    { name = "c", size = "1 GiB", mount = "/var" },
    { name = "d", size = "1 GiB", mount = "/run/d" },
    { nmae = "b" },
]

[[nodes.disks.files]]
path = "/etc/../x"
content = "x"
mode = 644
owner = "a b"

[[nodes.disks.files]]
path = "/etc/x"
content = "x"

[[nodes.disks.files]]
path = "/etc/x"
contents = "x"
"#;

/// Conflicts that only show in a profile whose values are good one by one.
const CONFLICTS: &str = r#"
[site]
name = "dublin"
domain = "dublin.test"

[network]
prefix = "198.51.100.0/28"
server = "198.51.100.2"

[components.beta]

[components.alpha]
port = 1

[users.alice]
full_name = "Alice Example"
uid = 2000

[users.bob]
full_name = "Alice Example"
uid = 2000

[nodes.a]
role = "empty"
address = "198.51.100.2"

[nodes.b]
role = "empty"
address = "198.51.100.3"
publish = ["8080 -> 80", "127.0.0.1:8080 -> 81"]

[nodes.c]
role = "empty"
address = "198.51.100.3"
publish = ["0.0.0.0:8080 -> 80"]

[nodes.d]
role = "empty"
address = "198.51.100.0"
without = ["beta"]

[nodes.e]
role = "empty"
address = "198.51.100.15"
vmm = "uml"
cpus = 2
accelerator = "tcg"

[nodes.emulated]
role = "empty"
vmm = "qemu"
security = "ptrace"
guest = "pvh"

[nodes.f]
role = "empty"
address = "198.51.101.1"

[nodes.g]
role = "empty"
address = "198.51.100.13"
count = 3

[nodes.g2]
role = "empty"

[nodes.h]
role = "empty"
count = 20

[nodes.i]
role = "empty"
components = ["store"]
"#;

#[test]
fn every_fault_is_shown_with_its_place() {
    let faults = faults(&files(EVERY_FAULT));
    insta::assert_snapshot!("every_fault", faults.render(false));
    insta::assert_json_snapshot!("every_fault_json", faults);
}

#[test]
fn every_conflict_is_shown_with_both_places() {
    insta::assert_snapshot!("conflicts", faults(&files(CONFLICTS)).render(false));
}

#[test]
fn every_fault_of_a_component_is_shown() {
    let manifest = r#"
requires = ["alpah"]
packages = ["A"]
descripton = "x"
[parameters.Port]
type = "integer"
[parameters.port]
type = "int"
[parameters.tag]
type = "string"
pattern = "["
default = "x"
[parameters.size]
type = "size"
default = 5
[publish]
"a-b" = "x"
c = "{{ unclosed"
[[secrets]]
name = "x"
bytes = 0
format = "binary"
[[users]]
name = "x"
[[files]]
path = "/x"
template = "missing.j2"
content = "both"
[[files]]
path = "/y"
template = "mising.j2"
owner = 5
[[files]]
path = "/z"
[[certificates]]
name = "c"
subject = [["XX", "y"], ["CN"]]
certificate_path = "/c"
key_path = "/k"
[[commands]]
name = "c"
run = "echo hello"
[[units]]
name = "u.service"
state = "started"
when = "1 +"
each = "[1"
[[checks]]
name = "nothing"
[[checks]]
name = "mount"
mounted = "/x"
[[checks]]
name = "listen"
listening = true
user = "x"
[[ports]]
number = 1
protocol = "sctp"
"#;
    let contents =
        [("component.toml", manifest), ("missing.j2.txt", "x"), ("bad.j2", "a\n{% if %}\n")];
    let text = format!("{HEAD}[nodes.n]\nrole = \"empty\"\n");
    let faults = faults(&with_component(&text, "web", &contents));
    insta::assert_snapshot!("component_faults", lines(&faults).join("\n"));
}

#[test]
fn circles_and_bad_folders_are_faults() {
    let text = format!("{HEAD}[nodes.n]\nrole = \"empty\"\n");
    let mut files = with_component(
        &text,
        "one",
        &[("component.toml", "description = \"1\"\nrequires = [\"two\"]\n")],
    );
    let two = with_component(
        &text,
        "two",
        &[("component.toml", "description = \"2\"\nrequires = [\"one\"]\n")],
    );
    files.components.extend(two.components);
    files.components.insert("empty".into(), Default::default());
    files.components.insert("Bad Name".into(), Default::default());
    let binary = [("component.toml".to_string(), vec![0xff, 0xfe])];
    files.components.insert("binary".into(), binary.into_iter().collect());
    let found = lines(&faults(&files));
    assert_eq!(
        found,
        [
            "components/Bad Name/component.toml:1:1 Bad Name: such a name is at most 32 lower-case letters, digits and hyphens, a letter first, no hyphen last",
            "components/Bad Name/component.toml:1:1 Bad Name: a component folder has a file component.toml",
            "components/binary/component.toml:1:1 binary: the file must be UTF-8 text",
            "components/empty/component.toml:1:1 empty: a component folder has a file component.toml",
            "components/one/component.toml:2:13 requires[0]: components cannot require each other in a circle: one → two → one",
        ]
    );
}

#[test]
fn a_text_that_is_no_toml_still_has_its_other_faults_shown() {
    let text = format!(
        "{HEAD}[nodes.n]\nrole = = \"empty\"\nmemory = \"1 MiB\"\nmemory = \"1 GiB\"\ncuont = 1\n"
    );
    insta::assert_snapshot!("syntax", faults(&files(&text)).render(false));
}

#[test]
fn an_empty_profile_says_what_to_add() {
    insta::assert_snapshot!("empty", faults(&files("")).render(false));
}

/// Pseudo-random bytes as lossy text; no seed changes from run to run.
fn noise(length: usize) -> String {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn a_megabyte_of_noise_gives_a_bounded_answer_in_time() {
    let printable: String = noise(1 << 20).chars().filter(|c| c.is_ascii()).collect();
    let cases = [
        ("noise", noise(600_000)),
        ("ascii noise", printable),
        ("one line", "a = \"".repeat(200_000)),
        ("brackets", "[".repeat(1 << 20)),
        ("nested", format!("a = {}", "[".repeat(1 << 20))),
        ("dots", "a.".repeat(1 << 19)),
        ("unknown keys", (0..60_000).map(|n| format!("k{n} = {n}\n")).collect()),
        ("bad nodes", (0..60_000).map(|n| format!("[nodes.N{n}]\n")).collect()),
        (
            "many nodes",
            HEAD.to_owned()
                + &(0..30_000).map(|n| format!("[nodes.n{n}]\nrole = \"x\"\n")).collect::<String>(),
        ),
        (
            "counts",
            HEAD.to_owned()
                + &(0..30_000)
                    .map(|n| format!("[nodes.n{n}-]\ncount = 500\nrole = \"empty\"\n"))
                    .collect::<String>(),
        ),
        ("packages", format!("[defaults]\npackages = [{}]\n", "\"a\", ".repeat(200_000))),
        (
            "ports",
            format!("[nodes.a]\nrole = \"empty\"\npublish = [{}]\n", "\"80\", ".repeat(100_000)),
        ),
        (
            "roles",
            (0..30_000).map(|n| format!("[roles.r{n}]\nextends = \"r{}\"\n", n + 1)).collect(),
        ),
        ("users", (0..30_000).map(|n| format!("[users.u{n}]\nfull_name = \"U {n}\"\n")).collect()),
        ("too large", "#".repeat(3 << 20)),
    ];
    for (name, text) in cases {
        let start = Instant::now();
        let faults = faults(&files(&text));
        let shown = faults.render(true);
        let json = serde_json::to_string(&faults).expect("faults as JSON");
        let took = start.elapsed();
        assert!(faults.count() > 0, "{name}");
        assert!(shown.len() < 100_000, "{name}: {} bytes shown", shown.len());
        assert!(json.len() < 300_000, "{name}: {} bytes of JSON", json.len());
        assert!(took < Duration::from_secs(20), "{name} took {took:?}");
    }
}
