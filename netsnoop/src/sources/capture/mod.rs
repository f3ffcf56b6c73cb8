//! Packets from libpcap: one [`Capture`] an interface, each on an OS thread of its own, as libpcap blocks.
//!
//! It copies frames, stamps them and hands them over in batches. What a frame says is decoded by
//! `netsnoop_core::packet` behind the channel. Reading and writing capture files is not done here.

mod error;
mod filter;
mod interfaces;
mod name_filter;
mod progress;
mod stamps;
mod stop;

use std::mem;
use std::num::NonZeroU32;
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use netsnoop_core::observation::Observation;
use netsnoop_core::packet::{Direction, LinkType};
use netsnoop_core::service::NameWishes;
use netsnoop_core::time::Timestamp;
use pcap::{Active, Linktype, Packet, Precision, Stat};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketType, socket};

pub use self::error::CaptureError;
pub use self::interfaces::{ANY_INTERFACE, list_interfaces};
pub use self::progress::Progress;
pub use self::stop::Stop;
use crate::clock::{self, WallClock};
use crate::counters::Counters;
use crate::intake::{Frame, FrameBatch, Input, Intake};
use stamps::Stamps;

/// Frames handed over at once at most: small enough that none waits long behind the others.
const BATCH_FRAMES: usize = 256;
/// Frame bytes are copied into blocks of this size, so that a frame costs no allocation of its own.
const BLOCK_BYTES: usize = 64 * 1024;
/// Frames that follow each other closer than this are read together: under load a wake-up, a batch and a
/// place in the channel for each single frame would cost more than the frames. The first one after a pause
/// is not delayed, and the kernel has stamped all of them.
const PACE: Duration = Duration::from_millis(1);
/// The pace once so many frames come at a time that waking is what costs. The buffer has room for far more.
const BUSY_PACE: Duration = Duration::from_millis(5);
/// How many those are.
const BUSY_FRAMES: usize = 32;
/// How long a capture waits for a frame before it asks libpcap for its drops all the same.
const PATIENCE: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
/// How soon a capture that tells its progress looks again whether its buffer is empty.
const QUIET_TELLING_PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// The same for as long as [`TELLING`] after the last frame: answers about that frame wait for it.
const TELLING_PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
/// How long an answer about a frame may take before nothing is lost by waiting longer for it.
const TELLING: Duration = Duration::from_millis(50);
/// How often libpcap is asked for its drops.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Frames still read from the buffer after the stop: under overload it may never run empty.
const LAST_FRAMES: usize = 64 * BATCH_FRAMES;

/// What to capture, and how.
#[derive(Clone, Debug)]
pub struct CaptureSettings {
    /// The interface by name or by its number in [`list_interfaces`]; `any` is all of them.
    pub interface: String,
    /// Bytes kept of each frame. In immediate mode the kernel's buffer is cut into slots of this size.
    pub snaplen: u32,
    /// Bytes of the kernel's buffer.
    pub buffer_bytes: u32,
    /// Whether the interface should also take in frames that are not for this node.
    pub promiscuous: bool,
    /// Which way frames must go; [`Direction::Unknown`] takes both.
    pub direction: Direction,
    /// The user's filter expression, combined with netsnoop's own.
    pub expression: Option<String>,
    /// The names of servers that segments are taken for.
    pub names: NameWishes,
}

impl Default for CaptureSettings {
    fn default() -> Self {
        Self {
            interface: ANY_INTERFACE.to_owned(),
            snaplen: 256,
            buffer_bytes: 8 << 20,
            promiscuous: false,
            direction: Direction::Unknown,
            expression: None,
            names: NameWishes::default(),
        }
    }
}

/// An open capture: frames are already kept in the kernel's buffer.
pub struct Capture {
    handle: pcap::Capture<Active>,
    interface: String,
    index: Option<NonZeroU32>,
    link_type: LinkType,
    direction: Direction,
    seen: Stat,
    /// No frame was stamped earlier.
    opened: Timestamp,
}

/// Opens a capture.
///
/// # Errors
///
/// If the interface, the expression or the settings are wrong, or the kernel refuses.
pub fn open(settings: &CaptureSettings) -> Result<Capture, CaptureError> {
    let Some(interface) = interfaces::resolve(&settings.interface) else {
        let name = settings.interface.clone();
        return Err(CaptureError::NoSuchInterface { name, available: interfaces::names() });
    };
    let opened = clock::now();
    let mut handle = activate(&interface, settings)?;
    if interface == ANY_INTERFACE {
        prefer_interface_indexes(&mut handle, &interface)?;
    }
    let link_type = supported_link(&handle, &interface)?;
    set_filter(&mut handle, &interface, link_type, settings)?;
    let failed = |act| {
        let interface = interface.clone();
        move |source| CaptureError::Libpcap { act, interface, source }
    };
    let wanted = match settings.direction {
        Direction::In => pcap::Direction::In,
        Direction::Out => pcap::Direction::Out,
        Direction::Unknown => pcap::Direction::InOut,
    };
    handle.direction(wanted).map_err(failed("set the direction"))?;
    let handle = handle.setnonblock().map_err(failed("read without blocking"))?;
    Ok(Capture {
        handle,
        index: interfaces::index_of(&interface).and_then(NonZeroU32::new),
        interface,
        link_type,
        direction: settings.direction,
        seen: Stat { received: 0, dropped: 0, if_dropped: 0 },
        opened,
    })
}

