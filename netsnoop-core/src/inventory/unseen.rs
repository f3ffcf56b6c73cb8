//! What a look could not see, and why.

/// Something that could not be seen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Unseen {
    /// What.
    pub what: UnseenThing,
    /// Why.
    pub why: UnseenReason,
    /// How many; 0 where nobody can count them.
    pub count: u64,
}

/// What could not be seen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum UnseenThing {
    /// Processes and what they hold.
    Processes,
    /// All sockets of a namespace.
    Namespaces,
    /// One protocol's sockets in a namespace.
    Tables,
    /// Sockets that nobody holds (TIME_WAIT, orphans, those waiting to be accepted) in a namespace.
    UnheldSockets,
    /// Single sockets.
    Sockets,
    /// Names of interfaces that sockets are bound to.
    InterfaceNames,
}

impl UnseenThing {
    /// The name in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Processes => "processes",
            Self::Namespaces => "namespaces",
            Self::Tables => "tables",
            Self::UnheldSockets => "unheld_sockets",
            Self::Sockets => "sockets",
            Self::InterfaceNames => "interface_names",
        }
    }
}

/// Why it could not be seen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum UnseenReason {
    /// It may not be read.
    Permission,
    /// It was gone when it was read: normal on a busy node.
    Vanished,
    /// This `/proc` does not show every process of the node (`hidepid`, or a pid namespace).
    Hidden,
    /// It was read and not understood, or cut short.
    Unreadable,
    /// The kernel has no way to tell.
    Unsupported,
    /// Anything else the kernel said.
    Failed,
}

impl UnseenReason {
    /// The name in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Permission => "permission",
            Self::Vanished => "vanished",
            Self::Hidden => "hidden",
            Self::Unreadable => "unreadable",
            Self::Unsupported => "unsupported",
            Self::Failed => "failed",
        }
    }
}
