//! A loop device with its partitions, gone when dropped.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;

const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4C82;
const LOOP_CONFIGURE: libc::c_ulong = 0x4C0A;
const LOOP_CLR_FD: libc::c_ulong = 0x4C01;
const READ_ONLY_AUTOCLEAR_PARTSCAN: u32 = 1 | 4 | 8;

/// `struct loop_config` with `struct loop_info64` inside.
#[repr(C)]
struct Configuration {
    fd: u32,
    block_size: u32,
    device_to_size_limit: [u64; 5],
    number_to_key_size: [u32; 3],
    flags: u32,
    names_and_key: [u8; 160],
    init: [u64; 2],
    reserved: [u64; 8],
}

pub struct LoopDevice {
    device: File,
    pub name: String,
}

impl LoopDevice {
    pub fn new(disk: &Path) -> Self {
        let backing = File::open(disk).unwrap();
        let control = File::open("/dev/loop-control").unwrap();
        loop {
            // SAFETY: this request takes no argument and answers with a number.
            let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE as _) };
            assert!(number >= 0, "no free loop device: {}", std::io::Error::last_os_error());
            let name = format!("loop{number}");
            let path = format!("/dev/{name}");
            let device = OpenOptions::new().read(true).open(path).unwrap();
            let configuration = Configuration {
                fd: u32::try_from(backing.as_raw_fd()).unwrap(),
                block_size: 512,
                device_to_size_limit: [0; 5],
                number_to_key_size: [0; 3],
                flags: READ_ONLY_AUTOCLEAR_PARTSCAN,
                names_and_key: [0; 160],
                init: [0; 2],
                reserved: [0; 8],
            };
            // SAFETY: the request reads one `struct loop_config`, which this is.
            let answer =
                unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE as _, &configuration) };
            if answer == 0 {
                return Self { device, name };
            }
            let error = std::io::Error::last_os_error();
            // Someone else took it in between: ask for the next one.
            assert_eq!(error.raw_os_error(), Some(libc::EBUSY), "configure {name}: {error}");
        }
    }

    /// Number, name and length of each partition. A kernel that was built without this
    /// kind of table is given the partitions by `partx`, which reads it on its own.
    pub fn partitions(&self) -> Vec<(u32, String, u64)> {
        if kernel_reads_tables() { self.partitions_of_kernel() } else { self.partitions_of_partx() }
    }

    fn partitions_of_kernel(&self) -> Vec<(u32, String, u64)> {
        let mut partitions = Vec::new();
        for number in 1..=128 {
            let folder = format!("/sys/block/{0}/{0}p{number}", self.name);
            let Ok(uevent) = std::fs::read_to_string(format!("{folder}/uevent")) else { break };
            let name = uevent.lines().find_map(|line| line.strip_prefix("PARTNAME=")).unwrap();
            partitions.push((number, name.to_owned(), self.length(number)));
        }
        partitions
    }

    fn partitions_of_partx(&self) -> Vec<(u32, String, u64)> {
        let device = format!("/dev/{}", self.name);
        run(Command::new("partx").arg("--add").arg(&device));
        let listing = run(Command::new("partx")
            .args(["--raw", "--noheadings", "-o", "NR,NAME"])
            .arg(&device));
        let partition = |line: &str| {
            let (number, name) = line.split_once(' ').unwrap();
            let number = number.parse().unwrap();
            (number, name.to_owned(), self.length(number))
        };
        listing.lines().map(partition).collect()
    }

    /// As the kernel says, whoever told it.
    fn length(&self, number: u32) -> u64 {
        let path = format!("/sys/block/{0}/{0}p{number}/size", self.name);
        std::fs::read_to_string(path).unwrap().trim().parse::<u64>().unwrap() * 512
    }

    pub fn partition_device(&self, number: u32) -> PathBuf {
        format!("/dev/{}p{number}", self.name).into()
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        // SAFETY: this request takes no argument.
        unsafe { libc::ioctl(self.device.as_raw_fd(), LOOP_CLR_FD as _) };
    }
}

fn kernel_reads_tables() -> bool {
    let configuration = Command::new("zcat").arg("/proc/config.gz").output().unwrap();
    let text = String::from_utf8_lossy(&configuration.stdout);
    !text.contains("# CONFIG_EFI_PARTITION is not set")
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
