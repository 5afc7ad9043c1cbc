//! From a compiled node to a running machine.

use std::sync::{Mutex, PoisonError};

use gridgate_machine::{Disk, Limits, MachineSpec, Nic, VmmSpec};
use gridgate_net::{Card, Port};
use gridgate_profile::CompiledNode;
use gridgate_protocol::boot::NO_BPF_ARGUMENT;
use gridgate_protocol::site_api::ErrorKind;

use crate::arrangement::Arrangement;
use crate::failure::{Failure, Hint, caused};
use crate::home::{NodeDir, SiteDir};
use crate::verdicts::Engine;
use crate::vmms::Vmms;
use crate::wanted::Wanted;

/// Host memory that a VMM may take beyond the guest's own, bytes. QEMU's holds its buffer of translated code and
/// what the page cache is charged for kernel and initial RAM file system.
fn overhead(engine: Engine) -> u64 {
    match engine {
        Engine::Uml => 96 << 20,
        Engine::Kvm | Engine::Tcg | Engine::Xen => 320 << 20,
    }
}

/// Processes of one VMM: in UML each of the guest's processes may be one of the host's.
const PROCESSES: u64 = 8192;

/// The machine of a node.
///
/// # Errors
/// When nothing here can run it, or its VMM was not fetched.
pub fn spec(
    dir: &SiteDir,
    node: &CompiledNode,
    wanted: &Wanted,
    vmms: &Vmms,
) -> Result<MachineSpec, Failure> {
    let node_dir = dir.node(&node.name);
    let uid = wanted.uid(&node.name);
    let arrangement = wanted.choice(&node.name)?.arrangement;
    let own = std::iter::once(Disk::own(node_dir.disk()));
    Ok(MachineSpec {
        name: format!("{}.{}", node.name, wanted.site.name),
        vmm: vmms.spec(arrangement)?,
        uid,
        gid: uid,
        memory: node.memory,
        cpus: node.cpus,
        disks: own.chain(vmms.disks(arrangement)).collect(),
        nic: Some(nic(node, wanted)),
        clock: None,
        kernel_arguments: kernel_arguments(arrangement.engine()),
        run_dir: node_dir.run(),
        limits: Limits {
            cgroup: dir.cgroup(&node.name),
            memory_max: Some(node.memory + overhead(arrangement.engine())),
            pids_max: Some(PROCESSES),
            cpu_weight: None,
            one_processor: arrangement.engine() == Engine::Uml,
        },
    })
}

fn nic(node: &CompiledNode, wanted: &Wanted) -> Nic {
    let port = wanted.port(&node.name);
    Nic {
        namespace: gridgate_net::namespace_path(&wanted.network.namespace),
        tap: port.map(|port| port.tap.clone()).unwrap_or_default(),
        mac: node.profile.mac.clone(),
        filter: port.filter(|port| port.card == Card::Vmm).and_then(Port::filter),
    }
}

/// What of a node's machine a restart would change, beside its memory. Trees and kernels of the VMM are left
/// out: newer ones are taken at the next start, not forced on a running node.
pub fn differs(last: &MachineSpec, node: &CompiledNode, wanted: &Wanted) -> Option<String> {
    let was = Arrangement::of(&last.vmm);
    let is = wanted.choice(&node.name).map_or(was, |choice| choice.arrangement);
    if was != is {
        return Some(format!("{was} → {is}"));
    }
    let same = last.cpus == node.cpus
        && last.uid == wanted.uid(&node.name)
        && last.nic.as_ref() == Some(&nic(node, wanted));
    (!same).then(|| "the machine itself changes".to_owned())
}

/// Beside the root: what a node has no use for and pays for at each boot.
fn kernel_arguments(engine: Engine) -> Vec<String> {
    let mut arguments = vec![
        "root=PARTLABEL=gridgate-root",
        "rootfstype=ext4",
        "rw",
        // Errors of drivers that mean nothing here would stand last on the console; a panic still shows.
        "loglevel=3",
        "panic=1",
        "lsm=",
        "audit=0",
        // Only where the boot or the stop hangs at something or is slow: then it is seen at what.
        "systemd.show_status=auto",
        // On a slow machine a device or a service is late, not missing: what is waited for is told, and for how long.
        "systemd.default_device_timeout_sec=600",
        "systemd.default_timeout_start_sec=600",
    ];
    if engine == Engine::Uml {
        // Built into its kernel: these benchmarks alone take most of a second of CPU time in every guest.
        arguments.extend(["initcall_blacklist=raid6_init,calibrate_xor_blocks", "lpj=20000000"]);
    }
    if engine != Engine::Uml {
        // The kernel's tests of its ciphers, which are Debian's, take half a second of an emulated boot.
        arguments.push("cryptomgr.notests");
        // Priorities hold between services, not within each: the agent's first word is ahead of what boots beside it.
        arguments.push("noautogroup");
    }
    if engine == Engine::Tcg {
        arguments.push(NO_BPF_ARGUMENT);
    }
    arguments.into_iter().map(String::from).collect()
}

/// The spec a node's machine was last started with.
pub fn last_spec(dir: &NodeDir) -> Option<MachineSpec> {
    serde_json::from_slice(&std::fs::read(dir.run().join("spec.json")).ok()?).ok()
}

/// The privileged domain builds Xen's domains: several at once would all be late, and each is given its time.
static ONE_DOMAIN: Mutex<()> = Mutex::new(());

/// Starts a node's machine, which does not run. Blocking, in a runtime.
pub fn start(spec: &MachineSpec, node: &str, wanted: &Wanted) -> Result<(), Failure> {
    let ready = gridgate_net::make_ready(&wanted.network, node);
    tokio::runtime::Handle::current().block_on(ready).map_err(|e| {
        caused(ErrorKind::Host, format!("{node}'s place in the site's network is not ready"), &e)
    })?;
    let is_domain = matches!(spec.vmm, VmmSpec::Xen { .. });
    let _turn = is_domain.then(|| ONE_DOMAIN.lock().unwrap_or_else(PoisonError::into_inner));
    gridgate_machine::start(spec).map(|_| ()).map_err(|e| {
        caused(ErrorKind::Host, format!("{node}'s machine could not be started"), &e)
            .hint(format!("`gridgate console {node}` shows what it last said"))
    })
}
