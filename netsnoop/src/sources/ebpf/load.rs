//! The object of the kernel half: parsed, told the kernel's offsets, its maps made.
//!
//! The programs in it are loaded and attached one by one by `attach`.

use std::io;

use anyhow::{Context, Result};
use aya::maps::MapError;
use aya::{Btf, EbpfError, EbpfLoader, Endianness, VerifierLogLevel};
use netsnoop_common::offsets::{ABSENT, KernelOffsets};
use netsnoop_common::programs::{
    ACCEPT_ARGUMENTS, ACCEPT_EXIT_RUNG, CONNECT_BY_STATE, CONNECTING, EVENTS, MAKES_COOKIES, OFFSETS, USES,
};
use netsnoop_core::attribution::Rung;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, setrlimit};

use super::btf::{KERNEL_BTF_PATH, KernelTypes};
use super::report::{Cause, Failure};

pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("NETSNOOP_EBPF_OBJECT"));

/// What the kernel's types tell of it.
#[derive(Debug)]
struct TypeFacts {
    offsets: [u32; KernelOffsets::FIELDS.len()],
    /// See [`MAKES_COOKIES`].
    makes_cookies: u32,
    /// See [`ACCEPT_ARGUMENTS`].
    accept_arguments: u32,
}

/// What the programs need to know of the running kernel.
#[derive(Debug)]
pub(super) struct KernelFacts {
    types: TypeFacts,
    pub(super) btf: Btf,
}

impl KernelFacts {
    pub(super) fn read() -> Result<Self, Failure> {
        Self::try_read().map_err(|error| Failure::new(Cause::NoBtf, &error))
    }

    fn try_read() -> Result<Self> {
        let bytes = std::fs::read(KERNEL_BTF_PATH).with_context(|| {
            format!("reading {KERNEL_BTF_PATH}, which tells where the kernel keeps the fields of its structs")
        })?;
        let types = read_types(&bytes)?;
        let btf = Btf::parse(&bytes, Endianness::default())
            .with_context(|| format!("finding attach points in {KERNEL_BTF_PATH}"))?;
        Ok(Self { types, btf })
    }
}

/// The types it reads are given back before others are made of the same bytes: each takes several megabytes.
fn read_types(bytes: &[u8]) -> Result<TypeFacts> {
    let types = KernelTypes::parse(bytes).with_context(|| format!("understanding {KERNEL_BTF_PATH}"))?;
    let offsets = types.offsets_of(KernelOffsets::FIELDS.map(|field| (field.structure, field.path)));
    for (field, _) in KernelOffsets::FIELDS.iter().zip(offsets).filter(|(_, offset)| offset.is_none()) {
        log::debug!("this kernel has no {}.{}", field.structure, field.path);
    }
    let offsets = offsets.map(|offset| offset.unwrap_or(ABSENT));
    // The function that answers BTF tracepoints, of the same age as their permission to ask:
    // https://github.com/torvalds/linux/commit/c5dbb89fc2ac
    let makes_cookies = u32::from(types.has_function("bpf_get_socket_ptr_cookie"));
    let accept_arguments = types.arguments_of("inet_csk_accept").unwrap_or_default();
    Ok(TypeFacts { offsets, makes_cookies, accept_arguments })
}

/// How the programs shall behave.
#[derive(Clone, Copy, Debug)]
pub(super) struct Globals {
    /// `socket_state_*` must tell connects, as nothing stronger does.
    pub(super) connect_by_state: bool,
    /// What `accept_exit` and `accept4_exit` name in their records.
    pub(super) accept_exit_rung: Rung,
    /// Whether the programs write diagnostics.
    pub(super) log: bool,
}

/// Makes the maps and leaves the programs to be loaded one by one. With `ring` false the maps are as
/// small as can be: the iterator writes to its file only.
pub(super) fn object(facts: &KernelFacts, globals: Globals, ring: bool) -> Result<aya::Ebpf, Failure> {
    let connect_by_state = u32::from(globals.connect_by_state);
    let accept_exit_rung = globals.accept_exit_rung as u32;
    let log_level = if globals.log { u8::MAX } else { 0 };
    let mut loader = EbpfLoader::new();
    loader
        .btf(Some(&facts.btf))
        .override_global(OFFSETS, &facts.types.offsets, true)
        .override_global(MAKES_COOKIES, &facts.types.makes_cookies, true)
        .override_global(ACCEPT_ARGUMENTS, &facts.types.accept_arguments, true)
        .override_global(CONNECT_BY_STATE, &connect_by_state, true)
        .override_global(ACCEPT_EXIT_RUNG, &accept_exit_rung, true)
        .override_global(aya_log::LEVEL, &log_level, false)
        .verifier_log_level(if globals.log { VerifierLogLevel::default() } else { VerifierLogLevel::STATS });
    if !ring {
        loader.map_max_entries(EVENTS, 1).map_max_entries(USES, 1).map_max_entries(CONNECTING, 1);
    }
    let raised = raise_locked_memory_limit();
    loader.load(OBJECT).map_err(|error| {
        let failure = Failure::of_object(&error);
        match raised {
            Err(limit) if is_map_denied(&error) => Failure::plain(
                Cause::LockedMemory,
                format!("{failure}, and raising the limit of locked memory: {limit}"),
            ),
            _ => failure,
        }
    })
}

/// Before Linux 5.11 maps count as locked memory, of which a process may have 64 KiB by default
/// (<https://github.com/torvalds/linux/commit/97306be45fbe>).
pub(super) fn raise_locked_memory_limit() -> Result<(), Errno> {
    setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None })
}

/// Too much locked memory is told as EPERM (man 2 bpf).
fn is_map_denied(error: &EbpfError) -> bool {
    let EbpfError::MapError(MapError::CreateError { io_error, .. }) = error else { return false };
    io_error.kind() == io::ErrorKind::PermissionDenied
}
