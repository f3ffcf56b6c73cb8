use alloc::string::ToString;
use alloc::vec;

use super::translation::{began, dnat, names, report};
use super::*;

#[test]
fn what_may_be_translated_is_told_of_once_all_entries_of_its_time_are_known() {
    let [asked, answered] = dnat("192.0.2.1:40000", "198.18.1.13:8080");
    let mut world = World::new(Hooks::default());
    world.hears = false;
    world.see(0, report(0, true, vec![]));
    world.see(1, packet(1, UPLINK, asked, syn(7)));
    world.wait_until(2);
    assert!(!world.reconciler.poll_hearing(at(2)), "its entry may not be there yet");
    world.wait_until(600);
    assert_eq!(world.events(), [], "the thread that reads the entries may be late");
    assert!(world.reconciler.poll_hearing(at(600)));
    world.see(601, Observation::TranslationsUntil(at(1)));
    assert_eq!(world.events(), [], "those were older ones");
    assert!(world.reconciler.poll_hearing(at(601)));
    world.see(602, began(602, asked, answered, 1));
    world.see(602, Observation::TranslationsUntil(at(601)));
    assert_eq!(names(world.last()).1, Some("198.18.1.13:8080".to_string()));
    // An answer that never comes holds nothing up for ever.
    let [other, _] = dnat("192.0.2.1:40001", "198.18.1.13:8080");
    world.see(700, packet(700, UPLINK, other, syn(8)));
    world.wait_until(1_700);
    assert_eq!(world.opens().len(), 1);
    world.wait_until(2_000);
    assert_eq!(world.opens().len(), 2);
}

#[test]
fn a_wildcard_socket_does_not_send_from_an_address_that_it_is_given_on_the_way() {
    let mut world = World::new(ALL_HOOKS);
    world.see(0, report(0, true, vec![]));
    let socket = Socket::new(WEB, udp("0.0.0.0:40000", "192.0.2.1:53"), 31);
    world.see(1, socket.event(1, Act::FirstSend, Some(1)));
    // Of an interface nothing is known of yet.
    let given = udp("198.18.0.1:40000", "192.0.2.1:53");
    world.see(2, packet(2, 77, given, PacketContent::Udp { payload_length: 1 }));
    world.see(3, began(3, udp("198.18.1.10:40000", "192.0.2.1:53"), given.mirrored(), 1));
    world.wait_until(500);
    let opens: Vec<_> = world.opens().iter().map(|open| (open.client.endpoint, open.nat.client)).collect();
    assert_eq!(opens, [(endpoint("198.18.1.10:40000"), Some(given.local))]);
}
