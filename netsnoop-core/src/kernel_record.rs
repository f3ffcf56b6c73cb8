//! Kernel record bytes -> [`crate::observation::KernelEvent`].
