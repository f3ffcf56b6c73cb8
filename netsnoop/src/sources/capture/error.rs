//! Why a capture could not start, or ended, in kinds the caller can map to exit codes, each with its remedy.

/// What went wrong with a capture.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// There is no interface of that name (or number in the list).
    #[error("no interface {name:?} in this network namespace; there is {available}")]
    NoSuchInterface {
        /// What was asked for.
        name: String,
        /// The names there are.
        available: String,
    },
    /// libpcap does not understand the user's expression.
    #[error("the filter expression {expression:?} is not valid: {message}; its grammar is in pcap-filter(7)")]
    BadExpression {
        /// The expression as typed.
        expression: String,
        /// What libpcap says.
        message: String,
    },
    /// A setting no interface can have.
    #[error("cannot capture on {interface} like that: {what}")]
    BadSetting {
        /// The interface.
        interface: String,
        /// What, and what to do instead.
        what: String,
    },
    /// The kernel refuses packet sockets.
    #[error(
        "no permission to capture on {interface}: {message}; it takes CAP_NET_RAW in the user namespace that \
         owns this network namespace: run as root, or `setcap cap_net_raw+ep` the binary"
    )]
    Permission {
        /// The interface.
        interface: String,
        /// What libpcap says.
        message: String,
    },
    /// The interface's frames begin in a way netsnoop cannot read.
    #[error(
        "cannot read frames of {interface}: link type {link_type} is not supported; `-i any` is on every link"
    )]
    UnsupportedLink {
        /// The interface.
        interface: String,
        /// libpcap's name for it, or its number.
        link_type: String,
    },
    /// The interface went away while capturing.
    #[error("the capture on {interface} has ended: {message}")]
    Disappeared {
        /// The interface.
        interface: String,
        /// What libpcap says.
        message: String,
    },
    /// Anything else libpcap refuses.
    #[error("cannot {act} on {interface}")]
    Libpcap {
        /// What was tried.
        act: &'static str,
        /// The interface.
        interface: String,
        /// Its answer.
        source: pcap::Error,
    },
    /// Waiting for frames failed.
    #[error("cannot wait for frames on {interface}")]
    Wait {
        /// The interface.
        interface: String,
        /// Why.
        source: std::io::Error,
    },
}
