//! What a node gets from the site profile directly: the administrator's files and
//! the mounts of data disks.

use gridgate_protocol::node_profile as protocol;

use super::draft::Draft;
use crate::site::{DataDisk, Node};

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

/// A data disk: the agent makes the file system when the partition is empty; here
/// it is mounted.
fn data_disk(node: &Node, disk: &DataDisk, draft: &mut Draft<'_>) {
    let mount_unit = disk.mount_unit();
    let text = format!(
        "[Unit]\nDescription=Data disk {}\n\n\
         [Mount]\nWhat=/dev/disk/by-partlabel/{}\nWhere={}\nType=ext4\nOptions=noatime\n\n\
         [Install]\nWantedBy=local-fs.target\n",
        disk.name,
        disk.partition_label(),
        disk.mount,
    );
    let file = protocol::File {
        path: format!("/etc/systemd/system/{mount_unit}"),
        content: protocol::Content::Text(text),
        owner: "root".to_owned(),
        group: "root".to_owned(),
        mode: 0o644,
        component: DATA.to_owned(),
    };
    draft.file(file, &node.spot);
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
