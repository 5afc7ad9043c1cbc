//! Builds a small image of the real archive. Needs root and a mirror named by the
//! host, and fails where either is missing.
//!
//! Its own program is the chamber's, so it has no test harness.
#![expect(clippy::print_stdout, reason = "a test program without a harness reports itself")]

mod same;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use gridgate_depot::{
    Depot, DepotError, DepotEvent, Lock, Mirrors, Overlay, OverlayFile, Progress, Qemu, References,
    RoleImage, RoleImageRequest, Stage, chamber_main,
};

/// Remembers which stages were begun.
#[derive(Default)]
struct Heard(Mutex<Vec<(String, Stage)>>);

impl Progress for Heard {
    fn event(&self, event: DepotEvent) {
        if let DepotEvent::StageStarted { subject, stage, .. } = event {
            self.0.lock().unwrap().push((subject, stage));
        }
    }
}

fn main() {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "chamber") {
        std::process::exit(chamber_main(&arguments[1..]));
    }
    assert!(rustix::process::geteuid().is_root(), "this test builds roots and needs root");
    let mirrors = Mirrors::discover(None, None).unwrap_or_else(|error| panic!("{error}"));
    builds_checks_and_rebuilds(&mirrors);
    same::both_ways_end_the_same(&mirrors, &in_chamber);
}

fn request(name: &str) -> RoleImageRequest {
    let file = OverlayFile {
        path: "/etc/role".to_owned(),
        mode: 0o600,
        content: name.as_bytes().to_vec(),
    };
    RoleImageRequest {
        role: "small".to_owned(),
        packages: BTreeSet::from(["netbase".to_owned(), "hostname".to_owned()]),
        overlay: Overlay { files: vec![file], ..Overlay::default() },
        modules: None,
    }
}

fn builds_checks_and_rebuilds(mirrors: &Mirrors) {
    let dir = tempfile::tempdir().unwrap();
    let depot = Depot::open(dir.path()).unwrap();
    let build =
        |depot: &Depot, mirrors: &Mirrors, request: RoleImageRequest, lock: Option<&Lock>| {
            let heard = Heard::default();
            let built = depot.role_images(mirrors, &[request], lock, &heard);
            built.map(|built| (built, heard.0.into_inner().unwrap()))
        };
    let (first, heard) = build(&depot, mirrors, request("one"), None).unwrap();
    for stage in [Stage::Index, Stage::Resolve, Stage::Download, Stage::Configure, Stage::Image] {
        assert!(heard.iter().any(|(_, heard)| *heard == stage), "{stage:?} not heard of");
    }
    let image = &first.images[0];
    check_image(dir.path(), image);
    println!("built and checked: {} packages", image.packages.len());

    // With the lock and what is stored, no network is needed: this mirror does not exist.
    let nowhere = Mirrors { debian: "http://127.0.0.1:9/debian".to_owned(), ..Mirrors::default() };
    let lock = Lock::parse(&first.lock.to_text()).unwrap();
    let (again, heard) = build(&depot, &nowhere, request("one"), Some(&lock)).unwrap();
    assert!(again.images[0].reused && heard.is_empty(), "{heard:?}");
    assert!(depot.explain(&request("one"), Some(&lock)).reused);
    let why = depot.explain(&request("two"), Some(&lock));
    assert_eq!(
        why.differences.iter().map(|d| d.name.as_str()).collect::<Vec<_>>(),
        ["file /etc/role"]
    );

    let (other, heard) = build(&depot, &nowhere, request("two"), Some(&lock)).unwrap();
    assert!(!heard.iter().any(|(_, stage)| *stage == Stage::Index), "{heard:?}");
    assert_eq!(other.images[0].packages, image.packages, "the lock's pins");
    assert_eq!(other.lock, lock);
    assert_ne!(other.images[0].key, image.key);

    let mut absent = request("three");
    absent.packages.insert("no-such-package".to_owned());
    let error = build(&depot, mirrors, absent, Some(&lock)).unwrap_err();
    assert!(matches!(&error, DepotError::Resolve { role, .. } if role == "small"), "{error}");
    let left = fs::read_dir(dir.path().join("temp")).unwrap().count();
    assert_eq!(left, 0, "temporary files are left");
    println!("locked rebuild, explanation, refusal: fine");
    takes_out_a_kernel_and_qemu(&depot, dir.path(), mirrors, &nowhere);
}

