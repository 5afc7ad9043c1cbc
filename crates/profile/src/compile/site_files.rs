//! What a node gets from the site profile directly: the administrator's files and
//! the mounts of data disks.

use gridgate_protocol::node_profile as protocol;

use super::draft::Draft;
use crate::site::{DataDisk, Node};
use crate::template::filters::escape_path;

/// Component name of the administrator's files.
const SITE: &str = "site";
/// Component name of what belongs to data disks.
const DATA: &str = "data";

/// Puts the node's own files and mounts into the draft.
pub(super) fn add(node: &Node, draft: &mut Draft<'_>) {
    for file in &node.files {
        let wanted = protocol::File {
            path: file.path.value.clone(),
            content: protocol::Content::Text(file.content.clone()),
            owner: file.owner.clone(),
            group: file.group.clone(),
            mode: file.mode,
            component: SITE.to_owned(),
        };
        draft.file(wanted, &file.path.spot);
    }
    for disk in &node.data {
        data_disk(node, disk, draft);
    }
}

/// A data disk is formatted in the node when it is empty, and mounted.
fn data_disk(node: &Node, disk: &DataDisk, draft: &mut Draft<'_>) {
    let device = format!("/dev/disk/by-partlabel/{}", disk.partition_label());
    let format_unit = format!("gridgate-data-{}.service", disk.name);
    let mount_unit = format!("{}.mount", escape_path(&disk.mount));
    let device_unit = format!("{}.device", escape_path(&device));
    let format_text = format!(
        "[Unit]\nDescription=File system of the data disk {name}\nDefaultDependencies=no\n\
         BindsTo={device_unit}\nAfter={device_unit}\nBefore={mount_unit}\n\n\
         [Service]\nType=oneshot\nRemainAfterExit=yes\n\
         ExecStart=/usr/lib/systemd/systemd-makefs ext4 {device}\n",
        name = disk.name,
    );
    let mount_text = format!(
        "[Unit]\nDescription=Data disk {name}\nRequires={format_unit}\nAfter={format_unit}\n\n\
         [Mount]\nWhat={device}\nWhere={mount}\nType=ext4\nOptions=noatime\n\n\
         [Install]\nWantedBy=local-fs.target\n",
        name = disk.name,
        mount = disk.mount,
    );
    for (unit, text) in [(&format_unit, format_text), (&mount_unit, mount_text)] {
        let file = protocol::File {
            path: format!("/etc/systemd/system/{unit}"),
            content: protocol::Content::Text(text),
            owner: "root".to_owned(),
            group: "root".to_owned(),
            mode: 0o644,
            component: DATA.to_owned(),
        };
        draft.file(file, &node.spot);
    }
    let unit = protocol::Unit {
        name: mount_unit,
        state: protocol::UnitState::Running,
        restart_on: Vec::new(),
        reload: false,
        component: DATA.to_owned(),
    };
    draft.unit(unit, &node.spot);
    let check = protocol::HealthCheck {
        name: format!("data disk {}", disk.name),
        test: protocol::HealthTest::Mounted {
            path: disk.mount.clone(),
            filesystem: "ext4".to_owned(),
        },
        component: DATA.to_owned(),
    };
    draft.check(check, &node.spot);
}

/// Packages that data disks need.
pub(super) fn packages(node: &Node) -> &'static [&'static str] {
    if node.data.is_empty() { &[] } else { &["e2fsprogs"] }
}
