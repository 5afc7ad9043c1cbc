//! What runs a node: the virtual machine monitor and the settings that only one of them has.

use serde::Serialize;

use super::layer::Layer;
use crate::document::{Item, Table};
use crate::fault::{Fault, FaultCode, Located};

/// Which virtual machine monitor runs a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Vmm {
    /// The best that works on this host.
    #[default]
    Auto,
    /// User-Mode Linux.
    Uml,
    /// QEMU.
    Qemu,
    /// Xen.
    Xen,
}

/// How QEMU runs a guest's instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// KVM where it was proven to work on this host, else emulation.
    #[default]
    Auto,
    /// The processor, through Linux.
    Kvm,
    /// Emulation.
    Tcg,
}

/// The computer that QEMU shows to a guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Hardware {
    /// Without PCI and everything else that a Linux guest can do without.
    #[default]
    Microvm,
    /// A PC with PCI Express.
    Q35,
}

/// The kind of Xen guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Guest {
    /// The guest's kernel speaks to the hypervisor; works without support of the processor.
    #[default]
    Pv,
    /// The processor keeps the guest apart.
    Pvh,
}

/// How strictly a User-Mode-Linux kernel keeps its own processes apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Security {
    /// Faster; for nodes where only the site's own services run.
    #[default]
    Seccomp,
    /// Slower and stricter; for nodes where strangers log in.
    Ptrace,
}

const VMMS: &[(&str, Vmm)] =
    &[("auto", Vmm::Auto), ("uml", Vmm::Uml), ("qemu", Vmm::Qemu), ("xen", Vmm::Xen)];
const ACCELERATORS: &[(&str, Accelerator)] =
    &[("auto", Accelerator::Auto), ("kvm", Accelerator::Kvm), ("tcg", Accelerator::Tcg)];
const HARDWARE: &[(&str, Hardware)] = &[("microvm", Hardware::Microvm), ("q35", Hardware::Q35)];
const GUESTS: &[(&str, Guest)] = &[("pv", Guest::Pv), ("pvh", Guest::Pvh)];
const SECURITIES: &[(&str, Security)] =
    &[("seccomp", Security::Seccomp), ("ptrace", Security::Ptrace)];

/// Reads a virtual machine monitor's name.
pub(super) fn name(item: &Item<'_>) -> Option<Located<Vmm>> {
    item.choice(VMMS)
}

/// Reads what a table says of the machine's VMM into a layer.
pub(super) fn read(table: &Table<'_>, layer: &mut Layer) {
    layer.vmm = table.get("vmm").and_then(|item| name(&item));
    layer.accelerator = table.get("accelerator").and_then(|item| item.choice(ACCELERATORS));
    layer.hardware = table.get("machine").and_then(|item| item.choice(HARDWARE));
    layer.guest = table.get("guest").and_then(|item| item.choice(GUESTS));
    layer.security = table.get("security").and_then(|item| item.choice(SECURITIES));
    check_settings(table, layer);
}

/// A setting of another VMM than the one named beside it would change nothing. Inherited ones may stand: they
/// are for those nodes that have their VMM.
fn check_settings(table: &Table<'_>, layer: &Layer) {
    let Some(vmm) = &layer.vmm else { return };
    let spots = [
        (Vmm::Qemu, "qemu", "accelerator", layer.accelerator.as_ref().map(|item| &item.spot)),
        (Vmm::Qemu, "qemu", "machine", layer.hardware.as_ref().map(|item| &item.spot)),
        (Vmm::Xen, "xen", "guest", layer.guest.as_ref().map(|item| &item.spot)),
        (Vmm::Uml, "uml", "security", layer.security.as_ref().map(|item| &item.spot)),
    ];
    for (owner, owner_name, key, spot) in spots {
        let Some(spot) = spot.filter(|_| vmm.value != owner && vmm.value != Vmm::Auto) else {
            continue;
        };
        let named = VMMS.iter().find(|(_, value)| *value == vmm.value).map_or("", |(word, _)| word);
        let rule = format!(
            "`{key}` is a setting of {owner_name}: with vmm = \"{named}\" it changes nothing"
        );
        let fault = spot.fault(FaultCode::Conflict, rule).related(&vmm.spot, "the VMM is named at");
        table.push(fault.suggest(format!("drop `{key}`, or write vmm = \"{owner_name}\"")));
    }
}

/// What the settings of a node ask of User-Mode Linux that it does not have.
pub(super) fn check_uml(node: &str, layer: &Layer) -> Option<Fault> {
    layer.vmm.as_ref().filter(|vmm| vmm.value == Vmm::Uml)?;
    let cpus = layer.cpus.as_ref().filter(|cpus| cpus.value > 1)?;
    let fault = cpus.spot.fault(FaultCode::Conflict, "a User-Mode-Linux machine has one CPU");
    Some(fault.suggest("drop `cpus`, or write vmm = \"qemu\" or \"auto\"").on_node(node))
}
