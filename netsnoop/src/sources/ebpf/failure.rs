//! What an error of aya or the kernel means: its kind of cause and one line of text.

use std::io;

use aya::maps::MapError;
use aya::programs::ProgramError;
use aya::sys::SyscallError;
use aya::{BtfError, EbpfError};

use super::report::{Cause, Failure};

/// How many lines of the verifier's log tell enough.
const VERIFIER_LINES: usize = 2;

/// ENOTSUPP, the kernel's own "not supported", which libc has no name for
/// (<https://github.com/torvalds/linux/blob/v6.12/include/linux/errno.h#L25>).
const ENOTSUPP: i32 = 524;

impl Failure {
    /// A failure with its text spelt out by `error`'s chain.
    pub fn new(cause: Cause, error: &anyhow::Error) -> Self {
        Self::plain(cause, format!("{error:#}"))
    }

    /// A failure that `reason` says all of.
    pub fn plain(cause: Cause, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self { cause, text: reason.clone(), reason }
    }

    /// Why a program could not be loaded or attached; `act` and `hook` say what was tried.
    pub fn of_program(act: &str, hook: &str, error: &ProgramError) -> Self {
        let (cause, reason) = match error {
            ProgramError::LoadError { io_error, verifier_log } => {
                refusal("BPF_PROG_LOAD", io_error, &verifier_log.to_string())
            }
            ProgramError::SyscallError(SyscallError { call: call @ "perf_event_open", io_error })
                if io_error.kind() == io::ErrorKind::PermissionDenied =>
            {
                (Cause::PerfEvent, format!("{call}: {io_error}"))
            }
            ProgramError::SyscallError(SyscallError { call, io_error }) => {
                (cause_of(io_error), format!("{call}: {io_error}"))
            }
            ProgramError::KProbeError(_) => {
                (Cause::MissingHook, format!("the kernel has no kprobes ({})", chain(error)))
            }
            ProgramError::TracePointError(_) => {
                (Cause::MissingHook, format!("the kernel has no such tracepoint ({})", chain(error)))
            }
            ProgramError::Btf(BtfError::UnknownBtfTypeName { type_name }) => {
                (Cause::MissingHook, format!("the kernel has no {type_name}"))
            }
            ProgramError::IOError(io_error) => (cause_of(io_error), io_error.to_string()),
            other => (Cause::Other, chain(other)),
        };
        Self { cause, text: format!("{act} {hook}: {reason}"), reason }
    }

    /// Why the object as a whole could not be taken to the kernel.
    pub fn of_object(error: &EbpfError) -> Self {
        let (cause, text) = match error {
            EbpfError::BtfError(BtfError::LoadError { io_error, verifier_log }) => {
                refusal("BPF_BTF_LOAD", io_error, &verifier_log.to_string())
            }
            // Which map was the first to be refused is chance.
            EbpfError::MapError(MapError::CreateError { io_error, .. }) => {
                (cause_of(io_error), format!("creating its maps: {io_error}"))
            }
            EbpfError::MapError(MapError::SyscallError(SyscallError { io_error, .. })) => {
                (cause_of(io_error), chain(error))
            }
            other => (Cause::Other, chain(other)),
        };
        Self::plain(cause, format!("loading the kernel half: {text}"))
    }
}

/// The verifier speaks only if it has seen the bytes: an error without a log is somebody else's.
pub(super) fn refusal(call: &str, io_error: &io::Error, log: &str) -> (Cause, String) {
    let lines: Vec<&str> =
        log.lines().map(str::trim).filter(|line| !line.is_empty() && !is_statistics(line)).collect();
    if lines.is_empty() {
        return (cause_of(io_error), format!("{call}: {io_error}"));
    }
    let last = lines.get(lines.len().saturating_sub(VERIFIER_LINES)..).unwrap_or_default();
    (Cause::Verifier, format!("the verifier refused it ({io_error}): {}", last.join(" / ")))
}

fn is_statistics(line: &str) -> bool {
    ["processed ", "verification time ", "stack depth "].iter().any(|start| line.starts_with(start))
}

fn cause_of(error: &io::Error) -> Cause {
    match error.raw_os_error() {
        Some(code) if code == rustix::io::Errno::NOENT.raw_os_error() || code == ENOTSUPP => {
            Cause::MissingHook
        }
        _ if error.kind() == io::ErrorKind::PermissionDenied => Cause::Permission,
        _ => Cause::Other,
    }
}

/// The error and its sources, each once: some of aya's texts already end with their source's.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let more = source.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use aya::programs::ProgramError;
    use aya::sys::SyscallError;
    use aya::{BtfError, EbpfError};

    use super::super::report::{Cause, Failure};

    fn check(error: ProgramError, cause: Cause, text: &str) {
        let failure = Failure::of_program("attaching to", "kprobe tcp_connect", &error);
        assert_eq!(failure.cause, cause, "{failure}");
        assert_eq!(failure.text, format!("attaching to kprobe tcp_connect: {text}"));
    }

    #[test]
    fn causes_are_told_apart() {
        let syscall = |call, code| {
            ProgramError::SyscallError(SyscallError { call, io_error: io::Error::from_raw_os_error(code) })
        };
        check(
            syscall("perf_event_open", 13),
            Cause::PerfEvent,
            "perf_event_open: Permission denied (os error 13)",
        );
        check(
            syscall("bpf_raw_tracepoint_open", 2),
            Cause::MissingHook,
            "bpf_raw_tracepoint_open: No such file or directory (os error 2)",
        );
        let missing = BtfError::UnknownBtfTypeName { type_name: "btf_trace_sock_send_length".into() };
        check(ProgramError::Btf(missing), Cause::MissingHook, "the kernel has no btf_trace_sock_send_length");
        check(ProgramError::NotLoaded, Cause::Other, "the program is not loaded");
    }

    #[test]
    fn a_verifier_log_is_cut_to_its_point() {
        let check = |log: &str, code, cause, text: &str| {
            let (told, line) = super::refusal("BPF_PROG_LOAD", &io::Error::from_raw_os_error(code), log);
            assert_eq!((told, line.as_str()), (cause, text), "{log:?}");
        };
        check("", 1, Cause::Permission, "BPF_PROG_LOAD: Operation not permitted (os error 1)");
        check(
            "0: R1=ctx()\n; line info\nprogram of this type cannot use helper bpf_get_netns_cookie#122\n\
             processed 12 insns (limit 1000000)\nverification time 81 usec\nstack depth 64\n",
            22,
            Cause::Verifier,
            "the verifier refused it (Invalid argument (os error 22)): ; line info / \
             program of this type cannot use helper bpf_get_netns_cookie#122",
        );
    }

    #[test]
    fn an_object_that_is_refused_names_what_was_tried() {
        let failure = Failure::of_object(&EbpfError::NoBTF);
        assert_eq!(failure.cause, Cause::Other);
        assert_eq!(failure.text, "loading the kernel half: no BTF parsed for object");
    }
}
