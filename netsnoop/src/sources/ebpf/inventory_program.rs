//! The iterator over all processes and sockets, loaded alone and fast, and the bytes it gives.
//!
//! Left out: what the bytes mean, which is `netsnoop_core::listing_record`'s.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use anyhow::{Context, Result};
use aya_obj::generated::bpf_insn;
use aya_obj::{Map, Object, Program};
use netsnoop_common::listing::Progress;
use netsnoop_common::offsets::{ABSENT, KernelOffsets};
use netsnoop_common::programs::OFFSETS;

use super::bpf_call::{load_iterator, one_element_array, open_iterator};
use super::btf::{KERNEL_BTF_PATH, KernelTypes};
use super::failure::refusal;
use super::load::{OBJECT, raise_locked_memory_limit};
use super::programs::INVENTORY_ITER;
use super::report::{Cause, Failure};
use crate::memory::room_for;

/// The function that stands for this kind of iterator among the kernel's types.
const HOOK: &str = "bpf_iter_task_file";
/// Where the object keeps the globals that programs only read.
const CONSTANTS: &str = ".rodata";
/// The verifier's words, where it refuses the program.
const LOG_BYTES: usize = 1 << 20;
/// What one read can give at most: the kernel buffers 8 pages
/// (<https://github.com/torvalds/linux/blob/v6.12/kernel/bpf/bpf_iter.c#L92>).
const READ_BYTES: usize = 32 * 1024;
/// How many pieces are read before the first of them is taken.
const PIECES_AHEAD: usize = 16;

/// The loaded program.
#[derive(Debug)]
pub struct InventoryProgram {
    program: OwnedFd,
}

/// What the program needs to know of the running kernel.
struct Kernel {
    offsets: Vec<u8>,
    hook: u32,
}

impl InventoryProgram {
    /// Loads it.
    ///
    /// # Errors
    ///
    /// Says what the kernel lacks or forbids.
    pub fn load() -> Result<Self, Failure> {
        let kernel = Kernel::read().map_err(|error| Failure::new(Cause::NoBtf, &error))?;
        let object = linked(&kernel).map_err(|error| Failure::new(Cause::Other, &error))?;
        let raised = raise_locked_memory_limit();
        Self::take_to_kernel(object, kernel.hook).map_err(|failure| match raised {
            Err(limit) if failure.cause == Cause::Permission => Failure::plain(
                failure.cause,
                format!("{failure}, and raising the limit of locked memory: {limit}"),
            ),
            _ => failure,
        })
    }

    fn take_to_kernel(mut object: Object, hook: u32) -> Result<Self, Failure> {
        let (constants, progress) = make_maps(&object).map_err(|error| {
            let (cause, text) = refusal("BPF_MAP_CREATE", &error, "");
            Failure::plain(cause, format!("making the maps of {INVENTORY_ITER}: {text}"))
        })?;
        let code = instructions(&mut object, &constants, &progress)
            .map_err(|error| Failure::new(Cause::Other, &error))?;
        let load = |log: &mut [u8]| load_iterator(&code, &object.license, hook, log);
        // The log costs more than the loading, so it is asked for only where there is something to tell.
        let program = load(&mut []).or_else(|_| {
            let mut log = vec![0; LOG_BYTES];
            load(&mut log).map_err(|error| {
                let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
                let words = String::from_utf8_lossy(log.get(..end).unwrap_or_default()).into_owned();
                let (cause, text) = refusal("BPF_PROG_LOAD", &error, &words);
                Failure { cause, text: format!("loading for iterator task_file: {text}"), reason: text }
            })
        })?;
        Ok(Self { program })
    }

