//! Work on many alike things by several threads: each takes the next one whenever it is done with one, so that a busy
//! processor delays no more than what is on it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::Result;

/// More threads than this gain little: what they look at in the kernel has locks.
const THREADS_MAX: usize = 4;

/// Does `work` on everything in `things` and returns what came of it, in their order. A thread is worth its start from `share`
/// things on, and gets ready by `start`.
pub(super) fn side_by_side<T: Sync, Tools, R: Send>(
    things: &[T],
    share: usize,
    start: impl Fn() -> Result<Tools> + Sync,
    work: impl Fn(&mut Tools, &T) -> R + Sync,
) -> Result<Vec<R>> {
    let processors = thread::available_parallelism().map_or(1, |count| count.get().min(THREADS_MAX));
    let threads = things.len().div_ceil(share).clamp(1, processors);
    let next = AtomicUsize::new(0);
    let take_turns = || -> Result<Vec<(usize, R)>> {
        let mut tools = start()?;
        let mut done = Vec::new();
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(thing) = things.get(place) else { return Ok(done) };
            done.push((place, work(&mut tools, thing)));
        }
    };
    let all: Vec<Result<Vec<(usize, R)>>> = thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(take_turns)).collect();
        let ended = running.into_iter().map(thread::ScopedJoinHandle::join);
        ended.map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    let mut done = Vec::with_capacity(things.len());
    for some in all {
        done.extend(some?);
    }
    done.sort_unstable_by_key(|(place, _)| *place);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn all_is_done_once_and_kept_in_order() {
        for count in [0, 1, 7, 1000] {
            let things: Vec<usize> = (0..count).collect();
            let done = side_by_side(&things, 3, || Ok(()), |(), thing| thing * 2).unwrap();
            assert_eq!(done, things.iter().map(|thing| thing * 2).collect::<Vec<_>>());
        }
    }

    #[test]
    fn who_cannot_start_says_so() {
        let done = side_by_side(&[1, 2], 1, || Err(anyhow!("no tools")), |(): &mut (), _| ());
        assert_eq!(done.unwrap_err().to_string(), "no tools");
    }
}
