//! The kernel half, from the user side: load, attach, read.
//!
//! [`Ebpf::open`] tries what is wanted and never fails as a whole: each program has its outcome in the
//! report. Decoding records is `netsnoop_core::kernel_record`'s, remedies are `doctor`'s.

mod attach;
mod bpf_call;
pub mod btf;
mod failure;
pub mod inventory_program;
pub mod iterator;
mod load;
pub mod mounts;
pub mod plan;
pub mod programs;
pub mod report;
mod ring;
pub mod ring_buffer;

use anyhow::{Context, Result};
use aya_log::EbpfLogger;
use netsnoop_core::attribution::{Rung, RungSet};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use self::attach::Attacher;
use self::iterator::SocketIterator;
use self::load::{Globals, KernelFacts};
use self::plan::Plan;
use self::programs::{TASK_FILE_ITER, Topic};
use self::report::{Cause, Failure, Outcome, ProgramReport, RungReport};
use self::ring_buffer::EventStream;
use crate::memory;

/// What is wanted of the kernel half.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EbpfSettings {
    /// The rungs that may be used; those that need no eBPF are ignored.
    pub rungs: RungSet,
    /// Whether a rung is left alone where a stronger one tells the same. Otherwise all are tried in full.
    pub automatic: bool,
    /// Whether the programs write diagnostics, and the verifier's logs are kept in full.
    pub log: bool,
}

/// The kernel half at work. Programs run until this is dropped.
pub struct Ebpf {
    report: Vec<RungReport>,
    events: Option<EventStream>,
    iterator: Option<SocketIterator>,
    logger: Option<KernelLog>,
    /// Programs and their links, held so that they stay attached.
    attached: Option<aya::Ebpf>,
}

impl Ebpf {
    /// Loads and attaches what `settings` want and this kernel allows.
    pub fn open(settings: &EbpfSettings) -> Self {
        let mut this =
            Self { report: Vec::new(), events: None, iterator: None, logger: None, attached: None };
        let plan = Plan { rungs: settings.rungs, automatic: settings.automatic };
        let wants_iterator = settings.rungs.contains(Rung::Iterator);
        let ring_rungs = plan::RING_RUNGS.into_iter().filter(|rung| settings.rungs.contains(*rung)).count();
        if ring_rungs == 0 && !wants_iterator {
            return this;
        }
        let facts = KernelFacts::read();
        // Opening it takes the kernel's types a second time, so it comes before the ring takes its memory.
        let iterator = wants_iterator.then(|| this.open_iterator(facts.as_ref().map_err(Clone::clone)));
        if ring_rungs > 0 {
            match facts
                .as_ref()
                .map_err(Clone::clone)
                .and_then(|facts| this.open_ring(facts, plan, settings.log))
            {
                Ok(report) => this.report = report,
                Err(failure) => this.report = plan.carry_out(|_| Err(failure.clone())),
            }
        }
        this.report.extend(iterator);
        this
    }

    fn open_ring(&mut self, facts: &KernelFacts, plan: Plan, log: bool) -> Result<Vec<RungReport>, Failure> {
        let mut globals = Globals {
            connect_by_state: plan.connects_by_state_only(),
            accept_exit_rung: plan.accept_exit_rung(),
            log,
        };
        let (mut object, mut report) = attach_all(facts, plan, globals)?;
        if !globals.connect_by_state && !tells(&report, Topic::Connect) && tells(&report, Topic::State) {
            // Whether connects must be told by state is a constant to the verifier, and only now known.
            globals.connect_by_state = true;
            drop(object);
            (object, report) = attach_all(facts, plan, globals)?;
        }
        if report.iter().any(RungReport::works) {
            // What loading took in small pieces, before the ring takes its memory.
            memory::give_back();
            let events = EventStream::take(&mut object);
            self.events = Some(events.map_err(|error| Failure::new(Cause::Other, &error))?);
            self.logger = if log { KernelLog::open(&mut object) } else { None };
            self.attached = Some(object);
        }
        Ok(report)
    }

    fn open_iterator(&mut self, facts: Result<&KernelFacts, Failure>) -> RungReport {
        let outcome = match facts.and_then(SocketIterator::open) {
            Ok(iterator) => {
                self.iterator = Some(iterator);
                Outcome::Attached
            }
            Err(failure) => Outcome::Failed(failure),
        };
        let programs = vec![ProgramReport { name: TASK_FILE_ITER, tells: None, outcome }];
        RungReport { rung: Rung::Iterator, programs }
    }

    /// What became of each wanted rung, strongest first.
    pub fn report(&self) -> &[RungReport] {
        &self.report
    }

    /// The rungs that work.
    pub fn active(&self) -> RungSet {
        let mut active = RungSet::EMPTY;
        for report in self.report.iter().filter(|report| report.works()) {
            active.insert(report.rung);
        }
        active
    }

    /// The ring, once: for [`ring_buffer::pump`]. `None` if no program that writes to it runs.
    pub const fn take_events(&mut self) -> Option<EventStream> {
        self.events.take()
    }

    /// The iterator over all sockets, once: it is read on a thread that may block.
    pub const fn take_iterator(&mut self) -> Option<SocketIterator> {
        self.iterator.take()
    }

    /// The programs' own diagnostics, once, if they were asked for.
    pub const fn take_log(&mut self) -> Option<KernelLog> {
        self.logger.take()
    }
}

fn attach_all(
    facts: &KernelFacts,
    plan: Plan,
    globals: Globals,
) -> Result<(aya::Ebpf, Vec<RungReport>), Failure> {
    let mut object = load::object(facts, globals, true)?;
    let attacher = Attacher::new(&facts.btf);
    let report = plan.carry_out(|program| {
        let outcome = attacher.attach(&mut object, program);
        if let Err(failure) = &outcome {
            log::debug!("{}: {failure}", program.name);
        }
        outcome
    });
    Ok((object, report))
}

fn tells(report: &[RungReport], topic: Topic) -> bool {
    let programs = report.iter().flat_map(|report| &report.programs);
    programs.into_iter().any(|program| program.tells == Some(topic) && program.outcome == Outcome::Attached)
}

/// The programs' own diagnostics, on their way to the logger.
pub struct KernelLog(EbpfLogger<&'static dyn log::Log>);

impl KernelLog {
    fn open(object: &mut aya::Ebpf) -> Option<Self> {
        match EbpfLogger::init(object) {
            Ok(logger) => Some(Self(logger)),
            Err(error) => {
                log::warn!("the kernel half's diagnostics cannot be read: {error}");
                None
            }
        }
    }

    /// Logs what the programs write, until dropped.
    pub async fn pump(self) -> Result<()> {
        // SAFETY: the logger owns the descriptor of its ring, tells the same one whenever asked, and keeps
        // it open until it is dropped, which is after the registration ends.
        let logger = unsafe { AsyncFd::register_with_interest(self.0, Interest::READABLE) };
        let mut logger = logger.context("waiting for diagnostics")?;
        loop {
            let mut ready = logger.readable_mut().await.context("waiting for diagnostics")?;
            ready.get_inner_mut().flush();
            ready.clear_ready();
        }
    }
}
