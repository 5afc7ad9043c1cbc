//! What does not belong to a node: partition tables of others on its disk, and its token in another node's machine.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use gptman::{GPT, GPTPartitionEntry};

use super::stages::{Hunted, IMAGE};
use super::{PROFILE, refused};
use crate::lab::Lab;

/// Bytes of a sector, and of the second node's disk.
const SECTOR: u64 = 512;
const DISK: u64 = 2 << 30;

/// Where the stranger's data begin, bytes.
const DATA: u64 = 256 << 20;

/// The partitions of a node.
const OURS: [&str; 3] = ["gridgate-seed", "gridgate-swap", "gridgate-root"];

/// The second node, which is killed in each stage by image, from a disk that others have used.
const TWO: &str = "two";

pub fn killed_in_each_stage_by_image(lab: &Lab) {
    lab.write_profile(&format!("{PROFILE}\n[nodes.two]\nrole = \"plain\"\ndisk = \"2 GiB\"\n"));
    let profile = lab.profile();
    let hunted = Hunted { lab, node: TWO, stages: &IMAGE };
    foreign_gpt(&hunted, &profile);
    let disk = foreign_mbr(lab);
    let record = hunted.to_the_end(&["--json", "install", TWO], |stage| match stage {
        "start" => one_time_token(lab),
        "fetch" => half_a_disk(lab, &profile),
        "boot" => node_token(lab),
        _ => {}
    });
    assert_eq!(record["number"], 2, "{record}");
    assert_eq!(names(&disk), OURS);
    // What was cut off so often is a system without a fault.
    let sound = "dpkg --audit; dmesg | grep -i 'ext4.*error'; tree --version | head -c 4";
    assert_eq!(lab.text(&["exec", TWO, "--", "sh", "-c", sound]), "tree");
}

fn disk(lab: &Lab) -> PathBuf {
    lab.home.path().join(format!("sites/{}/nodes/{TWO}/fs/disk.img", lab.site))
}

/// A new disk with something in the place of a stranger's data.
fn make_disk(lab: &Lab) -> (File, PathBuf) {
    let path = disk(lab);
    fs::create_dir_all(path.parent().expect("a folder")).expect("the folder");
    let mut options = File::options();
    let file = options.create(true).truncate(true).read(true).write(true).open(&path);
    let file = file.expect("a disk");
    file.set_len(DISK).expect("its size");
    file.write_all_at(b"a stranger's", DATA).expect("something");
    (file, path)
}

fn names(disk: &PathBuf) -> Vec<String> {
    let table = GPT::find_from(&mut File::open(disk).expect("the disk")).expect("a table");
    let used = table.iter().filter(|(_, partition)| partition.is_used());
    used.map(|(_, partition)| partition.partition_name.to_string()).collect()
}

/// Another system's partitions go, and are named; a data partition among them has to be given up by name.
fn foreign_gpt(hunted: &Hunted<'_>, profile: &str) {
    let lab = hunted.lab;
    let (mut file, path) = make_disk(lab);
    let mut table = GPT::new_from(&mut file, SECTOR, [7; 16]).expect("a table");
    let partitions = [
        ("EFI system", 1 << 20, DATA),
        ("gridgate-data-old", DATA, 2 * DATA),
        ("their root", 2 * DATA, 4 * DATA),
    ];
    for (number, (name, start, end)) in (1u8..).zip(partitions) {
        table[u32::from(number)] = GPTPartitionEntry {
            partition_type_guid: [number; 16],
            unique_partition_guid: [number + 8; 16],
            starting_lba: start / SECTOR,
            ending_lba: end / SECTOR - 1,
            attribute_bits: 0,
            partition_name: name.into(),
        };
    }
    table.write_into(&mut file).expect("the table is written");

    let words = ["partition old", "would be lost", "--wipe-data old", "nothing was touched"];
    refused(lab, &["install", TWO, "--profile", profile], 2, &words);
    let mut kept = [0; 12];
    file.read_exact_at(&mut kept, DATA).expect("the data");
    assert_eq!(&kept, b"a stranger's");
    assert_eq!(names(&path), partitions.map(|(name, ..)| name));

    let install = ["--json", "install", TWO, "--profile", profile, "--wipe-data", "old"];
    let events = hunted.kill_in("file_systems", &install, || busy(lab));
    let warned = |words: &str| {
        let text = |event: &serde_json::Value| event["warning"]["text"].to_string();
        events.iter().any(|event| text(event).contains(words))
    };
    assert!(warned("no node's; they go: EFI system, their root"), "{events:?}");
    assert_eq!(names(&path), OURS);
}

