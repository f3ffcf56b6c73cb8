//! The tables in the kernel. Each is bounded; what each is for is in `netsnoop_common::programs`.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, LruHashMap, PerCpuArray, RingBuf};
use netsnoop_common::limits::{CONNECTING as CONNECTING_ENTRIES, RING_BYTES, USES as USES_ENTRIES};
use netsnoop_common::listing::Progress;

use crate::first_use::Use;
use crate::programs::socket_state::Connecting;

#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(RING_BYTES, 0);

#[map]
pub static LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

#[map]
pub static USES: LruHashMap<Use, u8> = LruHashMap::with_max_entries(USES_ENTRIES, 0);

#[map]
pub static CONNECTING: LruHashMap<u64, Connecting> = LruHashMap::with_max_entries(CONNECTING_ENTRIES, 0);

#[map]
pub static PROGRESS: Array<Progress> = Array::with_max_entries(1, 0);
