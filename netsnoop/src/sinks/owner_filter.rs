//! Which connections were asked for, by their owners. Values of one kind widen, kinds narrow, and one end must fit
//! all kinds. What is not known of an end does not match.

use netsnoop_core::attribution::Owner;
use netsnoop_core::connection::{ConnectionRecord, EndRecord};
use netsnoop_core::process::{Comm, Container, Pod, Process};

use crate::cli::PodName;
use crate::config::OwnerSelectors;

/// Fewest characters that select a container by its id: fewer would often be a name by chance.
const SHORTEST_CONTAINER_ID: usize = 4;

/// The filter.
#[derive(Clone, Debug)]
pub(super) struct OwnerFilter {
    pids: Vec<u32>,
    comms: Vec<Comm>,
    uids: Vec<u32>,
    containers: Vec<String>,
    pods: Vec<PodName>,
    services: Vec<String>,
}

impl OwnerFilter {
    /// Makes it of what was asked for; `uids` are those of the users asked for.
    pub(super) fn new(selectors: &OwnerSelectors, uids: Vec<u32>) -> Self {
        Self {
            pids: selectors.pids.clone(),
            // A name longer than the kernel keeps is cut as the kernel cuts it.
            comms: selectors.comms.iter().map(|name| Comm::new(name.as_bytes())).collect(),
            uids,
            containers: selectors.containers.clone(),
            pods: selectors.pods.clone(),
            services: selectors.services.clone(),
        }
    }

    /// Whether everything passes.
    pub(super) const fn is_open(&self) -> bool {
        !self.asks_of_ends() && self.services.is_empty()
    }

    /// Whether a record passes.
    pub(super) fn matches(&self, record: &ConnectionRecord) -> bool {
        let service_fits = self.services.is_empty()
            || record
                .service
                .as_ref()
                .is_some_and(|service| self.services.iter().any(|wanted| **wanted == *service.name));
        service_fits
            && (!self.asks_of_ends() || self.end_fits(&record.client) || self.end_fits(&record.server))
    }

    /// Whether a process that holds a socket passes; services are not asked for.
    pub(super) fn holder_fits(&self, process: &Process, container: Option<&Container>) -> bool {
        let pod = container.and_then(|container| container.pod.as_deref());
        self.process_fits(process) && self.place_fits(container, pod)
    }

    /// Whether a socket that nobody holds passes: it has no more than the user who made it.
    pub(super) fn nobodys_fits(&self, uid: Option<u32>) -> bool {
        self.only_asks_for_user(uid) && self.place_fits(None, None)
    }

    const fn asks_of_ends(&self) -> bool {
        self.asks_of_processes() || !self.containers.is_empty() || !self.pods.is_empty()
    }

    const fn asks_of_processes(&self) -> bool {
        !self.pids.is_empty() || !self.comms.is_empty() || !self.uids.is_empty()
    }

    fn end_fits(&self, end: &EndRecord) -> bool {
        let container = end.facts.as_ref().and_then(|facts| facts.container.as_ref());
        let elsewhere = end.cluster.as_ref().and_then(|names| names.pod.as_deref());
        let pod = container.and_then(|container| container.pod.as_deref()).or(elsewhere);
        (!self.asks_of_processes() || self.owner_fits(end)) && self.place_fits(container, pod)
    }

    fn place_fits(&self, container: Option<&Container>, pod: Option<&Pod>) -> bool {
        any_or_unasked(&self.containers, |wanted| {
            container.is_some_and(|container| is_named(container, wanted))
        }) && any_or_unasked(&self.pods, |wanted| pod.is_some_and(|pod| is_called(pod, wanted)))
    }

    fn owner_fits(&self, end: &EndRecord) -> bool {
        match &end.attribution.owner {
            Owner::Process(process) => self.process_fits(process),
            Owner::Shared(sharers) => sharers.iter().any(|sharer| self.process_fits(sharer)),
            Owner::Unattributed(_) => self.only_asks_for_user(end.attribution.socket_uid),
            Owner::Kernel => false,
        }
    }

    fn process_fits(&self, process: &Process) -> bool {
        any_or_unasked(&self.pids, |pid| *pid == process.id.pid)
            && any_or_unasked(&self.comms, |comm| *comm == process.name)
            && any_or_unasked(&self.uids, |uid| *uid == process.uid)
    }

    /// Where no process is known, the socket still has a user.
    fn only_asks_for_user(&self, uid: Option<u32>) -> bool {
        self.pids.is_empty()
            && self.comms.is_empty()
            && any_or_unasked(&self.uids, |wanted| Some(*wanted) == uid)
    }
}

