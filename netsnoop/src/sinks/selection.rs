//! Whether a connection is one of those that were asked for: by its owners, the expression, and where packets of it
//! were seen.

use netsnoop_core::connection::ConnectionRecord;

use crate::config::{OwnerSelectors, SourceConfig};
use crate::sinks::expression::Expression;
use crate::sinks::owner_filter::OwnerFilter;

/// What was asked for.
pub(super) struct Selection {
    owners: OwnerFilter,
    /// libpcap asks packets; this asks connections that were known without one.
    expression: Option<Expression>,
    /// Whether single interfaces were asked for: then a connection without a packet on them is none of it.
    needs_packet: bool,
}

impl Selection {
    /// Makes it of what was asked for; `uids` are those of the users asked for.
    pub(super) fn new(sources: &SourceConfig, owners: &OwnerSelectors, uids: Vec<u32>) -> Self {
        Self {
            owners: OwnerFilter::new(owners, uids),
            expression: sources.filter.as_deref().map(Expression::new),
            needs_packet: sources.names_interfaces(),
        }
    }

    /// Whether everything passes.
    pub(super) const fn is_open(&self) -> bool {
        self.owners.is_open() && self.expression.is_none() && !self.needs_packet
    }

    /// Whether a record passes.
    pub(super) fn matches(&self, record: &ConnectionRecord) -> bool {
        (!self.needs_packet || record.interface.is_some())
            && self.owners.matches(record)
            && self.expression.as_ref().is_none_or(|expression| expression.matches(record))
    }
}
