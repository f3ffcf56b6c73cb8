//! What the kernel tells of namespaces, interfaces and addresses as they come and go: rtnetlink's multicast groups
//! (man 7 rtnetlink), of the own namespace and, where that is allowed, of every one that it has given an id to.
//!
//! Left out: what is made of it, which is `topology_changes`.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkFlags, LinkMessage};
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use rustix::net::sockopt::set_socket_recv_buffer_size_force;

use super::netlink::{Message, messages};
use super::netlink_receive::receive_from_any;
use super::rtnetlink::{Link, link_of};
use crate::counters::Counters;

/// One event is some kilobytes at most.
const DATAGRAM_BYTES: usize = 64 * 1024;
/// Room for events that wait to be read: some thousands, which is hundreds of pods that start at once.
const WAITING_BYTES: usize = 8 << 20;
/// RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR, RTNLGRP_NSID (include/uapi/linux/rtnetlink.h; the last since
/// Linux 4.0).
const GROUPS: [u32; 4] = [1, 5, 9, 28];

/// Something that happened. Namespaces are named by the ids that the own one has given them; `None` is the own one.
#[derive(Debug)]
pub(super) enum LinkEvent {
    /// A namespace was given this id.
    Numbered(i32),
    /// The namespace with this id is gone.
    Ended(i32),
    /// A namespace has an address more.
    Given(Option<i32>, IpAddr),
    /// A namespace has an address less.
    Taken(Option<i32>, IpAddr),
    /// An interface of the own namespace is there, or has changed.
    Link(Link),
    /// The interface of the own namespace with this index is gone.
    LinkGone(u32),
    /// An interface of another namespace went up or down, and addresses with it.
    Switched(i32),
}

/// An open subscription: the kernel keeps events for it from now on.
pub struct LinkEvents {
    socket: Socket,
    datagram: Vec<u8>,
    /// Whether other namespaces are heard.
    pub(super) hears_others: bool,
}

impl LinkEvents {
    /// Subscribes, in this thread's namespace.
    pub fn subscribe() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        if let Err(error) = set_socket_recv_buffer_size_force(socket.as_fd(), WAITING_BYTES) {
            // Without CAP_NET_ADMIN the usual limit holds (net.core.rmem_max): an overflow is counted and made good.
            log::debug!("room for events of interfaces: {error}");
        }
        // Needs CAP_NET_BROADCAST (man 7 netlink). Without it the own namespace is heard all the same.
        let hears_others = socket.set_listen_all_namespaces(true).is_ok();
        for group in GROUPS {
            socket.add_membership(group)?;
        }
        Ok(Self { socket, datagram: vec![0; DATAGRAM_BYTES], hears_others })
    }

    /// What is readable when events wait.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Reads the next events. `WouldBlock`: there are none; ENOBUFS: some were lost.
    pub(super) fn read(&mut self, counters: &Counters, into: &mut Vec<LinkEvent>) -> io::Result<()> {
        let (length, from) = receive_from_any(&self.socket, &mut self.datagram)?;
        counters.link_events.add(1);
        for message in messages(self.datagram.get(..length).unwrap_or_default()) {
            match message {
                Message::Told(message) => into.extend(event_of(&message, from)),
                Message::Unreadable(error) => {
                    counters.link_events_rejected.add(1);
                    log::debug!("event of an interface: {error}");
                }
                // Nothing was asked.
                Message::End | Message::Refused(_) => {}
            }
        }
        Ok(())
    }
}

