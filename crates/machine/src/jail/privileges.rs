//! Giving up everything that root has, for good.

use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::{
    CapabilitySet, Gid, Uid, clear_ambient_capability_set, remove_capability_from_bounding_set,
    set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use super::step;
use crate::error::StartFailure;

/// The calling process has one thread, so what the kernel keeps per thread is the process's.
pub(super) fn drop_all(uid: u32, gid: u32) -> Result<(), StartFailure> {
    let fault = |name: &'static str| move |e: rustix::io::Errno| step(name)(e.into());
    clear_ambient_capability_set().map_err(fault("clear ambient capabilities"))?;
    for bit in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        match remove_capability_from_bounding_set(capability) {
            // Beyond the last one that this kernel knows.
            Err(rustix::io::Errno::INVAL) => break,
            other => other.map_err(fault("drop capabilities"))?,
        }
    }
    set_thread_groups(&[]).map_err(fault("leave all groups"))?;
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    // From a uid of 0 to others only: the kernel clears all capabilities with it.
    set_thread_res_gid(gid, gid, gid).map_err(fault("set the group"))?;
    set_thread_res_uid(uid, uid, uid).map_err(fault("set the user"))?;
    set_no_new_privs(true).map_err(fault("give up new privileges"))?;
    // After the change of user, which clears it: prctl(2), PR_SET_PDEATHSIG.
    die_with_the_shim()
}

/// Has the kernel end this process when its parent ends.
pub(super) fn die_with_the_shim() -> Result<(), StartFailure> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|e| step("ask to die with the shim")(e.into()))
}
