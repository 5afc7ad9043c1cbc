//! Taps: the ioctls of `/dev/net/tun`.

use std::fs::{File, OpenOptions};
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::ioctl::{IntegerSetter, Opcode, Setter, ioctl, opcode};

use crate::NetError;
use crate::error::io;

const DEVICE: &str = "/dev/net/tun";

const TUNSETIFF: Opcode = opcode::write::<i32>(b'T', 202);
const TUNSETPERSIST: Opcode = opcode::write::<i32>(b'T', 203);
const TUNSETOWNER: Opcode = opcode::write::<i32>(b'T', 204);

/// What VMMs here ask for when they open a tap (User Mode Linux's `vec` driver does
/// with `transport=tap`): whole frames, no extra header, room for offload information.
const FLAGS: i16 = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as i16;

/// `struct ifreq`, as far as `TUNSETIFF` uses it.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; libc::IFNAMSIZ],
    flags: i16,
    rest: [u8; 22],
}

/// Makes a tap in the calling thread's namespace that stays until it is deleted and that
/// the user `owner` may open; or changes the owner of the one that is there.
pub(crate) fn make(name: &str, owner: u32) -> Result<(), NetError> {
    let mut options = OpenOptions::new();
    let device = options.read(true).write(true).open(DEVICE).map_err(io("open", DEVICE))?;
    attach(&device, name, FLAGS)
        .and_then(|()| set::<TUNSETOWNER>(&device, owner as usize))
        .and_then(|()| set::<TUNSETPERSIST>(&device, 1))
        .map_err(io("make the tap", name))
}

fn attach(device: &File, name: &str, flags: i16) -> Result<(), Errno> {
    let mut request = InterfaceRequest { name: [0; libc::IFNAMSIZ], flags, rest: [0; 22] };
    let room = request.name.get_mut(..name.len()).ok_or(Errno::NAMETOOLONG)?;
    room.copy_from_slice(name.as_bytes());
    // SAFETY: TUNSETIFF copies one `struct ifreq` (40 bytes, which `InterfaceRequest` has)
    // in and back out; `Setter` hands it a copy that it owns.
    unsafe { ioctl(device.as_fd(), Setter::<TUNSETIFF, _>::new(request)) }
}

fn set<const OPCODE: Opcode>(device: &File, value: usize) -> Result<(), Errno> {
    // SAFETY: both requests used here take a plain number and touch no memory.
    unsafe { ioctl(device.as_fd(), IntegerSetter::<OPCODE>::new_usize(value)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_is_as_large_as_the_kernel_expects() {
        assert_eq!(size_of::<InterfaceRequest>(), size_of::<libc::ifreq>());
    }
}
