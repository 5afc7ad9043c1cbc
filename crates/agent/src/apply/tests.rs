//! Applying, against a tree of its own and a source that remembers what was asked.

mod drift;
mod jobs;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Mutex;

use gridgate_protocol::agent_api::{LockedPackage, PackageList};
use gridgate_protocol::drift::DriftReport;
use gridgate_protocol::node_profile::{Content, Directory, Group, Link, UnitState, User};

use super::*;
use crate::state::Applied;
use crate::tests::authority::Authority;
use crate::tests::machine::{TestMachine, at, root};
use crate::tests::profile::{certificate, command, empty, file, text, unit};

struct TestSource {
    authority: Authority,
    days: i32,
    secret: Mutex<Vec<u8>>,
    asked: Mutex<Vec<String>>,
    packages: Vec<LockedPackage>,
}

impl Source for TestSource {
    fn secret(&self, name: &str) -> Result<Vec<u8>, ApplyError> {
        self.asked.lock().unwrap().push(format!("secret {name}"));
        Ok(self.secret.lock().unwrap().clone())
    }
    fn certificate(&self, name: &str, request: &str) -> Result<String, ApplyError> {
        self.asked.lock().unwrap().push(format!("certificate {name}"));
        Ok(self.authority.sign(request, self.days))
    }
    fn packages(&self) -> Result<PackageList, ApplyError> {
        self.asked.lock().unwrap().push("packages".into());
        Ok(PackageList { packages: self.packages.clone() })
    }
    fn package(&self, package: &LockedPackage, path: &Path) -> Result<(), ApplyError> {
        self.asked.lock().unwrap().push(format!("package {}", package.name));
        fs::write(path, "deb").unwrap();
        Ok(())
    }
}

/// A node: its tree, its memory, what it asks and what it calls.
struct Node {
    root: tempfile::TempDir,
    _state: tempfile::TempDir,
    folder: StateFolder,
    machine: TestMachine,
    source: TestSource,
    applied: Applied,
}

impl Node {
    fn new() -> Self {
        let state = tempfile::tempdir().unwrap();
        Self {
            root: root(),
            folder: StateFolder::open(state.path()).unwrap(),
            _state: state,
            machine: TestMachine::default(),
            source: TestSource {
                authority: Authority::new(),
                days: 300,
                secret: Mutex::new(b"munge".to_vec()),
                asked: Mutex::default(),
                packages: vec![],
            },
            applied: Applied::default(),
        }
    }

    fn apply_at(&mut self, profile: &NodeProfile, moment: Moment) -> Outcome {
        self.apply_for(profile, moment, Intent::Apply, None)
    }

    fn look(&self, profile: &NodeProfile, packages: Option<&str>) -> DriftReport {
        let tree = Tree::new(self.root.path());
        let ca = self.source.authority.pem();
        let tools = Tools {
            tree: &tree,
            system: &self.machine,
            source: &self.source,
            folder: &self.folder,
            ca: &ca,
            progress: &|_| {},
            packages,
            intent: Intent::Look,
            package_files: false,
        };
        look(&tools, profile, &profile.version(), &self.applied)
    }

    fn apply_for(
        &mut self,
        profile: &NodeProfile,
        moment: Moment,
        intent: Intent,
        packages: Option<&str>,
    ) -> Outcome {
        let tree = Tree::new(self.root.path());
        let ca = self.source.authority.pem();
        let tools = Tools {
            tree: &tree,
            system: &self.machine,
            source: &self.source,
            folder: &self.folder,
            ca: &ca,
            progress: &|_| {},
            packages,
            intent,
            package_files: false,
        };
        let outcome = apply(&tools, profile, &profile.version(), &self.applied, moment);
        // Through the disk, as between boots.
        self.folder.save(&outcome.applied, profile).unwrap();
        self.applied = self.folder.applied().unwrap();
        outcome
    }

    fn apply(&mut self, profile: &NodeProfile) -> Outcome {
        self.apply_at(profile, Moment::Running)
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        at(self.root.path(), path)
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.source.asked.lock().unwrap())
    }

    fn unit_file(&self, name: &str) {
        let folder = self.path("/usr/lib/systemd/system");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), "[Install]\nWantedBy=multi-user.target\n").unwrap();
    }
}