/// Both are fetched once, and found again by the lock where there is no network.
fn takes_out_a_kernel_and_qemu(depot: &Depot, dir: &Path, mirrors: &Mirrors, nowhere: &Mirrors) {
    let linux = depot.linux(mirrors, None, &Heard::default()).unwrap();
    let qemu = depot.qemu(mirrors, None, &Heard::default()).unwrap();
    let mut lock = Lock::default();
    lock.set_linux(&linux.packages);
    lock.set_qemu(&qemu.packages);
    let lock = Lock::parse(&lock.to_text()).unwrap();
    let heard = Heard::default();
    assert_eq!(depot.linux(nowhere, Some(&lock), &heard).unwrap(), linux);
    assert_eq!(depot.qemu(nowhere, Some(&lock), &heard).unwrap(), qemu);
    assert!(heard.0.into_inner().unwrap().is_empty());

    let libraries = qemu.root.join("usr/lib/x86_64-linux-gnu");
    let output = Command::new(qemu.root.join("usr/lib64/ld-linux-x86-64.so.2"))
        .arg("--library-path")
        .arg(&libraries)
        .arg(qemu.root.join(&qemu.program))
        .arg("--version")
        .env_clear()
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&output.stdout);
    assert!(words.contains(&format!("version {}", qemu.version)), "{words} {output:?}");

    let elf = fs::read(&linux.vmlinux).unwrap();
    let banner = format!("Linux version {}", linux.release);
    assert!(elf.windows(banner.len()).any(|part| part == banner.as_bytes()), "no {banner}");
    assert!(linux.modules.join("kernel/drivers/block/virtio_blk.ko").is_file());
    let index = fs::read_to_string(linux.modules.join("modules.dep")).unwrap();
    assert!(index.contains("kernel/drivers/net/virtio_net.ko: kernel/drivers/net/net_failover.ko"));
    let disk = linux.modules_disk.file_name().unwrap().to_str().unwrap();
    let text = in_chamber(
        dir,
        linux.modules_disk.parent().unwrap(),
        &format!(
            "e2fsck -fn /mnt/image/{disk} && dumpe2fs -h /mnt/image/{disk} && \
             debugfs -R 'stat /{}/modules.dep.bin' /mnt/image/{disk}",
            linux.release
        ),
    );
    assert!(text.contains("gridgate-modules") && text.contains("Type: regular"), "{text}");
    println!("kernel {} and QEMU {}: fine", linux.release, qemu.version);
    takes_the_hosts_own_qemu(depot, &qemu);
}

/// The host here is a copy of the tree that was just made: it is taken once, and again when it has become another.
fn takes_the_hosts_own_qemu(depot: &Depot, made: &Qemu) {
    let host = tempfile::tempdir().unwrap();
    let copied = Command::new("cp").arg("-a").arg(made.root.join(".")).arg(host.path()).status();
    assert!(copied.unwrap().success());
    let heard = Heard::default();
    let take = || depot.host_qemu(host.path(), &heard);
    let sweep = || {
        let held = depot.hold().unwrap();
        let trees = held.sweep(&References::default(), false).unwrap().items.into_iter();
        trees.filter(|item| item.name.starts_with("qemu-host-")).collect::<Vec<_>>()
    };
    let taken = take().unwrap().expect("it has one");
    assert_eq!((&taken.version, taken.packages.as_slice()), (&made.version, [].as_slice()));
    let files = |root: &Path| {
        let found = Command::new("find").arg(".").arg("-type").arg("f").current_dir(root).output();
        let mut names: Vec<_> =
            String::from_utf8(found.unwrap().stdout).unwrap().lines().map(str::to_owned).collect();
        names.sort();
        names
    };
    assert_eq!(files(&taken.root), files(&made.root), "program, libraries, firmware, nothing else");
    assert_eq!(heard.0.lock().unwrap().drain(..).count(), 1, "it was taken");
    assert_eq!(take().unwrap().as_ref(), Some(&taken));
    assert_eq!((heard.0.lock().unwrap().len(), sweep()), (0, vec![]));

    // The host is updated: the earlier tree serves what runs from it, and nobody else.
    let library = host.path().join("usr/lib/x86_64-linux-gnu/libz.so.1");
    fs::write(&library, [fs::read(&library).unwrap(), b"newer".to_vec()].concat()).unwrap();
    let [old] = sweep().try_into().unwrap();
    assert!(old.remark.contains("the host's own is another one by now"), "{old:?}");
    let newer = take().unwrap().expect("it has one");
    assert_ne!(newer.root, taken.root);
    assert_eq!(sweep(), [old]);

    let rom = host.path().join("usr/share/qemu/qboot.rom");
    fs::remove_file(&rom).unwrap();
    let why = take().unwrap_err().to_string();
    assert_eq!(why, "the host's QEMU cannot be used: its firmware qboot.rom is not there");
    fs::write(&rom, "rom").unwrap();
    fs::remove_file(&library).unwrap();
    let why = take().unwrap_err().to_string();
    assert!(why.contains("its library libz.so.1 is not there"), "{why}");
    println!("the host's own QEMU: fine");
}

/// Looks into the image with the e2fsprogs of the base root, in a chamber.
fn check_image(depot: &Path, image: &RoleImage) {
    let meta = fs::metadata(&image.path).unwrap();
    assert!(meta.blocks() * 512 < meta.len(), "the image is not sparse");
    let folder = image.path.parent().unwrap();
    let script = "e2fsck -fn /mnt/image/image.ext4 && \
        debugfs -R 'cat /usr/lib/os-release' /mnt/image/image.ext4 && \
        debugfs -R 'stat /etc/role' /mnt/image/image.ext4 && \
        debugfs -R 'cat /var/lib/dpkg/status' /mnt/image/image.ext4 && hostname -f && ls /usr/sbin /etc";
    let text = in_chamber(depot, folder, script);
    assert!(text.contains("VERSION_CODENAME=trixie"), "{text}");
    assert!(text.contains("Mode:  0600"), "{text}");
    assert!(text.contains("Package: netbase\nStatus: install ok installed"), "netbase missing");
    assert!(text.contains("chamber.gridgate.invalid"), "hostname -f does not answer");
}

/// What a script prints in a chamber of the base root, with `folder` at `/mnt/image`.
fn in_chamber(depot: &Path, folder: &Path, script: &str) -> String {
    let root = fs::read_dir(depot.join("roots")).unwrap().next().unwrap().unwrap().path();
    let output = Command::new("/proc/self/exe")
        .args(["chamber", "--read-only", "--root"])
        .arg(root.join("tree"))
        .arg("--bind")
        .arg(format!("{}:image:ro", folder.display()))
        .args(["--", "/bin/sh", "-c", script])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}
