//! The ladder: each rung really tried, strongest first.

use netsnoop_core::attribution::Rung;

use super::host::Host;
use super::remedies::{names, permission, remedy};
use super::{Finding, State};
use crate::sources::ebpf::report::{Outcome, RungReport};
use crate::sources::ebpf::{Ebpf, EbpfSettings};

/// Tries every rung.
pub(super) fn examine(settings: &EbpfSettings, host: &Host) -> Vec<Finding> {
    let ebpf = Ebpf::open(settings);
    let mut findings: Vec<Finding> = ebpf.report().iter().map(|report| of_programs(report, host)).collect();
    let proc = proc(host);
    findings.push(sock_diag(host, &proc));
    findings.push(proc);
    findings
}

/// What netsnoop cannot tell without a rung, if no other stands in.
const fn lost_without(rung: Rung) -> &'static str {
    match rung {
        Rung::Kprobe | Rung::Fentry => {
            "sockops and tp_btf stand in; with neither, owners of short connections are looked up and may be gone"
        }
        Rung::Sockops => "a connection's owner is told only once it is answered, refused or given up",
        Rung::TpBtf => {
            "raw_tp stands in, without socket cookies; with neither, no outcome and no byte counts"
        }
        Rung::RawTp => "nothing is lost while tp_btf works",
        Rung::Iterator => "the first snapshot comes from a walk over /proc, which takes longer",
        Rung::SockDiag => {
            "a socket is looked up in /proc tables instead, which takes milliseconds instead of microseconds"
        }
        Rung::Proc => "connections older than netsnoop, and those the kernel half missed, have no owner",
    }
}

fn of_programs(report: &RungReport, host: &Host) -> Finding {
    let attached = report.programs.iter().filter(|program| program.outcome == Outcome::Attached).count();
    let all = report.programs.len();
    let state = match attached {
        0 => State::Fails,
        some if some < all => State::Partly,
        _ => State::Works,
    };
    let runs = match (attached, all) {
        (1, 1) => "its program runs".to_owned(),
        _ => format!("{attached} of {all} programs run"),
    };
    let mut remedies = Vec::new();
    for (_, failure) in report.failures() {
        let remedy = remedy(report.rung, failure, host.capabilities);
        if !remedies.contains(&remedy) {
            remedies.push(remedy);
        }
    }
    let details = std::iter::once(runs).chain(reasons(report)).collect();
    let without = (state != State::Works).then(|| lost_without(report.rung));
    Finding { name: report.rung.name(), state, details, without, remedies }
}

/// Each reason once, with the programs that fail for it.
fn reasons(report: &RungReport) -> Vec<String> {
    let mut by_reason: Vec<(&str, Vec<&str>)> = Vec::new();
    for (name, failure) in report.failures() {
        match by_reason.iter_mut().find(|(reason, _)| *reason == failure.reason) {
            Some((_, names)) => names.push(name),
            None => by_reason.push((&failure.reason, vec![name])),
        }
    }
    let all = report.programs.len();
    let line = |(reason, names): (&str, Vec<&str>)| {
        if names.len() == all { reason.to_owned() } else { format!("{}: {reason}", names.join(", ")) }
    };
    by_reason.into_iter().map(line).collect()
}

/// What it finds has an owner only by the files of processes: without those it names nobody.
fn sock_diag(host: &Host, proc: &Finding) -> Finding {
    let name = Rung::SockDiag.name();
    let lost = lost_without(Rung::SockDiag);
    if let Err(error) = &host.sock_diag {
        return Finding::fails(name, format!("asking for a socket by netlink: {error:#}"), lost)
            .with_remedy("load the modules inet_diag, tcp_diag and udp_diag");
    }
    if proc.state == State::Fails {
        return Finding {
            remedies: proc.remedies.clone(),
            ..Finding::fails(
                name,
                "sockets can be asked for, but the files of their owners cannot be read",
                lost,
            )
        };
    }
    match &host.setns {
        Ok(()) => Finding::works(name, "sockets can be asked for, in every network namespace"),
        Err(error) => Finding {
            state: State::Partly,
            ..Finding::fails(name, format!("only in the own network namespace: {error:#}"), lost)
                .with_remedy(permission(Rung::SockDiag, host.capabilities))
        },
    }
}

fn proc(host: &Host) -> Finding {
    let name = Rung::Proc.name();
    let lost = lost_without(Rung::Proc);
    let access = match &host.processes {
        Ok(access) => access,
        Err(error) => {
            return Finding::fails(name, format!("{error:#}"), lost)
                .with_remedy("mount a proc file system there");
        }
    };
    let detail = format!(
        "the files of {} of {} processes can be read",
        access.readable,
        access.readable + access.denied
    );
    let missing = super::remedies::capabilities_for(Rung::Proc).difference(host.capabilities);
    // A few processes let nobody look at them, whatever is granted.
    if access.denied == 0 || (missing.is_empty() && access.denied < access.readable) {
        return Finding::works(name, detail);
    }
    let remedy = if missing.is_empty() {
        permission(Rung::Proc, host.capabilities)
    } else {
        format!("run as root, or grant {}", names(missing))
    };
    let state = if access.others_readable { State::Partly } else { State::Fails };
    Finding { state, ..Finding::fails(name, detail, lost).with_remedy(remedy) }
}
