//! The lookup thread: answers the reconciler's [`netsnoop_core::observation::Rescan`]s.