fn names(outcome: &Outcome) -> Vec<String> {
    outcome.resources.iter().map(|r| format!("{} {}", r.kind, r.name)).collect()
}

fn failures(outcome: &Outcome) -> Vec<String> {
    let failure = |r: &ResourceReport| match &r.outcome {
        ResourceOutcome::Failed(reason) => Some(format!("{} {}: {reason}", r.kind, r.name)),
        ResourceOutcome::Changed => None,
    };
    outcome.resources.iter().filter_map(failure).collect()
}

fn full(node: &Node) -> NodeProfile {
    node.unit_file("slurmd.service");
    let mut profile = empty();
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    // Only root can give files away; others make do with their own id.
    let (uid, gid) = if uid == 0 { (5001, 5000) } else { (uid + 1, gid + 1) };
    profile.groups.push(Group { name: "grid".into(), gid, component: "users".into() });
    profile.users.push(User {
        name: "alice".into(),
        uid,
        group: "grid".into(),
        groups: vec!["root".into()],
        home: "/home/alice".into(),
        create_home: rustix::process::geteuid().is_root(),
        shell: "/bin/bash".into(),
        full_name: "Alice Example".into(),
        component: "users".into(),
    });
    profile.directories.push(Directory {
        path: "/etc/slurm".into(),
        owner: "root".into(),
        group: "root".into(),
        mode: 0o750,
        component: "slurm".into(),
    });
    profile.files = vec![
        text("/etc/slurm/slurm.conf", "ClusterName=dublin\n"),
        file("/etc/munge/munge.key", Content::Secret("munge-key".into())),
        file("/etc/raw", Content::Base64("AAH/".into())),
    ];
    profile.links.push(Link {
        path: "/etc/slurm/link".into(),
        target: "slurm.conf".into(),
        component: "slurm".into(),
    });
    profile.certificates.push(certificate());
    let log = node.path("/log");
    let script = format!("echo ran >> {}", log.display());
    profile.commands.push(command("say", &script, &["/etc/slurm/slurm.conf"]));
    profile.units = vec![
        unit("slurmd.service", UnitState::Running, &["/etc/slurm/slurm.conf"]),
        unit("getty@tty1.service", UnitState::Masked, &[]),
    ];
    profile
}

#[test]
fn a_profile_is_applied_and_a_second_time_changes_nothing() {
    let mut node = Node::new();
    let profile = full(&node);
    let first = node.apply_at(&profile, Moment::Booting);
    assert_eq!(failures(&first), Vec::<String>::new());
    assert_eq!(first.start, ["slurmd.service"]);
    assert_eq!(node.read("/etc/slurm/slurm.conf"), "ClusterName=dublin\n");
    assert_eq!(node.read("/etc/munge/munge.key"), "munge");
    assert_eq!(fs::read(node.path("/etc/raw")).unwrap(), [0, 1, 255]);
    assert_eq!(node.read("/etc/slurm/link"), "ClusterName=dublin\n");
    assert_eq!(node.path("/etc/slurm").metadata().unwrap().permissions().mode() & 0o777, 0o750);
    if profile.users[0].create_home {
        assert_eq!(node.path("/home/alice/.profile").metadata().unwrap().uid(), 5001);
    }
    let key = node.path("/etc/grid-security/xrd/key.pem").metadata().unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o400);
    assert_eq!(node.read("/log"), "ran\n");
    assert_eq!(node.asked(), ["secret munge-key", "certificate host"]);
    let calls = node.machine.calls();
    assert_eq!(calls, ["systemctl daemon-reload", "systemctl stop --no-block getty@tty1.service"]);

    node.machine.set_state("slurmd.service", "active");
    let second = node.apply(&profile);
    assert_eq!(names(&second), Vec::<String>::new());
    assert_eq!(second.unchanged, u32::try_from(first.resources.len()).unwrap() + first.unchanged);
    assert!(node.asked().is_empty() && node.machine.calls().is_empty());
    assert_eq!(node.applied.version, Some(profile.version()));
}