    /// Hands all that it gives to `take`, in pieces that end anywhere, also within a record: `take` gets what it has
    /// not taken yet, and says how many bytes it has taken now. The kernel goes on looking while `take` works.
    ///
    /// # Errors
    ///
    /// If it can be attached or read no more.
    pub fn read(&self, mut take: impl FnMut(&[u8]) -> usize) -> Result<()> {
        let file = open_iterator(&self.program).context("opening the iterator over all files")?;
        let (sender, pieces) = sync_channel(PIECES_AHEAD);
        let read = thread::scope(|scope| {
            let reading = scope.spawn(move || read_pieces(file, &sender));
            let mut held = Vec::new();
            for piece in pieces {
                held.extend_from_slice(&piece);
                let taken = take(&held).min(held.len());
                held.drain(..taken);
            }
            reading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        read.context("reading the iterator over all files")
    }
}

impl Kernel {
    fn read() -> Result<Self> {
        let bytes = read_types().with_context(|| {
            format!("reading {KERNEL_BTF_PATH}, which tells where the kernel keeps the fields of its structs")
        })?;
        let types = KernelTypes::parse(&bytes).with_context(|| format!("understanding {KERNEL_BTF_PATH}"))?;
        let offsets = types.offsets_of(KernelOffsets::FIELDS.map(|field| (field.structure, field.path)));
        let hook = types.function_id(HOOK).with_context(|| format!("the kernel has no {HOOK}"))?;
        let offsets = offsets.into_iter().flat_map(|offset| offset.unwrap_or(ABSENT).to_ne_bytes());
        Ok(Self { offsets: offsets.collect(), hook })
    }
}

/// All types of the kernel, megabytes of them.
fn read_types() -> io::Result<Vec<u8>> {
    let mut file = File::open(KERNEL_BTF_PATH)?;
    // One more than it says, so that its end is seen without room for more.
    let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    let mut bytes = room_for(length + 1);
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The object with this one program, told the kernel's offsets.
fn linked(kernel: &Kernel) -> Result<Object> {
    let mut object = Object::parse(OBJECT).context("parsing the kernel half")?;
    object
        .patch_map_data(HashMap::from([(OFFSETS, (kernel.offsets.as_slice(), true))]))
        .context("telling the kernel half where fields are")?;
    object.programs.retain(|name, _| name == INVENTORY_ITER);
    Ok(object)
}

fn make_maps(object: &Object) -> io::Result<(OwnedFd, OwnedFd)> {
    let constants = object.maps.get(CONSTANTS).map(Map::data).unwrap_or_default();
    let progress = vec![0; size_of::<Progress>()];
    Ok((one_element_array(constants, true)?, one_element_array(&progress, false)?))
}

/// The program's code with all it calls, linked with its maps.
fn instructions(object: &mut Object, constants: &OwnedFd, progress: &OwnedFd) -> Result<Vec<bpf_insn>> {
    let text: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
    let maps = std::mem::take(&mut object.maps);
    // Functions that only other programs call refer to maps that are not made here. They get one that is, and are never
    // linked in.
    let file_of = |name: &str| if name == CONSTANTS { constants } else { progress }.as_raw_fd();
    let made = maps.iter().map(|(name, map)| (name.as_str(), file_of(name), map));
    object.relocate_maps(made, &text).context("linking the kernel half with its maps")?;
    object.relocate_calls(&text).context("linking the kernel half with itself")?;
    let key = object.programs.get(INVENTORY_ITER).map(Program::function_key);
    let function = key.and_then(|key| object.functions.remove(&key));
    Ok(function.with_context(|| format!("the kernel half has no program {INVENTORY_ITER}"))?.instructions)
}

/// Sends all that `file` gives, until nobody takes it any more.
fn read_pieces(mut file: impl Read, pieces: &SyncSender<Vec<u8>>) -> io::Result<()> {
    loop {
        let mut piece = vec![0; READ_BYTES];
        match file.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(length) => {
                piece.truncate(length);
                if pieces.send(piece).is_err() {
                    return Ok(());
                }
            }
            // The kernel pauses after a million files without a socket and wants to be asked again
            // (https://github.com/torvalds/linux/blob/v6.12/kernel/bpf/bpf_iter.c#L155-L163).
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
}
