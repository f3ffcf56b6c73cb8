//! One line a connection, for people: columns that do not move, colours on a terminal, and nothing in it that a
//! stranger's process name could do to the terminal. Times are local, as tcpdump's are.

use std::fmt;
use std::io::{self, Write};

use jiff::Timestamp as WallTime;
use jiff::tz::TimeZone;
use netsnoop_core::attribution::{Evidence, Owner};
use netsnoop_core::cluster::ClusterNames;
use netsnoop_core::connection::{ConnectionRecord, ConnectionState, EndRecord, Nat, RecordEvent, Role};
use netsnoop_core::process::{Container, Process};

use crate::clock::WallClock;
use crate::sinks::Sink;
use crate::sinks::container_name::ContainerName;
use crate::sinks::escape::Escaped;
use crate::sinks::line::{Line, Paint};
use crate::sinks::schema::{EndUsers, end_uid};
use crate::sinks::user_names::UserNames;

/// Columns are at least this wide; what is longer pushes the rest of its line.
const OWNER_WIDTH: usize = 28;
const ENDPOINT_WIDTH: usize = 21;
/// Sharers named in a line; the rest are counted.
const SHARERS_SHOWN: usize = 2;

/// How lines look.
#[derive(Clone, Debug)]
pub(super) struct Style {
    /// Whether they are coloured.
    pub(super) color: bool,
    /// The zone of their times.
    pub(super) time_zone: TimeZone,
}

/// Writes records as lines.
pub(super) struct TextSink<W> {
    out: W,
    names: UserNames,
    style: Style,
}

impl<W: Write> TextSink<W> {
    /// Writes to `out`.
    pub(super) const fn new(out: W, names: UserNames, style: Style) -> Self {
        Self { out, names, style }
    }
}

