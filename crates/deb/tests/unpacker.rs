//! Packages made by hand, unpacked into a small root. That the result is dpkg's on real packages is tested in
//! `gridgate-depot`, against apt.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use gridgate_deb::Deb;
use gridgate_deb::unpacker::{Conffiles, Outcome, Unpacker};
use tar::EntryType;
use tempfile::TempDir;

/// An entry of an archive: kind, path, content or target, mode.
type Entry<'a> = (EntryType, &'a str, &'a str, u32);

fn archive(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (kind, path, content, mode) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_path(path).unwrap();
        header.set_mode(*mode);
        header.set_mtime(1_000_000_000);
        // Not what the root calls them: the names count.
        header.set_uid(9999);
        header.set_gid(9999);
        header.set_username("root").unwrap();
        header.set_groupname("mail").unwrap();
        let is_link = matches!(kind, EntryType::Symlink | EntryType::Link);
        if is_link {
            header.set_link_name(content).unwrap();
        }
        let content = if is_link { &[][..] } else { content.as_bytes() };
        header.set_size(content.len() as u64);
        header.set_cksum();
        tar.append(&header, content).unwrap();
    }
    tar.into_inner().unwrap()
}

fn package(name: &str, control: &[(&str, &str)], files: &[Entry<'_>]) -> Deb {
    let paragraph =
        format!("Package: {name}\nVersion: 1\nArchitecture: amd64\nDescription: x\n y\n");
    let mut members = vec![(EntryType::Regular, "./control", paragraph.as_str(), 0o644)];
    members.push((EntryType::Regular, "./md5sums", "", 0o644));
    members.extend(control.iter().map(|(name, text)| (EntryType::Regular, *name, *text, 0o755)));
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"!<arch>\n").unwrap();
    for (name, content) in [("control.tar", archive(&members)), ("data.tar", archive(files))] {
        let size = content.len();
        writeln!(file, "{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`", 0, 0, 0, "100644").unwrap();
        file.write_all(&content).unwrap();
    }
    Deb::new(file).unwrap()
}

/// A root with a database, accounts, and a link out of it.
fn root() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("etc/passwd", "root:x:0:0::/:/bin/sh\n");
    write("etc/group", "mail:x:8:\n");
    write("etc/dpkg/dpkg.cfg.d/own", "path-exclude=/usr/share/man/*\n");
    write("var/lib/dpkg/status", "Package: old\nStatus: install ok installed\nVersion: 1\n");
    write("var/lib/dpkg/diversions", "/usr/bin/d\n/usr/bin/d.real\nother\n");
    write("var/lib/dpkg/triggers/File", "/usr/share/info install-info/noawait\n");
    write("var/lib/dpkg/info/format", "1\n");
    write("usr/bin/there", "");
    symlink("usr/bin", root.path().join("bin")).unwrap();
    symlink("/", root.path().join("out")).unwrap();
    root
}

fn unpack(root: &Path, conffiles: Conffiles, deb: &Deb) -> Outcome {
    let unpacker = Unpacker::new(root, conffiles).unwrap();
    let outcome = unpacker.unpack(deb).unwrap();
    unpacker.close().unwrap();
    outcome
}

const FILE: EntryType = EntryType::Regular;
const FOLDER: EntryType = EntryType::Directory;

fn everything() -> Deb {
    let control = [
        ("./conffiles", "/etc/a.conf\n"),
        ("./postinst", "#!/bin/sh\n"),
        ("./triggers", "# one\nactivate-noawait ldconfig\n"),
    ];
    let files = [
        (FOLDER, "./", "", 0o755),
        (FOLDER, "./bin/", "", 0o700),
        (FILE, "./bin/a", "program", 0o4755),
        (EntryType::Link, "./bin/b", "./bin/a", 0o755),
        (EntryType::Symlink, "./bin/c", "a", 0o777),
        (FOLDER, "./etc/", "", 0o755),
        (FILE, "./etc/a.conf", "setting", 0o640),
        (FOLDER, "./usr/share/", "", 0o755),
        (FOLDER, "./usr/share/info/", "", 0o2755),
        (FILE, "./usr/share/info/a.info", "text", 0o644),
        (FOLDER, "./usr/share/man/", "", 0o755),
        (FILE, "./usr/share/man/a.1", "left out", 0o644),
    ];
    package("a", &control, &files)
}

