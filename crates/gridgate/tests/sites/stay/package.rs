//! A package of another version than the archive has: made here, put into the depot's store, and locked.

use std::fs;
use std::io::Write;

use gridgate_depot::Lock;
use sha2::{Digest, Sha256};

use super::update::lock_path;
use crate::lab::Lab;

/// Puts a package whose program runs this script in the place of the locked one; gives the version that was locked.
pub fn replace(lab: &Lab, name: &str, version: &str, script: &str) -> String {
    let deb = deb(name, version, &format!("#!/bin/sh\n{script}\n"));
    let sha256 = hex::encode(Sha256::digest(&deb));
    let store = lab.home.path().join("depot/packages").join(&sha256[..2]);
    fs::write(store.join(format!("{sha256}.deb")), &deb).expect("it is in the store");

    let text = fs::read_to_string(lock_path(lab)).expect("a lock");
    let mut lock = Lock::parse(&text).expect("a lock");
    let mut before = None;
    let packages = lock.roles.values_mut().flat_map(|role| &mut role.packages);
    for package in packages.filter(|package| package.name == name) {
        before = Some(std::mem::replace(&mut package.version, version.to_owned()));
        package.sha256.clone_from(&sha256);
        package.size = deb.len() as u64;
        package.filename = format!("pool/main/{}/{name}/{name}_{version}.deb", &name[..1]);
    }
    fs::write(lock_path(lab), lock.to_text()).expect("written");
    before.expect("the package is locked")
}

/// A package with one program of its own name; deb(5).
fn deb(name: &str, version: &str, program: &str) -> Vec<u8> {
    let control = format!(
        "Package: {name}\nVersion: {version}\nArchitecture: amd64\n\
         Maintainer: Example <example@example.org>\nDescription: another version\n"
    );
    let folders = ["./", "./usr/", "./usr/bin/"];
    let mut deb = b"!<arch>\n".to_vec();
    add(&mut deb, "debian-binary", b"2.0\n");
    add(&mut deb, "control.tar", &tar_of(&["./"], "./control", 0o644, &control));
    add(&mut deb, "data.tar", &tar_of(&folders, &format!("./usr/bin/{name}"), 0o755, program));
    deb
}

/// A member of an `ar` archive.
fn add(deb: &mut Vec<u8>, name: &str, content: &[u8]) {
    let size = content.len();
    writeln!(deb, "{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`", 0, 0, 0, "100644").expect("room");
    deb.extend(content);
    deb.resize(deb.len().next_multiple_of(2), b'\n');
}

fn tar_of(folders: &[&str], path: &str, mode: u32, content: &str) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for folder in folders {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(0o755);
        header.set_size(0);
        append(&mut tar, header, folder, b"");
    }
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_size(content.len() as u64);
    append(&mut tar, header, path, content.as_bytes());
    tar.into_inner().expect("an archive")
}

/// The path as it is: the crate's own ways drop the `./` that packages have.
fn append(tar: &mut tar::Builder<Vec<u8>>, mut header: tar::Header, path: &str, content: &[u8]) {
    header.as_gnu_mut().expect("of this kind").name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_cksum();
    tar.append(&header, content).expect("appended");
}
