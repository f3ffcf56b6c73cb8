//! The bench's node: a network namespace for each place, the links between them, address translation, a cgroup for each
//! place. All of it goes with the processes that hold the namespaces, even if the bench is killed; the cgroups are taken
//! away when dropped.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::actor::Actor;
use super::cgroup::Cgroups;
use super::scene::{Family, Place, service_address};
use crate::shell;

/// The node, while it lasts.
pub(crate) struct Node {
    holders: BTreeMap<Place, Actor>,
    cgroups: Cgroups,
    /// Why addresses are not translated, if they are not.
    pub(crate) no_translation: Option<String>,
}

impl Node {
    /// Makes one.
    pub(crate) fn new(cgroups: Cgroups) -> Result<Self> {
        let mut holders = BTreeMap::new();
        for place in Place::ALL {
            let mut holder =
                Actor::hold(place.holder()).with_context(|| format!("holding the namespace of {place:?}"))?;
            holder.wait_until_ready()?;
            holders.insert(place, holder);
        }
        let mut node = Self { holders, cgroups, no_translation: None };
        node.link()?;
        node.no_translation = node.translate().err().map(|error| format!("{error:#}"));
        Ok(node)
    }

    /// A place's namespace.
    pub(crate) fn namespace(&self, place: Place) -> PathBuf {
        let pid = self.holders.get(&place).map(Actor::pid).unwrap_or_default();
        format!("/proc/{pid}/ns/net").into()
    }

    /// All of them.
    pub(crate) fn namespaces(&self) -> Vec<(Place, PathBuf)> {
        Place::ALL.map(|place| (place, self.namespace(place))).into()
    }

    /// The file that takes the pids to move into a place's cgroup.
    pub(crate) fn cgroup(&self, place: Place) -> Option<PathBuf> {
        self.cgroups.procs_file(place)
    }

    /// A command inside a place. `nsenter` and not `ip netns exec`, which would hide the cgroup mounts.
    pub(crate) fn command(&self, place: Place, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.namespace(place).display())).arg(program);
        command
    }

    /// Hands a program in a place a text, which it must take well.
    fn feed(&self, place: Place, words: &[&str], text: &str) -> Result<()> {
        let program = words.first().copied().unwrap_or_default();
        let path = shell::find(program).with_context(|| format!("{program} is not on this machine"))?;
        let mut command = self.command(place, &path);
        command.args(words.get(1..).unwrap_or_default()).stdout(Stdio::null());
        shell::feed(&mut command, text)
    }

    fn link(&self) -> Result<()> {
        let mut node = String::from("link set lo up\n");
        node += "link add br0 type bridge forward_delay 0 mcast_snooping 0\nlink set br0 up\n";
        add_gateway(&mut node, Place::PodA, "br0")?;
        for place in Place::ALL.into_iter().filter(|place| *place != Place::Node) {
            let device = device(place);
            let holder = self.holders.get(&place).map(Actor::pid).unwrap_or_default();
            writeln!(node, "link add {device} type veth peer name eth0 netns {holder}")?;
            if Place::BRIDGED.contains(&place) {
                writeln!(node, "link set {device} master br0")?;
            } else {
                add_gateway(&mut node, place, device)?;
            }
            writeln!(node, "link set {device} up")?;
            if place == HAIRPIN_SERVICE.place {
                // With br_netfilter translation happens within the bridge, which sends nothing back where it came from.
                writeln!(node, "link set {device} type bridge_slave hairpin on")?;
            }
        }
        // Frames for an address that nobody has leave by the bridge.
        writeln!(node, "neigh add {NOBODY_IN} lladdr 02:00:00:00:00:99 dev br0 nud permanent")?;
        // As on any node; where services are is nobody's business but the translation's.
        let (outside, own) = (Place::Outside.address(Family::V4), Place::Node.address(Family::V4));
        writeln!(node, "route add default via {outside} src {own}")?;
        self.feed(Place::Node, &["ip", "-batch", "-"], &node)?;
        let settings = "echo 1 > /proc/sys/net/ipv4/ip_forward\n\
                      echo 1 > /proc/sys/net/ipv6/conf/all/forwarding\n\
                      echo 0 > /proc/sys/net/ipv4/conf/all/send_redirects\n\
                      echo 0 > /proc/sys/net/ipv4/conf/br0/send_redirects\n";
        self.feed(Place::Node, &["sh", "-e"], settings)?;
        for place in Place::ALL.into_iter().filter(|place| *place != Place::Node) {
            self.feed(place, &["ip", "-batch", "-"], &addresses(place)?)?;
        }
        Ok(())
    }

    /// What goes out is masqueraded; services are translated to pods. A pod that calls a service and meets a pod of the
    /// same bridge, itself too, is masqueraded as well, since else the answer would not pass the node.
    fn translate(&self) -> Result<()> {
        let mut rules = String::from("table ip nat {\n  chain services {\n");
        for service in SERVICES {
            let Service { number, place, .. } = service;
            let (address, pod) = (service_address(number), place.address(Family::V4));
            writeln!(
                rules,
                "    ip daddr {address} tcp dport {SERVICE_PORT} dnat to {pod}:{}",
                service.target_port()
            )?;
            writeln!(
                rules,
                "    ip daddr {address} udp dport {SERVICE_PORT} dnat to {pod}:{}",
                service.target_port()
            )?;
        }
        let published = Place::PodB.address(Family::V4);
        let own = Place::Outside.gateway(Family::V4);
        for transport in ["tcp", "udp"] {
            writeln!(
                rules,
                "    ip daddr {own} {transport} dport {SERVICE_PORT} dnat to {published}:{PUBLISHED}"
            )?;
        }
        rules += "  }\n  chain prerouting {\n    type nat hook prerouting priority -100;\n    jump services\n  }\n";
        rules += "  chain output {\n    type nat hook output priority -100;\n    jump services\n  }\n";
        rules += "  chain postrouting {\n    type nat hook postrouting priority 100;\n";
        rules += "    ip saddr 198.18.64.0/23 oifname \"up0\" masquerade\n";
        rules += "    ip saddr 198.18.64.0/24 ip daddr 198.18.64.0/24 ct status dnat masquerade\n  }\n}\n";
        rules += "table ip6 nat {\n  chain postrouting {\n    type nat hook postrouting priority 100;\n";
        // Both subnets that are not the one outside.
        let pods = Place::PodA.gateway(Family::V6);
        writeln!(rules, "    ip6 saddr {pods}/63 oifname \"up0\" masquerade\n  }}\n}}")?;
        self.feed(Place::Node, &["nft", "-f", "-"], &rules)
    }
}

