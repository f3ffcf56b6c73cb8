//! The interfaces of this network namespace that can be captured on.

use std::io::Write;

use anyhow::Context;
use pcap::{ConnectionStatus, Device};
use rustix::net::{AddressFamily, SocketType, netdevice, socket};

/// libpcap's name for all interfaces at once.
pub const ANY_INTERFACE: &str = "any";

/// Writes the numbered list of interfaces, for `-D`.
///
/// # Errors
///
/// If libpcap cannot list them, or `out` refuses.
pub fn list_interfaces(out: &mut dyn Write) -> anyhow::Result<()> {
    let devices = devices().context("cannot list interfaces")?;
    for (number, device) in (1..).zip(&devices) {
        write!(out, "{number}.{}", device.name)?;
        if let Some(description) = &device.desc {
            write!(out, " ({description})")?;
        }
        writeln!(out, " [{}]", flags(device).join(", "))?;
    }
    Ok(())
}

/// The name of what the user asked for: a name, or else a number in the list.
pub(super) fn resolve(asked: &str) -> Option<String> {
    if asked == ANY_INTERFACE || index_of(asked).is_some() {
        return Some(asked.to_owned());
    }
    let place = asked.parse::<usize>().ok()?.checked_sub(1)?;
    devices().ok()?.into_iter().nth(place).map(|device| device.name)
}

/// The names of all interfaces, for an error text.
pub(super) fn names() -> String {
    match devices() {
        Ok(devices) => devices.into_iter().map(|device| device.name).collect::<Vec<_>>().join(", "),
        Err(error) => format!("no list of them ({error})"),
    }
}

/// The index of the interface called `name`, if there is one.
pub(super) fn index_of(name: &str) -> Option<u32> {
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None).ok()?;
    netdevice::name_to_index(socket, name).ok()
}

/// What libpcap knows, without its pseudo-devices that are no network interface (nflog, Bluetooth, D-Bus).
fn devices() -> Result<Vec<Device>, pcap::Error> {
    let mut devices = Device::list()?;
    devices.retain(|device| device.name == ANY_INTERFACE || index_of(&device.name).is_some());
    Ok(devices)
}

fn flags(device: &Device) -> Vec<&'static str> {
    let mut flags = Vec::new();
    if device.flags.is_up() {
        flags.push("Up");
    }
    if device.flags.is_running() {
        flags.push("Running");
    }
    if device.flags.is_loopback() {
        flags.push("Loopback");
    }
    if device.flags.is_wireless() {
        flags.push("Wireless");
    }
    match device.flags.connection_status {
        ConnectionStatus::Connected => flags.push("Connected"),
        ConnectionStatus::Disconnected => flags.push("Disconnected"),
        ConnectionStatus::Unknown | ConnectionStatus::NotApplicable => {}
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_loopback_and_any_and_its_numbers_resolve() {
        let mut list = Vec::new();
        list_interfaces(&mut list).unwrap();
        let list = String::from_utf8(list).unwrap();
        for name in ["lo", ANY_INTERFACE] {
            let line = list.lines().find(|line| line.split_once('.').unwrap().1.starts_with(name)).unwrap();
            assert_eq!(resolve(line.split_once('.').unwrap().0).as_deref(), Some(name));
            assert_eq!(resolve(name).as_deref(), Some(name));
        }
        assert!(!list.contains("nflog"));
    }

    #[test]
    fn what_is_not_there_does_not_resolve() {
        for asked in ["", "no-such-if", "0", "99999", "-1", "a name far too long for an interface"] {
            assert_eq!(resolve(asked), None, "{asked}");
        }
    }
}
