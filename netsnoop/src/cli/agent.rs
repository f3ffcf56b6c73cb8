//! `netsnoop agent` as typed. What connections go where is in its file; how they are captured and known is said as
//! for `watch`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::{CaptureArgs, ClusterArgs, KnowingArgs, listen_address};

/// What stands below the options.
pub const AGENT_HELP: &str = "\
The file names services and says where results go. It is YAML:

  services:
    - name: redis                       # the most specific wins: names, one address, blocks, ports
      addresses: [198.18.1.13, '2001:db8:1::/64']
      ports: [6379, 7000-7010]
      protocol: tcp
    - name: api                         # by what clients call it: TLS's server name, HTTP/1's Host
      sni: ['*.api.example', '/^api-[0-9]+/']
      host: api.example
    - name: db                          # by what its clients look up in DNS
      dns: [db.example.org, '*.db.example.org']
  users:
    include: ['tools.*', 10000-19999]   # names with * and ?, /expressions/, ranges of uids
    exclude: [root]
  outputs:                              # if none is named: http
    http: {listen: '127.0.0.1:9774'}    # /metrics, /healthz, /readyz
    textfile: {path: /var/lib/prometheus/node-exporter/netsnoop.prom, interval: 15s}
    jsonl: {path: /var/log/netsnoop.jsonl, max_size: 64MiB, keep: 3}
  state: {path: /var/lib/netsnoop/state.json, interval: 30s}  # counts go on after a restart
  bytes: {interval: 15s}                # how often bytes of connections that live are looked at
  limits:
    series: 10000                       # sets of labels; connections beyond are counted as `other`
    queue: 65536                        # records that may wait for an output

The file of the tool that netsnoop descends from is read as it is: ips_to_service, ips_to_listen_to,
interesting_users_prefix, http_service_regexes. Its metric is then written too, unless
toolforge_metric: false; it counts connections, where that tool counted packets.

EXAMPLES
  netsnoop agent --config netsnoop.yaml --check
  netsnoop agent --config netsnoop.yaml
  netsnoop agent --config config.yaml --textfile /var/lib/prometheus/node-exporter/netsnoop.prom

SIGNALS
  SIGHUP reads the file again, for services, users and toolforge_metric; a broken file leaves all
  as it is. Outputs, state, bytes, limits, ips_to_listen_to and the first sni, host or dns take a
  restart, which it says. SIGUSR1 prints the counts.

EXIT CODES  0 done; 1 the run failed; 2 usage, or a file that says what cannot be meant;
            77 a privilege or kernel feature is missing.";

/// `netsnoop agent`.
#[derive(Args, Clone, Debug)]
#[command(after_help = AGENT_HELP)]
pub struct AgentArgs {
    /// The file that names services, users and outputs
    #[arg(long, value_name = "FILE", env = "NETSNOOP_CONFIG", hide_env = true)]
    pub config: PathBuf,
    /// Read the file, say what is wrong with it, and exit
    #[arg(long)]
    pub check: bool,
    /// Serve metrics here, whatever the file says
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = listen_address)]
    #[arg(env = "NETSNOOP_LISTEN", hide_env = true)]
    #[arg(help_heading = "Output")]
    pub listen: Option<SocketAddr>,
    /// Write metrics to this file, whatever the file says
    #[arg(long, value_name = "FILE", env = "NETSNOOP_TEXTFILE", hide_env = true, help_heading = "Output")]
    pub textfile: Option<PathBuf>,
    /// Write records to this file, - for standard output, whatever the file says
    #[arg(long, value_name = "FILE", env = "NETSNOOP_JSONL", hide_env = true, help_heading = "Output")]
    pub jsonl: Option<PathBuf>,
    /// Keep counts in this file over restarts, whatever the file of settings says
    #[arg(long, value_name = "FILE", env = "NETSNOOP_STATE", hide_env = true, help_heading = "Output")]
    pub state: Option<PathBuf>,
    /// How packets are captured.
    #[command(flatten)]
    pub capture: CaptureArgs,
    /// Which ways of knowing are used.
    #[command(flatten)]
    pub knowing: KnowingArgs,
    /// What the cluster is asked.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}
