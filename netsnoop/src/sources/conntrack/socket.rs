//! Netlink sockets of the subsystem netfilter, and what the netlink crates leave out of them: a filter that keeps in the
//! kernel what nobody needs.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use anyhow::Context;
use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use netsnoop_core::observation::Tracker;
use netsnoop_core::translation::TranslationChange;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_recv_buffer_size_force;

use super::super::netlink::{Message, Netlink, messages};
use super::super::netlink_receive::receive_from_any;
use super::message::{ListAll, Told};
use crate::counters::Counters;
use crate::intake::Bell;

/// The kernel writes one event into a datagram, of a few hundred bytes.
const DATAGRAM_BYTES: usize = 64 * 1024;
/// Room for events that wait to be read: about 8,000 of them, which is a second of very many connections.
const WAITING_BYTES: usize = 8 << 20;
/// NFNLGRP_CONNTRACK_NEW and NFNLGRP_CONNTRACK_DESTROY (include/uapi/linux/netfilter/nfnetlink.h).
const GROUPS: [u32; 2] = [1, 3];

/// Messages of one datagram.
#[derive(Debug, Default)]
pub(super) struct Datagram {
    /// What they say of translations.
    pub(super) changes: Vec<TranslationChange>,
    /// Whether the last one ends a listing.
    pub(super) is_end: bool,
}

/// The events of this thread's namespace and, where that is allowed, of every other one it has given an id to.
pub(super) struct Events {
    socket: Socket,
    datagram: Vec<u8>,
    /// Whether other namespaces are heard.
    pub(super) hears_others: bool,
}

impl Events {
    /// Subscribes.
    pub(super) fn subscribe() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        // Without CAP_NET_ADMIN the usual limit holds (net.core.rmem_max), but then the groups are refused.
        set_socket_recv_buffer_size_force(socket.as_fd(), WAITING_BYTES)?;
        keep_only_translated(&socket)?;
        // Needs CAP_NET_BROADCAST (man 7 netlink). Without it the own namespace is heard all the same.
        let hears_others = socket.set_listen_all_namespaces(true).is_ok();
        for group in GROUPS {
            socket.add_membership(group)?;
        }
        Ok(Self { socket, datagram: vec![0; DATAGRAM_BYTES], hears_others })
    }

    /// Waits for an event, or for `bell`.
    pub(super) fn wait(&self, bell: &Bell) -> io::Result<()> {
        let events = self.socket.as_fd();
        let mut wakers = [PollFd::new(&events, PollFlags::IN), PollFd::new(bell, PollFlags::IN)];
        match poll(&mut wakers, None) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads the next event. `WouldBlock`: there is none; ENOBUFS: some were lost.
    pub(super) fn read(&mut self, counters: &Counters) -> io::Result<(Tracker, Datagram)> {
        let (length, id) = receive_from_any(&self.socket, &mut self.datagram)?;
        let told = self.datagram.get(..length).unwrap_or_default();
        let datagram = read_messages(told, counters)?;
        Ok((id.map_or(Tracker::Own, Tracker::Numbered), datagram))
    }
}

/// A listing of what this thread's namespace tracks.
pub(super) struct Listing(Netlink);

impl Listing {
    /// Asks for it.
    pub(super) fn begin() -> anyhow::Result<Self> {
        let netlink =
            Netlink::open(NETLINK_NETFILTER).context("open a netlink socket to list connections")?;
        netlink.ask(ListAll, NLM_F_REQUEST | NLM_F_DUMP).context("ask conntrack for its connections")?;
        Ok(Self(netlink))
    }

    /// The next part, which the kernel writes while it is asked for.
    pub(super) fn next(&mut self, counters: &Counters) -> anyhow::Result<Datagram> {
        let told = self.0.receive().context("list connections")?;
        read_messages(told, counters).context("list connections")
    }
}

fn read_messages(datagram: &[u8], counters: &Counters) -> io::Result<Datagram> {
    let mut told = Datagram::default();
    for message in messages(datagram) {
        match message {
            Message::Told(Told(change)) => told.changes.extend(change),
            Message::Refused(error) => return Err(error.into()),
            Message::End => told.is_end = true,
            Message::Unreadable(error) => {
                counters.conntrack_rejected.add(1);
                log::debug!("conntrack message: {error}");
            }
        }
    }
    Ok(told)
}

/// One instruction of classic BPF (<https://docs.kernel.org/networking/filter.html>).
const fn instruction(code: u32, (jt, jf): (u8, u8), k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

/// Has the kernel drop the events of connections that are not translated, which are most on most nodes: an event
/// whose CTA_STATUS has neither IPS_SRC_NAT nor IPS_DST_NAT (nf_conntrack_common.h) is never queued.
fn keep_only_translated(socket: &Socket) -> io::Result<()> {
    use libc::{
        BPF_ABS, BPF_IMM, BPF_IND, BPF_JEQ, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_LDX, BPF_MISC, BPF_RET,
        BPF_TAX, BPF_W,
    };
    /// The attributes come after `struct nlmsghdr` and `struct nfgenmsg`.
    const ATTRIBUTES_AT: u32 = 20;
    const CTA_STATUS: u32 = 3;
    const VALUE_AT: u32 = 4;
    const SRC_OR_DST_NAT: u32 = 0x30;
    /// SKF_AD_OFF + SKF_AD_NLATTR: where attribute X is, looked for from A on.
    const FIND_ATTRIBUTE: u32 = -0x1000_i32 as u32 + 12;
    let mut program = [
        instruction(BPF_LD | BPF_IMM, (0, 0), ATTRIBUTES_AT),
        instruction(BPF_LDX | BPF_IMM, (0, 0), CTA_STATUS),
        instruction(BPF_LD | BPF_W | BPF_ABS, (0, 0), FIND_ATTRIBUTE),
        instruction(BPF_JMP | BPF_JEQ | BPF_K, (3, 0), 0),
        instruction(BPF_MISC | BPF_TAX, (0, 0), 0),
        instruction(BPF_LD | BPF_W | BPF_IND, (0, 0), VALUE_AT),
        instruction(BPF_JMP | BPF_JSET | BPF_K, (0, 1), SRC_OR_DST_NAT),
        instruction(BPF_RET | BPF_K, (0, 0), u32::MAX),
        instruction(BPF_RET | BPF_K, (0, 0), 0),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the descriptor is open for the call; `filter` points to `len` instructions that live until after it,
    // and the kernel copies them (man 7 socket, SO_ATTACH_FILTER).
    let status = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            libc::socklen_t::try_from(size_of::<libc::sock_fprog>()).map_err(io::Error::other)?,
        )
    };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
