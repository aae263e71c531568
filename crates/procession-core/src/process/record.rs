//! What a fork server, the child that it forks and the client tell each other: one object in the arena.

use super::Exit;
use crate::arena::Object;
use crate::ids::{Kind, Owner};
use crate::liveness;
use crate::sync::wait::{EventCount, Purpose};
use crate::{Deadline, WaitError};
use std::sync::atomic::{
    AtomicI32, AtomicU32,
    Ordering::{AcqRel, Acquire, Relaxed},
};
use std::time::Duration;

/// How often a waiter checks whether the fork server still lives.
const SLICE: Duration = Duration::from_millis(20);

/// The record of one child. Zero-filled: requested, and the request is not read yet.
#[repr(C)]
#[derive(Debug, Default)]
pub struct ChildRecord {
    state: AtomicU32,
    /// Process id; set before `RUNNING`.
    pid: AtomicI32,
    /// Exit status as [`Exit::to_bits`]; set before `EXITED`. Error number; set before `FAILED`.
    status: AtomicI32,
    /// The fork server that read the request; set before `TAKEN`.
    fork_server: AtomicU32,
    event: EventCount,
}

// SAFETY: only atomics; an unknown state word is treated as corrupt or as "not yet", and status words decode from any
// value.
unsafe impl Object for ChildRecord {
    const KIND: Kind = Kind::Child;
    const NAME: &'static str = "child record";
}

const REQUESTED: u32 = 0;
const TAKEN: u32 = 1;
const RUNNING: u32 = 2;
const EXITED: u32 = 3;
const FAILED: u32 = 4;
const ABANDONED: u32 = 5;

/// The reply to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// The child exists, or existed.
    Child(i32),
    /// The fork server could not fork.
    Failed(i32),
    /// The fork server died before it forked. The request is void: it makes no child.
    Void,
}

impl ChildRecord {
    /// Fork server: accept the request; `false` if the client no longer waits.
    pub(super) fn take(&self, fork_server: Owner) -> bool {
        self.fork_server.store(fork_server.to_bits(), Relaxed);
        self.step(REQUESTED, TAKEN)
    }

    /// Fork server or child, whichever is first: record that there is a child. `false` if the client no longer waits;
    /// the child must then end at once.
    pub(super) fn running(&self, pid: i32) -> bool {
        // Fork server and child store the same number.
        self.pid.store(pid, Relaxed);
        if self.step(TAKEN, RUNNING) {
            self.event.notify(u32::MAX);
            return true;
        }
        matches!(self.state.load(Acquire), RUNNING | EXITED)
    }

    /// Fork server: record that there is no child, for this reason.
    pub(super) fn failed(&self, errno: i32) {
        self.status.store(errno, Relaxed);
        if self.step(TAKEN, FAILED) {
            self.event.notify(u32::MAX);
        }
    }

    /// Fork server: record how the child ended. Call it before the child is reaped.
    pub(super) fn exited(&self, exit: Exit) {
        self.status.store(exit.to_bits(), Relaxed);
        if self.step(RUNNING, EXITED) {
            self.event.notify(u32::MAX);
        }
    }

    /// Client: give up waiting for a child; `false` if it already exists, or failed.
    pub(super) fn abandon(&self) -> bool {
        self.step(REQUESTED, ABANDONED) || self.step(TAKEN, ABANDONED)
    }

    /// Client: how the child ended, once that is known.
    pub(super) fn exit(&self) -> Option<Exit> {
        (self.state.load(Acquire) == EXITED).then(|| Exit::from_bits(self.status.load(Relaxed)))
    }

    /// Client: wait for the reply to a request. `fork_server_lives` tells whether the fork server can still read it.
    pub(super) fn wait_reply(
        &self,
        deadline: Deadline,
        fork_server_lives: impl Fn() -> bool,
    ) -> Result<Reply, WaitError> {
        self.wait(
            deadline,
            || self.reply(),
            || {
                // DEATH: the fork server may have died between reading the request and its first report of a child. A
                // child that it forked nevertheless finds the record abandoned and ends at once; a child that was
                // quicker has made it RUNNING.
                if !fork_server_lives() && self.abandon() {
                    return Some(Reply::Void);
                }
                None
            },
        )
    }

    /// Client: wait for the status of a child that the kernel says ended.
    pub(super) fn wait_exit(&self, deadline: Deadline) -> Result<Option<Exit>, WaitError> {
        let waited = self.wait(
            deadline,
            || self.exit(),
            || {
                // DEATH: the fork server may have died before it reported. Look once more: its report may have come
                // just before its death.
                let fork_server = Owner::from_bits(self.fork_server.load(Relaxed));
                (!fork_server.is_some_and(liveness::is_alive)).then(|| self.exit().unwrap_or(Exit::Unknown))
            },
        );
        match waited {
            Ok(exit) => Ok(Some(exit)),
            Err(WaitError::TimedOut) => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn reply(&self) -> Option<Reply> {
        match self.state.load(Acquire) {
            RUNNING | EXITED => Some(Reply::Child(self.pid.load(Relaxed))),
            FAILED => Some(Reply::Failed(self.status.load(Relaxed))),
            _ => None,
        }
    }

    /// Wait for `ready`. While asleep, also check with `lost` whether it can still come.
    fn wait<T>(
        &self,
        deadline: Deadline,
        ready: impl Fn() -> Option<T>,
        lost: impl Fn() -> Option<T>,
    ) -> Result<T, WaitError> {
        if let Some(value) = ready().or_else(|| self.event.spin(&ready)) {
            return Ok(value);
        }
        let purpose = Purpose {
            slice: SLICE,
            ..Purpose::default()
        };
        self.event.sleep_for(purpose, deadline, || ready().or_else(&lost))
    }

    fn step(&self, from: u32, to: u32) -> bool {
        // SYNC: release publishes pid or status; acquire in the readers sees them.
        self.state.compare_exchange(from, to, AcqRel, Acquire).is_ok()
    }
}