#[test]
fn a_changed_file_runs_its_command_and_restarts_its_unit() {
    let mut node = Node::new();
    let mut profile = full(&node);
    node.apply_at(&profile, Moment::Booting);
    node.machine.set_state("slurmd.service", "active");
    node.machine.calls();
    profile.files[0] = text("/etc/slurm/slurm.conf", "ClusterName=cork\n");
    let outcome = node.apply(&profile);
    assert_eq!(
        names(&outcome),
        ["file /etc/slurm/slurm.conf", "command say", "unit slurmd.service"]
    );
    assert_eq!(node.read("/log"), "ran\nran\n");
    assert_eq!(node.machine.calls(), ["systemctl restart --no-block slurmd.service"]);
}

#[test]
fn what_someone_changed_by_hand_is_put_right_when_asked_for() {
    let mut node = Node::new();
    let profile = full(&node);
    node.apply(&profile);
    node.machine.set_state("slurmd.service", "active");
    fs::write(node.path("/etc/munge/munge.key"), "bad").unwrap();
    fs::set_permissions(node.path("/etc/raw"), fs::Permissions::from_mode(0o666)).unwrap();
    fs::write(node.path("/etc/grid-security/hostkey.pem"), "broken").unwrap();
    let outcome = node.apply(&profile);
    assert_eq!(names(&outcome), ["file /etc/munge/munge.key", "file /etc/raw", "certificate host"]);
    assert_eq!(node.read("/etc/munge/munge.key"), "munge");
}

#[test]
fn a_failure_does_not_stop_the_rest_and_is_tried_again() {
    let mut node = Node::new();
    let mut profile = empty();
    fs::create_dir_all(node.path("/etc/in-the-way")).unwrap();
    let flag = node.path("/flag");
    profile.files = vec![text("/etc/in-the-way", "x"), text("/etc/fine", "y")];
    profile.files[1].mode = 0o600;
    let mut stranger = text("/etc/stranger", "z");
    stranger.owner = "nobody-here".into();
    profile.files.push(stranger);
    profile.commands.push(command(
        "needs",
        &format!("test -e {} || {{ echo no flag >&2; exit 3; }}", flag.display()),
        &[],
    ));
    let first = node.apply(&profile);
    let failures = failures(&first);
    assert_eq!(failures.len(), 3, "{failures:?}");
    assert!(failures[0].contains("/etc/in-the-way: exists and is not a file"), "{failures:?}");
    assert!(failures[1].contains("user nobody-here does not exist"), "{failures:?}");
    assert!(failures[2].contains("ended with code 3: no flag"), "{failures:?}");
    assert_eq!(node.read("/etc/fine"), "y");
    assert_eq!(node.applied.version, None);
    fs::write(&flag, "").unwrap();
    fs::remove_dir(node.path("/etc/in-the-way")).unwrap();
    profile.files.pop();
    let second = node.apply(&profile);
    assert_eq!(names(&second), ["file /etc/in-the-way", "command needs"]);
    assert!(second.ok() && node.apply(&profile).resources.is_empty());
}

#[test]
fn what_a_power_cut_left_empty_is_made_again_and_what_is_empty_by_nature_is_not() {
    let mut node = Node::new();
    let mut profile = empty();
    let (key, mark) = (node.path("/etc/key"), node.path("/etc/mark"));
    // As ssh-keygen: it refuses to write over what is there.
    let script = format!("set -C; echo key > {}", key.display());
    let mut make_key = command("key", &script, &[]);
    make_key.creates = Some("/etc/key".into());
    let mut make_mark = command("mark", &format!("touch {}", mark.display()), &[]);
    make_mark.creates = Some("/etc/mark".into());
    profile.commands = vec![make_key, make_mark];
    fs::write(&key, "").unwrap();
    let first = node.apply(&profile);
    assert_eq!(names(&first), ["command key", "command mark"]);
    assert_eq!((failures(&first), node.read("/etc/key")), (vec![], "key\n".into()));
    assert!(node.apply(&profile).resources.is_empty());
    fs::remove_file(&key).unwrap();
    assert_eq!(names(&node.apply(&profile)), ["command key"]);
}

