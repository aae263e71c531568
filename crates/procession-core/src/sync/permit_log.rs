//! Records which process holds a semaphore's permits, so that the permits of dead processes are given back.
//!
//! Each process has an account: a word of its own with the permits that it holds. An operation changes the semaphore's
//! word and one account, without a lock. It is *begun* by one compare-and-swap that changes the value and notes the
//! operation in the upper half of the same word. It is *carried out* in the account, and *resolved* by taking the note
//! away. A process that finds the note of another's operation carries it out and resolves it before it begins its own.
//! So a process that is stopped or killed in the middle blocks no other, and value and accounts always agree.

use super::permits::{Permits, SEM_VALUE_MAX};
use super::primitive::{AtomicU64, Ordering};
use super::waiters::Chunk;
use crate::ids::Owner;
use crate::liveness;
use crate::{Error, Result};
use Ordering::{AcqRel, Acquire, Relaxed};

/// An account. Its owner's word is zero when it has no owner. The other word is `operations 33 | permits 31`, and is
/// never reset.
#[derive(Clone, Copy)]
struct Account<'a> {
    number: usize,
    owner: &'a AtomicU64,
    word: &'a AtomicU64,
}

const PERMITS: u64 = (1 << 31) - 1;
const ONE_OPERATION: u64 = 1 << 31;

/// An operation on an account.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum PermitChange {
    /// A permit is taken.
    Take = 1,
    /// A permit is given back.
    Give = 2,
    /// All permits of a dead owner are taken back.
    Forfeit = 3,
}

/// The note of an operation, in the upper half of a semaphore's word: `account 14 | operations 16 | kind 2`. Once the
/// operation is resolved, the kind is zero and the rest stays: a word that was seen twice with the same value had not
/// changed in between.
#[derive(Clone, Copy, PartialEq, Eq)]
struct PermitNote(u32);

impl PermitNote {
    const KIND: u32 = 3;
    const OPERATIONS: u32 = (1 << 16) - 1;
    const ACCOUNTS: usize = 1 << 14;

    /// The note of the operation after which the account's word is `after`.
    fn new(kind: PermitChange, account: usize, after: u64) -> Self {
        let operations = (after >> 31) as u32 & Self::OPERATIONS;
        Self((account as u32) << 18 | operations << 2 | kind as u32)
    }

    fn of(word: u64) -> Self {
        Self((word >> 32) as u32)
    }

    fn kind(self) -> Option<PermitChange> {
        match self.0 & Self::KIND {
            1 => Some(PermitChange::Take),
            2 => Some(PermitChange::Give),
            3 => Some(PermitChange::Forfeit),
            _ => None,
        }
    }

    fn account(self) -> usize {
        (self.0 >> 18) as usize
    }

    /// The account's word after the operation, if the operation is not carried out yet.
    fn result(self, kind: PermitChange, before: u64) -> Option<u64> {
        let after = kind.change(before);
        (Self::new(kind, self.account(), after) == self).then_some(after)
    }
}

impl PermitChange {
    /// The account's word after the operation.
    fn change(self, before: u64) -> u64 {
        let held = before & PERMITS;
        let now = match self {
            Self::Take => (held + 1).min(PERMITS),
            Self::Give => held.saturating_sub(1),
            Self::Forfeit => 0,
        };
        (before & !PERMITS).wrapping_add(ONE_OPERATION) | now
    }
}

/// Take a permit and record it. Out of line: a semaphore without a log saves no registers for it.
#[inline(never)]
pub(super) fn take(state: &Permits, holders: &Chunk) -> Result<bool> {
    let me = liveness::me()?;
    let mut reclaimed = false;
    loop {
        let word = resolved(state, holders)?;
        if Permits::value_of(word) == 0 {
            // The accounts of dead holders may be out of reach: then a wait might never end.
            holders.reach()?;
            if reclaimed || !has_dead(holders) || !reclaim(state, holders)? {
                return Ok(false);
            }
            reclaimed = true;
            continue;
        }
        let account = account_of(me, state, holders)?;
        let before = account.word.load(Acquire);
        if operate(
            state,
            holders,
            word,
            word - 1,
            PermitChange::Take,
            account.number,
            before,
        ) {
            return Ok(true);
        }
    }
}

/// Give a permit back, or add one if this process holds none. False: the value is at its bound already.
pub(super) fn give(state: &Permits, holders: &Chunk) -> Result<bool> {
    let me = liveness::me()?;
    loop {
        let word = resolved(state, holders)?;
        if Permits::value_of(word) >= state.bound().min(SEM_VALUE_MAX) {
            return Ok(false);
        }
        let mine = accounts(holders)
            .filter(|account| account.owner() == Some(me))
            .map(|account| (account, account.word.load(Acquire)))
            .find(|(_, before)| before & PERMITS != 0);
        let given = match mine {
            Some((account, before)) => operate(
                state,
                holders,
                word,
                word + 1,
                PermitChange::Give,
                account.number,
                before,
            ),
            None => state.swap(word, word + 1),
        };
        if given {
            // DEATH: if we are killed before this wake, a sleeper learns of the permit in its next slice.
            state.wake_after_release(word + 1);
            return Ok(true);
        }
    }
}

