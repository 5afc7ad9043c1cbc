//! The samples were printed by pygrub of Xen 4.20 in the lab.

use super::{Answer, filled, joined};

#[test]
fn its_arguments_and_its_complaints() {
    let answer = Answer {
        result: b"kernel /seat/boot/boot_kernel.37yk_n5o\0ramdisk /etc/shadow\0args ro a=b\0\0"
            .to_vec(),
        errors: b"Using <class 'grub.GrubConf.Grub2ConfigFile'> to parse /boot/grub/grub.cfg\n"
            .to_vec(),
    };
    assert_eq!(answer.arguments(), b"ro a=b");
    let answer = Answer {
        errors: b"Traceback (most recent call last):\n  File \"pygrub\", line 1046, in <module>\n\
            RuntimeError: Unable to find partition \x1b[2Jcontaining kernel\n\n"
            .to_vec(),
        ..Answer::default()
    };
    assert_eq!(answer.arguments(), b"");
    let complaint = answer.complaint().unwrap();
    assert_eq!(complaint, "Unable to find partition [2Jcontaining kernel");
    assert_eq!(Answer::default().complaint(), None);
}

#[test]
fn kernel_and_initramfs_are_the_files_that_were_filled() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    file("result", "kernel /etc/shadow\0");
    file("boot_ramdisk.x", "");
    std::os::unix::fs::symlink("/etc/passwd", folder.path().join("boot_ramdisk.y")).unwrap();
    assert_eq!(filled(folder.path(), "boot_kernel.").unwrap(), None);
    file("boot_kernel.x", "MZ");
    let found = filled(folder.path(), "boot_kernel.").unwrap();
    assert_eq!(found, Some(folder.path().join("boot_kernel.x")));
    assert_eq!(filled(folder.path(), "boot_ramdisk.").unwrap(), None);
}

#[test]
fn the_disks_arguments_come_first_and_cannot_be_anything() {
    assert_eq!(joined(b" ro quiet ", "console=hvc0").unwrap(), "ro quiet console=hvc0");
    assert_eq!(joined(b"", "console=hvc0").unwrap(), "console=hvc0");
    let odd = joined(b"ro\ndisk = []", "").unwrap_err();
    assert_eq!(odd, "its kernel arguments are not printable ASCII");
    joined(b"\xff", "").unwrap_err();
    let long = joined(&[b'a'; 1020], "abc").unwrap_err();
    assert!(long.contains("1023 bytes at most; its own and ours have 1024"), "{long}");
}