fn any_or_unasked<T>(wanted: &[T], fits: impl FnMut(&T) -> bool) -> bool {
    wanted.is_empty() || wanted.iter().any(fits)
}

fn is_named(container: &Container, wanted: &str) -> bool {
    container.name.as_deref() == Some(wanted)
        || (wanted.len() >= SHORTEST_CONTAINER_ID && container.id.starts_with(wanted))
}

fn is_called(pod: &Pod, wanted: &PodName) -> bool {
    pod.namespace.as_deref() == Some(&*wanted.namespace) && pod.name.as_deref() == Some(&*wanted.name)
}

#[cfg(test)]
mod tests {
    use netsnoop_core::attribution::{Attribution, Evidence, Reason};

    use super::*;
    use crate::cli::UserSelector;
    use crate::sinks::samples;

    fn check(choose: impl FnOnce(&mut OwnerSelectors), record: &ConnectionRecord, expected: bool) {
        let mut selectors = OwnerSelectors::default();
        choose(&mut selectors);
        let uids = selectors
            .users
            .iter()
            .map(|user| match user {
                UserSelector::Uid(uid) => *uid,
                UserSelector::Name(name) => panic!("{name}: a test names users by number"),
            })
            .collect();
        let filter = OwnerFilter::new(&selectors, uids);
        assert_eq!(filter.matches(record), expected, "{selectors:?}");
        assert_eq!(filter.is_open(), selectors == OwnerSelectors::default());
    }

    #[test]
    fn either_end_may_fit_but_one_must_fit_all_kinds() {
        // Client: curl, pid 29786, uid 10001, pod tools/web-1; server: redis-server, pid 800, uid 999.
        let record = samples::between_two_processes();
        check(|_| {}, &record, true);
        check(|s| s.pids = vec![29786], &record, true);
        check(|s| s.pids = vec![1, 800], &record, true);
        check(|s| s.pids = vec![1], &record, false);
        check(|s| s.comms = vec!["redis-server".into()], &record, true);
        check(|s| s.comms = vec!["redis".into()], &record, false);
        check(|s| s.users = vec![UserSelector::Uid(10001)], &record, true);
        check(
            |s| {
                s.users = vec![UserSelector::Uid(10001)];
                s.comms = vec!["redis-server".into()];
            },
            &record,
            false,
        );
        check(|s| s.pods = vec!["tools/web-1".parse().unwrap()], &record, true);
        check(|s| s.pods = vec!["other/web-1".parse().unwrap()], &record, false);
        let elsewhere = samples::to_the_cluster();
        check(|s| s.pods = vec!["shop/db-1".parse().unwrap()], &elsewhere, true);
        check(|s| s.pods = vec!["shop/db".parse().unwrap()], &elsewhere, false);
        check(|s| s.containers = vec!["app".into()], &record, true);
        check(|s| s.containers = vec![samples::CONTAINER_ID[..12].into()], &record, true);
        check(|s| s.containers = vec![samples::CONTAINER_ID[..3].into()], &record, false);
        check(|s| s.services = vec!["redis".into()], &record, true);
        check(|s| s.services = vec!["dns".into()], &record, false);
        check(
            |s| {
                s.services = vec!["redis".into()];
                s.pids = vec![1];
            },
            &record,
            false,
        );
    }

    #[test]
    fn a_long_name_is_cut_as_the_kernel_cuts_it() {
        let mut record = samples::between_two_processes();
        let process = samples::process(7, "chromium-browser", 10001);
        record.client.attribution = Attribution::process(process, Evidence::Proc);
        check(|s| s.comms = vec!["chromium-browser".into()], &record, true);
    }

    #[test]
    fn without_a_process_the_socket_s_user_counts_and_nothing_else() {
        let mut record = samples::to_a_remote_server();
        record.client.attribution = Attribution::namespace(Reason::Orphaned, Some(10001));
        check(|s| s.users = vec![UserSelector::Uid(10001)], &record, true);
        check(
            |s| {
                s.users = vec![UserSelector::Uid(10001)];
                s.pids = vec![29786];
            },
            &record,
            false,
        );
    }

    #[test]
    fn any_of_those_who_share_a_socket_fits() {
        let record = samples::shared_udp();
        check(|s| s.pids = vec![12], &record, true);
        check(|s| s.pids = vec![99], &record, false);
    }
}
