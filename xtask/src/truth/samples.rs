//! Ends and records for tests, in few words.

use serde_json::{Value, json};

use super::records::{self, Clock, Connection};
use super::told::{End, Opened, Owner, Role, Transport};

/// A second in nanoseconds.
const SECOND: u64 = 1_000_000_000;

/// The end of a TCP connection that process 100 of user 7 told of, in this namespace, so many milliseconds after the
/// first second.
pub(super) fn end(role: Role, local: &str, remote: &str, (netns, millis): (u64, u64)) -> End {
    let address = |text: &str| text.parse().expect("an address");
    let at = SECOND + millis * 1_000_000;
    let opened = Opened {
        id: format!("{role:?} {local} {millis}"),
        class: "class".to_owned(),
        role,
        transport: Transport::Tcp,
        local: address(local),
        remote: address(remote),
        owner: Some(Owner { pid: 100, start_ticks: 50, uid: 7 }),
        netns: Some(netns),
        at,
    };
    End { opened, closed: Some(at + 30_000_000) }
}

/// A clock for a machine that booted when 1970 began.
pub(super) fn clock() -> Clock {
    Clock::booted_at(0)
}

/// How netsnoop shows an end whose process is known.
pub(super) fn owned(address: &str, netns: u64, (pid, uid): (u32, u32)) -> Value {
    let (ip, port) = address.rsplit_once(':').expect("a port");
    json!({
        "address": ip, "port": port.parse::<u16>().expect("a number"), "netns": { "inode": netns },
        "process": { "pid": pid, "start_time": "1970-01-01T00:00:00.500000000Z", "name": "p" },
        "user": { "id": uid },
        "attribution": { "level": "process", "evidence": "kernel_event" },
    })
}

/// How netsnoop shows an end that it knows nothing of.
pub(super) fn unknown(address: &str, reason: &str) -> Value {
    let (ip, port) = address.rsplit_once(':').expect("a port");
    json!({
        "address": ip, "port": port.parse::<u16>().expect("a number"),
        "attribution": { "level": "none", "reason": reason },
    })
}

/// A connection in netsnoop's words, begun so many milliseconds after the first second.
pub(super) fn line(id: &str, millis: u64, client: &Value, server: &Value) -> String {
    json!({
        "event": "open", "network": { "transport": "tcp" }, "client": client, "server": server,
        "connection": { "id": id, "start": format!("1970-01-01T00:00:01.{millis:03}000000Z"), "role": "syscall" },
    })
    .to_string()
}

/// Lines as they are folded.
pub(super) fn fold(lines: &[String]) -> Vec<Connection> {
    records::fold(&lines.join("\n"), clock()).expect("lines of netsnoop's")
}
