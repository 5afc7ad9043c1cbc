//! What this computer says of itself: the ground on which a probe's verdict stands, and its memory. Reads only.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::verdicts::Engine;

/// Where the kernel has KVM.
pub const KVM: &str = "/dev/kvm";

/// What a VMM's working depends on outside itself. A verdict counts as long as this is the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ground {
    /// The host kernel's release.
    pub kernel: String,
    /// The processor's name.
    pub cpu: String,
    /// Device number, inode and time of the last change of [`KVM`]; none without it. Loading the module anew
    /// changes it, and with it what nested virtualisation may do.
    pub kvm: Option<String>,
    /// What the host is to Xen.
    pub xen: Domain,
}

/// What a computer is to Xen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Domain {
    /// It does not run on Xen.
    None,
    /// A guest without rights.
    Guest,
    /// The domain that may make others.
    Privileged,
}

impl Ground {
    /// As it is now.
    pub fn now() -> Ground {
        let uname = rustix::system::uname();
        let kvm = fs::metadata(KVM).ok().map(|device| {
            let number = device.rdev();
            format!("{number:x} {} {}", device.ino(), device.ctime())
        });
        Ground {
            kernel: uname.release().to_string_lossy().into_owned(),
            cpu: cpu(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
            kvm,
            xen: domain(Path::new("/")),
        }
    }

    /// What of another ground differs from this one, in words; none when they are the same.
    pub fn difference(&self, other: &Ground) -> Option<&'static str> {
        let differs = [
            (self.kernel != other.kernel, "another host kernel runs"),
            (self.cpu != other.cpu, "it was another processor"),
            (self.kvm != other.kvm, "/dev/kvm was made anew"),
            (self.xen != other.xen, "the host's place under Xen has changed"),
        ];
        differs.into_iter().find_map(|(differs, words)| differs.then_some(words))
    }
}

fn cpu(cpuinfo: &str) -> String {
    let name = cpuinfo.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == "model name").then(|| value.trim().to_owned())
    });
    name.unwrap_or_else(|| "unknown".to_owned())
}

/// `Documentation/ABI/stable/sysfs-hypervisor-xen`, and xenfs as the toolstack mounts it.
fn domain(root: &Path) -> Domain {
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    if read("proc/xen/capabilities").contains("control_d") {
        return Domain::Privileged;
    }
    match read("sys/hypervisor/type").trim() {
        "xen" => Domain::Guest,
        _ => Domain::None,
    }
}

/// Memory that new processes can have, bytes: what the kernel thinks it can free, and free swap.
pub fn available_memory() -> Option<u64> {
    memory(&fs::read_to_string("/proc/meminfo").ok()?)
}

/// Memory that new machines of an engine can have, bytes. Xen's come beside this host, its privileged domain.
pub fn memory_for(engine: Engine) -> Option<u64> {
    match engine {
        Engine::Xen => gridgate_machine::xen::free_memory(),
        Engine::Kvm | Engine::Uml | Engine::Tcg => available_memory(),
    }
}

fn memory(meminfo: &str) -> Option<u64> {
    let field = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib << 10)
    };
    Some(field("MemAvailable:")? + field("SwapFree:").unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_understood() {
        let text = "processor\t: 0\nmodel name\t: Some Processor @ 2 GHz\n";
        assert_eq!(cpu(text), "Some Processor @ 2 GHz");
        assert_eq!(memory("MemAvailable:  2048 kB\nSwapFree: 1024 kB\n"), Some(3 << 20));
        assert_eq!(memory("MemTotal: 9 kB\n"), None);
    }

    #[test]
    fn a_privileged_domain_is_told_from_a_guest() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(domain(root.path()), Domain::None);
        fs::create_dir_all(root.path().join("sys/hypervisor")).unwrap();
        fs::write(root.path().join("sys/hypervisor/type"), "xen\n").unwrap();
        assert_eq!(domain(root.path()), Domain::Guest);
        fs::create_dir_all(root.path().join("proc/xen")).unwrap();
        fs::write(root.path().join("proc/xen/capabilities"), "control_d\n").unwrap();
        assert_eq!(domain(root.path()), Domain::Privileged);
    }

    #[test]
    fn the_same_ground_has_no_difference() {
        let now = Ground::now();
        assert_eq!(now.difference(&Ground::now()), None);
        let newer = Ground { kernel: "9.9".into(), ..now.clone() };
        assert_eq!(now.difference(&newer), Some("another host kernel runs"));
    }
}
