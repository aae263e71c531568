//! The processes of a family: what the process table says of each, and what `/proc` shows.

use super::error::{InspectError, Look};
use super::file::ArenaFile;
use super::objects::Objects;
use super::snapshot::{EndedProcess, FamilySnapshot, HolderSeen, ProcessSeen, ProcessState, WaitSeen};
use crate::arena::seen::{FixedTable, Header};
use crate::ids::Owner;
use crate::liveness::seen::{is_start, table_words, Entry, EntrySeen, WaitWord, ENTRIES};
use crate::liveness::MemberState;
use crate::sys::observed::{self, Observed};
use std::collections::HashMap;

/// How many processes that ended are listed.
const MOST_ENDED: usize = 64;
/// How often an entry that changes is read again.
const ATTEMPTS: usize = 4;

/// The entries of a process table, and what was found out about their processes.
pub(super) struct Processes {
    known: Vec<Known>,
    /// Where in `known` each is.
    numbers: HashMap<Owner, usize>,
    ended: Vec<EndedProcess>,
    root: Option<Owner>,
    damaged: u64,
    /// Where the process table lies.
    table: u64,
}

struct Known {
    entry: EntrySeen,
    observed: Option<Observed>,
    waits: Vec<WaitSeen>,
    role: Option<&'static str>,
    owned_bytes: u64,
}

impl Known {
    /// The thread that the process has besides the engine's own, if it is one that waits.
    fn only_thread(&self) -> Option<(Owner, (u32, u32))> {
        let own = (self.observed?.threads as usize).checked_sub(self.entry.helpers);
        let [wait] = self.entry.waits.iter().filter(|wait| wait.endless).collect::<Vec<_>>()[..] else {
            return None;
        };
        (own == Some(1)).then_some((self.entry.owner, (self.entry.pid, wait.thread?)))
    }
}

impl Processes {
    pub(super) fn read(file: &ArenaFile, header: &Header) -> Look<Self> {
        let (size, root) = table_words(header);
        let (table, _) = file.layout().table(FixedTable::Processes);
        let length = size_of::<Entry>() as u64;
        let size = size.min(file.layout().processes).min(file.committed()? / length);
        let mut found = Self {
            known: Vec::new(),
            numbers: HashMap::new(),
            ended: Vec::new(),
            root,
            damaged: 0,
            table,
        };
        for group in (0..size).step_by(ENTRIES) {
            let bits = file.read::<Entry>(table + group * length)?.group_bits();
            for slot in group..(group + ENTRIES as u64).min(size) {
                let in_use = bits >> (slot - group) & 1 != 0;
                // Entries that were never used are not read, nor more of the ended ones than are listed.
                if in_use || found.ended.len() < MOST_ENDED {
                    found.read_entry(file, table + slot * length, slot as usize)?;
                }
            }
        }
        Ok(found)
    }

    fn read_entry(&mut self, file: &ArenaFile, offset: u64, slot: usize) -> Look<()> {
        let mut entry = file.read::<Entry>(offset)?;
        for _ in 0..ATTEMPTS {
            let again = file.read::<Entry>(offset)?;
            let agree = entry.agrees(&again);
            entry = again;
            if agree {
                break;
            }
        }
        match entry.seen(slot) {
            Some(entry) if entry.state.is_some() => {
                // Where it cannot be told whether a process lives, it must not count as dead.
                let observed = match entry.state {
                    Some(MemberState::Live) => observed::observe(entry.pid).map_err(|source| InspectError::Os {
                        call: "read a process's stat",
                        source,
                    })?,
                    _ => None,
                };
                let observed = observed.filter(|observed| is_start(entry.start, observed.start));
                self.numbers.entry(entry.owner).or_insert(self.known.len());
                self.known.push(Known {
                    entry,
                    observed,
                    waits: Vec::new(),
                    role: None,
                    owned_bytes: 0,
                });
            }
            Some(entry) if entry.pid != 0 => self.ended.push(EndedProcess {
                pid: entry.pid,
                name: entry.name,
                exit_code: entry.exit_code,
            }),
            Some(_) => {}
            None => self.damaged += u64::from(!entry.is_unused()),
        }
        Ok(())
    }

    fn of(&self, owner: Owner) -> Option<&Known> {
        self.known.get(*self.numbers.get(&owner)?)
    }

    /// The identifier of a process of the family that is not known to be gone.
    pub(super) fn pid(&self, owner: Owner) -> Option<u32> {
        self.of(owner).map(|known| known.entry.pid).filter(|&pid| pid != 0)
    }

    pub(super) fn holder(&self, (owner, thread): (Owner, u32)) -> HolderSeen {
        let known = self.of(owner);
        HolderSeen {
            pid: self.pid(owner),
            name: known.map_or_else(String::new, |known| known.entry.name.clone()),
            thread,
        }
    }

