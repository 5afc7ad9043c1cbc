//! The agent ahead of everything that systemd starts.
//!
//! systemd starts whatever it may at once, and each program takes its part of the processor until it is there. On a node that has had
//! its profile applied the agent needs none of the others: they begin when it has begun. At a node's first boot it asks for their
//! help, and they wait for nothing.

use std::path::Path;

use crate::image::STATE_PATH;
use crate::state::APPLIED;

use super::mounts::{self, NEW_ROOT};
use super::{InitError, io};

/// In `/run`, so that nothing on the machine's disk depends on its VMM.
const FOLDER: &str = "/run/systemd/system/gridgate-agent.service.d";

/// `exec`: they wait until the agent runs, not for anything that it may wait for. Those that come after these are not named.
const DROP_IN: &str = "[Unit]
Before=systemd-journald.service systemd-modules-load.service systemd-remount-fs.service
Before=systemd-sysctl.service systemd-udev-trigger.service systemd-udevd.service
[Service]
Type=exec
";

/// Says so to systemd.
pub(super) fn put() -> Result<(), InitError> {
    if !Path::new(&format!("{NEW_ROOT}{STATE_PATH}/{APPLIED}")).is_file() {
        return Ok(());
    }
    let file = format!("{FOLDER}/ahead.conf");
    mounts::make_folder(FOLDER)?;
    std::fs::write(&file, DROP_IN).map_err(io("write", file))
}
