//! What the reconciler is told once: bounds, periods, and which sources are alive.

use core::time::Duration;

use crate::service::Services;

/// Bounds, periods and sources.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Random numbers from the agent: they seed the hash tables and the connection ids, so that
    /// neither can be foreseen by whoever sends packets.
    pub seed: [u64; 4],
    /// How long after first sight a connection is opened although an owner is still unknown.
    pub settle: Duration,
    /// How long a closed connection is kept, so that late packets and events find it.
    pub linger: Duration,
    /// Silence after which a UDP flow is closed.
    pub udp_idle: Duration,
    /// How often a TCP connection that nothing was heard of is looked up, in case its end was missed.
    pub tcp_probe: Duration,
    /// Most connections held at once.
    pub connections_max: usize,
    /// Most processes whose facts are held at once.
    pub processes_max: usize,
    /// Most translations (NAT) held at once.
    pub translations_max: usize,
    /// Most answers to lookups of names held at once.
    pub resolutions_max: usize,
    /// Most addresses of a cluster's pods and services held at once.
    pub cluster_names_max: usize,
    /// Most sockets waiting to be looked up at once.
    pub questions_max: usize,
    /// Which kernel hooks report.
    pub hooks: Hooks,
    /// Whether sockets can be looked up (sock_diag or `/proc`).
    pub lookups: bool,
    /// Whether changes of the topology are told as they happen.
    pub topology_changes: bool,
    /// Whether processes can be asked about by the pids that kernel events tell.
    pub process_facts: bool,
    /// The configured services.
    pub services: Services,
}

/// Which kernel hooks report. What none reports is looked up at once instead of waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Hooks {
    /// Connects (TCP) and first datagrams (UDP) are reported.
    pub connect: bool,
    /// Accepts, or first uses of accepted sockets, are reported.
    pub accept: bool,
    /// Changes of listening sockets are reported, so the listener table is never stale.
    pub listen: bool,
    /// Ends of TCP sockets are reported, with byte counts.
    pub close: bool,
    /// Program changes and exits of processes are reported.
    pub process: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            seed: [0; 4],
            settle: Duration::from_millis(100),
            linger: Duration::from_secs(2),
            udp_idle: Duration::from_secs(60),
            tcp_probe: Duration::from_secs(300),
            connections_max: 131_072,
            processes_max: 65_536,
            translations_max: 65_536,
            resolutions_max: 32_768,
            cluster_names_max: 32_768,
            questions_max: 16_384,
            hooks: Hooks::default(),
            lookups: false,
            topology_changes: false,
            process_facts: true,
            services: Services::default(),
        }
    }
}
