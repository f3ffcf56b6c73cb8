//! Local try-out.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "local")]
use std::collections::BTreeMap;
fn main() {
    env_logger::init();
    let via = std::env::args().nth(1);
    let rung = match via.as_deref() {
        Some("iterator") => Some(netsnoop_core::attribution::Rung::Iterator),
        Some("sock_diag") => Some(netsnoop_core::attribution::Rung::SockDiag),
        Some("proc") => Some(netsnoop_core::attribution::Rung::Proc),
        _ => None,
    };
    let counters = netsnoop::counters::Counters::default();
    let settings = netsnoop::sources::inventory::InventorySettings {
        proc_root: "/proc".into(),
        container_logs: "/var/log/containers".into(),
        via: rung,
        protocols: netsnoop_core::inventory::ProtocolSet::ALL,
        unheld: true,
    };
    let t = std::time::Instant::now();
    let inv = netsnoop::sources::inventory::read(&settings, &counters).unwrap();
    eprintln!(
        "{:?} {} ns {} procs {} sockets in {:?} unseen {:?}",
        inv.rung,
        inv.namespaces.len(),
        inv.processes.len(),
        inv.sockets.len(),
        t.elapsed(),
        inv.unseen
    );
    if std::env::args().nth(2).is_some() {
        for s in &inv.sockets {
            println!("{:?}", s);
        }
        for p in &inv.processes {
            println!("{:?}", p);
        }
        for p in &inv.namespaces {
            println!("{:?}", p);
        }
    } else {
        let mut by: BTreeMap<_, u32> = BTreeMap::new();
        for s in &inv.sockets {
            *by.entry((s.protocol.name(), s.state, s.unheld)).or_default() += 1;
        }
        eprintln!("{by:?}");
    }
}
