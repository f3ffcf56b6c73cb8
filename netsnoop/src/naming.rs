//! What packets tell of the names of servers, where services ask for it: clients say them, resolvers tell where they lead.

use std::sync::Arc;

use netsnoop_core::dns_answer::{AnswerReader, may_answer};
use netsnoop_core::observation::{Observation, PacketSighting};
use netsnoop_core::packet::{LinkType, PacketContent, TcpFlags, payload};
use netsnoop_core::server_name::NameReader;
use netsnoop_core::service::NameWishes;

use crate::counters::Counters;

/// Reads the names that are wished for.
#[derive(Debug, Default)]
pub struct Naming {
    said: Option<NameReader>,
    resolved: Option<AnswerReader>,
    counters: Arc<Counters>,
}

impl Naming {
    /// Reads what `wishes` ask for; tables are seeded by `seed`.
    pub fn new(wishes: &NameWishes, seed: [u64; 4], counters: Arc<Counters>) -> Self {
        Self {
            said: (wishes.sni || wishes.host).then(|| NameReader::new(seed)),
            resolved: wishes.dns.then(|| AnswerReader::new(seed)),
            counters,
        }
    }

    /// Whether answers to lookups are read.
    pub const fn reads_answers(&self) -> bool {
        self.resolved.is_some()
    }

    /// What a frame tells besides its header.
    pub fn read(&mut self, link_type: LinkType, sighting: &PacketSighting, frame: &[u8]) -> Vec<Observation> {
        let (at, header) = (sighting.at, &sighting.header);
        if let Some(resolved) = self.resolved.as_mut().filter(|_| may_answer(header)) {
            let found = resolved.take(at, header, payload(link_type, frame));
            self.counters.resolutions_read.add(found.len() as u64);
            self.counters.resolutions_rejected.set(resolved.rejected);
            self.counters.resolver_streams_evicted.set(resolved.evicted());
            let told = |resolution| Observation::Resolution(*sighting, Arc::new(resolution));
            return found.into_iter().map(told).collect();
        }
        let Some(said) = self.said.as_mut().filter(|_| has_data(sighting)) else { return Vec::new() };
        let found = said.take(at, header, payload(link_type, frame));
        self.counters.names_evicted.set(said.evicted());
        self.counters.names_read.add(u64::from(found.is_some()));
        found.into_iter().map(|name| Observation::Name(*sighting, name)).collect()
    }
}

/// Whether it is a segment between the beginning and the end of a connection, with data.
fn has_data(sighting: &PacketSighting) -> bool {
    const ENDS: u8 = TcpFlags::SYN | TcpFlags::RST;
    match sighting.header.content {
        PacketContent::Tcp { flags, payload_length, .. } => flags.0 & ENDS == 0 && payload_length > 0,
        PacketContent::Udp { .. } | PacketContent::Unreachable => false,
    }
}
