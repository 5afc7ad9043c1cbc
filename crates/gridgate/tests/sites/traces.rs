//! What a site might leave behind on its host.

use std::fs;
use std::path::Path;

use crate::lab::Lab;

/// Destroys the site and looks for anything of it.
pub fn none_after_destroy(lab: &Lab) {
    let pids: Vec<u32> = lab.machine_pids().into_values().collect();
    lab.text(&["destroy", "--yes"]);
    let home = lab.home.path().display().to_string();

    for pid in pids {
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "machine {pid} still runs");
    }
    let daemon = lab.daemon_pid();
    for (pid, command) in processes_naming(&home) {
        assert_eq!(pid, daemon, "still running: {command}");
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    assert!(!mounts.contains(&home), "still mounted: {mounts}");
    assert_eq!(kernel_objects(lab.site), lab.before, "namespaces and control groups");
    for device in names_with("/sys/block", "loop") {
        let backing = fs::read_to_string(format!("/sys/block/{device}/loop/backing_file"));
        assert!(
            !backing.unwrap_or_default().starts_with(&home),
            "{device} holds a file of the site"
        );
    }
    assert!(!lab.home.path().join("sites").join(lab.site).exists());
}

/// Namespaces and control groups of sites of this name, of whatever home.
pub fn kernel_objects(site: &str) -> Vec<String> {
    let mut names = names_with("/run/netns", &format!("gg-{site}-"));
    for controller in fs::read_dir("/sys/fs/cgroup").expect("cgroups").flatten() {
        let group = controller.path().join("gridgate").display().to_string();
        let found = names_with(&group, &format!("{site}-"));
        names.extend(found.into_iter().map(|name| format!("{group}/{name}")));
    }
    names.sort();
    names
}

fn names_with(folder: &str, prefix: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .filter(|n| n.starts_with(prefix))
        .collect()
}

/// Processes other than this one whose command line or folder names the home.
pub fn processes_naming(home: &str) -> Vec<(u32, String)> {
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    processes
        .filter_map(|entry| {
            let pid: u32 = entry.file_name().to_string_lossy().parse().ok()?;
            let command = fs::read(entry.path().join("cmdline")).ok()?;
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            (pid != std::process::id() && command.contains(home)).then_some((pid, command))
        })
        .collect()
}