/// What a message from the namespace with the id `from` says.
fn event_of(message: &RouteNetlinkMessage, from: Option<i32>) -> Option<LinkEvent> {
    match (message, from) {
        (RouteNetlinkMessage::NewNsId(message), None) => id_in(message).map(LinkEvent::Numbered),
        (RouteNetlinkMessage::DelNsId(message), None) => id_in(message).map(LinkEvent::Ended),
        (RouteNetlinkMessage::NewAddress(message), _) => {
            address_in(message).map(|address| LinkEvent::Given(from, address))
        }
        (RouteNetlinkMessage::DelAddress(message), _) => {
            address_in(message).map(|address| LinkEvent::Taken(from, address))
        }
        (RouteNetlinkMessage::NewLink(message), None) if is_of_link(message) => {
            link_of(message).map(LinkEvent::Link)
        }
        (RouteNetlinkMessage::DelLink(message), None) if is_of_link(message) => {
            Some(LinkEvent::LinkGone(message.header.index))
        }
        (RouteNetlinkMessage::NewLink(message), Some(id)) if is_of_link(message) => {
            message.header.change_mask.contains(LinkFlags::Up).then_some(LinkEvent::Switched(id))
        }
        _ => None,
    }
}

/// Bridges tell of their ports in messages of the same type.
fn is_of_link(message: &LinkMessage) -> bool {
    message.header.interface_family == AddressFamily::Unspec
}

fn id_in(message: &NsidMessage) -> Option<i32> {
    message.attributes.iter().find_map(|attribute| match attribute {
        NsidAttribute::Id(id) if *id >= 0 => Some(*id),
        _ => None,
    })
}

/// The own address: with a peer it is IFA_LOCAL, as IFA_ADDRESS then is the peer's (man 7 rtnetlink).
fn address_in(message: &AddressMessage) -> Option<IpAddr> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    local.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::link::LinkAttribute;

    use super::*;

    fn check(message: RouteNetlinkMessage, from: Option<i32>, expected: &str) {
        assert_eq!(format!("{:?}", event_of(&message, from)), expected, "{message:?} from {from:?}");
    }

    #[test]
    fn the_own_address_of_a_link_with_a_peer_is_its_local_one() {
        let [own, peer] = [[198, 18, 0, 1], [198, 18, 0, 2]].map(IpAddr::from);
        let mut message = AddressMessage::default();
        message.attributes = vec![AddressAttribute::Address(peer), AddressAttribute::Local(own)];
        check(RouteNetlinkMessage::NewAddress(message.clone()), None, "Some(Given(None, 198.18.0.1))");
        check(RouteNetlinkMessage::DelAddress(message.clone()), Some(3), "Some(Taken(Some(3), 198.18.0.1))");
        message.attributes.pop();
        check(RouteNetlinkMessage::NewAddress(message), Some(3), "Some(Given(Some(3), 198.18.0.2))");
    }

    #[test]
    fn an_id_counts_only_if_the_own_namespace_gave_it() {
        let mut message = NsidMessage::default();
        message.attributes = vec![NsidAttribute::Id(5)];
        check(RouteNetlinkMessage::NewNsId(message.clone()), None, "Some(Numbered(5))");
        check(RouteNetlinkMessage::DelNsId(message.clone()), None, "Some(Ended(5))");
        check(RouteNetlinkMessage::DelNsId(message.clone()), Some(1), "None");
        message.attributes = vec![NsidAttribute::Id(-1)];
        check(RouteNetlinkMessage::NewNsId(message), None, "None");
    }

    #[test]
    fn a_port_that_leaves_its_bridge_is_no_link_that_is_gone() {
        let mut message = LinkMessage::default();
        message.header.index = 7;
        message.attributes = vec![LinkAttribute::IfName("veth7".into())];
        check(RouteNetlinkMessage::DelLink(message.clone()), None, "Some(LinkGone(7))");
        check(RouteNetlinkMessage::NewLink(message.clone()), Some(2), "None");
        message.header.change_mask = LinkFlags::Up;
        check(RouteNetlinkMessage::NewLink(message.clone()), Some(2), "Some(Switched(2))");
        message.header.interface_family = AddressFamily::Bridge;
        check(RouteNetlinkMessage::DelLink(message.clone()), None, "None");
        check(RouteNetlinkMessage::NewLink(message), Some(2), "None");
    }
}
