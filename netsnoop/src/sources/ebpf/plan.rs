//! Which programs to try, in which order, and which are not needed any more.
//!
//! Named rungs are tried in full. In automatic mode a topic is told by the strongest rung that has all
//! its programs attached, and weaker rungs leave it alone: no event is paid for twice. Trying is an
//! argument here, so this file neither loads nor attaches.

use netsnoop_core::attribution::{Rung, RungSet};

use super::programs::{Hook, PROGRAMS, Program, Topic};
use super::report::{Failure, Outcome, ProgramReport, RungReport};

/// The rungs made of programs that write to the ring.
pub const RING_RUNGS: [Rung; 5] = [Rung::Kprobe, Rung::Fentry, Rung::Sockops, Rung::TpBtf, Rung::RawTp];

/// What is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// The rungs that may be used.
    pub rungs: RungSet,
    /// Whether a rung is left alone where a stronger one tells the same.
    pub automatic: bool,
}

impl Plan {
    /// Tries what the plan needs, and reports on all of its ring rungs, strongest first.
    pub fn carry_out(self, mut attempt: impl FnMut(&Program) -> Result<(), Failure>) -> Vec<RungReport> {
        let mut settled = Settled::default();
        let mut outcomes: Vec<(Program, Outcome)> = Vec::new();
        for topic in Topic::ALL {
            for rung in self.order(topic) {
                let programs: Vec<Program> =
                    self.programs(rung).filter(|program| program.tells == topic).collect();
                let needed = !self.automatic || settled.leaves_open(topic);
                let before = outcomes.len();
                for program in programs {
                    let outcome = match needed.then(|| attempt(&program)) {
                        None => Outcome::NotNeeded,
                        Some(Ok(())) => Outcome::Attached,
                        Some(Err(failure)) => Outcome::Failed(failure),
                    };
                    outcomes.push((program, outcome));
                }
                settled.note(topic, rung, outcomes.get(before..).unwrap_or_default());
            }
        }
        self.by_rung(&outcomes)
    }

    /// In which order rungs are tried for a topic. A return probe misses calls while too many others have not
    /// returned (`maxactive` of <https://docs.kernel.org/trace/kprobes.html>), and accept may wait for hours: an
    /// exit hook, which cannot miss, goes first.
    fn order(self, topic: Topic) -> [Rung; 5] {
        let [kprobe, fentry, sockops, tp_btf, raw_tp] = RING_RUNGS;
        if self.automatic && topic == Topic::Accept {
            [fentry, kprobe, sockops, tp_btf, raw_tp]
        } else {
            RING_RUNGS
        }
    }

    /// Whether connects can only be told by the state tracepoint, as no rung with a hook of its own for
    /// them may be used.
    pub fn connects_by_state_only(self) -> bool {
        RING_RUNGS.iter().all(|rung| self.programs(*rung).all(|program| program.tells != Topic::Connect))
    }

    /// The rung that programs at accept's system call exits belong to.
    pub const fn accept_exit_rung(self) -> Rung {
        if self.rungs.contains(Rung::TpBtf) { Rung::TpBtf } else { Rung::RawTp }
    }

    fn programs(self, rung: Rung) -> impl Iterator<Item = Program> {
        PROGRAMS.into_iter().filter_map(move |program| {
            let own =
                if matches!(program.hook, Hook::Syscall(_)) { self.accept_exit_rung() } else { program.rung };
            (own == rung && self.rungs.contains(rung)).then_some(Program { rung, ..program })
        })
    }

    fn by_rung(self, outcomes: &[(Program, Outcome)]) -> Vec<RungReport> {
        let wanted = RING_RUNGS.into_iter().filter(|rung| self.rungs.contains(*rung));
        wanted
            .map(|rung| {
                let programs = outcomes.iter().filter(|(program, _)| program.rung == rung);
                let programs = programs
                    .map(|(program, outcome)| ProgramReport {
                        name: program.name,
                        tells: Some(program.tells),
                        outcome: outcome.clone(),
                    })
                    .collect();
                RungReport { rung, programs }
            })
            .collect()
    }
}

/// Which topics a rung tells in full.
#[derive(Default)]
struct Settled(Vec<(Topic, Rung)>);

impl Settled {
    fn note(&mut self, topic: Topic, rung: Rung, outcomes: &[(Program, Outcome)]) {
        // A return probe may miss accepts, so it leaves the topic open for what cannot.
        let may_miss = (topic, rung) == (Topic::Accept, Rung::Kprobe);
        let attached = outcomes.iter().all(|(_, outcome)| *outcome == Outcome::Attached);
        if !outcomes.is_empty() && attached && !may_miss {
            self.0.push((topic, rung));
        }
    }

