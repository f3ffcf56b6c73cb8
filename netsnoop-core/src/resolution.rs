//! What a workload was told when it looked up a name.

use core::net::IpAddr;
use core::time::Duration;

use alloc::sync::Arc;
use alloc::vec::Vec;

/// An answer to a lookup.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resolution {
    /// The name that was asked for, in lower case and without the final dot.
    pub name: Arc<str>,
    /// Where it leads.
    pub addresses: Vec<ResolvedAddress>,
}

/// One of its addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ResolvedAddress {
    /// The address.
    pub address: IpAddr,
    /// For how long the answer says that this holds.
    pub ttl: Duration,
}