fn activate(interface: &str, settings: &CaptureSettings) -> Result<pcap::Capture<Active>, CaptureError> {
    let refused = |what: &str| CaptureError::BadSetting { interface: interface.into(), what: what.into() };
    if settings.promiscuous && interface == ANY_INTERFACE {
        return Err(refused("promiscuous mode is for one interface; name it with -i"));
    }
    let snaplen = i32::try_from(settings.snaplen).ok().filter(|snaplen| (1..=262_144).contains(snaplen));
    let snaplen = snaplen.ok_or_else(|| refused("the snaplen must be between 1 and 262144 bytes"))?;
    let buffer = i32::try_from(settings.buffer_bytes).ok().filter(|bytes| *bytes > 0);
    let buffer = buffer.ok_or_else(|| refused("the buffer must be between 1 byte and 2 GiB"))?;
    pcap::Capture::from_device(interface)
        .map_err(|source| failed_opening(interface, source))?
        .snaplen(snaplen)
        .buffer_size(buffer)
        .promisc(settings.promiscuous)
        .immediate_mode(true)
        .precision(Precision::Nano)
        .open()
        .map_err(|source| failed_opening(interface, source))
}

/// libpcap tells why only in words, so the kernel is asked whether it is a matter of permission.
fn failed_opening(interface: &str, source: pcap::Error) -> CaptureError {
    let interface = interface.to_owned();
    match socket(AddressFamily::PACKET, SocketType::RAW, None) {
        Err(rustix::io::Errno::PERM | rustix::io::Errno::ACCESS) => {
            CaptureError::Permission { interface, message: one_line(&source) }
        }
        _ => CaptureError::Libpcap { act: "open a capture", interface, source },
    }
}

/// On all interfaces, only the second version of the cooked header says which one a frame was on. libpcap
/// has it since 1.10; without it the interface stays unknown.
fn prefer_interface_indexes(handle: &mut pcap::Capture<Active>, interface: &str) -> Result<(), CaptureError> {
    let failed = |act| move |source| CaptureError::Libpcap { act, interface: interface.to_owned(), source };
    let link_types = handle.list_datalinks().map_err(failed("list link types"))?;
    if link_types.contains(&Linktype::LINUX_SLL2) {
        handle.set_datalink(Linktype::LINUX_SLL2).map_err(failed("choose the cooked link type"))?;
    }
    Ok(())
}

fn supported_link(handle: &pcap::Capture<Active>, interface: &str) -> Result<LinkType, CaptureError> {
    // libpcap's DLT_RAW is 12 on Linux, not the LINKTYPE_RAW of files.
    const DLT_RAW: Linktype = Linktype(12);
    let found = handle.get_datalink();
    match found {
        Linktype::ETHERNET => Ok(LinkType::Ethernet),
        Linktype::LINUX_SLL => Ok(LinkType::LinuxCooked),
        Linktype::LINUX_SLL2 => Ok(LinkType::LinuxCookedV2),
        Linktype::NULL | Linktype::LOOP => Ok(LinkType::Loopback),
        DLT_RAW | Linktype::IPV4 | Linktype::IPV6 => Ok(LinkType::RawIp),
        Linktype(number) => Err(CaptureError::UnsupportedLink {
            interface: interface.to_owned(),
            link_type: found.get_name().unwrap_or_else(|_| number.to_string()),
        }),
    }
}

fn set_filter(
    handle: &mut pcap::Capture<Active>,
    interface: &str,
    link_type: LinkType,
    settings: &CaptureSettings,
) -> Result<(), CaptureError> {
    let user = settings.expression.as_deref().map(str::trim).filter(|expression| !expression.is_empty());
    if let Some(expression) = user {
        handle.compile(expression, true).map_err(|error| CaptureError::BadExpression {
            expression: expression.to_owned(),
            message: one_line(&error),
        })?;
    }
    let mut own = filter::own_expression(link_type);
    if let Some(names) = name_filter::names_expression(link_type, &settings.names) {
        own = format!("({own}) or ({names})");
    }
    let expression = filter::combined_expression(&own, user);
    handle.filter(&expression, true).map_err(|source| CaptureError::Libpcap {
        act: "set the filter",
        interface: interface.to_owned(),
        source,
    })
}

