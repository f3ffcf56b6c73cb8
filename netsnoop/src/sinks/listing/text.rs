//! Sockets as a table for people, with ss's columns first. Names of strangers are escaped.

use std::fmt::Write;
use std::num::NonZeroU64;
use std::thread;

use netsnoop_core::inventory::{Holder, ListedProcess};
use netsnoop_core::process::Container;
use netsnoop_core::socket::TcpState;

use super::Users;
use super::difference::Change;
use super::ends::{number, write_local, write_peer};
use super::look::Seen;
use super::order::Row;
use super::table::{Column, Table};
use crate::config::ListShow;
use crate::sinks::container_name::ContainerName;
use crate::sinks::escape::Escaped;
use crate::sinks::line::Paint;

/// Holders named in a line; the rest are counted.
const HOLDERS_SHOWN: usize = 8;

/// More threads than this gain little: lines are written by one.
const THREADS_MAX: usize = 4;
/// A thread is worth its start from this many rows on.
const ROWS_PER_THREAD: usize = 4096;

/// The table of these rows, in parts that were made side by side. With `marks` it has a column for what has changed.
pub(super) fn tables(rows: &[Row<'_>], (show, marks): (&ListShow, bool), users: &Users) -> Vec<Table> {
    let threads = thread::available_parallelism().map_or(1, |count| count.get().min(THREADS_MAX));
    let share = rows.len().div_ceil(threads).max(ROWS_PER_THREAD);
    let make = |rows: &[Row<'_>]| {
        let mut table = SocketTable::new(show, marks, rows.len());
        rows.iter().for_each(|row| table.add(row.seen, row.change, users));
        table.table
    };
    let (first, others) = rows.split_at(share.min(rows.len()));
    thread::scope(|scope| {
        let running: Vec<_> = others.chunks(share).map(|rows| scope.spawn(move || make(rows))).collect();
        let mut parts = vec![make(first)];
        let ended = running.into_iter().map(thread::ScopedJoinHandle::join);
        parts.extend(ended.map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))));
        parts
    })
}

/// A table of sockets.
struct SocketTable<'a> {
    table: Table,
    show: &'a ListShow,
    marks: bool,
}

impl<'a> SocketTable<'a> {
    /// An empty one, with room for this many rows.
    fn new(show: &'a ListShow, marks: bool, rows: usize) -> Self {
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
        Self { table: Table::new(columns, show.color, rows), show, marks }
    }

    /// Adds a row.
    fn add(&mut self, seen: Seen<'_>, change: Change, users: &Users) {
        let socket = seen.socket;
        if self.marks {
            match change {
                Change::Stays => self.table.cell(Paint::Plain, ' '),
                Change::Comes => self.table.cell(Paint::Service, '+'),
                Change::Alters => self.table.cell(Paint::Doubt, '~'),
                Change::Goes => self.table.cell(Paint::Bad, '-'),
            }
        }
        self.table.cell_by(Paint::Plain, |text| text.write_str(socket.protocol.name()));
        self.state(socket.state);
        self.count(Paint::Plain, socket.receive_queue);
        self.count(Paint::Plain, socket.send_queue);
        self.table.cell_by(Paint::Plain, |text| write_local(text, seen));
        self.table.cell_by(Paint::Plain, |text| write_peer(text, seen));
        self.user(seen.uid(), users);
        self.container(seen);
        self.namespace(seen);
        if self.show.extended {
            self.count(Paint::Faint, socket.inode.map(NonZeroU64::get));
            self.count(Paint::Faint, socket.cookie.map(NonZeroU64::get));
        }
        self.holders(seen);
    }

    /// A cell with a number, if there is one.
    fn count(&mut self, paint: Paint, count: Option<impl itoa::Integer>) {
        match count {
            Some(count) => self.table.cell_by(paint, |text| number(text, count)),
            None => self.table.end_cell(),
        }
    }

    fn state(&mut self, state: TcpState) {
        match (state_name(state), state.0) {
            (Some(name), _) => self.table.cell_by(state_paint(state), |text| text.write_str(name)),
            (None, 0) => self.table.cell(Paint::Faint, '?'),
            (None, number) => self.table.cell(Paint::Doubt, format_args!("state-{number}")),
        }
    }

    fn user(&mut self, uid: Option<u32>, users: &Users) {
        match (uid, uid.and_then(|uid| users.get(&uid))) {
            (_, Some(name)) => self.table.cell_by(Paint::User, |text| Escaped(name).write_to(text)),
            (Some(uid), None) => self.table.cell_by(Paint::User, |text| number(text, uid)),
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
            Some(name) => self.table.cell_by(Paint::Plain, |text| Escaped(name).write_to(text)),
            None => self.table.cell_by(Paint::Faint, |text| number(text, namespace.key.inode)),
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
        let name = String::from_utf8_lossy(holder.process.name.as_bytes());
        self.table.put_by(Paint::Process, |text| Escaped(&name).write_to(text));
        self.table.put_by(Paint::Faint, |text| {
            text.write_str("[")?;
            number(text, holder.process.id.pid)?;
            text.write_str("]")
        });
        if self.show.extended {
            let fds: Vec<String> = fds.iter().map(|holder| holder.fd.to_string()).collect();
            self.table.put(Paint::Faint, format_args!("({})", fds.join(",")));
        }
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
