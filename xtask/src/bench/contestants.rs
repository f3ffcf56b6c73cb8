//! Who is measured: netsnoop in its two formats, and other tools that watch connections or packets.
//!
//! What each of them is asked for is as near to `netsnoop watch` as it can come; where that is not near, the
//! words of docs/performance.md say so.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::shell;

/// How its standard error tells that it is ready.
const NETSNOOP_READY: &str = " known";

/// Where the load's server listens.
pub(crate) const SERVER_PORT: &str = "7301";

/// One tool and how it is asked.
#[derive(Clone, Copy)]
pub(crate) struct Contestant {
    /// Its name in the table.
    pub(crate) name: &'static str,
    /// The program; none stands for the netsnoop that was just built.
    program: Option<&'static str>,
    arguments: &'static [&'static str],
    /// Words on standard error after which it watches, where it says so. Else it does once it has become quiet.
    pub(crate) ready: Option<&'static str>,
    /// Whether a line of its output is that of a connection which this client process made; `None` where it prints
    /// no line a connection.
    pub(crate) names_client: Option<fn(&str, u32) -> bool>,
    version: &'static [&'static str],
    /// The command that installs it.
    install: &'static str,
}

/// netsnoop first: the others are compared with it.
pub(crate) const CONTESTANTS: [Contestant; 6] = [
    Contestant {
        name: "netsnoop watch",
        program: None,
        arguments: &["watch"],
        ready: Some(NETSNOOP_READY),
        names_client: Some(|line, pid| line.contains(&format!("[{pid}]"))),
        version: &["--version"],
        install: "",
    },
    Contestant {
        name: "netsnoop watch -o jsonl",
        program: None,
        arguments: &["watch", "-o", "jsonl"],
        ready: Some(NETSNOOP_READY),
        names_client: Some(|line, pid| {
            line.contains(r#""event":"open""#) && line.contains(&format!(r#""pid":{pid},"#))
        }),
        version: &["--version"],
        install: "",
    },
    Contestant {
        name: "tcplife",
        program: Some("tcplife"),
        arguments: &[],
        ready: None,
        // Process, name, own address and port, the peer's: the server's end is not asked for.
        names_client: Some(|line, pid| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.first() == Some(&pid.to_string().as_str()) && words.get(5) == Some(&SERVER_PORT)
        }),
        version: &[],
        install: "apt-get install libbpf-tools",
    },
    Contestant {
        name: "bandwhich --raw",
        program: Some("bandwhich"),
        arguments: &["--raw", "--no-resolve", "--connections", "--interface", "lo"],
        ready: None,
        names_client: None,
        version: &["--version"],
        install: "cargo install --locked bandwhich",
    },
    Contestant {
        name: "nethogs -t",
        program: Some("nethogs"),
        arguments: &["-t", "-C", "-a", "lo"],
        ready: None,
        names_client: None,
        version: &["-V"],
        install: "apt-get install nethogs",
    },
    Contestant {
        name: "tcpdump -w -",
        program: Some("tcpdump"),
        arguments: &["-i", "any", "-s", "256", "-B", "8192", "-w", "-", "tcp[tcpflags] & 7 != 0"],
        ready: Some("listening on"),
        names_client: None,
        version: &["--version"],
        install: "apt-get install tcpdump",
    },
];

impl Contestant {
    /// The program's file; an error says what installs it.
    pub(crate) fn program(&self, netsnoop: &Path) -> Result<PathBuf, String> {
        let Some(program) = self.program else { return Ok(netsnoop.to_owned()) };
        shell::find(program).ok_or_else(|| format!("it is not here; `{}` installs it", self.install))
    }

    /// The command that watches.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.args(self.arguments);
        command
    }

    /// Whether it is netsnoop: without its figures there is nothing to compare with.
    pub(crate) const fn is_netsnoop(&self) -> bool {
        self.program.is_none()
    }

    /// What it says of its version; where it says nothing, what Debian's package is.
    pub(crate) fn version(&self, program: &Path) -> String {
        let mut asked = Command::new(program);
        asked.args(self.version);
        if self.version.is_empty() {
            let package = self.install.rsplit(' ').next().unwrap_or_default();
            asked = Command::new("dpkg-query");
            asked.args(["--show", "--showformat", "${Package} ${Version}", package]);
        }
        // Some tell it on standard error.
        let told = asked.output().map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
        String::from_utf8_lossy(&told).lines().next().unwrap_or("version unknown").trim().to_owned()
    }
}
