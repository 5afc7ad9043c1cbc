//! The new root as a place where programs run: a file system, what they expect to be mounted, and their output.

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::Stdio;

use gridgate_protocol::install_api::{InstallFailure, Stage};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::output::Output;
use crate::init::{NEW_ROOT, say, spawn_inside};
use crate::install::again;
use crate::install::disk::Part;

/// The host name that the root's `/etc/hosts` knows while packages are installed, so that `hostname -f` answers.
const HOST_NAME: &[u8] = b"chamber";

/// What is mounted in it: kind, place, options.
const MOUNTS: [(&str, &str, Option<&std::ffi::CStr>); 5] = [
    ("proc", "proc", None),
    ("devtmpfs", "dev", None),
    ("devpts", "dev/pts", None),
    ("tmpfs", "run", Some(c"mode=0755")),
    ("tmpfs", "tmp", Some(c"mode=1777")),
];

/// The mounted root.
pub(super) struct Chamber {
    mounted: Vec<String>,
}

impl Chamber {
    /// Makes a new file system on the partition, with these options of mke2fs, and mounts it.
    pub(super) fn make(root: &Part, options: &[String]) -> Result<Self, InstallFailure> {
        let device = root.block.device.as_str();
        let fault = |what: String| again(Stage::FileSystems, what);
        let mut mke2fs = std::process::Command::new("/usr/sbin/mke2fs");
        let output = mke2fs.args(options).arg(device).output();
        let output = output.map_err(|e| fault(format!("run mke2fs: {e}")))?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr).into_owned();
            let what = format!("mke2fs {device}: {}", output.status);
            return Err(InstallFailure { output: words, ..fault(what) });
        }
        fs::create_dir_all(NEW_ROOT).map_err(|e| fault(format!("make {NEW_ROOT}: {e}")))?;
        // Nothing of a half-made root is ever used: one flush at the end is enough.
        mount(device, NEW_ROOT, "ext4", MountFlags::NOATIME, Some(c"barrier=0"))
            .map_err(|e| fault(format!("mount {device}: {e}")))?;
        let mut chamber = Self { mounted: vec![NEW_ROOT.to_owned()] };
        chamber.mount_kernel_file_systems().map_err(|e| fault(e.to_string()))?;
        Ok(chamber)
    }

    /// The root, from outside.
    pub(super) fn root(&self) -> &'static Path {
        Path::new(NEW_ROOT)
    }

    fn mount_kernel_file_systems(&mut self) -> io::Result<()> {
        for (kind, place, data) in MOUNTS {
            let path = format!("{NEW_ROOT}/{place}");
            fs::create_dir_all(&path)?;
            mount(kind, &path, kind, MountFlags::NOSUID, data)
                .map_err(|e| io::Error::other(format!("mount {path}: {e}")))?;
            self.mounted.push(path);
        }
        if let Err(error) = rustix::system::sethostname(HOST_NAME) {
            tracing::debug!(%error, "the host name stays");
        }
        Ok(())
    }

    /// Lets go of everything, the root last.
    pub(super) fn close(mut self) -> Result<(), InstallFailure> {
        let stage = Stage::NodeConfiguration;
        while let Some(place) = self.mounted.pop() {
            if unmount(&place, UnmountFlags::empty()).is_ok() {
                continue;
            }
            // A program that a package left running holds it; with the machine's end it goes.
            say(format_args!("{place} is still in use"));
            rustix::fs::sync();
            unmount(&place, UnmountFlags::DETACH)
                .map_err(|e| again(stage, format!("unmount {place}: {e}")))?;
        }
        Ok(())
    }

    /// Runs a program; `seen` hears every line that it says.
    pub(super) fn run(
        &self,
        command: &[&str],
        environment: &[(&str, &str)],
        stage: Stage,
        seen: &mut dyn FnMut(&str),
    ) -> Result<(), InstallFailure> {
        let words: Vec<&str> = std::iter::once("run").chain(command.iter().copied()).collect();
        let name = command.first().copied().unwrap_or_default();
        let fault = |e: io::Error| again(stage, format!("run {name}: {e}"));
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(|e| fault(e.into()))?;
        let both = writer.try_clone().map_err(fault)?;
        let output = (Stdio::from(writer), Stdio::from(both));
        let mut child =
            spawn_inside(self.root(), &words, environment, Stdio::null(), output).map_err(fault)?;
        let output = Output::listen(fs::File::from(reader), seen).map_err(fault)?;
        output.judge(name, child.wait().map_err(fault)?, stage)
    }

    /// Has this program do `what` inside, with `input`.
    pub(super) fn feed(
        &self,
        what: &str,
        input: &mut dyn Read,
        stage: Stage,
    ) -> Result<(), InstallFailure> {
        let fault = |e: io::Error| again(stage, format!("{what}: {e}"));
        let output = (Stdio::inherit(), Stdio::inherit());
        let mut child =
            spawn_inside(self.root(), &[what], &[], Stdio::piped(), output).map_err(fault)?;
        let copied = match child.stdin.take() {
            Some(mut pipe) => io::copy(input, &mut pipe).and_then(|_| pipe.flush()),
            None => Ok(()),
        };
        let status = child.wait().map_err(fault)?;
        Output::default().judge(what, status, stage)?;
        copied.map_err(fault)
    }
}
