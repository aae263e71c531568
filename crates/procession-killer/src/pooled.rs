//! Stops of a pool's processes: its parent, or one of its workers.
//!
//! A pool's jobs are known to its parent alone. So the parent takes part to the end, in turns.

use crate::operations::Beside;
use crate::remote::kill;
use crate::stage::{board, survive, turn, until_stopped, Turns, Values, World};
use crate::stop::{Others, Scene, Stopped};
use libc::pid_t;
use procession_core::arena::Counters;
use procession_core::liveness;
use std::time::Duration;

/// No turn before the stop takes longer.
const SOON: Duration = Duration::from_secs(10);

type Parent = Box<dyn Fn() -> (Vec<u64>, Turns)>;
type Worker = Box<dyn Fn(&Values) -> Turns>;

/// An operation of a pool, and what other processes of the pool do while one is stopped in it.
pub struct Pooled {
    pub name: &'static str,
    /// What the parent makes, and what it tells the others. Its turns are, if a worker is stopped: before the
    /// operation, beside it, and at the end. Otherwise: the operation, and the end. At the end it writes on the board
    /// what it found.
    pub parent: Parent,
    /// What the stopped worker does: the operation, and what follows when it is continued. `None`: the parent is
    /// stopped.
    pub worker: Option<Worker>,
    /// What another worker does meanwhile.
    pub beside: Beside,
    /// Whether the operation lasts until the victim has fallen asleep.
    pub sleeps: bool,
}

impl Scene for Pooled {
    fn sleeps(&self) -> bool {
        self.sleeps
    }

    fn set(&self) -> Result<(World, pid_t), String> {
        let Some(worker) = &self.worker else {
            let mut world = World::found(&Vec::new);
            let pid = World::victim_in_turns(&world.arena, || {
                liveness::me().expect("an entry in the process table");
                let (values, turns) = (self.parent)();
                board().write(&values);
                turns
            });
            world.values = board().read();
            return Ok((world, pid));
        };
        let world = World::with_turns(&self.parent);
        let pid = World::victim_in_turns(&world.arena, || {
            liveness::me().expect("an entry in the process table");
            worker(&world.values)
        });
        match world.turn(SOON) {
            Ok(()) => Ok((world, pid)),
            Err(why) => {
                kill(pid);
                Err(why)
            }
        }
    }

    fn judge(&self, stopped: &mut Stopped, others: &mut Others) -> Result<(String, Counters), String> {
        let values = stopped.world.values.clone();
        others.go_on(stopped, |clock| (self.beside)(&values, clock))?;
        if self.worker.is_some() {
            let turn = stopped.world.turn(others.limit);
            turn.map_err(|why| format!("the parent is held up, or fails: {why}"))?;
            others.were_in_time()?;
        }
        let continued = |why| format!("continued: {why}");
        let pid = stopped.runner.pid;
        stopped.runner.release();
        until_stopped(pid, others.limit).map_err(continued)?;
        if !stopped.through {
            turn(pid, others.limit).map_err(continued)?;
        }
        if self.worker.is_some() {
            stopped.die();
            stopped.world.turn(others.limit).map_err(continued)?;
        }
        let found = board().said();
        stopped.die();
        survive(&stopped.world.arena, others.limit, || found).found
    }
}