#[test]
fn what_the_profile_drops_goes_but_what_the_image_had_stays() {
    let mut node = Node::new();
    fs::write(node.path("/etc/from-image"), "package's").unwrap();
    let mut profile = full(&node);
    profile.files.push(text("/etc/from-image", "ours"));
    node.apply(&profile);
    node.machine.set_state("slurmd.service", "active");
    node.machine.calls();
    let outcome = node.apply(&empty());
    assert_eq!(failures(&outcome), Vec::<String>::new());
    for path in ["/etc/slurm/slurm.conf", "/etc/slurm/link", "/etc/grid-security/hostkey.pem"] {
        assert!(node.path(path).symlink_metadata().is_err(), "{path}");
    }
    assert_eq!(node.read("/etc/from-image"), "ours");
    assert!(node.read("/etc/passwd").contains("alice:"));
    let wants = "/etc/systemd/system/multi-user.target.wants/slurmd.service";
    assert!(node.path(wants).symlink_metadata().is_err());
    assert!(node.path("/etc/systemd/system/getty@tty1.service").symlink_metadata().is_err());
    let calls = node.machine.calls();
    assert_eq!(calls, ["systemctl stop slurmd.service", "systemctl daemon-reload"]);
    assert!(node.apply(&empty()).resources.is_empty());
}

#[test]
fn a_secret_is_asked_for_again_only_with_another_version() {
    let mut node = Node::new();
    let mut profile = full(&node);
    node.apply(&profile);
    node.asked();
    *node.source.secret.lock().unwrap() = b"rolled".to_vec();
    node.apply(&profile);
    assert!(node.asked().is_empty());
    profile.role = "other".into();
    node.apply(&profile);
    assert_eq!(node.asked(), ["secret munge-key"]);
    assert_eq!(node.read("/etc/munge/munge.key"), "rolled");
    let memory = fs::read_to_string(node.folder.join("applied.json")).unwrap()
        + &fs::read_to_string(node.folder.join("profile.json")).unwrap();
    assert!(!memory.contains("rolled"));
    assert_eq!(node.folder.join("applied.json").metadata().unwrap().mode() & 0o777, 0o600);
}

#[test]
fn certificates_are_renewed_when_asked_otherwise_or_ending() {
    let mut node = Node::new();
    let mut profile = empty();
    profile.certificates.push(certificate());
    node.apply(&profile);
    let first = node.read("/etc/grid-security/hostcert.pem");
    assert_eq!(first, node.read("/etc/grid-security/xrd/cert.pem"));
    profile.certificates[0].dns.push("alias.dublin.test".into());
    node.source.days = 10;
    node.apply(&profile);
    assert_ne!(first, node.read("/etc/grid-security/hostcert.pem"));
    assert_eq!(node.asked().len(), 2);
    // It ends in ten days, but it was issued just now.
    let (tree, ca) = (Tree::new(node.root.path()), node.source.authority.pem());
    assert!(!certificate_due(&tree, &profile, &node.applied, &ca));
    node.applied.certificates.get_mut("host").unwrap().at -= 2 * 86_400;
    assert!(certificate_due(&tree, &profile, &node.applied, &ca));
    node.source.days = 300;
    assert_eq!(names(&node.apply(&profile)), ["certificate host"]);
    assert!(!certificate_due(&tree, &profile, &node.applied, &ca));
}

#[test]
fn another_cas_certificate_is_not_taken() {
    let mut node = Node::new();
    let mut profile = empty();
    profile.certificates.push(certificate());
    let tree = Tree::new(node.root.path());
    let other = Authority::new().pem();
    let tools = Tools {
        tree: &tree,
        system: &node.machine,
        source: &node.source,
        folder: &node.folder,
        ca: &other,
        progress: &|_| {},
        packages: None,
        intent: Intent::Apply,
        package_files: false,
    };
    let outcome = apply(&tools, &profile, "v", &node.applied, Moment::Running);
    assert!(failures(&outcome)[0].contains("not usable"), "{outcome:?}");
    assert!(node.path("/etc/grid-security/hostkey.pem").symlink_metadata().is_err());
    node.applied = outcome.applied;
    assert!(node.apply(&profile).ok());
}

