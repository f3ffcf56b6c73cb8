//! What a look could not see, in words, with what to do about it.

use netsnoop_core::inventory::{Inventory, Unseen, UnseenReason, UnseenThing};

/// A line for each; what is normal on a busy node only if `verbose`.
pub(super) fn lines(inventory: &Inventory, verbose: bool) -> Vec<String> {
    let is_worth_it = |unseen: &&Unseen| verbose || unseen.why != UnseenReason::Vanished;
    inventory.unseen.iter().filter(is_worth_it).map(line).collect()
}

fn line(unseen: &Unseen) -> String {
    let what = match unseen.what {
        UnseenThing::Processes => "processes and what they hold",
        UnseenThing::Namespaces => "namespaces",
        UnseenThing::Tables => "tables of sockets",
        UnseenThing::UnheldSockets => "namespaces' sockets that nobody holds",
        UnseenThing::Sockets => "single sockets",
        UnseenThing::InterfaceNames => "names of interfaces",
    };
    let why = match (unseen.why, unseen.what) {
        (
            UnseenReason::Permission,
            UnseenThing::Namespaces | UnseenThing::UnheldSockets | UnseenThing::InterfaceNames,
        ) => "permission: looking into other namespaces takes CAP_SYS_ADMIN; run as root",
        (UnseenReason::Permission, _) => {
            "permission: processes of other users take CAP_SYS_PTRACE; run as root"
        }
        (UnseenReason::Vanished, _) => "they were gone before they were read",
        (UnseenReason::Hidden, _) => {
            "this /proc does not show every process of the node (hidepid, or a pid namespace); \
             in a container give --proc-root the host's"
        }
        (UnseenReason::Unreadable, _) => "what was read could not be understood",
        (UnseenReason::Unsupported, _) => "this kernel has no way to tell",
        (UnseenReason::Failed, _) => "reading failed; -v tells more",
    };
    match unseen.count {
        0 => format!("not seen: some {what} ({why})"),
        count => format!("not seen: {count} {what} ({why})"),
    }
}
