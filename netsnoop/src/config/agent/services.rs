//! The services that the agent's file names, in netsnoop's own form and in that of its ancestor.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use anyhow::{Context, ensure};
use netsnoop_core::five_tuple::Transport;
use netsnoop_core::service::{Cidr, NameKind, NamePattern, ServiceName, ServiceRule, Services, Where};

use super::reading::{Item, Problems, Section};
use crate::cli::address_block;

/// Reads them.
pub(super) fn services(problems: &mut Problems, root: &Section<'_>) -> Services {
    let mut rules = Rules::default();
    for item in root.item("services").map_or_else(Vec::new, |item| item.list(problems)) {
        let of_service = service(problems, &item);
        rules.add(problems, &item, of_service);
    }
    ancestors_services(problems, root, &mut rules);
    Services::new(rules.all)
}

/// All rules, and where each stands.
#[derive(Default)]
struct Rules {
    all: Vec<ServiceRule>,
    /// By what a rule says besides the name: whose it is, and in which line.
    places: HashMap<String, (ServiceName, usize)>,
}

impl Rules {
    /// Adds those of an item. One that says the same as one before of another service would never win.
    fn add(&mut self, problems: &mut Problems, item: &Item<'_>, rules: Vec<ServiceRule>) {
        for rule in rules {
            let text = rule.to_string();
            let known = self.places.get(&text).filter(|(service, _)| *service != rule.service);
            if let Some((service, line)) = known {
                let whose = match service {
                    ServiceName::Given(name) => name,
                    ServiceName::FoundText => "http_service_regexes",
                };
                item.refuse(problems, format!("{text} is of {whose} already, by line {line}"));
            }
            self.places.entry(text).or_insert_with(|| (rule.service.clone(), item.line()));
            self.all.push(rule);
        }
    }
}

fn service(problems: &mut Problems, item: &Item<'_>) -> Vec<ServiceRule> {
    let section = item.section(problems, &["name", "addresses", "dns", "sni", "host", "ports", "protocol"]);
    let Some(name) = section.parse(problems, "name", service_name) else {
        if !section.has("name") {
            item.refuse(problems, "a service has a name");
        }
        return Vec::new();
    };
    let mut places = places(problems, &section);
    let ports = section.parse_filled_list(problems, "ports", ports);
    let transport = section.parse(problems, "protocol", protocol);
    if let Some(said) = ["sni", "host"].into_iter().find_map(|key| section.item(key))
        && transport.is_some_and(|transport| transport != Transport::Tcp)
    {
        said.refuse(problems, "sni and host are read from TCP alone, not from QUIC");
    }
    if !["addresses", "dns", "sni", "host", "ports"].into_iter().any(|key| section.has(key)) {
        item.refuse(
            problems,
            "a service has addresses, ports, names by dns, sni or host, or several of these",
        );
    }
    if places.is_empty() {
        places.push(Where::Anywhere);
    }
    let ports = if ports.is_empty() { vec![None] } else { ports.into_iter().map(Some).collect() };
    let service = ServiceName::Given(name);
    let rule = |place: &Where, ports: &Option<RangeInclusive<u16>>| ServiceRule {
        service: service.clone(),
        place: place.clone(),
        ports: ports.clone(),
        transport,
    };
    places.iter().flat_map(|place| ports.iter().map(move |ports| rule(place, ports))).collect()
}

/// Its addresses, and the names it is called by.
fn places(problems: &mut Problems, section: &Section<'_>) -> Vec<Where> {
    let blocks = section.parse_filled_list(problems, "addresses", address_block);
    let mut places: Vec<Where> = blocks.into_iter().map(Where::In).collect();
    for kind in NameKind::ALL {
        let patterns = section.parse_filled_list(problems, kind.name(), |text| Ok(NamePattern::parse(text)?));
        places.extend(patterns.into_iter().map(|pattern| Where::Named(kind, pattern)));
    }
    places
}

/// The ancestor looked at TCP alone.
fn ancestors_services(problems: &mut Problems, root: &Section<'_>, rules: &mut Rules) {
    let rule = |service, place| ServiceRule { service, place, ports: None, transport: Some(Transport::Tcp) };
    let names = root.item("ips_to_service").map_or_else(Vec::new, |item| item.open_section(problems));
    for (address, item) in names {
        match address.parse::<IpAddr>() {
            Ok(address) => {
                let name = item.parse(problems, service_name);
                let place = Where::In(Cidr::one(address.to_canonical()));
                let of_address = name.map(|name| rule(ServiceName::Given(name), place));
                rules.add(problems, &item, of_address.into_iter().collect());
            }
            Err(error) => item.refuse(problems, format!("'{address}': {error}")),
        }
    }
    let Some(expressions) = root.item("http_service_regexes") else { return };
    let expression = |text: &str| Ok(NamePattern::expression(text)?);
    for pattern in root.parse_list(problems, "http_service_regexes", expression) {
        let named = [NameKind::Host, NameKind::Sni].map(|kind| Where::Named(kind, pattern.clone()));
        let of_text = named.map(|place| rule(ServiceName::FoundText, place));
        rules.add(problems, expressions, of_text.into());
    }
}

fn service_name(text: &str) -> anyhow::Result<Arc<str>> {
    ensure!(!text.is_empty() && !text.contains(char::is_control), "a name is expected");
    ensure!(text != "other", "metrics call so what finds no room in limits.series");
    Ok(text.into())
}

fn ports(text: &str) -> anyhow::Result<RangeInclusive<u16>> {
    let number = |text: &str| text.trim().parse().ok().filter(|port| *port > 0);
    let port = |text: &str| number(text).with_context(|| format!("'{text}' is no port from 1 to 65535"));
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    ensure!(first <= last, "the range is empty");
    Ok(first..=last)
}

fn protocol(text: &str) -> anyhow::Result<Transport> {
    let known = Transport::ALL.into_iter().find(|transport| transport.name() == text);
    known.with_context(|| format!("there are: {}", Transport::ALL.map(Transport::name).join(", ")))
}
