//! Sources -> reconciler -> sinks: the only file that makes channels and starts threads and tasks.
