//! Interfaces of a namespace and the ids it has given to other namespaces, by rtnetlink (man 7
//! rtnetlink).
//!
//! Left out: addresses and routes, and everything that would change or allocate something.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;

use anyhow::Context;
use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use crate::counters::Counters;

/// The kernel fills at most 32 KiB of a dump at once.
const ANSWER_BYTES: usize = 64 * 1024;

/// A question to one namespace's interfaces: that of the thread that opened it.
pub(super) struct RtNetlink {
    socket: Socket,
    answer: Vec<u8>,
}

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
    /// The id of the namespace its other half is in; `None` if that is its own.
    pub(super) peer_namespace: Option<i32>,
}

impl RtNetlink {
    /// Opens it in the namespace this thread is in.
    pub(super) fn open() -> anyhow::Result<Self> {
        let socket = Socket::new(NETLINK_ROUTE).context("open a netlink socket to list interfaces")?;
        socket.connect(&SocketAddr::new(0, 0)).context("connect a netlink socket to the kernel")?;
        Ok(Self { socket, answer: Vec::with_capacity(ANSWER_BYTES) })
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
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0).context("ask the kernel by netlink")?;
        Ok(())
    }

    /// Reads one datagram of the answer, which is there as soon as the question is sent. `true` after
    /// the last message of a listing.
    fn receive(
        &mut self,
        counters: &Counters,
        mut each: impl FnMut(&RouteNetlinkMessage),
    ) -> anyhow::Result<bool> {
        self.answer.clear();
        let length = self.socket.recv(&mut self.answer, libc::MSG_DONTWAIT)?;
        let mut rest = self.answer.get(..length).context("the kernel's answer was cut short")?;
        while let Some(header) = rest.first_chunk::<4>() {
            // Every message starts with its own length and is padded to four bytes (man 7 netlink).
            let taken = (u32::from_ne_bytes(*header) as usize).next_multiple_of(4).max(16);
            match NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map(|message| message.payload) {
                Ok(NetlinkPayload::InnerMessage(message)) => each(&message),
                Ok(NetlinkPayload::Error(error)) if error.code.is_some() => return Err(error.to_io().into()),
                Ok(NetlinkPayload::Done(_)) => return Ok(true),
                Ok(_) => {}
                Err(_) => counters.proc_failed.add(1),
            }
            rest = rest.get(taken..).unwrap_or_default();
        }
        Ok(false)
    }
}

fn link_of(message: &LinkMessage) -> Option<Link> {
    let mut link = Link {
        index: message.header.index,
        name: "".into(),
        is_loopback: message.header.flags.contains(LinkFlags::Loopback),
        is_veth: false,
        peer_namespace: None,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name.as_str().into(),
            LinkAttribute::LinkNetNsId(id) => link.peer_namespace = Some(*id),
            LinkAttribute::LinkInfo(infos) => {
                link.is_veth = infos.iter().any(|info| matches!(info, LinkInfo::Kind(InfoKind::Veth)));
            }
            _ => {}
        }
    }
    (!link.name.is_empty()).then_some(link)
}
