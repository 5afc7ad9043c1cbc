//! A site inside the lab: gridgate itself there, with a home whose depot was filled on this host, since the lab has no
//! network. The home is a file system on a disk of the nested computer.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::payload::Entry;
use super::{Lab, boot, parts, payload};

/// Where the lab mounts the disk.
const HOME: &str = "/lab/disk";

/// Where gridgate is in the lab.
const PROGRAM: &str = "/usr/local/bin/gridgate";

/// Room on the disk for the nodes' own disks, bytes; it takes what is used.
const ROOM: u64 = 16 << 30;

/// Fills a depot for the site, whose nodes are on the lab's VMM (or on one of `vmms`) when their profile leaves it open; then
/// runs `command` in the lab, without one `gridgate up`. Its exit code.
pub(crate) fn run(lab: Lab, profile: &Path, vmms: &[String], command: &[OsString]) -> Result<i32> {
    let profile =
        profile.canonicalize().with_context(|| format!("cannot find {}", profile.display()))?;
    let program = built()?;
    let home = super::cache()?.join("home");
    let gridgate = |words: &[&str]| gridgate(&program, &home, words);
    let vmms = [lab.hypervisor.vmm()].into_iter().chain(vmms.iter().map(String::as_str));
    let fill = ["depot", "fill", utf8(&profile)?].into_iter();
    gridgate(&fill.chain(vmms.flat_map(|vmm| ["--vmm", vmm])).collect::<Vec<_>>())?;
    gridgate(&["daemon", "stop"])?;
    let disk = disk(&home)?;
    let mut files = carried(&profile)?;
    files.push(Entry { from: program, to: PROGRAM.into() });
    let up = ["gridgate", "up", utf8(&profile)?].map(OsString::from);
    let script = payload::script(if command.is_empty() { &up } else { command })?;
    let path = "export PATH=/usr/local/bin:$PATH";
    let script =
        format!("{path} GRIDGATE_HOME={HOME}\nmkdir {HOME}\nmount /dev/vdc {HOME}\n{script}");
    let payload = payload::write(&files, &script)?;
    boot::run(&parts::get()?, lab, boot::Freight { payload, disk: Some(disk) }, boot::Mode::Command)
}

fn utf8(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}

fn gridgate(program: &Path, home: &Path, words: &[&str]) -> Result<()> {
    let mut command = Command::new(program);
    // What it says is for the person; standard output belongs to the lab's command.
    let done = command.args(words).env("GRIDGATE_HOME", home).stdout(Stdio::null()).status();
    let done = done.with_context(|| format!("cannot run {}", program.display()))?;
    if !done.success() {
        bail!("gridgate {}: {done}", words.join(" "));
    }
    Ok(())
}

/// The profile and the components beside it.
fn carried(profile: &Path) -> Result<Vec<Entry>> {
    let mut files = vec![Entry::same(profile)?];
    let mut open = vec![profile.with_file_name("components")];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.context("cannot read the site's components")?.path();
            if path.is_dir() {
                open.push(path);
            } else {
                files.push(Entry::same(path)?);
            }
        }
    }
    Ok(files)
}

/// The home as an ext4 file system in a file without a name, made by the e2fsprogs of the depot's own base root.
fn disk(home: &Path) -> Result<File> {
    let file = tempfile::tempfile_in(super::cache()?).context("cannot make the site's disk")?;
    let size = used(home).with_context(|| format!("cannot read {}", home.display()))? + ROOM;
    file.set_len(size)?;
    let root = base_root(&home.join("depot/roots"))?;
    let mut mke2fs = Command::new(root.join("usr/lib64/ld-linux-x86-64.so.2"));
    mke2fs.arg("--library-path").arg(root.join("usr/lib/x86_64-linux-gnu"));
    mke2fs.arg(root.join("usr/sbin/mke2fs"));
    mke2fs.env("MKE2FS_CONFIG", root.join("etc/mke2fs.conf"));
    mke2fs.args(["-q", "-F", "-t", "ext4", "-m", "0", "-O", "^has_journal"]);
    mke2fs.args(["-E", "nodiscard,lazy_itable_init=1,assume_storage_prezeroed=1", "-d"]).arg(home);
    mke2fs.arg(format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()));
    let done = mke2fs.stdout(Stdio::null()).status().context("cannot run mke2fs")?;
    if !done.success() {
        bail!("mke2fs: {done}");
    }
    Ok(file)
}

/// A root tree with `mke2fs`.
fn base_root(roots: &Path) -> Result<PathBuf> {
    let entries =
        fs::read_dir(roots).with_context(|| format!("cannot read {}", roots.display()))?;
    let mut trees = entries.filter_map(|entry| Some(entry.ok()?.path().join("tree")));
    trees
        .find(|tree| tree.join("usr/sbin/mke2fs").is_file())
        .context("the depot has no root with mke2fs")
}

/// Bytes on the disk below a folder.
fn used(folder: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        sum += meta.blocks() * 512 + 4096;
        if meta.is_dir() {
            sum += used(&entry.path())?;
        }
    }
    Ok(sum)
}

/// Builds gridgate, which one of its tests brings along, and tells where it is.
fn built() -> Result<PathBuf> {
    let programs = super::suite::built("cli")?;
    let gridgate = programs.into_iter().find(|path| path.ends_with("gridgate"));
    gridgate.context("cargo built no gridgate")
}
