//! Changes to the running machine: what is a matter of the host is done here, all else through the VMM.

use std::io::{Error, ErrorKind, Result};

use super::launch::Live;
use super::note;
use crate::capability::{Capability, Change, Rate};
use crate::spec::MachineSpec;
use crate::throttle;
use crate::vmm::{Confinement, Seat};

impl Live {
    /// Makes a change that the VMM claims.
    pub(super) fn change(&mut self, change: &Change) -> Result<()> {
        let Some(controls) = self.vmm.controls() else {
            return Err(ErrorKind::Unsupported.into());
        };
        if !controls.claims().contains(&change.capability()) {
            return Err(ErrorKind::Unsupported.into());
        }
        let jailed = matches!(self.vmm.confinement(&self.spec), Confinement::Jail(_));
        match change {
            Change::CpuShare { weight } if jailed => self.ground.group.set_cpu_weight(*weight),
            Change::NetworkLimit { limit } => self.limit_network(*limit),
            _ => {
                let directory = self.ground.seat();
                controls.change(&Seat { directory: &directory, spec: &self.spec }, change)
            }
        }?;
        if change.capability() == Capability::Pause {
            self.record.paused = *change == Change::Pause;
            self.ground.record(&self.record);
        }
        Ok(())
    }

    fn limit_network(&self, limit: Rate) -> Result<()> {
        let nic = self.spec.nic.as_ref().ok_or_else(|| Error::other("it has no network card"))?;
        if limit == Rate::default() {
            return throttle::lift(nic).map(drop);
        }
        throttle::limit(nic, limit)
    }
}

/// Takes the limit off a machine's card, before each start (of what a killed shim left) and
/// after each end: a tap outlives the machine.
pub(super) fn lift_network_limit(spec: &MachineSpec) {
    if let Some(nic) = &spec.nic
        && let Err(e) = throttle::lift(nic)
    {
        note(&format!("cannot take the limit off {}: {e}", nic.tap));
    }
}