/// Says who has the node.
fn busy(lab: &Lab) {
    refused(lab, &["install", TWO], 7, &["installation 1", "`install two`"]);
}

/// A disk of a system that knows no GPT.
fn foreign_mbr(lab: &Lab) -> PathBuf {
    let (file, path) = make_disk(lab);
    let mut sector = [0; SECTOR as usize];
    sector[446 + 4] = 0x83;
    sector[446 + 8..446 + 12].copy_from_slice(&2048u32.to_le_bytes());
    sector[446 + 12..446 + 16].copy_from_slice(&(1u32 << 20).to_le_bytes());
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    file.write_all_at(&sector, 0).expect("a boot record");
    path
}

/// Half a disk is not booted.
fn half_a_disk(lab: &Lab, profile: &str) {
    let up = lab.run(&["up", "--no-check", profile]);
    let text = String::from_utf8_lossy(&up.stderr);
    assert!(text.contains("is not installed completely"), "{text}");
}

/// The install server's answer to a request from inside node `one`, over a connection whose certificate is checked.
fn ask(lab: &Lab, request: &str, token: &str, body: &str) -> String {
    let script = format!(
        "printf '{request} HTTP/1.0\\r\\nAuthorization: Bearer %s\\r\\nContent-Length: {}\\r\\n\\r\\n%s' \
         \"{token}\" '{body}' | openssl s_client -quiet -verify_return_error \
         -CApath /etc/grid-security/certificates -connect 198.51.100.1:8140 -servername gridgate-server 2>/dev/null",
        body.len()
    );
    lab.text(&["exec", "one", "--", "sh", "-c", &script])
}

fn forbidden(answer: &str) {
    let words = "this is a token of two, and the request comes from one's machine";
    assert!(answer.starts_with("HTTP/1.0 403") && answer.contains(words), "{answer}");
}

/// The token of an installer that never began is worth nothing in another machine, and is not spent there.
fn one_time_token(lab: &Lab) {
    let cpio =
        lab.home.path().join(format!("sites/{}/nodes/{TWO}/config/installer.cpio", lab.site));
    let cpio = String::from_utf8_lossy(&fs::read(cpio).expect("the installer")).into_owned();
    let identity = cpio.rfind("\"node\":\"two\"").or_else(|| cpio.rfind("\"node\": \"two\""));
    let rest = &cpio[identity.expect("the installer's identity")..];
    let rest = &rest[rest.find("\"token\"").expect("its token") + 7..];
    let is_token = |word: &&str| word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let token = rest.split('"').find(is_token).expect("a token");
    let begin = r#"{"boot_id":"b","kernel":"k","disk":1,"partitions":[],"clock":0}"#;
    forbidden(&ask(lab, "POST /v1/install/begin", token, begin));
    let answer = ask(lab, "GET /v1/node/profile", token, "");
    assert!(answer.contains("no node holds this token"), "{answer}");
    let record = super::last(lab, TWO);
    assert_eq!(record["kernel"], serde_json::Value::Null, "it was not begun with: {record}");
}

/// A node's own token opens its profile, another node's opens nothing.
fn node_token(lab: &Lab) {
    let own =
        "$(sed -n 's/.*\"token\": *\"\\([0-9a-f]*\\)\".*/\\1/p' /var/lib/gridgate/identity.json)";
    let answer = ask(lab, "GET /v1/node/profile", own, "");
    assert!(answer.starts_with("HTTP/1.0 200") && answer.contains("\"one\""), "{answer}");
    let token = lab.home.path().join(format!("sites/{}/nodes/{TWO}/config/token", lab.site));
    let token = fs::read_to_string(token).expect("the node's token");
    for path in ["profile", "secrets/munge-key", "packages"] {
        forbidden(&ask(lab, &format!("GET /v1/node/{path}"), token.trim(), ""));
    }
    let answer = ask(lab, "GET /v1/install/seed", token.trim(), "");
    assert!(answer.contains("no installation has this token"), "{answer}");
}