fn one_line(error: &pcap::Error) -> String {
    let words = match error {
        pcap::Error::PcapError(message) => message.clone(),
        other => other.to_string(),
    };
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl Capture {
    /// The interface's name.
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// Hands frames over, and up to when there are no more, until `stop` is asked for or nobody listens any more. What is in the kernel's buffer by
    /// then is still read, within bounds.
    ///
    /// # Errors
    ///
    /// If the interface disappears, or libpcap fails. Frames read before that were handed over.
    pub fn run(
        mut self,
        intake: &Intake,
        progress: Option<&Progress>,
        stop: &Stop,
    ) -> Result<(), CaptureError> {
        let ended = self.read_frames(intake, progress, stop);
        self.count_drops(intake.counters());
        ended
    }

    fn read_frames(
        &mut self,
        intake: &Intake,
        progress: Option<&Progress>,
        stop: &Stop,
    ) -> Result<(), CaptureError> {
        let mut last_frames = Instant::now();
        let mut stamps = Stamps::new(WallClock::read(), self.opened, clock::now());
        let mut upkeep = Instant::now();
        let mut block = BytesMut::with_capacity(BLOCK_BYTES);
        let mut after_stop = 0;
        loop {
            let stopping = stop.is_asked();
            let read_at = Instant::now();
            let complete_until = clock::now();
            stamps.look(WallClock::read(), complete_until);
            let mut frames = Vec::new();
            let read = self.next_frames(&mut frames, &mut block, &mut stamps);
            let count = frames.len();
            intake.counters().packets_restamped.add(mem::take(&mut stamps.unexplained));
            intake.counters().packets_captured.add(count as u64);
            if count > 0 && !intake.offer(self.batch(frames)) {
                return Ok(());
            }
            read?;
            let is_empty = count < BATCH_FRAMES;
            if is_empty {
                stamps.emptied(complete_until);
            }
            if let Some(progress) = progress.filter(|_| is_empty) {
                let until = progress.emptied(complete_until);
                intake.offer(Input::Observation(Observation::PacketsUntil(until)));
            }
            if count > 0 {
                last_frames = read_at;
            }
            if upkeep.elapsed() >= UPKEEP_INTERVAL {
                self.count_drops(intake.counters());
                upkeep = Instant::now();
            }
            if stopping {
                after_stop += count;
                if is_empty || after_stop >= LAST_FRAMES {
                    return Ok(());
                }
            } else if is_empty {
                let pace = if count >= BUSY_FRAMES { BUSY_PACE } else { PACE };
                let patience = match progress {
                    Some(_) if last_frames.elapsed() < TELLING => TELLING_PATIENCE,
                    Some(_) => QUIET_TELLING_PATIENCE,
                    None => PATIENCE,
                };
                self.wait(stop, &patience, pace.saturating_sub(read_at.elapsed()))?;
            }
        }
    }

    /// Copies what is in the kernel's buffer, up to a batch.
    fn next_frames(
        &mut self,
        frames: &mut Vec<Frame>,
        block: &mut BytesMut,
        stamps: &mut Stamps,
    ) -> Result<(), CaptureError> {
        let direction = self.direction;
        let copy = |packet: Packet<'_>| {
            block.extend_from_slice(packet.data);
            let since_epoch = Duration::new(
                u64::try_from(packet.header.ts.tv_sec).unwrap_or(0),
                // Nanoseconds, in spite of the name: the capture was opened with that precision.
                u32::try_from(packet.header.ts.tv_usec).unwrap_or(0),
            );
            let at = stamps.convert(since_epoch, || (WallClock::read(), clock::now()));
            frames.push(Frame { at, direction, data: block.split().freeze() });
        };
        match self.handle.dispatch(Some(BATCH_FRAMES), copy) {
            Ok(_) => Ok(()),
            Err(source) => Err(self.ended_by(source)),
        }
    }

    fn ended_by(&self, source: pcap::Error) -> CaptureError {
        let interface = self.interface.clone();
        if self.index.is_some() && interfaces::index_of(&interface).and_then(NonZeroU32::new) != self.index {
            return CaptureError::Disappeared { interface, message: one_line(&source) };
        }
        CaptureError::Libpcap { act: "read frames", interface, source }
    }

    fn batch(&self, frames: Vec<Frame>) -> Input {
        Input::Frames(FrameBatch { link_type: self.link_type, interface: self.index, frames })
    }

    /// Waits for a frame or the stop, at most for `patience`, and if one has come for as long as `pause`.
    /// libpcap's own timeout may only begin with the first frame (pcap(3PCAP), "packet buffer timeout").
    fn wait(&self, stop: &Stop, patience: &Timespec, pause: Duration) -> Result<(), CaptureError> {
        let either = [self.handle.as_fd(), stop.as_fd()];
        let mut ready = either.map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN));
        match poll(&mut ready, Some(patience)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => Ok(()),
            Ok(_) => {
                thread::sleep(pause);
                Ok(())
            }
            Err(errno) => Err(CaptureError::Wait { interface: self.interface.clone(), source: errno.into() }),
        }
    }

    /// Adds what libpcap dropped since it was last asked. Its totals are 32 bits wide and wrap.
    fn count_drops(&mut self, counters: &Counters) {
        match self.handle.stats() {
            Ok(stat) => {
                let dropped = stat.dropped.wrapping_sub(self.seen.dropped);
                let by_interface = stat.if_dropped.wrapping_sub(self.seen.if_dropped);
                counters.packets_dropped_by_buffer.add(dropped.into());
                counters.packets_dropped_by_interface.add(by_interface.into());
                self.seen = stat;
            }
            Err(error) => log::warn!("cannot count drops on {}: {}", self.interface, one_line(&error)),
        }
    }
}
