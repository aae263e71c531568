//! The objects of a family: which cells are in use, and what lies in those of each kind.

use super::budget::Budget;
use super::cells::Cells;
use super::error::Look;
use super::file::ArenaFile;
use super::queues;
use super::snapshot::{MemoryUse, ObjectId, ObjectLabel, PoolSeen, QueueSeen, WaitSeen};
use crate::arena::seen::{
    is_segment, AnyBits, CellSeen, CellState, FixedTable, Header, SlabDescriptor, StoredCreationSite, StoredName,
};
use crate::channel::seen::QueueState;
use crate::error::CreationSite;
use crate::ids::{Kind, Owner};
use crate::liveness::seen::WaitWord;
use crate::pool::seen::{PoolState, SlotCounts};
use crate::sync::seen::{BarrierState, Chunk, ConditionState, EventState, LockState, LockWord, Permits, RLockState};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::Ordering::Relaxed;

/// How many objects of a kind are listed. A snapshot of more would be too long to read, and to take. As many locks more
/// are listed if they are awaited or held.
const MOST_OF_A_KIND: usize = 20_000;
/// How many locks are looked at, to find those that are held.
const MOST_LOCKS: usize = 500_000;
/// How many chunks of an object's waiters are read.
const MOST_CHUNKS: usize = 256;
/// Descriptors that are read at once.
const BATCH: u64 = 16;

/// An object whose content was read.
pub(super) enum Content {
    Lock(&'static str, LockWord, Option<CreationSite>, u32),
    Semaphore(u32, u32),
    Event(bool),
    Condition(Vec<Owner>),
    Barrier(u32, bool, Vec<Owner>),
    Queue(QueueSeen),
    Pool(PoolSeen, SlotCounts),
    Collection(&'static str),
}

/// What is in use in an arena.
pub(super) struct Objects {
    cells: Cells,
    budget: Budget,
    pub(super) contents: Vec<(ObjectId, Content)>,
    pub(super) labels: HashMap<ObjectId, ObjectLabel>,
    /// Cells that belong to an object: further chunks of waiters.
    parts: HashMap<u32, (ObjectId, &'static str)>,
    owned: HashMap<Owner, u64>,
    workers: HashSet<Owner>,
    pub(super) usage: BTreeMap<&'static str, MemoryUse>,
    pub(super) left_out: u64,
}

/// The name of a kind for people.
pub(super) fn name_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Lock => "lock",
        Kind::RLock => "rlock",
        Kind::Semaphore => "semaphore",
        Kind::Condition => "condition",
        Kind::Event => "event",
        Kind::Barrier => "barrier",
        Kind::Queue => "queue",
        Kind::Shared => "value or array",
        Kind::Child => "child record",
        Kind::Job => "job",
        Kind::Pool => "pool",
        Kind::Cell => "waiter list",
        Kind::ResultSlot => "result",
        Kind::BrokeredFd => "sent descriptor",
        Kind::Mailbox => "mailbox",
        Kind::Lane => "pipe",
        Kind::Dict | Kind::DictTable | Kind::DictSegment | Kind::DictBucket | Kind::DictValue => "dictionary",
        Kind::List | Kind::ListRoot | Kind::ListNode | Kind::ListValue => "list",
    }
}

fn kind_of(number: u8) -> Option<Kind> {
    Kind::from_number(number)
}

impl Objects {
    /// Read the objects. Those in which one of the `awaited` places lies are listed first.
    pub(super) fn read(file: &ArenaFile, header: &Header, awaited: &[u64], budget: Budget) -> Look<Self> {
        let mut objects = Self {
            cells: Cells::default(),
            budget,
            contents: Vec::new(),
            labels: HashMap::new(),
            parts: HashMap::new(),
            owned: HashMap::new(),
            workers: HashSet::new(),
            usage: BTreeMap::new(),
            left_out: 0,
        };
        let (table, _) = file.layout().table(FixedTable::Slabs);
        let length = size_of::<SlabDescriptor>() as u64;
        // A damaged count does not reach beyond what the system has committed.
        let slabs = header.slab_count.load(Relaxed);
        let slabs = slabs.min(file.layout().slabs).min(file.committed()? / length + 1);
        for first in (0..slabs).step_by(BATCH as usize) {
            let batch = file.read::<[SlabDescriptor; BATCH as usize]>(table + first * length)?;
            for (slab, descriptor) in (first..slabs).zip(batch.iter()) {
                for cell in descriptor.cells_in_use(slab as u32, file.layout()) {
                    objects.note(cell);
                }
            }
        }
        objects.read_contents(file, awaited, |slab| file.read(table + u64::from(slab) * length))?;
        Ok(objects)
    }

