//! A filter of system calls that turns flushing to disk into nothing.
//!
//! dpkg flushes its database for every package, which takes longer than unpacking. A
//! tree that packages are installed into is thrown away when that is interrupted and
//! flushed once when it is finished, so these flushes protect nothing. The filter affects
//! the processes of the installation alone and changes no other call.

use std::io;

/// What the calls give back: success, done nothing.
const DONE_NOTHING: u32 = libc::SECCOMP_RET_ERRNO;

#[cfg(target_arch = "x86_64")]
const AUDIT_ARCH: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const AUDIT_ARCH: u32 = 0xC000_00B7;

/// The calls that flush.
const CALLS: [libc::c_long; 6] = [
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync,
    libc::SYS_syncfs,
    libc::SYS_msync,
    libc::SYS_sync_file_range,
];

/// Installs the filter for this process, which must be root, and its children to come.
///
/// # Errors
/// When the kernel has no such filters.
pub fn install() -> io::Result<()> {
    let mut filter = program();
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(io::Error::other)?,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: `program` points at `filter`, which outlives the call and whose length it
    // states; the kernel copies it. Nothing else of this process is touched.
    let outcome = unsafe {
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program, 0, 0)
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The filter: another architecture's calls pass; ours are compared by number.
fn program() -> Vec<libc::sock_filter> {
    // Offsets in `struct seccomp_data`.
    const NUMBER: u32 = 0;
    const ARCH: u32 = 4;
    let load = |offset| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0);
    let give = |value| statement(libc::BPF_RET | libc::BPF_K, value, 0, 0);
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let mut program = vec![load(ARCH), statement(equal, AUDIT_ARCH, 1, 0)];
    program.push(give(libc::SECCOMP_RET_ALLOW));
    program.push(load(NUMBER));
    for (at, call) in CALLS.iter().enumerate() {
        // Over the remaining comparisons and the "allow" behind them.
        let to_done = (CALLS.len() - at) as u8;
        program.push(statement(equal, *call as u32, to_done, 0));
    }
    program.push(give(libc::SECCOMP_RET_ALLOW));
    program.push(give(DONE_NOTHING));
    program
}

fn statement(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}
