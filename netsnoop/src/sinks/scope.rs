//! Which connections the agent tells of, and for which of their ends.

use netsnoop_core::attribution::Reason;
use netsnoop_core::connection::{ConnectionRecord, EndRecord};
use netsnoop_core::process::{Pod, ProcessFacts};

use crate::config::AgentSettings;
use crate::sinks::schema::end_uid;

/// The end that a connection is told for, and what it is in the connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Teller<'a> {
    /// `client`, `server`, or `none` of those on this node.
    pub(super) role: &'static str,
    /// The end.
    pub(super) end: Option<&'a EndRecord>,
}

impl<'a> Teller<'a> {
    /// The client if that is on this node, else the server.
    pub(super) fn of(record: &'a ConnectionRecord) -> Self {
        match (is_local(&record.client), is_local(&record.server)) {
            (true, _) => Self { role: "client", end: Some(&record.client) },
            (false, true) => Self { role: "server", end: Some(&record.server) },
            (false, false) => Self { role: "none", end: None },
        }
    }

    /// Its user, if known.
    pub(super) fn uid(&self) -> Option<u32> {
        self.end.and_then(end_uid)
    }

    /// Its pod, if known.
    pub(super) fn pod(&self) -> Option<&'a Pod> {
        let of_owner = |end: &'a EndRecord| end.facts.as_ref()?.container.as_ref()?.pod.as_deref();
        let of_place = |end: &'a EndRecord| end.cluster.as_ref()?.pod.as_deref();
        self.end.and_then(|end| of_owner(end).or_else(|| of_place(end)))
    }

    /// Whether its owner, or what that one's pod is called, is still being looked for.
    pub(super) fn is_pending(&self) -> bool {
        let Some(end) = self.end else { return false };
        let pod = |facts: &ProcessFacts| facts.container.as_ref()?.pod.as_ref()?.name.clone();
        let is_named = |facts: &ProcessFacts| !facts.names_follow || pod(facts).is_some();
        end.attribution.reason() == Some(Reason::Pending) || !end.facts.as_deref().is_none_or(is_named)
    }
}

/// Whether an end is on this node.
pub(super) fn is_local(end: &EndRecord) -> bool {
    !matches!(end.attribution.reason(), Some(Reason::Remote | Reason::Forwarded))
}

/// Whether the settings want connections to its server.
pub(super) fn is_destination(settings: &AgentSettings, record: &ConnectionRecord) -> bool {
    let wanted = &settings.destinations;
    let mut servers = [Some(record.server.endpoint), record.nat.server].into_iter().flatten();
    wanted.is_empty() || servers.any(|server| wanted.iter().any(|block| block.contains(server.address)))
}
