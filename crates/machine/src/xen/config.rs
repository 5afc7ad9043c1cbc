//! The domain's configuration as `xl` reads it, xl.cfg(5). Pure: generated from the spec
//! before each start, never edited by hand, never read back.

use std::fmt::Write as _;
use std::path::Path;

use super::bootloader::Boot;
use super::{Identity, Xen};
use crate::spec::{MachineSpec, XenGuest};

/// Weight of a domain in Xen's scheduler when nothing else is said: sched-credit2.
const USUAL_WEIGHT: u32 = 256;

/// The script of block devices and that of network cards, by name in the seat.
pub(super) const BLOCK_SCRIPT: &str = "block";
pub(super) const CARD_SCRIPT: &str = "card";

/// The text; `seat` is the folder that holds the two scripts.
pub(super) fn domain(spec: &MachineSpec, xen: &Xen, boot: &Boot, seat: &Path) -> String {
    let identity = Identity::of(spec);
    let mut lines = vec![
        text("name", &identity.name),
        text("uuid", &identity.uuid),
        text("type", guest_type(xen.guest)),
        format!("memory = {}", spec.memory >> 20),
        format!(
            "maxmem = {}",
            xen.tuning.maximum_memory.unwrap_or(spec.memory).max(spec.memory) >> 20
        ),
        format!("vcpus = {}", spec.cpus),
        format!("cpu_weight = {}", weight(spec.limits.cpu_weight)),
    ];
    lines.extend(xen.tuning.cap.map(|percent| format!("cap = {percent}")));
    lines.extend(xen.tuning.cpus.as_deref().map(|cpus| text("cpus", cpus)));
    lines.push(text("kernel", &boot.kernel.to_string_lossy()));
    lines.extend(boot.initramfs.as_ref().map(|path| text("ramdisk", &path.to_string_lossy())));
    lines.push(text("extra", &boot.arguments));
    lines.push(list("disk", &disks(spec, seat)));
    let card = spec.nic.as_ref().map(|nic| {
        let script = seat.join(CARD_SCRIPT);
        format!(
            "mac={},bridge={},vifname={},script={}",
            nic.mac,
            xen.bridge,
            nic.tap,
            script.display()
        )
    });
    lines.push(list("vif", card.as_slice()));
    // The keeper looks at a domain that has ended, and then does what is to be done.
    let ends = ["poweroff", "reboot", "crash", "watchdog"];
    lines.extend(ends.map(|end| text(&format!("on_{end}"), "preserve")));
    let mut whole = "# Written by gridgate at each start.\n".to_owned();
    for line in lines {
        let _ = writeln!(whole, "{line}");
    }
    whole
}

fn guest_type(guest: XenGuest) -> &'static str {
    match guest {
        XenGuest::Pv => "pv",
        XenGuest::Pvh => "pvh",
    }
}

/// The spec's, and where the console is.
pub(super) fn kernel_arguments(spec: &MachineSpec) -> String {
    let all = spec.kernel_arguments.iter().map(String::as_str).chain(["console=hvc0"]);
    all.collect::<Vec<_>>().join(" ")
}

/// xl-disk-configuration(5): `target=` comes last, all that follows is the path.
fn disks(spec: &MachineSpec, seat: &Path) -> Vec<String> {
    let disk = |(number, disk): (usize, &crate::spec::Disk)| {
        format!(
            "format=raw,vdev={},access={},script={},target={}",
            device_name(number),
            if disk.read_only { "ro" } else { "rw" },
            seat.join(BLOCK_SCRIPT).display(),
            disk.path.display()
        )
    };
    spec.disks.iter().enumerate().map(disk).collect()
}

/// `xvda`, `xvdb` …: at most 16 disks, see [`Xen`]'s check.
fn device_name(number: usize) -> String {
    let letter = char::from(b'a' + u8::try_from(number % 26).unwrap_or(0));
    format!("xvd{letter}")
}

/// The number that Xen's store knows that device by: major 202, 16 minors for each disk.
pub(super) fn device_number(disk: usize) -> usize {
    (202 << 8) + 16 * disk
}

/// Our 100 is the scheduler's usual weight.
fn weight(ours: Option<u32>) -> u32 {
    ours.map_or(USUAL_WEIGHT, |ours| (ours * USUAL_WEIGHT / 100).clamp(1, 65535))
}

fn text(key: &str, value: &str) -> String {
    format!("{key} = {}", quoted(value))
}

fn list(key: &str, values: &[String]) -> String {
    let values: Vec<_> = values.iter().map(|value| quoted(value)).collect();
    format!("{key} = [{}]", values.join(", "))
}

/// A string of xl's own syntax: `libxlu_cfg_l.l` knows the escapes, but no quote inside.
fn quoted(value: &str) -> String {
    let escaped = value.replace('\\', "\\\\").replace('"', "\\x22");
    format!("\"{escaped}\"")
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
