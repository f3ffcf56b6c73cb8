//! Interfaces of a namespace and the ids it has given to other namespaces, by rtnetlink (man 7
//! rtnetlink).
//!
//! Left out: addresses and routes, and everything that would change or allocate something.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;

use anyhow::Context;
use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use netlink_sys::protocols::NETLINK_ROUTE;

use super::netlink::{Message, Netlink, messages};
use crate::counters::Counters;

/// A question to one namespace's interfaces: that of the thread that opened it.
pub(super) struct RtNetlink(Netlink);

/// An interface.
#[derive(Clone, Debug)]
pub(super) struct Link {
    /// Its index.
    pub(super) index: u32,
    /// Its name.
    pub(super) name: Arc<str>,
    /// Whether it is the loopback interface.
    pub(super) is_loopback: bool,
    /// Whether it is half of a veth pair.
    pub(super) is_veth: bool,
    /// Whether it has another half.
    pub(super) has_peer: bool,
    /// The id of the namespace its other half is in; `None` if that is its own.
    pub(super) peer_namespace: Option<i32>,
    /// Whether its other half is up.
    pub(super) has_carrier: bool,
}

impl RtNetlink {
    /// Opens it in the namespace this thread is in.
    pub(super) fn open() -> anyhow::Result<Self> {
        Netlink::open(NETLINK_ROUTE).map(Self).context("open a netlink socket to list interfaces")
    }

    /// All interfaces. One that cannot be read is counted and left out.
    pub(super) fn links(&mut self, counters: &Counters) -> anyhow::Result<Vec<Link>> {
        self.send(RouteNetlinkMessage::GetLink(LinkMessage::default()), NLM_F_REQUEST | NLM_F_DUMP)?;
        let mut links = Vec::new();
        loop {
            let done = self.receive(counters, |message| {
                if let RouteNetlinkMessage::NewLink(link) = message {
                    links.extend(link_of(link));
                }
            });
            if done.context("list interfaces by netlink")? {
                return Ok(links);
            }
        }
    }

    /// The id by which this namespace knows the other one, if it has given it one. Asking gives none:
    /// `rtnl_net_getid` in <https://github.com/torvalds/linux/blob/v6.12/net/core/net_namespace.c>.
    pub(super) fn id_of(
        &mut self,
        other: BorrowedFd<'_>,
        counters: &Counters,
    ) -> anyhow::Result<Option<i32>> {
        let mut question = NsidMessage::default();
        question.attributes.push(NsidAttribute::Fd(u32::try_from(other.as_raw_fd())?));
        self.send(RouteNetlinkMessage::GetNsId(question), NLM_F_REQUEST)?;
        let mut found = None;
        self.receive(counters, |message| {
            if let RouteNetlinkMessage::NewNsId(answer) = message {
                found = answer.attributes.iter().find_map(|attribute| match attribute {
                    NsidAttribute::Id(id) if *id >= 0 => Some(*id),
                    _ => None,
                });
            }
        })
        .context("ask for a namespace's id by netlink")?;
        Ok(found)
    }

    fn send(&mut self, message: RouteNetlinkMessage, flags: u16) -> anyhow::Result<()> {
        self.0.ask(message, flags).context("ask the kernel by netlink")
    }

    /// Reads one datagram of the answer, which is there as soon as the question is sent. `true` after
    /// the last message of a listing.
    fn receive(
        &mut self,
        counters: &Counters,
        mut each: impl FnMut(&RouteNetlinkMessage),
    ) -> anyhow::Result<bool> {
        for message in messages(self.0.receive()?) {
            match message {
                Message::Told(message) => each(&message),
                Message::Refused(error) => return Err(error.into()),
                Message::End => return Ok(true),
                Message::Unreadable(_) => counters.proc_failed.add(1),
            }
        }
        Ok(false)
    }
}

/// The interface that a message tells of, unless it leaves out the name.
pub(super) fn link_of(message: &LinkMessage) -> Option<Link> {
    let mut link = Link {
        index: message.header.index,
        name: "".into(),
        is_loopback: message.header.flags.contains(LinkFlags::Loopback),
        is_veth: false,
        has_peer: false,
        peer_namespace: None,
        has_carrier: message.header.flags.contains(LinkFlags::LowerUp),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name.as_str().into(),
            // 0 where the other half is just ending.
            LinkAttribute::Link(peer) => link.has_peer = *peer != 0,
            LinkAttribute::LinkNetNsId(id) => link.peer_namespace = Some(*id),
            LinkAttribute::LinkInfo(infos) => {
                link.is_veth = infos.iter().any(|info| matches!(info, LinkInfo::Kind(InfoKind::Veth)));
            }
            _ => {}
        }
    }
    (!link.name.is_empty()).then_some(link)
}
