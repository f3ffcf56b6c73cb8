//! Memory that was needed to start and is not needed any more.

/// Gives free memory back to the kernel. The types of the kernel leave tens of megabytes in small pieces, which
/// the C library keeps for the thread that freed them.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) takes a number, may be called by any thread at any time since glibc 2.8, and touches
    // only memory that is free. Whether there was any does not matter.
    unsafe {
        libc::malloc_trim(0);
    }
}
