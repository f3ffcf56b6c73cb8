//! Sockets as a table for people, with ss's columns first. Names of strangers are escaped.

use netsnoop_core::inventory::{Holder, ListedProcess};
use netsnoop_core::process::Container;
use netsnoop_core::socket::TcpState;

use super::Users;
use super::difference::Change;
use super::ends::{LocalEnd, PeerEnd};
use super::look::Seen;
use super::table::{Column, Table};
use crate::config::ListShow;
use crate::sinks::container_name::ContainerName;
use crate::sinks::escape::Escaped;
use crate::sinks::line::Paint;

/// Holders named in a line; the rest are counted.
const HOLDERS_SHOWN: usize = 8;

/// The table of sockets.
pub(super) struct SocketTable<'a> {
    table: Table,
    show: &'a ListShow,
    marks: bool,
}

impl<'a> SocketTable<'a> {
    /// An empty one. With `marks` it has a column for what has changed.
    pub(super) fn new(show: &'a ListShow, marks: bool) -> Self {
        let mut columns = Vec::new();
        columns.extend(marks.then(|| Column::text("", 1)));
        columns.extend([
            Column::text("Netid", 8),
            Column::text("State", 10),
            Column::number("Recv-Q"),
            Column::number("Send-Q"),
            Column::text("Local", 40),
            Column::text("Peer", 40),
            Column::text("User", 16),
            Column::optional("Pod/Container", 36),
            Column::text("Netns", 24),
        ]);
        columns.extend(show.extended.then(|| Column::number("Inode")));
        columns.extend(show.extended.then(|| Column::number("Cookie")));
        columns.push(Column::text("Process", usize::MAX));
        Self { table: Table::new(columns), show, marks }
    }

    /// The finished table.
    pub(super) const fn table(&self) -> &Table {
        &self.table
    }

    /// Adds a row.
    pub(super) fn add(&mut self, seen: Seen<'_>, change: Change, users: &Users) {
        let socket = seen.socket;
        if self.marks {
            match change {
                Change::Stays => self.table.cell(Paint::Plain, ' '),
                Change::Comes => self.table.cell(Paint::Service, '+'),
                Change::Alters => self.table.cell(Paint::Doubt, '~'),
                Change::Goes => self.table.cell(Paint::Bad, '-'),
            }
        }
        self.table.cell(Paint::Plain, socket.protocol.name());
        self.state(socket.state);
        self.table.cell(Paint::Plain, OrNothing(socket.receive_queue));
        self.table.cell(Paint::Plain, OrNothing(socket.send_queue));
        self.table.cell(Paint::Plain, LocalEnd(seen));
        self.table.cell(Paint::Plain, PeerEnd(seen));
        self.user(seen.uid(), users);
        self.container(seen);
        self.namespace(seen);
        if self.show.extended {
            self.table.cell(Paint::Faint, OrNothing(socket.inode));
            self.table.cell(Paint::Faint, OrNothing(socket.cookie));
        }
        self.holders(seen);
    }

    fn state(&mut self, state: TcpState) {
        match (state_name(state), state.0) {
            (Some(name), _) => self.table.cell(state_paint(state), name),
            (None, 0) => self.table.cell(Paint::Faint, '?'),
            (None, number) => self.table.cell(Paint::Doubt, format_args!("state-{number}")),
        }
    }

    fn user(&mut self, uid: Option<u32>, users: &Users) {
        match (uid, uid.and_then(|uid| users.get(&uid))) {
            (_, Some(name)) => self.table.cell(Paint::User, Escaped(name)),
            (Some(uid), None) => self.table.cell(Paint::User, uid),
            (None, None) => self.table.end_cell(),
        }
    }

    /// Of several holders' containers the first is shown, and that there are others.
    fn container(&mut self, seen: Seen<'_>) {
        let mut shown: Option<&Container> = None;
        let mut others = 0;
        for container in seen.holders().filter_map(|(holder, _)| holder.container.as_deref()) {
            match shown {
                None => {
                    self.table.put(Paint::Container, ContainerName(container));
                    shown = Some(container);
                }
                Some(first) if first.id == container.id => {}
                Some(_) => others += 1,
            }
        }
        if others > 0 {
            self.table.put(Paint::Faint, format_args!("|+{others}"));
        }
        self.table.end_cell();
    }

    fn namespace(&mut self, seen: Seen<'_>) {
        let Some(namespace) = seen.namespace() else { return self.table.end_cell() };
        match namespace.name.as_deref() {
            Some(name) => self.table.cell(Paint::Plain, Escaped(name)),
            None => self.table.cell(Paint::Faint, namespace.key.inode),
        }
    }

    fn holders(&mut self, seen: Seen<'_>) {
        if let Some(unheld) = seen.socket.unheld {
            self.table.put(Paint::Doubt, format_args!("({})", unheld.name()));
        }
        let mut count = 0;
        for (holder, fds) in seen.holders() {
            count += 1;
            if count <= HOLDERS_SHOWN {
                if count > 1 {
                    self.table.put(Paint::Faint, '|');
                }
                self.holder(holder, fds);
            }
        }
        if count > HOLDERS_SHOWN {
            self.table.put(Paint::Faint, format_args!("|+{}", count - HOLDERS_SHOWN));
        }
        self.table.end_cell();
    }

    fn holder(&mut self, holder: &ListedProcess, fds: &[Holder]) {
        self.table.put(Paint::Process, Escaped(&holder.process.name.to_text()));
        self.table.put(Paint::Faint, format_args!("[{}]", holder.process.id.pid));
        if self.show.extended {
            let fds: Vec<String> = fds.iter().map(|holder| holder.fd.to_string()).collect();
            self.table.put(Paint::Faint, format_args!("({})", fds.join(",")));
        }
    }
}

/// A number, or nothing.
struct OrNothing<T>(Option<T>);

impl<T: std::fmt::Display> std::fmt::Display for OrNothing<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.as_ref().map_or(Ok(()), |number| number.fmt(f))
    }
}

/// The name that ss prints.
pub(super) const fn state_name(state: TcpState) -> Option<&'static str> {
    Some(match state {
        TcpState::ESTABLISHED => "ESTAB",
        TcpState::SYN_SENT => "SYN-SENT",
        TcpState::SYN_RECV | TcpState::NEW_SYN_RECV => "SYN-RECV",
        TcpState::FIN_WAIT1 => "FIN-WAIT-1",
        TcpState::FIN_WAIT2 => "FIN-WAIT-2",
        TcpState::TIME_WAIT => "TIME-WAIT",
        TcpState::CLOSE => "UNCONN",
        TcpState::CLOSE_WAIT => "CLOSE-WAIT",
        TcpState::LAST_ACK => "LAST-ACK",
        TcpState::LISTEN => "LISTEN",
        TcpState::CLOSING => "CLOSING",
        _ => return None,
    })
}

const fn state_paint(state: TcpState) -> Paint {
    match state {
        TcpState::ESTABLISHED => Paint::Service,
        TcpState::LISTEN => Paint::User,
        TcpState::CLOSE | TcpState::TIME_WAIT => Paint::Faint,
        _ => Paint::Doubt,
    }
}
