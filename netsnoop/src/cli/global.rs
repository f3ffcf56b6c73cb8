//! Options that every command takes.

use std::path::PathBuf;

use clap::{ArgAction, Args, ValueEnum};

/// Options that every command takes.
#[derive(Args, Clone, Debug)]
pub struct GlobalArgs {
    /// Say more on stderr; twice for what the kernel programs say, too
    #[arg(short, long, global = true, action = ArgAction::Count, env = "NETSNOOP_VERBOSE", hide_env = true)]
    pub verbose: u8,
    /// When to use colours; `auto` is on a terminal, unless NO_COLOR is set
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        env = "NETSNOOP_COLOR",
        hide_env = true
    )]
    pub color: ColorChoice,
    /// Where the node's proc file system is mounted (in a container: /host/proc)
    #[arg(long, global = true, value_name = "DIR", default_value = "/proc")]
    #[arg(env = "NETSNOOP_PROC_ROOT", hide_env = true)]
    pub proc_root: PathBuf,
    /// Ask this container runtime for names (repeatable; none: no runtime) [default: those in the usual places]
    #[arg(long, global = true, value_name = "SOCKET", value_delimiter = ',')]
    #[arg(env = "NETSNOOP_RUNTIME_SOCKET", hide_env = true)]
    pub runtime_socket: Vec<PathBuf>,
    /// Tell this label of pods in JSON (repeatable), as app.kubernetes.io/name
    #[arg(long, global = true, value_name = "KEY", value_delimiter = ',')]
    #[arg(env = "NETSNOOP_POD_LABEL", hide_env = true)]
    pub pod_label: Vec<String>,
}

/// When to use colours.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum ColorChoice {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}
