//! Keeps the agent small: a node may have 200 MiB for everything, and glibc's
//! allocator otherwise keeps an arena for each thread and what an application
//! of a profile once needed.

/// Call once, before any thread is started.
pub(crate) fn stay_small() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: mallopt only sets parameters of the allocator; both are valid
        // and no other thread exists yet.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, 1);
            libc::mallopt(libc::M_TRIM_THRESHOLD, 128 * 1024);
        }
    }
}

/// Gives memory that is free back to the kernel.
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: malloc_trim takes the allocator's own locks and touches only
        // memory that is free.
        unsafe {
            libc::malloc_trim(0);
        }
    }
}