    fn leaves_open(&self, topic: Topic) -> bool {
        // Function hooks see every way to accept, send and receive (io_uring's too), so that watching for
        // a socket's first use would only cost.
        let by_function =
            |topic| self.0.contains(&(topic, Rung::Kprobe)) || self.0.contains(&(topic, Rung::Fentry));
        let told = self.0.iter().any(|(settled, _)| *settled == topic);
        let not_worth_it =
            topic == Topic::Use && [Topic::Accept, Topic::Send, Topic::Receive].into_iter().all(by_function);
        !told && !not_worth_it
    }
}

#[cfg(test)]
mod tests {
    use netsnoop_core::attribution::{Rung, RungSet};

    use super::super::report::{Cause, Failure, Outcome};
    use super::Plan;

    fn rungs(of: &[Rung]) -> RungSet {
        let mut set = RungSet::EMPTY;
        of.iter().for_each(|rung| set.insert(*rung));
        set
    }

    /// Which programs end up attached on a kernel that refuses those of `broken` rungs and names.
    fn check(plan: Plan, broken: &[&str], expected: &[&str]) {
        let reports = plan.carry_out(|program| {
            if broken.iter().any(|name| *name == program.rung.name() || *name == program.name) {
                return Err(Failure::plain(Cause::Other, "refused"));
            }
            Ok(())
        });
        let attached: Vec<&str> = reports
            .iter()
            .flat_map(|report| &report.programs)
            .filter(|program| program.outcome == Outcome::Attached)
            .map(|program| program.name)
            .collect();
        assert_eq!(attached, expected, "{plan:?} with {broken:?} broken");
    }

    const LIFECYCLE: [&str; 3] = ["socket_state_btf", "process_exec_btf", "process_exit_btf"];

    #[test]
    fn automatic_mode_takes_the_strongest_rung_for_each_topic() {
        let auto = Plan { rungs: RungSet::ALL, automatic: true };
        let kprobes =
            ["tcp_connect_kprobe", "udp_sendmsg_kprobe", "udpv6_sendmsg_kprobe", "udp_receive_kprobe"];
        check(auto, &[], &[&kprobes[..], &["tcp_accept_fexit"], &LIFECYCLE].concat());
        // The return probe alone may miss accepts.
        check(
            auto,
            &["fentry"],
            &[
                &["tcp_connect_kprobe", "tcp_accept_kretprobe"],
                &kprobes[1..],
                &["accept_exit", "accept4_exit", "socket_state_btf", "send_length_btf", "recv_length_btf"],
                &["process_exec_btf", "process_exit_btf"],
            ]
            .concat(),
        );
        check(
            auto,
            &["kprobe", "fentry"],
            &[
                "sock_ops",
                "sock_addr_sendmsg4",
                "sock_addr_sendmsg6",
                "sock_addr_recvmsg4",
                "sock_addr_recvmsg6",
                "accept_exit",
                "accept4_exit",
                "socket_state_btf",
                "send_length_btf",
                "recv_length_btf",
                "process_exec_btf",
                "process_exit_btf",
            ],
        );
        check(
            auto,
            &["udp_receive_kprobe", "tp_btf"],
            &[
                &kprobes[..3],
                &["tcp_accept_fexit", "udp_receive_fentry", "socket_state_raw"],
                &["process_exec_raw", "process_exit_raw"],
            ]
            .concat(),
        );
    }

    #[test]
    fn named_rungs_are_tried_in_full_and_no_others() {
        let only = |of: &[Rung]| Plan { rungs: rungs(of), automatic: false };
        check(
            only(&[Rung::Sockops]),
            &["sock_addr_sendmsg6"],
            &["sock_ops", "sock_addr_sendmsg4", "sock_addr_recvmsg4", "sock_addr_recvmsg6"],
        );
        check(
            only(&[Rung::RawTp]),
            &[],
            &[
                "accept_exit",
                "accept4_exit",
                "socket_state_raw",
                "send_length_raw",
                "recv_length_raw",
                "process_exec_raw",
                "process_exit_raw",
            ],
        );
        check(only(&[Rung::Proc, Rung::SockDiag]), &[], &[]);
        assert!(only(&[Rung::RawTp, Rung::TpBtf]).connects_by_state_only());
        assert!(!only(&[Rung::RawTp, Rung::Sockops]).connects_by_state_only());
    }
}