    /// Count a cell in use.
    fn note(&mut self, cell: CellSeen) {
        use CellState::{Awaited, Damaged, Deferred, Dying, Free, Object, Owned, Spent, Transit};
        let kind = kind_of(cell.kind);
        let name = match cell.state {
            Free | Spent => return,
            Damaged => "damaged",
            Deferred { .. } => "deferred",
            Dying(_) => "being destroyed",
            Object { .. } => kind.map_or("damaged", name_of),
            Owned(owner) => {
                *self.owned.entry(owner).or_default() += cell.bytes;
                "owned by processes"
            }
            Transit | Awaited(_) if is_segment(&cell) => "queue segments",
            Transit | Awaited(_) => match kind {
                Some(kind) if cell.kind != 0 => name_of(kind),
                _ => "messages",
            },
        };
        let usage = self.usage.entry(name).or_insert(MemoryUse {
            kind: name,
            count: 0,
            bytes: 0,
        });
        usage.count += 1;
        usage.bytes += cell.bytes;
        self.cells.add(cell);
    }

    fn read_contents(
        &mut self,
        file: &ArenaFile,
        awaited: &[u64],
        slab: impl Fn(u32) -> Look<Box<SlabDescriptor>>,
    ) -> Look<()> {
        let awaited: HashSet<u32> = awaited
            .iter()
            .filter_map(|&place| Some(self.cells.at(place)?.index))
            .collect();
        let mut candidates: Vec<CellSeen> = self.cells.all().filter(|cell| is_listed(cell)).copied().collect();
        candidates.sort_by_key(|cell| !awaited.contains(&cell.index));
        // Of each kind: how many are listed, how many of these because they are held or awaited, how many were looked at.
        let mut counts: HashMap<u8, [usize; 3]> = HashMap::new();
        for cell in candidates {
            let [listed, in_use, examined] = counts.entry(cell.kind).or_default();
            let is_lock = matches!(kind_of(cell.kind), Some(Kind::Lock | Kind::RLock));
            let is_full = *listed - *in_use >= MOST_OF_A_KIND;
            if (is_full && !is_lock) || *in_use >= MOST_OF_A_KIND || *examined >= MOST_LOCKS {
                self.left_out += 1;
                continue;
            }
            *examined += 1;
            let (content, parts) = self.content(file, &cell)?;
            // What was read counts only if the object was there before and after.
            let Some(content) = content else { continue };
            let is_held = matches!(&content, Content::Lock(_, word, ..) if word.holder.is_some());
            let is_in_use = is_lock && (is_held || awaited.contains(&cell.index));
            if is_full && !is_in_use {
                self.left_out += 1;
                continue;
            }
            let label = label(file, &cell, &content)?;
            if slab(cell.index / 64)?.still_has(&cell) {
                *listed += 1;
                *in_use += usize::from(is_in_use);
                let id = id_of(&cell);
                if label != ObjectLabel::default() {
                    self.labels.insert(id, label);
                }
                self.parts
                    .extend(parts.into_iter().map(|part| (part, (id, name(&cell)))));
                if let Content::Pool(_, counts) = &content {
                    self.workers
                        .extend(counts.workers.iter().filter_map(|worker| worker.owner));
                }
                self.contents.push((id, content));
            }
        }
        self.contents.sort_by_key(|(id, _)| *id);
        Ok(())
    }

    fn content(&self, file: &ArenaFile, cell: &CellSeen) -> Look<(Option<Content>, Vec<u32>)> {
        let mut parts = Vec::new();
        let content = match kind_of(cell.kind) {
            Some(Kind::Lock) => read::<LockState>(file, cell)?.map(|state| {
                let (word, made) = state.seen();
                let count = u32::from(word.holder.is_some());
                Content::Lock("lock", word, made, count)
            }),
            Some(Kind::RLock) => read::<RLockState>(file, cell)?.map(|state| {
                let (word, made, count) = state.seen();
                Content::Lock("rlock", word, made, count)
            }),
            Some(Kind::Semaphore) => read::<Permits>(file, cell)?.map(|state| {
                let (value, bound) = state.seen();
                Content::Semaphore(value, bound)
            }),
            Some(Kind::Event) => read::<EventState>(file, cell)?.map(|state| Content::Event(state.seen())),
            Some(Kind::Condition) => match read::<ConditionState>(file, cell)? {
                Some(state) => Some(Content::Condition(self.waiters(
                    file,
                    state.first_chunk(),
                    &mut parts,
                )?)),
                None => None,
            },
            Some(Kind::Barrier) => match read::<BarrierState>(file, cell)? {
                Some(state) => {
                    let (parties, broken) = state.seen();
                    Some(Content::Barrier(
                        parties,
                        broken,
                        self.waiters(file, state.first_chunk(), &mut parts)?,
                    ))
                }
                None => None,
            },
            Some(Kind::Queue) => match read::<QueueState>(file, cell)? {
                Some(state) => Some(Content::Queue(queues::queue(
                    file,
                    &self.cells,
                    &self.budget,
                    id_of(cell),
                    &state,
                )?)),
                None => None,
            },
            Some(Kind::Pool) => match read::<PoolState>(file, cell)? {
                Some(state) => {
                    let (seen, counts) = queues::pool(file, &self.cells, &self.budget, id_of(cell), &state)?;
                    Some(Content::Pool(seen, counts))
                }
                None => None,
            },
            Some(kind @ (Kind::Dict | Kind::List)) => Some(Content::Collection(name_of(kind))),
            _ => None,
        };
        Ok((content, parts))
    }

