//! All processes and all sockets they hold, from one pass of the BPF iterator over all files.
//!
//! Left out: sockets that no descriptor refers to, which `unheld` asks for.

use std::collections::HashMap;
use std::num::NonZeroU64;

use ahash::RandomState;
use anyhow::Result;
use netsnoop_core::inventory::{Holder, ListedProcess, ListedSocket, ProtocolSet, UnseenReason, UnseenThing};
use netsnoop_core::listing_record::{ListingRecord, ListingRecords};

use super::draft::Draft;
use crate::hash_seed::hash_seed;
use crate::sources::ebpf::inventory_program::InventoryProgram;

/// What the pass found beside processes and sockets.
#[derive(Debug)]
pub(super) struct Held {
    /// For each process, what it shares with those that are in the same cgroups.
    pub(super) cgroups: Vec<u64>,
    /// For each namespace that has sockets, how many there are, wanted or not.
    pub(super) sockets: HashMap<u32, u64>,
    /// Namespaces with connection requests.
    pub(super) requests: HashMap<u32, u64>,
    /// Where each socket with an inode is in the draft; `None` if it is not wanted.
    places: HashMap<NonZeroU64, Option<usize>, RandomState>,
    process_of: HashMap<u32, u32>,
    current: Option<u32>,
}

impl Held {
    /// Reads all into `draft`.
    pub(super) fn read(program: &InventoryProgram, draft: &mut Draft, wanted: ProtocolSet) -> Result<Self> {
        let [a, b, c, d] = hash_seed()?;
        let mut this = Self {
            cgroups: Vec::new(),
            sockets: HashMap::new(),
            requests: HashMap::new(),
            places: HashMap::with_hasher(RandomState::with_seeds(a, b, c, d)),
            process_of: HashMap::new(),
            current: None,
        };
        program.read(|bytes| {
            let mut records = ListingRecords::new(bytes);
            for record in records.by_ref() {
                match record {
                    Ok(record) => this.take(record, draft, wanted),
                    Err(error) => {
                        log::debug!("list of sockets: {error}");
                        draft.miss(UnseenThing::Sockets, UnseenReason::Unreadable, 1);
                    }
                }
            }
            bytes.len() - records.rest().len()
        })?;
        Ok(this)
    }

    /// Whether the pass has met this socket.
    pub(super) fn has(&self, inode: NonZeroU64) -> bool {
        self.places.contains_key(&inode)
    }

    fn take(&mut self, record: ListingRecord, draft: &mut Draft, wanted: ProtocolSet) {
        match record {
            ListingRecord::Process { process, namespace, cgroups } => {
                let namespace = namespace.map(|inode| draft.add_inode(inode));
                let (processes, all_cgroups) = (&mut draft.processes, &mut self.cgroups);
                // Threads with files of their own come as tasks of their own.
                let place = *self.process_of.entry(process.id.pid).or_insert_with(|| {
                    processes.push(ListedProcess { process, namespace, container: None });
                    all_cgroups.push(cgroups);
                    u32::try_from(processes.len() - 1).unwrap_or(u32::MAX)
                });
                self.current = Some(place);
            }
            ListingRecord::Descriptor { fd, namespace, socket, requests } => {
                let Some(process) = self.current else {
                    draft.miss(UnseenThing::Processes, UnseenReason::Unreadable, 1);
                    return;
                };
                let namespace = namespace.map(|key| draft.add_namespace(key));
                let socket = ListedSocket { namespace, ..socket };
                self.add(Holder { process, fd }, socket, requests, (draft, wanted));
            }
        }
    }

    fn add(
        &mut self,
        holder: Holder,
        socket: ListedSocket,
        requests: u32,
        (draft, wanted): (&mut Draft, ProtocolSet),
    ) {
        let namespace = socket.namespace;
        let is_wanted = wanted.contains(socket.protocol.group());
        // Every socket behind a file has an inode.
        let Some(inode) = socket.inode else {
            draft.miss(UnseenThing::Sockets, UnseenReason::Unreadable, 1);
            return;
        };
        let sockets = &mut draft.sockets;
        let mut is_new = false;
        let place = *self.places.entry(inode).or_insert_with(|| {
            is_new = true;
            is_wanted.then(|| {
                sockets.push(socket);
                sockets.len() - 1
            })
        });
        if let Some(known) = place.and_then(|place| sockets.get_mut(place)) {
            known.holders.push(holder);
        }
        if let Some(namespace) = namespace.filter(|_| is_new) {
            *self.sockets.entry(namespace).or_default() += 1;
            if requests > 0 {
                *self.requests.entry(namespace).or_default() += u64::from(requests);
            }
        }
    }
}