    /// The places of the words for which threads have announced that they wait.
    pub(super) fn awaited(&self) -> Vec<u64> {
        let waits = self.known.iter().flat_map(|known| &known.entry.waits);
        waits.map(|wait| self.table.wrapping_add(wait.distance)).collect()
    }

    /// Find out for which object each announced wait is.
    pub(super) fn resolve_waits(&mut self, objects: &Objects) {
        let table = self.table;
        for known in &mut self.known {
            let seen = |wait: &WaitWord| objects.wait_at(table.wrapping_add(wait.distance), wait);
            known.waits = known.entry.waits.iter().map(seen).collect();
        }
    }

    /// Find out which thread alone can end each process for whose end a thread waits.
    pub(super) fn find_joined(&mut self) {
        let only: HashMap<Owner, (u32, u32)> = self.known.iter().filter_map(Known::only_thread).collect();
        for known in &mut self.known {
            for (wait, word) in known.waits.iter_mut().zip(&known.entry.waits) {
                wait.joined = word.joins.and_then(|owner| only.get(&owner).copied());
            }
        }
    }

    /// Note which processes work for a pool, and how much each process owns.
    pub(super) fn add_memory(&mut self, objects: &Objects) {
        let owned: &HashMap<Owner, u64> = objects.owned();
        for known in &mut self.known {
            known.owned_bytes = owned.get(&known.entry.owner).copied().unwrap_or(0);
            if objects.is_pool_worker(known.entry.owner) {
                known.role = Some("pool worker");
            }
        }
    }

    pub(super) fn enter(self, snapshot: &mut FamilySnapshot) {
        snapshot.root = self.root.and_then(|root| self.pid(root));
        snapshot.damaged += self.damaged;
        snapshot.processes = self.known.iter().map(|known| self.describe(known)).collect();
        snapshot.processes.sort_by_key(|process| process.pid);
        snapshot.ended = self.ended;
    }

    fn describe(&self, known: &Known) -> ProcessSeen {
        let (entry, observed) = (&known.entry, known.observed);
        let (private_bytes, shared_bytes) = observed.and_then(|_| observed::resident(entry.pid)).unwrap_or_default();
        let to_ms = |ticks: u64| ticks.saturating_mul(1000) / observed::ticks_per_second();
        ProcessSeen {
            pid: entry.pid,
            name: entry.name.clone(),
            program: observed.and_then(|_| observed::program(entry.pid)).unwrap_or_default(),
            parent: self.parent(known),
            state: state_of(entry, observed),
            start_method: self.start_method(known),
            role: if entry.serving { Some("fork server") } else { known.role },
            age_ms: observed.map_or(0, |observed| {
                to_ms(observed::ticks_now().saturating_sub(observed.start))
            }),
            cpu_ms: observed.map_or(0, |observed| to_ms(observed.cpu)),
            threads: observed.map_or(0, |observed| observed.threads),
            private_bytes,
            shared_bytes,
            owned_bytes: known.owned_bytes,
            waits: known.waits.clone(),
        }
    }

    /// The parent on record, which a child of fork and of a fork server has; otherwise the kernel's.
    fn parent(&self, known: &Known) -> Option<u32> {
        let on_record = known.entry.parent.and_then(|parent| self.pid(parent));
        let is_member = |pid: &u32| self.known.iter().any(|other| other.entry.pid == *pid);
        on_record.or_else(|| known.observed.map(|observed| observed.parent).filter(is_member))
    }

    /// A child of the fork server has the fork server as the kernel's parent, and another process as its parent in the
    /// family.
    fn start_method(&self, known: &Known) -> Option<&'static str> {
        if Some(known.entry.owner) == self.root {
            return Some("root");
        }
        let born_of = known.observed?.parent;
        let by_server = self
            .known
            .iter()
            .any(|other| other.entry.pid == born_of && other.entry.serving);
        match known.entry.by_fork? {
            _ if by_server => Some("forkserver"),
            true => (self.pid(known.entry.parent?) == Some(born_of)).then_some("fork"),
            false => Some("spawn"),
        }
    }
}

fn state_of(entry: &EntrySeen, observed: Option<Observed>) -> ProcessState {
    match (entry.state, observed.map(|observed| observed.state)) {
        (Some(MemberState::Starting), _) => ProcessState::Starting,
        (Some(MemberState::Live), Some('R')) => ProcessState::Running,
        (Some(MemberState::Live), Some('T' | 't')) => ProcessState::Stopped,
        (Some(MemberState::Live), Some(state)) if !matches!(state, 'Z' | 'X' | 'x') => ProcessState::Sleeping,
        _ => ProcessState::Dead,
    }
}