impl<W: Write> Sink for TextSink<W> {
    fn write(&mut self, record: &ConnectionRecord, clock: WallClock) -> io::Result<()> {
        let users = EndUsers::of(record, &mut self.names);
        let mut line = Line::new(self.style.color);
        line.put(Paint::Faint, self.local_time(record, clock));
        line.put(Paint::Plain, format_args!(" {:<4} ", record.transport.name()));
        line.owner(&record.client, users.client.as_deref());
        line.ends(record);
        line.owner(&record.server, users.server.as_deref());
        line.remarks(record);
        writeln!(self.out, "{}", line.finish())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl<W> TextSink<W> {
    fn local_time(&self, record: &ConnectionRecord, clock: WallClock) -> impl fmt::Display {
        let at =
            WallTime::from_nanosecond(i128::from(clock.to_unix_nanos(record.at))).unwrap_or(WallTime::MAX);
        at.to_zoned(self.style.time_zone.clone()).time().strftime("%H:%M:%S.%6f").to_string()
    }
}

impl Line {
    fn owner(&mut self, end: &EndRecord, user_name: Option<&str>) {
        let start = self.column();
        if let Some(uid) = end_uid(end) {
            match user_name {
                Some(name) => self.put(Paint::User, Escaped(name)),
                None => self.put(Paint::User, uid),
            }
            self.put(Paint::Plain, ' ');
        }
        match &end.attribution.owner {
            Owner::Process(process) => self.process(process),
            Owner::Shared(sharers) => self.sharers(sharers),
            Owner::Kernel => self.put(Paint::Process, "kernel"),
            Owner::Unattributed(reason) => {
                self.put(Paint::Doubt, format_args!("({})", reason.name()));
                if let Some(namespace) = end.namespace {
                    self.put(Paint::Faint, format_args!(" netns:{}", namespace.inode));
                }
            }
        }
        if let Some(container) = end.facts.as_ref().and_then(|facts| facts.container.as_ref()) {
            self.container(container);
        } else if let Some(names) = &end.cluster {
            self.cluster(names);
        }
        self.pad_from(start, OWNER_WIDTH);
    }

    /// Adds a process.
    pub(super) fn process(&mut self, process: &Process) {
        self.put(Paint::Process, Escaped(&process.name.to_text()));
        self.put(Paint::Faint, format_args!("[{}]", process.id.pid));
    }

    /// Adds the processes that share an end.
    pub(super) fn sharers(&mut self, sharers: &[Process]) {
        for (index, sharer) in sharers.iter().take(SHARERS_SHOWN).enumerate() {
            if index > 0 {
                self.put(Paint::Faint, '|');
            }
            self.process(sharer);
        }
        if sharers.len() > SHARERS_SHOWN {
            self.put(Paint::Faint, format_args!("|+{}", sharers.len() - SHARERS_SHOWN));
        }
    }

    fn container(&mut self, container: &Container) {
        self.put(Paint::Plain, ' ');
        self.put(Paint::Container, ContainerName(container));
    }

    /// The pod that it is, else the service that was asked for.
    fn cluster(&mut self, names: &ClusterNames) {
        let pod =
            names.pod.as_deref().and_then(|pod| Some((pod.namespace.as_deref()?, pod.name.as_deref()?)));
        if let Some((namespace, name)) = pod {
            self.put(Paint::Container, format_args!(" {}/{}", Escaped(namespace), Escaped(name)));
        } else if let Some(service) = &names.service {
            let (namespace, name) = (Escaped(&service.namespace), Escaped(&service.name));
            self.put(Paint::Container, format_args!(" service:{namespace}/{name}"));
        }
    }

    fn ends(&mut self, record: &ConnectionRecord) {
        // Where nobody can say who asked whom, the line does not point either way.
        let arrow = if record.role == Role::Unknown { "--" } else { "->" };
        let (client, server) = (record.client.endpoint.to_string(), record.server.endpoint.to_string());
        self.put(Paint::Plain, format_args!(" {client:>ENDPOINT_WIDTH$} "));
        self.put(Paint::Faint, arrow);
        self.put(Paint::Plain, format_args!(" {server:<ENDPOINT_WIDTH$} "));
    }

    fn remark(&mut self, paint: Paint, what: impl fmt::Display) {
        self.put(Paint::Plain, ' ');
        self.put(paint, what);
    }

    fn remarks(&mut self, record: &ConnectionRecord) {
        if let Some(service) = &record.service {
            self.remark(Paint::Service, Escaped(&service.name));
        }
        self.translation(record.nat);
        let [client, server] = [&record.client, &record.server].map(|end| end.attribution.evidence);
        match (client.map(Evidence::name), server.map(Evidence::name)) {
            (Some(client), Some(server)) if client != server => {
                self.remark(Paint::Faint, format_args!("{client}/{server}"));
            }
            (Some(evidence), _) | (None, Some(evidence)) => self.remark(Paint::Faint, evidence),
            (None, None) => {}
        }
        if record.preexisting {
            self.remark(Paint::Faint, "preexisting");
        }
        if record.event == RecordEvent::Update {
            self.remark(Paint::Doubt, "update");
        }
        match record.state {
            ConnectionState::Established => {}
            state @ (ConnectionState::Connecting | ConnectionState::Closed) => {
                self.remark(Paint::Faint, state.name())
            }
            state => self.remark(Paint::Bad, state.name()),
        }
        if record.event == RecordEvent::Close {
            self.figures(record);
        }
    }

    /// As whom the server saw the client, and at which address the server really is.
    fn translation(&mut self, nat: Nat) {
        for (word, given) in [("as", nat.client), ("at", nat.server)] {
            if let Some(given) = given {
                self.remark(Paint::Faint, format_args!("{word} {given}"));
            }
        }
    }

    fn figures(&mut self, record: &ConnectionRecord) {
        if let Some(lasted) = record.duration {
            self.remark(Paint::Faint, format_args!("after {:.3} s", lasted.as_secs_f64()));
        }
        if let Some(io) = record.io {
            let (sent, received) = (io.exchanged.sent_bytes, io.exchanged.received_bytes);
            self.remark(Paint::Faint, format_args!("sent {sent} B received {received} B"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use netsnoop_core::attribution::Attribution;
    use netsnoop_core::process::{Comm, Pod, ProcessFacts};
    use proptest::prelude::*;

    use super::*;
    use crate::sinks::escape::is_unsafe;
    use crate::sinks::samples;

    fn line(record: &ConnectionRecord, color: bool) -> String {
        let style = Style { color, time_zone: TimeZone::fixed(jiff::tz::offset(1)) };
        let mut out = Vec::new();
        TextSink::new(&mut out, UserNames::none(), style).write(record, samples::clock()).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_are_these() {
        let check = |record: &ConnectionRecord, expected: &str| {
            assert_eq!(line(record, false), expected);
        };
        check(
            &samples::between_two_processes(),
            "21:01:03.623456 tcp  10001 curl[29786] tools/web-1/app     198.18.1.10:54102 -> 198.18.1.13:6379      \
             999 redis-server[800]        redis kernel_event/listener closed after 1.500 s sent 16 B received 2048 B\n",
        );
        check(
            &samples::to_a_remote_server(),
            "21:01:02.123456 tcp  10001 curl[29786]             [2001:db8::10]:54102 -> [2001:db8::13]:443    \
             (remote)                     kernel_event\n",
        );
        check(
            &samples::to_the_cluster(),
            "21:01:02.123456 tcp  10001 curl[29786]             [2001:db8::10]:54102 -> [2001:db8::13]:443    \
             (remote) shop/db-1           kernel_event\n",
        );
        let mut to_a_service = samples::to_the_cluster();
        to_a_service.server.cluster.as_mut().unwrap().pod = None;
        check(
            &to_a_service,
            "21:01:02.123456 tcp  10001 curl[29786]             [2001:db8::10]:54102 -> [2001:db8::13]:443    \
             (remote) service:shop/db     kernel_event\n",
        );
        check(
            &samples::refused_and_gone(),
            "21:01:02.123456 tcp  10001 (gone_before_lookup) netns:4026532178     198.18.1.10:54103 -> 198.18.1.13:81        \
             (closed_port)                namespace refused\n",
        );
        check(
            &samples::shared_udp(),
            "21:01:02.123456 udp  kernel                             127.0.0.1:40000 -- 127.0.0.1:53          \
             33 worker[11]|worker[12]|+1  sock_diag/socket_iterator preexisting\n",
        );
    }

    #[test]
    fn colours_change_nothing_but_colours() {
        for record in samples::all() {
            let colored = line(&record, true);
            assert!(colored.contains("\x1b["));
            let mut pieces = colored.split("\x1b[");
            let mut plain = pieces.next().unwrap().to_owned();
            for (_, text) in pieces.map(|piece| piece.split_once('m').unwrap()) {
                plain.push_str(text);
            }
            assert_eq!(plain, line(&record, false));
        }
    }

    #[test]
    fn a_container_without_a_pod_s_name_is_told_by_its_ids() {
        let mut record = samples::between_two_processes();
        let mut facts = ProcessFacts::clone(record.client.facts.as_ref().unwrap());
        let container = facts.container.as_mut().unwrap();
        container.pod = Some(Arc::new(Pod { uid: "1111-2222".into(), ..Pod::default() }));
        record.client.facts = Some(Arc::new(facts.clone()));
        assert!(line(&record, false).contains("curl[29786] pod:1111-2222 "));
        facts.container.as_mut().unwrap().pod = None;
        record.client.facts = Some(Arc::new(facts.clone()));
        assert!(line(&record, false).contains("curl[29786] containerd:app "));
        facts.container.as_mut().unwrap().name = None;
        record.client.facts = Some(Arc::new(facts));
        assert!(line(&record, false).contains("curl[29786] containerd:4f9c2d7e1a8b "));
    }

    proptest! {
        #[test]
        fn no_name_reaches_the_terminal_raw(comm in any::<[u8; 15]>(), name in any::<String>(), color in any::<bool>()) {
            let mut process = samples::process(1, "", 0);
            process.name = Comm::new(&comm);
            let mut record = samples::between_two_processes();
            record.client.attribution = Attribution::process(process, Evidence::Proc);
            record.service = Some(samples::service(&name, ""));
            let name = Some(name.as_str().into());
            let pod = Pod { uid: "u".into(), namespace: name.clone(), name, ..Pod::default() };
            let mut facts = ProcessFacts::clone(record.client.facts.as_ref().unwrap());
            facts.container.as_mut().unwrap().pod = Some(Arc::new(pod));
            record.client.facts = Some(Arc::new(facts));
            let line = line(&record, color);
            let own = |piece: &str| ["0", "1", "2", "31", "32", "33", "35", "36"].contains(&piece);
            for piece in line.strip_suffix('\n').unwrap().split("\x1b[").skip(1) {
                prop_assert!(piece.split_once('m').is_some_and(|(code, _)| own(code)));
            }
            let without_own_codes = line.replace("\x1b[", "");
            prop_assert_eq!(without_own_codes.matches(is_unsafe).collect::<Vec<_>>(), ["\n"]);
            prop_assert_eq!(color || !line.contains('\x1b'), true);
        }
    }
}
