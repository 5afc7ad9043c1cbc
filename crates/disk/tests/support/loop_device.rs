//! A loop device with its partitions, gone when dropped.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

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

    /// Number, name and length of each partition that the kernel sees.
    pub fn partitions(&self) -> Vec<(u32, String, u64)> {
        let folder = PathBuf::from("/sys/block").join(&self.name);
        let mut partitions = Vec::new();
        for number in 1..=128 {
            let folder = folder.join(format!("{}p{number}", self.name));
            let Ok(uevent) = std::fs::read_to_string(folder.join("uevent")) else { break };
            let name = uevent.lines().find_map(|line| line.strip_prefix("PARTNAME=")).unwrap();
            let sectors = std::fs::read_to_string(folder.join("size")).unwrap();
            let length = sectors.trim().parse::<u64>().unwrap() * 512;
            partitions.push((number, name.to_owned(), length));
        }
        partitions
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
