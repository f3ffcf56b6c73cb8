//! What `/proc` and cgroupfs tell of one process: executable and container.