/// Take back what dead processes held. Returns whether there was anything: permits, or only accounts.
pub(super) fn reclaim(state: &Permits, holders: &Chunk) -> Result<bool> {
    let mut found = false;
    for account in accounts(holders) {
        while let Some(owner) = account.owner().filter(|&owner| !liveness::is_alive(owner)) {
            found = true;
            let word = resolved(state, holders)?;
            let before = account.word.load(Acquire);
            // SYNC: the account has belonged to the dead process since the word was read, so only another survivor can
            // change it.
            if account.owner() != Some(owner) {
                continue;
            }
            let held = (before & PERMITS) as u32;
            if held == 0 {
                let _ = account
                    .owner
                    .compare_exchange(owner.to_bits().into(), 0, AcqRel, Relaxed);
                continue;
            }
            let value = Permits::value_of(word);
            let back = held.min(state.bound().min(SEM_VALUE_MAX).saturating_sub(value));
            let after = word + u64::from(back);
            if operate(
                state,
                holders,
                word,
                after,
                PermitChange::Forfeit,
                account.number,
                before,
            ) {
                state.wake_all();
            }
        }
    }
    Ok(found)
}

/// Begin an operation, then carry it out and resolve it. `word` has no other operation's note, and the account's word
/// `before` was read after it. False: the semaphore's word has changed.
fn operate(
    state: &Permits,
    holders: &Chunk,
    word: u64,
    with: u64,
    kind: PermitChange,
    account: usize,
    before: u64,
) -> bool {
    let note = PermitNote::new(kind, account, kind.change(before));
    let begun = u64::from(note.0) << 32 | with & u64::from(u32::MAX);
    let ours = state.swap(word, begun);
    if ours {
        // DEATH: if we are killed from here on, the next process carries it out.
        if carry_out(holders, note).is_ok() {
            resolve(state, note);
        }
    }
    ours
}

/// The semaphore's word, once no operation is noted in it. Fails if the account that a note names is out of this
/// process's reach; the note stays for others.
fn resolved(state: &Permits, holders: &Chunk) -> Result<u64> {
    loop {
        let word = state.load();
        let note = PermitNote::of(word);
        if note.kind().is_none() {
            return Ok(word);
        }
        carry_out(holders, note)?;
        resolve(state, note);
    }
}

/// Change the account that the note names, unless that was done. An account's word counts its operations, so late
/// helpers do nothing.
fn carry_out(holders: &Chunk, note: PermitNote) -> Result<()> {
    // In a damaged word, a note may name an account that does not exist: there is nothing to change.
    let (Some(kind), Some([_, word])) = (note.kind(), holders.pair(note.account())?) else {
        return Ok(());
    };
    let before = word.load(Acquire);
    if let Some(after) = note.result(kind, before) {
        // Fails if another helper was first.
        let _ = word.compare_exchange(before, after, AcqRel, Relaxed);
    }
    Ok(())
}

/// Take the note away, after it was carried out.
fn resolve(state: &Permits, note: PermitNote) {
    let kind = u64::from(PermitNote::KIND) << 32;
    loop {
        let word = state.load();
        if PermitNote::of(word) != note || state.swap(word, word & !kind) {
            return;
        }
    }
}

impl Account<'_> {
    /// A damaged word has no owner, and is not free either.
    fn owner(&self) -> Option<Owner> {
        u32::try_from(self.owner.load(Acquire)).ok().and_then(Owner::from_bits)
    }

    fn is_free(&self) -> bool {
        self.owner.load(Acquire) == 0
    }
}

fn accounts(holders: &Chunk) -> impl Iterator<Item = Account<'_>> {
    let pairs = holders.pairs().take(PermitNote::ACCOUNTS).enumerate();
    pairs.map(|(number, [owner, word])| Account { number, owner, word })
}

/// This process's account; a new one if it has none. A process can get several accounts if its threads ask at the same
/// time.
fn account_of<'a>(me: Owner, state: &Permits, holders: &'a Chunk) -> Result<Account<'a>> {
    let mut seen = 0;
    loop {
        let mut free = None;
        for account in accounts(holders) {
            match account.owner() {
                Some(owner) if owner == me => return Ok(account),
                None if free.is_none() && account.is_free() => free = Some(account),
                _ => {}
            }
        }
        match free {
            Some(free) => {
                let claimed = free.owner.compare_exchange(0, me.to_bits().into(), AcqRel, Relaxed);
                if claimed.is_ok() {
                    return Ok(free);
                }
            }
            None if reclaim(state, holders)? => {}
            None if accounts(holders).count() < PermitNote::ACCOUNTS => holders.grow(&mut seen)?,
            None => return Err(Error::ProcessTableFull(PermitNote::ACCOUNTS)),
        }
    }
}

/// Whether a dead process has an account. Asks the kernel only now and then.
fn has_dead(holders: &Chunk) -> bool {
    let ask = liveness::may_ask();
    let mut owners = accounts(holders).filter_map(|account| account.owner());
    owners.any(|owner| liveness::is_known_dead(owner) || ask && !liveness::is_alive(owner))
}