/// An address on the bridge that nobody has.
pub(crate) const NOBODY_IN: Ipv4Addr = Ipv4Addr::new(198, 18, 64, 99);
/// An address beyond the node that nobody has.
pub(crate) const NOBODY_OUT: Ipv4Addr = Ipv4Addr::new(198, 18, 66, 99);

/// The port at which services are called.
pub(crate) const SERVICE_PORT: u16 = 80;
/// The port at which what the node publishes to the outside listens in its pod.
pub(crate) const PUBLISHED: u16 = 8080;

/// A service: an address that the node translates.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Service {
    pub(crate) number: u8,
    /// The pod that serves it.
    pub(crate) place: Place,
}

impl Service {
    /// The port at which its pod listens.
    pub(crate) fn target_port(self) -> u16 {
        PUBLISHED + u16::from(self.number)
    }
}

/// Behind a routed link: only the destination is translated.
pub(crate) const ROUTED_SERVICE: Service = Service { number: 10, place: Place::ServiceHost };
/// Behind the bridge that callers are on too: source and destination are translated.
pub(crate) const BRIDGED_SERVICE: Service = Service { number: 11, place: Place::PodB };
/// Called by the pod that serves it.
pub(crate) const HAIRPIN_SERVICE: Service = Service { number: 12, place: Place::PodC };
const SERVICES: [Service; 3] = [ROUTED_SERVICE, BRIDGED_SERVICE, HAIRPIN_SERVICE];

/// The node's end of a place's link.
const fn device(place: Place) -> &'static str {
    match place {
        Place::Node => "lo",
        Place::PodA => "pod-a",
        Place::PodB => "pod-b",
        Place::PodC => "pod-c",
        Place::OneUserPod => "pod-one",
        Place::ServiceHost => "service",
        Place::Outside => "up0",
    }
}

fn add_gateway(batch: &mut String, place: Place, device: &str) -> Result<()> {
    writeln!(batch, "addr add {}/24 brd + dev {device}", place.gateway(Family::V4))?;
    writeln!(batch, "addr add {}/64 dev {device} nodad", place.gateway(Family::V6))?;
    Ok(())
}

fn addresses(place: Place) -> Result<String> {
    let mut batch = String::from("link set lo up\n");
    writeln!(batch, "addr add {}/24 brd + dev eth0", place.address(Family::V4))?;
    writeln!(batch, "addr add {}/64 dev eth0 nodad", place.address(Family::V6))?;
    batch += "link set eth0 up\n";
    // The host outside knows no way to the pods, as what they send it is masqueraded; but it forges packets.
    if place == Place::Outside {
        writeln!(batch, "route add {NOBODY_IN} via {}", place.gateway(Family::V4))?;
    } else {
        writeln!(batch, "route add default via {}", place.gateway(Family::V4))?;
        writeln!(batch, "route add default via {}", place.gateway(Family::V6))?;
    }
    Ok(batch)
}
