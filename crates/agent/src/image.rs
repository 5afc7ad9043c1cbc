//! What a role image must contain so that the agent runs in it: fixed texts and
//! links, the same for every site and node. The install server puts them into
//! the image's overlay; nothing here does anything itself.

/// Path of [`SEED_SCRIPT`] in the image; mode 0755.
pub const SEED_SCRIPT_PATH: &str = "/usr/lib/gridgate/seed";

/// Path of [`AGENT_UNIT`] in the image; mode 0644.
pub const AGENT_UNIT_PATH: &str = "/usr/lib/systemd/system/gridgate-agent.service";

/// Symbolic links (path, target) that enable the agent at boot.
pub const ENABLE_LINKS: &[(&str, &str)] = &[(
    "/etc/systemd/system/basic.target.wants/gridgate-agent.service",
    "/usr/lib/systemd/system/gridgate-agent.service",
)];

/// List of the packages that the image holds, made with the image; mode 0644.
/// One package a line, the name first; whatever follows a blank is not read.
/// It may be the whole closure or only the names that were asked for. A profile
/// whose packages all stand in it needs no look at dpkg.
pub const PACKAGES_MANIFEST_PATH: &str = "/usr/lib/gridgate/packages.list";

/// Name of the seed archive's **first** entry: one line of text ending in a line
/// feed that is different whenever anything else in the seed is (a hash of the
/// other entries, at most 256 bytes). The seed script reads only up to that line
/// feed to see whether the seed has changed. The entry's header is compared
/// too, so give it a constant modification time.
pub const SEED_CHECKSUM: &str = "seed.sha256";

/// The agent's state folder in the node, where the seed is unpacked.
pub const STATE_PATH: &str = "/var/lib/gridgate";

/// Finds the seed partition, unpacks it when it changed and becomes the agent.
///
/// Starting a program costs several milliseconds in a paravirtual guest, so the
/// usual path is shell builtins only: `read` drops the NUL bytes of the tar
/// header and stops at the first line feed, which ends the checksum.
pub const SEED_SCRIPT: &str = r#"#!/bin/sh
# gridgate: unpack this node's seed when it changed, then become the agent.
set -u
state=/var/lib/gridgate
umask 077

# Sets $device to the partition labelled gridgate-seed.
find_seed() {
    for uevent in /sys/class/block/*[0-9]/uevent; do
        case $uevent in */loop* | */ram* | */zram* | */sr*) continue ;; esac
        name=
        while IFS='=' read -r key value; do
            case $key in
            DEVNAME) name=$value ;;
            PARTNAME) [ "$value" = gridgate-seed ] && device=/dev/$name && return 0 ;;
            esac
        done <"$uevent"
    done
    return 1
}

device=
tries=0
until find_seed && [ -b "$device" ]; do
    # A disk whose driver is a module may come a moment later.
    tries=$((tries + 1))
    if [ $tries -gt 100 ]; then
        [ -x $state/gridgate ] && exec $state/gridgate agent
        echo "gridgate: no partition is labelled gridgate-seed" >&2
        exit 1
    fi
    sleep 0.1
done

IFS= read -r found <"$device" || found=
known=
[ -r $state/seed.stamp ] && IFS= read -r known <$state/seed.stamp
if [ -z "$found" ] || [ "$found" != "$known" ] || [ ! -x $state/gridgate ]; then
    [ -d $state ] || mkdir -p $state
    chmod 0711 $state
    : >$state/seed.stamp
    if tar -x --no-same-owner -f "$device" -C $state; then
        # The stamp vouches for what is safe on the disk: after a power cut before that, the seed is unpacked again. The
        # agent does not wait for it, and is not its parent.
        (
            {
                sync $state/gridgate $state/identity.json && printf '%s\n' "$found" >$state/seed.stamp
            } >/dev/null 2>&1 &
        )
    elif [ ! -x $state/gridgate ]; then
        echo "gridgate: cannot unpack the seed from $device" >&2
        exit 1
    fi
fi
exec $state/gridgate agent
"#;

/// The agent's systemd unit.
///
/// It starts first of all, ahead of everything else: it needs nothing but the root, which the kernel or `/init`
/// mounts writable, and waits by itself for the other file systems.
/// It is ordered before `basic.target`, so that at the first boot the ordinary
/// services start only when the profile is applied. It has no time limit for
/// starting: a node whose install server is not there yet waits for it.
pub const AGENT_UNIT: &str = "\
[Unit]
Description=gridgate agent: keeps this node as its profile says
DefaultDependencies=no
Conflicts=shutdown.target
RequiresMountsFor=/var/lib/gridgate
After=systemd-journald.socket
Before=basic.target network.target network-online.target shutdown.target
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart=/usr/lib/gridgate/seed
Nice=-10
Restart=always
RestartSec=1
TimeoutStartSec=infinity
TimeoutStopSec=5

[Install]
WantedBy=basic.target
";

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::process::Command;

    use super::*;

    fn program(path: &Path, text: &str) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A node's root: a seed partition with an agent that says its version, and its place.
    fn node(root: &Path) -> String {
        for folder in ["block/ubda1", "seed", "bin"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        fs::write(root.join("block/ubda1/uevent"), "DEVNAME=ubda1\nPARTNAME=gridgate-seed\n")
            .unwrap();
        let place = root.display();
        SEED_SCRIPT
            .replace("/var/lib/gridgate", &format!("{place}/state"))
            .replace("/sys/class/block", &format!("{place}/block"))
            .replace("/dev/$name", &format!("{place}/$name"))
            .replace("[ -b ", "[ -f ")
            .replace("} >/dev/null 2>&1 &", "} &")
    }

    fn seed(root: &Path, version: &str) {
        let seed = root.join("seed");
        fs::write(seed.join(SEED_CHECKSUM), format!("{version}\n")).unwrap();
        fs::write(seed.join("identity.json"), version).unwrap();
        program(&seed.join("gridgate"), &format!("#!/bin/sh\necho agent {version}\n"));
        let mut tar = Command::new("tar");
        tar.args(["--mtime=@0", "-cf"]).arg(root.join("ubda1")).arg("-C").arg(&seed);
        let made = tar.args([SEED_CHECKSUM, "identity.json", "gridgate"]).status().unwrap();
        assert!(made.success());
    }

    /// What the agent says; what goes on beside it holds its output open, so that this returns when that has ended.
    fn boot(root: &Path, script: &str) -> String {
        let path = format!("{}/bin:/usr/bin:/bin", root.display());
        let output = Command::new("/bin/sh").args(["-c", script]).env("PATH", path).output();
        let output = output.unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr)
    }

    #[test]
    fn a_seed_is_believed_when_it_is_safe_on_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let script = node(root);
        seed(root, "one");
        // The power goes before the disk has it.
        program(&root.join("bin/sync"), "#!/bin/sh\nexit 1\n");
        assert_eq!(boot(root, &script), "agent one\n");
        fs::write(root.join("state/gridgate"), "").unwrap();
        fs::remove_file(root.join("bin/sync")).unwrap();
        assert_eq!(boot(root, &script), "agent one\n");
        // From now on it is not unpacked at each boot.
        program(&root.join("state/gridgate"), "#!/bin/sh\necho as it was\n");
        assert_eq!(boot(root, &script), "as it was\n");
        seed(root, "two");
        assert_eq!(boot(root, &script), "agent two\n");
    }
}