#[test]
fn units_that_systemctl_refuses_are_named_in_the_report() {
    let mut node = Node::new();
    node.unit_file("good.service");
    let mut profile = empty();
    profile.units = vec![
        unit("good.service", UnitState::Running, &[]),
        unit("absent.service", UnitState::Running, &[]),
    ];
    node.machine.complain("absent.service", "Failed: Unit file absent.service does not exist.");
    let outcome = node.apply(&profile);
    let failures = failures(&outcome);
    assert_eq!(failures.len(), 1);
    assert!(failures[0].contains("absent.service: Failed: Unit file"), "{failures:?}");
    let calls = node.machine.calls();
    assert!(calls.contains(&"systemctl start --no-block good.service".to_owned()), "{calls:?}");
}

#[test]
fn at_boot_enabled_units_are_pulled_in_through_the_boot_target() {
    let mut node = Node::new();
    node.unit_file("oneshot.service");
    node.unit_file("d.service");
    let mut profile = empty();
    profile.units = vec![
        unit("oneshot.service", UnitState::Enabled, &[]),
        unit("d.service", UnitState::Running, &[]),
    ];
    let outcome = node.apply_at(&profile, Moment::Booting);
    assert_eq!(outcome.start, ["default.target", "d.service"]);
    assert_eq!(node.machine.calls(), ["systemctl daemon-reload"]);
}

#[test]
fn packages_in_the_image_cost_nothing_and_others_are_installed() {
    let mut node = Node::new();
    fs::create_dir_all(node.path("/usr/lib/gridgate")).unwrap();
    fs::write(node.path("/usr/lib/gridgate/packages.list"), "munge 0.5-1\nslurmd 24.11\n").unwrap();
    let status = "Package: munge\nStatus: install ok installed\nVersion: 0.5-1\n";
    fs::write(node.path("/var/lib/dpkg/status"), status).unwrap();
    let mut profile = empty();
    profile.packages = vec!["munge".into(), "slurmd".into()];
    assert!(node.apply(&profile).ok());
    assert!(node.asked().is_empty() && node.machine.calls().is_empty());

    let locked = |name: &str, version: &str| LockedPackage {
        name: name.into(),
        version: version.into(),
        architecture: "amd64".into(),
        sha256: "ab".repeat(32),
        size: 3,
    };
    profile.packages.push("vim-tiny".into());
    node.source.packages = vec![locked("munge", "0.5-1"), locked("vim-tiny", "9")];
    let outcome = node.apply(&profile);
    assert_eq!(names(&outcome), ["package vim-tiny"]);
    assert_eq!(node.asked(), ["packages", "package vim-tiny"]);
    let calls = node.machine.calls();
    assert!(calls[0].contains("--unpack") && calls[1].ends_with("--configure -a"), "{calls:?}");
    assert!(!node.path("/usr/sbin/policy-rc.d").exists());

    profile.packages.pop();
    node.source.packages.pop();
    let more = "\nPackage: vim-tiny\nStatus: install ok installed\nVersion: 9\n";
    fs::write(node.path("/var/lib/dpkg/status"), format!("{status}{more}")).unwrap();
    let outcome = node.apply(&profile);
    assert_eq!(names(&outcome), ["package vim-tiny"]);
    assert!(node.machine.calls()[0].ends_with("--purge vim-tiny"));
    assert!(node.applied.installed.is_empty());
}

#[test]
fn mounts_of_a_new_fstab_are_started() {
    let mut node = Node::new();
    let wants = node.path("/run/systemd/generator/local-fs.target.wants");
    fs::create_dir_all(&wants).unwrap();
    fs::write(wants.join("srv-data.mount"), "").unwrap();
    fs::write(wants.join("systemd-remount-fs.service"), "").unwrap();
    let mut profile = empty();
    profile.files.push(text("/etc/fstab", "LABEL=x /srv/data ext4 nofail 0 2\n"));
    profile.units.push(unit("srv-data.mount", UnitState::Running, &[]));
    let outcome = node.apply_at(&profile, Moment::Booting);
    assert_eq!(outcome.start, ["srv-data.mount"]);
}