#[test]
fn files_and_database_are_as_dpkg_leaves_them() {
    let root = root();
    let at = |path: &str| root.path().join(path);
    assert_eq!(unpack(root.path(), Conffiles::Beside, &everything()), Outcome::Unpacked);
    let program = fs::metadata(at("usr/bin/a")).unwrap();
    assert_eq!((program.mode() & 0o7777, program.uid(), program.gid()), (0o4755, 0, 8));
    assert_eq!((program.nlink(), program.mtime()), (2, 1_000_000_000));
    assert_eq!(fs::read_link(at("usr/bin/c")).unwrap(), Path::new("a"));
    assert!(fs::metadata(at("usr/bin")).unwrap().permissions().mode() & 0o7777 != 0o700, "kept");
    assert_eq!(fs::metadata(at("usr/share/info")).unwrap().mode() & 0o7777, 0o2755);
    assert!(at("usr/share/man").is_dir() && !at("usr/share/man/a.1").exists());
    assert_eq!(fs::read(at("etc/a.conf.dpkg-new")).unwrap(), b"setting");
    assert!(!at("etc/a.conf").exists(), "dpkg puts it in place");

    let text = |path: &str| fs::read_to_string(at(path)).unwrap();
    let list = text("var/lib/dpkg/info/a.list");
    assert!(list.starts_with("/.\n/bin\n/bin/a\n") && list.ends_with("/usr/share/man/a.1\n"));
    assert_eq!(fs::metadata(at("var/lib/dpkg/info/a.postinst")).unwrap().mode() & 0o777, 0o755);
    assert!(!at("var/lib/dpkg/info/a.control").exists());
    let status = text("var/lib/dpkg/status");
    let (old, new) = status.split_once("\n\n").unwrap();
    assert!(old.ends_with("Version: 1") && new.starts_with("Package: a\n"), "{status}");
    assert!(new.contains("\nStatus: install ok unpacked\n"), "{status}");
    assert!(new.ends_with("Conffiles:\n /etc/a.conf newconffile\n\n"), "{status}");
    assert_eq!(text("var/lib/dpkg/triggers/Unincorp"), "/usr/share/info -\nldconfig -\n");
}

#[test]
fn the_base_has_its_conffiles_in_place() {
    let root = root();
    assert_eq!(unpack(root.path(), Conffiles::Live, &everything()), Outcome::Unpacked);
    for name in ["a.conf", "a.conf.dpkg-new"] {
        let path = root.path().join("etc").join(name);
        assert_eq!(fs::metadata(path).unwrap().mode() & 0o777, 0o640);
    }
}

#[test]
fn what_is_more_than_files_is_left_to_dpkg() {
    let file = |path| [(FILE, path, "", 0o644)];
    let left = [
        package("p", &[("./preinst", "")], &[]),
        package("t", &[("./triggers", "interest /usr/x\n")], &[]),
        package("t", &[("./triggers", "activate x\n")], &[]),
        package("c", &[("./conffiles", "remove-on-upgrade /etc/x\n")], &[]),
        package("d", &[], &file("./usr/bin/d")),
        package("e", &[], &file("./usr/bin/there")),
        package("m", &[], &file("./missing/x")),
        package("f", &[], &[(EntryType::Fifo, "./usr/bin/f", "", 0o644)]),
        package("l", &[], &[(EntryType::Link, "./usr/bin/l", "./usr/bin/none", 0o644)]),
    ];
    for deb in &left {
        let root = root();
        let before = fs::read(root.path().join("var/lib/dpkg/status")).unwrap();
        let outcome = unpack(root.path(), Conffiles::Beside, deb);
        assert!(matches!(outcome, Outcome::ForDpkg(_)), "{deb:?}");
        let after = fs::read(root.path().join("var/lib/dpkg/status")).unwrap();
        assert_eq!(after.trim_ascii(), before.trim_ascii(), "nothing of it is recorded");
    }
}

#[test]
fn no_path_leads_out_of_the_root() {
    let root = root();
    let outside = tempfile::tempdir().unwrap();
    symlink(outside.path(), root.path().join("far")).unwrap();
    let deb = package("x", &[], &[(FILE, "./far/x", "", 0o644)]);
    assert!(matches!(unpack(root.path(), Conffiles::Beside, &deb), Outcome::ForDpkg(_)));
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    // An absolute link means the root's own root.
    let deb = package("y", &[], &[(FILE, "./out/usr/bin/y", "", 0o644)]);
    assert_eq!(unpack(root.path(), Conffiles::Beside, &deb), Outcome::Unpacked);
    assert!(root.path().join("usr/bin/y").is_file());
}

#[test]
fn whoever_comes_first_the_same_package_has_the_say_over_a_folder() {
    let package = |name, mode| {
        let files = [(FOLDER, "./srv/", "", mode), (FOLDER, "./usr/bin/", "", 0o700)];
        package(name, &[], &files)
    };
    let (a, b) = (package("a", 0o750), package("b", 0o1777));
    let old = fs::metadata(root().path().join("usr/bin")).unwrap().mode();
    for order in [[&a, &b], [&b, &a]] {
        let root = root();
        let unpacker = Unpacker::new(root.path(), Conffiles::Beside).unwrap();
        for deb in order {
            assert_eq!(unpacker.unpack(deb).unwrap(), Outcome::Unpacked);
        }
        let mode = |path: &str| fs::metadata(root.path().join(path)).unwrap().mode();
        assert_eq!(mode("srv") & 0o7777, 0o750);
        assert_eq!(mode("usr/bin"), old, "a folder that was there stays as it is");
    }
}

#[test]
fn a_damaged_package_is_an_error() {
    let root = root();
    let mut file = tempfile::tempfile().unwrap();
    writeln!(file, "!<arch>\n{:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`", "data.tar", 0, 0, 0, "100644", 0)
        .unwrap();
    let unpacker = Unpacker::new(root.path(), Conffiles::Beside).unwrap();
    assert!(unpacker.unpack(&Deb::new(file).unwrap()).is_err());
    let odd = File::open("/dev/null").unwrap();
    assert!(Deb::new(odd).is_err());
}
