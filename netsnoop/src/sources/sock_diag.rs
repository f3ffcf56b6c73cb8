//! Exact lookup of single sockets by netlink sock_diag, in the namespace they belong to.
