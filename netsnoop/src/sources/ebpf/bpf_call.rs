//! The few calls of bpf(2) that load one iterator and read it, without a loader.
//!
//! aya reads the kernel's types twice and makes every map and type of the object before it loads the first program: 70 ms,
//! which nobody minds in a process that stays, and which is most of what a list of all sockets takes. Left out: all else
//! that bpf(2) can do.

use std::ffi::CStr;
use std::fs::File;
use std::io::{Error, Result};
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use aya_obj::generated::bpf_insn;

/// Commands, and what goes with them: ABI, <https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/bpf.h>.
mod command {
    pub(super) const MAP_CREATE: i32 = 0;
    pub(super) const MAP_UPDATE_ELEM: i32 = 2;
    pub(super) const PROG_LOAD: i32 = 5;
    pub(super) const MAP_FREEZE: i32 = 22;
    pub(super) const LINK_CREATE: i32 = 28;
    pub(super) const ITER_CREATE: i32 = 33;
}

const MAP_TYPE_ARRAY: u32 = 2;
const PROG_TYPE_TRACING: u32 = 26;
const TRACE_ITER: u32 = 28;
/// `BPF_F_RDONLY_PROG`: programs may only read it. With it frozen, the verifier takes its values for constants (Linux 5.5).
const READ_ONLY_FOR_PROGRAMS: u32 = 1 << 7;

#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_bytes: u32,
    value_bytes: u32,
    max_entries: u32,
    map_flags: u32,
}

#[repr(C)]
struct MapUpdate {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct MapFreeze {
    map: u32,
}

#[repr(C)]
#[derive(Default)]
struct ProgramLoad {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_bytes: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    expected_attach_type: u32,
    types: u32,
    function_record_bytes: u32,
    functions: u64,
    function_count: u32,
    line_record_bytes: u32,
    lines: u64,
    line_count: u32,
    attach_type_id: u32,
}

#[repr(C)]
struct LinkCreate {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
}

#[repr(C)]
struct IteratorCreate {
    link: u32,
    flags: u32,
}

/// An array of one element with this value; `constant` ones are never changed again.
pub(super) fn one_element_array(value: &[u8], constant: bool) -> Result<OwnedFd> {
    let create = MapCreate {
        map_type: MAP_TYPE_ARRAY,
        key_bytes: 4,
        value_bytes: u32::try_from(value.len()).map_err(Error::other)?,
        max_entries: 1,
        map_flags: if constant { READ_ONLY_FOR_PROGRAMS } else { 0 },
    };
    // SAFETY: the attributes hold no pointer.
    let map = unsafe { call_for_file(command::MAP_CREATE, &create) }?;
    let key = 0_u32;
    let number = number_of(&map);
    let update = MapUpdate {
        map: number,
        padding: 0,
        key: (&raw const key) as u64,
        value: value.as_ptr() as u64,
        flags: 0,
    };
    // SAFETY: key and value outlive the call, and are as long as the map was made for; the kernel only reads them.
    unsafe { call(command::MAP_UPDATE_ELEM, &update) }?;
    if constant {
        // SAFETY: the attributes hold no pointer.
        unsafe { call(command::MAP_FREEZE, &MapFreeze { map: number }) }?;
    }
    Ok(map)
}

/// Loads an iterator: `hook` is the id of its `bpf_iter_*` function among the kernel's types. The verifier's words go to
/// `log`, if there is room for any.
pub(super) fn load_iterator(
    instructions: &[bpf_insn],
    license: &CStr,
    hook: u32,
    log: &mut [u8],
) -> Result<OwnedFd> {
    let load = ProgramLoad {
        program_type: PROG_TYPE_TRACING,
        instruction_count: u32::try_from(instructions.len()).map_err(Error::other)?,
        instructions: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: u32::from(!log.is_empty()),
        log_bytes: u32::try_from(log.len()).map_err(Error::other)?,
        // The kernel refuses an empty log with an address.
        log: if log.is_empty() { 0 } else { log.as_mut_ptr() as u64 },
        expected_attach_type: TRACE_ITER,
        attach_type_id: hook,
        ..ProgramLoad::default()
    };
    // SAFETY: instructions, licence (which ends with NUL) and log outlive the call, with the lengths given; the kernel
    // writes to the log alone, which is borrowed for that.
    unsafe { call_for_file(command::PROG_LOAD, &load) }
}

/// A file whose reading is a run of the iterator over everything. The program is not needed any more.
pub(super) fn open_iterator(program: &OwnedFd) -> Result<File> {
    let create = LinkCreate { program: number_of(program), target: 0, attach_type: TRACE_ITER, flags: 0 };
    // SAFETY: the attributes hold no pointer.
    let link = unsafe { call_for_file(command::LINK_CREATE, &create) }?;
    let create = IteratorCreate { link: number_of(&link), flags: 0 };
    // SAFETY: as above.
    unsafe { call_for_file(command::ITER_CREATE, &create) }.map(File::from)
}

/// Open descriptors are never negative.
fn number_of(file: &impl AsFd) -> u32 {
    file.as_fd().as_raw_fd().unsigned_abs()
}

/// # Safety
/// `command` must be one that returns a descriptor; for `attributes` see [`call`].
unsafe fn call_for_file<T>(command: i32, attributes: &T) -> Result<OwnedFd> {
    // SAFETY: the caller's promise.
    let number = unsafe { call(command, attributes) }?;
    let number = RawFd::try_from(number).map_err(Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// # Safety
/// `attributes` must be the ones of `command`, and every pointer in it valid for what the command does with it.
unsafe fn call<T>(command: i32, attributes: &T) -> Result<i64> {
    // SAFETY: the attributes are readable for as many bytes as are told; what they point to is the caller's promise.
    // The kernel takes attributes of any earlier version's length (man 2 bpf).
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, (&raw const *attributes).cast::<libc::c_void>(), size_of::<T>())
    };
    if result < 0 { Err(Error::last_os_error()) } else { Ok(result) }
}
