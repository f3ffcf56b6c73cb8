//! The kernel half against this test's own sockets: loaded, attached, its records decoded, on every rung
//! this kernel has. Needs root. Nothing stays attached when the test ends, however it ends.

mod prerequisites;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use netsnoop::counters::Counters;
use netsnoop::intake::{Input, Intake};
use netsnoop::sources::ebpf::{Ebpf, EbpfSettings, ring_buffer};
use netsnoop_core::attribution::{Rung, RungSet};
use netsnoop_core::five_tuple::{Endpoint, FiveTuple, Transport};
use netsnoop_core::kernel_record;
use netsnoop_core::observation::{Act, KernelEvent};
use tokio::sync::oneshot;

/// When a record is taken to be missing: far more than a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(120);

fn rungs(of: &[Rung]) -> RungSet {
    let mut set = RungSet::EMPTY;
    of.iter().for_each(|rung| set.insert(*rung));
    set
}

fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint::new(address.ip(), address.port())
}

/// Waits for the event that tells `wanted` of the socket `tuple` from this process.
fn wait_for(events: &Receiver<Input>, tuple: FiveTuple, wanted: &Act) -> KernelEvent {
    let deadline = Instant::now() + PATIENCE;
    let own = std::process::id();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let input = events.recv_timeout(left).unwrap_or_else(|_| panic!("no {wanted:?} of {tuple:?} came"));
        let Input::KernelRecords(records) = input else { continue };
        for record in records {
            let event = kernel_record::decode(&record).expect("the kernel half writes what core reads");
            let is_own = event.process.is_some_and(|process| process.id.pid == own);
            if is_own && event.act == *wanted && event.socket.is_some_and(|socket| socket.tuple == tuple) {
                return event;
            }
        }
    }
}

/// A connection of this process to itself, and that the client's end is told of by a program of `rung`.
fn check_connect(settings: &EbpfSettings, rung: Rung) {
    let mut ebpf = Ebpf::open(settings);
    let events = ebpf.take_events().unwrap_or_else(|| panic!("nothing attached: {:#?}", ebpf.report()));
    let (sender, receiver) = sync_channel(4096);
    let counters = Arc::new(Counters::default());
    let intake = Intake::new(sender, Arc::clone(&counters));
    let (stop, stopped) = oneshot::channel::<()>();
    let pump = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(ring_buffer::pump(events, intake, async {
            // An error means that the sender is gone: as good a reason to stop.
            stopped.await.unwrap_or_default();
        }))
    });

    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let server = listener.local_addr().expect("it is bound");
    let mut client = TcpStream::connect(server).expect("it listens");
    let (mut accepted, _) = listener.accept().expect("the client waits");
    client.write_all(b"x").expect("the other end reads");
    accepted.read_exact(&mut [0]).expect("the other end wrote");
    let own = endpoint(client.local_addr().expect("it is connected"));
    let tuple = FiveTuple { transport: Transport::Tcp, local: own, remote: endpoint(server) };

    let connect = wait_for(&receiver, tuple, &Act::Connect);
    assert_eq!(connect.rung, rung, "{:#?}", ebpf.report());
    let process = connect.process.expect("connects have a process");
    assert_eq!(process.uid, rustix::process::getuid().as_raw());
    let socket = connect.socket.expect("connects have a socket");
    assert!(socket.client_isn.is_some(), "the initial sequence number was not read");
    drop(ebpf);
    stop.send(()).expect("the pump waits for it");
    pump.join().expect("the pump does not panic").expect("the pump ends well");
    assert_eq!(counters.events_lost_in_ring.get(), 0);
}

#[test]
fn every_rung_that_attaches_tells_who_connects() {
    if !prerequisites::has("every_rung_that_attaches_tells_who_connects", &[]) {
        return;
    }
    let mut tried = 0;
    for rung in [Rung::Kprobe, Rung::Fentry, Rung::Sockops, Rung::TpBtf, Rung::RawTp] {
        let settings = EbpfSettings { rungs: rungs(&[rung]), automatic: false, log: false };
        if Ebpf::open(&settings).active().contains(rung) {
            check_connect(&settings, rung);
            tried += 1;
        }
    }
    assert!(tried > 0, "this kernel has not one of the rungs");
}

#[test]
fn automatic_mode_tells_each_connect_by_the_strongest_rung() {
    if !prerequisites::has("automatic_mode_tells_each_connect_by_the_strongest_rung", &[]) {
        return;
    }
    let settings = EbpfSettings { rungs: RungSet::ALL, automatic: true, log: false };
    let active = Ebpf::open(&settings).active();
    let strongest = active.iter().next().expect("this kernel has a rung");
    check_connect(&settings, strongest);
}

#[test]
fn the_iterator_finds_a_socket_with_all_its_holders() {
    if !prerequisites::has("the_iterator_finds_a_socket_with_all_its_holders", &[]) {
        return;
    }
    let settings = EbpfSettings { rungs: rungs(&[Rung::Iterator]), automatic: false, log: false };
    let mut ebpf = Ebpf::open(&settings);
    let report = format!("{:#?}", ebpf.report());
    let mut iterator = ebpf.take_iterator().unwrap_or_else(|| panic!("no iterator: {report}"));
    let counters = Counters::default();
    let listener = TcpListener::bind("[::1]:0").expect("loopback has ports");
    let local = endpoint(listener.local_addr().expect("it is bound"));
    for _ in 0..2 {
        let snapshots = iterator.read_sockets(&counters).expect("the iterator can be read again and again");
        let mut sockets = snapshots.iter().flat_map(|snapshot| &snapshot.sockets);
        let found =
            sockets.find(|socket| socket.tuple.local == local).expect("a listening socket is a socket");
        let holders: Vec<u32> = found.holders.iter().map(|holder| holder.id.pid).collect();
        assert_eq!(holders, [std::process::id()], "a descriptor in each thread is one holder");
        assert_eq!(found.holders_lack, None);
    }
    assert_eq!(counters.iterator_records_rejected.get(), 0);
}