    /// The waiters of a condition or barrier. `parts` gets the cells of its further chunks.
    fn waiters(&self, file: &ArenaFile, first: &Chunk, parts: &mut Vec<u32>) -> Look<Vec<Owner>> {
        let (mut waiting, mut next) = first.seen();
        let mut passed = HashSet::new();
        while let Some(cell) = next.and_then(|handle| self.cells.chunk(handle)) {
            // A list that leads back to itself is damaged.
            if passed.len() >= MOST_CHUNKS || !passed.insert(cell.index) || !self.budget.take(1) {
                break;
            }
            let Some(chunk) = read::<Chunk>(file, &cell)? else {
                break;
            };
            let (more, following) = chunk.seen();
            waiting.extend(more);
            next = following;
        }
        parts.extend(passed);
        Ok(waiting)
    }

    /// Bytes owned by each process.
    pub(super) fn owned(&self) -> &HashMap<Owner, u64> {
        &self.owned
    }

    pub(super) fn is_pool_worker(&self, owner: Owner) -> bool {
        self.workers.contains(&owner)
    }

    /// The wait of a thread that sleeps on a word at this place.
    pub(super) fn wait_at(&self, place: u64, wait: &WaitWord) -> WaitSeen {
        let cell = self.cells.at(place);
        let known = cell.map(|cell| match self.parts.get(&cell.index) {
            Some(&(id, kind)) => (id, kind, "wait"),
            None => (id_of(cell), name(cell), operation(cell, place - cell.offset)),
        });
        let (object, kind, operation) = match known {
            _ if wait.joins.is_some() => (None, "process", "join"),
            Some((id, kind, operation)) => (Some(id), kind, operation),
            None => (None, "", "wait"),
        };
        WaitSeen {
            kind,
            object,
            operation,
            for_ms: wait.for_ms.into(),
            since_ms: wait.since_ms,
            thread: wait.thread,
            joined: None,
            endless: wait.endless,
        }
    }
}

/// Whether a cell is an object of a kind that is listed.
fn is_listed(cell: &CellSeen) -> bool {
    let listed = [
        Kind::Lock,
        Kind::RLock,
        Kind::Semaphore,
        Kind::Condition,
        Kind::Event,
        Kind::Barrier,
        Kind::Queue,
        Kind::Pool,
        Kind::Dict,
        Kind::List,
    ];
    matches!(cell.state, CellState::Object { .. }) && kind_of(cell.kind).is_some_and(|kind| listed.contains(&kind))
}

fn id_of(cell: &CellSeen) -> ObjectId {
    ObjectId::new(cell.index, cell.generation)
}

fn name(cell: &CellSeen) -> &'static str {
    kind_of(cell.kind).map_or("", name_of)
}

/// What a thread does that sleeps this far into an object.
fn operation(cell: &CellSeen, distance: u64) -> &'static str {
    match kind_of(cell.kind) {
        Some(Kind::Lock | Kind::RLock | Kind::Semaphore) => "acquire",
        Some(Kind::Queue) => crate::channel::seen::awaited(distance),
        Some(Kind::Pool) => crate::pool::seen::awaited(distance),
        _ => "wait",
    }
}

/// The label of an object: a lock has the line that made it in its state.
fn label(file: &ArenaFile, cell: &CellSeen, content: &Content) -> Look<ObjectLabel> {
    let size = cell.bytes as usize;
    let mut label = ObjectLabel::default();
    if let Some(at) = cell.label.name(size) {
        label.name = file.read::<StoredName>(cell.offset + at as u64)?.get();
    }
    if let Some(at) = cell.label.site(size) {
        label.made = file.read::<StoredCreationSite>(cell.offset + at as u64)?.get();
    }
    if let Content::Lock(_, _, Some(made), _) = content {
        label.made = Some(made.clone());
    }
    Ok(label)
}

/// Copy an object's state. `None`: its cell is too small for it, so the note of its kind is damaged.
fn read<T: AnyBits>(file: &ArenaFile, cell: &CellSeen) -> Look<Option<Box<T>>> {
    if cell.bytes < size_of::<T>() as u64 {
        return Ok(None);
    }
    file.read(cell.offset).map(Some)
}
