//! Forks, by any caller: the parent reserves its child's entry beforehand, the child takes it over. Leaves to `births`
//! what is deferred for the child, and to `death` a reservation that no child takes.

use super::entry::{Life, Stage};
use super::own::{become_owner, born_by_fork, me_already, own_start};
use super::registry::{claim, me};
use super::table;
use crate::arena;
use crate::hooks::hooks;
use crate::ids::Owner;
use crate::sys::atfork::ForkHooks;
use crate::sys::proc;
use crate::Result;
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

thread_local! {
    /// The entry that this thread reserved for the child of the fork it is in, or was in last.
    static RESERVED: Cell<u32> = const { Cell::new(0) };
}

static HOOKS: ForkHooks = ForkHooks::new(prepare, parent, child);

/// Have forks registered from now on. This comes before any thread can find the family: without the hooks, a fork
/// beside a thread that uses the family already would leave the child with that thread's locks.
pub(crate) fn install() -> Result<()> {
    HOOKS.install()
}

/// Whether the children that this process forks inherit no references to shared objects.
static FORKS_INHERIT_NOTHING: AtomicBool = AtomicBool::new(false);

/// Declare that the children that this process forks from now on inherit no reference to any shared object, as those of
/// a fork server that holds none. They do not count as born by fork, and no free is deferred for them.
pub fn forks_inherit_nothing() {
    FORKS_INHERIT_NOTHING.store(true, Ordering::Relaxed);
}

fn forks_inherit() -> bool {
    !FORKS_INHERIT_NOTHING.load(Ordering::Relaxed)
}

extern "C" fn prepare() {
    // No family yet, only its hooks: the child will find a family, or make its own.
    if arena::existing().is_none() {
        return;
    }
    // A fork cannot be refused: without an entry the child will try to register by itself.
    let Ok(parent) = me() else { return };
    let reserved = claim(
        Stage::Starting,
        std::process::id(),
        own_start(),
        Some(parent),
        forks_inherit(),
    );
    RESERVED.set(reserved.map_or(0, Owner::to_bits));
}

/// Keeps the reservation for [`abandon_reserved`]: this hook is not told whether the fork succeeded.
extern "C" fn parent() {}

extern "C" fn child() {
    HOOKS.mark_installed();
    let parent = me_already();
    let reserved = Owner::from_bits(RESERVED.replace(0));
    let pid = std::process::id();
    let state = proc::stat(pid);
    let start = state.map_or(0, |state| state.start);
    let parent_start = born_by_fork(start);
    let taken = reserved.filter(|&owner| take_over(owner, parent_start, pid, start));
    // DEATH: if the parent died before its child came here, the child's entry may be another process's. The child then
    // takes a new one.
    let me = taken.or_else(|| {
        parent?;
        table::table()?.claim_any(Stage::Live, pid, start, parent, forks_inherit())
    });
    if let (Some((me, entry)), Some(state)) = (me.and_then(|me| Some((me, table::entry(me)?))), state) {
        entry.set_program(me.generation(), state.program());
    }
    become_owner(me);
    FORKS_INHERIT_NOTHING.store(false, Ordering::Relaxed);
    for reset in hooks().after_fork_child {
        reset();
    }
}

fn take_over(owner: Owner, parent_start: u64, pid: u32, start: u64) -> bool {
    let Some(entry) = table::entry(owner) else {
        return false;
    };
    let life = entry.life();
    let taken = Life::new(owner.generation(), Stage::Live, pid, start);
    let starting = life.generation() == owner.generation()
        && life.stage() == Stage::Starting
        && life.start() == parent_start & Life::START_MASK;
    // The parent may have entered this process itself, see `confirm_reserved`.
    let mine = starting && entry.change(life, taken) || entry.life() == taken;
    if mine {
        entry.pid.store(pid, Ordering::Relaxed);
        entry.since.store(table::now(), Ordering::Relaxed);
    }
    mine
}

/// Record that this thread's last fork made process `pid`. From now on its death is noticed even if it comes before the
/// child took over its entry. Returns the child's start time, if that could be read.
pub(crate) fn confirm_reserved(pid: u32) -> Option<u64> {
    let owner = Owner::from_bits(RESERVED.replace(0))?;
    let state = proc::stat(pid)?;
    let start = state.start;
    let entry = table::entry(owner)?;
    let life = entry.life();
    let starting = life.generation() == owner.generation() && life.stage() == Stage::Starting;
    if starting && entry.change(life, Life::new(owner.generation(), Stage::Live, pid, start)) {
        entry.pid.store(pid, Ordering::Relaxed);
        // The child has not reached its hook yet, so it runs the program it was born with.
        entry.set_program(owner.generation(), state.program());
    }
    Some(start)
}

/// Free the entry that this thread's last fork reserved. To be called only if that fork failed.
pub fn abandon_reserved() {
    let Some(owner) = Owner::from_bits(RESERVED.replace(0)) else {
        return;
    };
    let Some(table) = table::table() else { return };
    let Some(entry) = table.get(owner) else {
        return;
    };
    let life = entry.life();
    if life.generation() == owner.generation() && life.stage() == Stage::Starting {
        table.release(owner, life);
    }
}
