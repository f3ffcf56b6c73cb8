//! Names of the interfaces that sockets are bound to, asked for in the namespaces that have such sockets.
//!
//! Left out: interfaces of namespaces that may not be entered; they are told by their index.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;

use netsnoop_core::inventory::{Addresses, UnseenThing};
use rustix::io::Errno;
use rustix::net::netdevice::index_to_name;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::draft::Draft;
use crate::sources::namespace_index::{NamespaceIndex, NetFiles};

/// Adds the names to the namespaces of `draft`.
pub(super) fn name(index: &mut NamespaceIndex, draft: &mut Draft) {
    for (place, bound) in bound(draft) {
        let Some(inode) = draft.inode_of(place) else { continue };
        let asked = index.enter(inode, |_, files| match files {
            NetFiles::Inside => names_here(&bound),
            // Questions are put inside only.
            NetFiles::Through(_) => Err(Errno::PERM),
        });
        match asked.unwrap_or_else(|error| Err(Errno::from(error))) {
            Ok(names) => {
                if let Some(namespace) = draft.namespaces.get_mut(place as usize) {
                    namespace.interfaces = names;
                }
            }
            Err(error) => draft.miss_for(UnseenThing::InterfaceNames, error),
        }
    }
}

/// The interfaces that sockets are bound to, by the place of their namespace.
fn bound(draft: &Draft) -> BTreeMap<u32, BTreeSet<NonZeroU32>> {
    let mut bound: BTreeMap<u32, BTreeSet<NonZeroU32>> = BTreeMap::new();
    for socket in &draft.sockets {
        let (Addresses::Internet { interface, .. } | Addresses::Packet { interface, .. }) = socket.addresses
        else {
            continue;
        };
        if let (Some(place), Some(interface)) = (socket.namespace, interface) {
            bound.entry(place).or_default().insert(interface);
        }
    }
    bound
}

/// One question for each of them (man 7 netdevice, SIOCGIFNAME): a node has thousands of interfaces, and sockets are bound
/// to few.
fn names_here(bound: &BTreeSet<NonZeroU32>) -> Result<Vec<(NonZeroU32, Arc<str>)>, Errno> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    let mut names = Vec::new();
    for index in bound {
        match index_to_name(&socket, index.get()) {
            Ok(name) => names.push((*index, name.into())),
            // The interface is gone; whoever was bound to it still is.
            Err(Errno::NODEV | Errno::NXIO) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(names)
}
