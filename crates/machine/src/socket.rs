//! Unix sockets whose paths are longer than the 107 bytes of `sun_path`
//! (unix(7)): they are reached through an open directory.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// Connects to the socket at `path`.
pub(crate) fn connect_stream(path: &Path) -> io::Result<UnixStream> {
    let (_directory, short) = short_path(path)?;
    UnixStream::connect(short)
}

/// Listens at `path`, which must not exist.
pub(crate) fn listen(path: &Path) -> io::Result<UnixListener> {
    let (_directory, short) = short_path(path)?;
    UnixListener::bind(short)
}

/// The same place through `/proc/self/fd`; valid while the descriptor is open.
fn short_path(path: &Path) -> io::Result<(OwnedFd, PathBuf)> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(parent, flags, Mode::empty())?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
    Ok((directory, short))
}
