//! Random numbers that seed hash tables, so that whoever sends packets cannot foresee what collides.

use anyhow::Context;
use rustix::rand::{GetRandomFlags, getrandom};

/// Four random numbers.
pub fn hash_seed() -> anyhow::Result<[u64; 4]> {
    let mut bytes = [0; 32];
    getrandom(&mut bytes[..], GetRandomFlags::empty()).context("reading random numbers for hash tables")?;
    let mut words = bytes.chunks_exact(8).map(|word| word.try_into().map_or(0, u64::from_ne_bytes));
    Ok(std::array::from_fn(|_| words.next().unwrap_or_default()))
}
