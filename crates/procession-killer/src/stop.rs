//! Stops a process at every access of every operation: others must go on, and it must end correctly when it is
//! continued.

use crate::access::{Halt, Runner};
use crate::battery::{go_on, Clock};
use crate::explore::{is_chosen, Thoroughness};
use crate::operations::{Operation, Role};
use crate::remote::{kill, wait};
use crate::stage::{board, end_of, survive, World};
use libc::{c_int, pid_t};
use procession_core::arena::Counters;
use procession_core::liveness;
use std::collections::{BTreeMap, HashMap};
use std::process::Command;
use std::time::{Duration, Instant};

/// The most stops at one instruction, at its first executions: an instruction that copies is executed again and again.
const TIMES: u32 = 24;
/// After this number of failures of one operation the rest is not tried: each failure may cost the limit.
const ENOUGH: usize = 8;

/// The result of stopping an operation.
#[derive(Default)]
pub struct Report {
    /// Accesses to the arena, and system calls.
    pub accesses: usize,
    /// How often the victim was stopped.
    pub stops: usize,
    /// The longest that any operation of another process took.
    pub slowest: Duration,
    pub findings: BTreeMap<String, usize>,
    pub failures: Vec<String>,
}

/// Where to stop the victim.
#[derive(Clone, Copy)]
enum Point {
    /// Before the operation's first instruction (0), or after this number of candidate accesses.
    After(usize),
    /// After it returned.
    End,
}

/// A victim, stopped in an operation.
struct Stopped {
    world: World,
    runner: Runner,
    /// The parent of a victim that is a child of fork.
    parent: Option<pid_t>,
    accesses: usize,
    candidates: usize,
    place: Option<u64>,
    through: bool,
    died: bool,
}

impl Stopped {
    /// Kill the victim.
    fn die(&mut self) {
        if !std::mem::replace(&mut self.died, true) {
            kill(self.runner.pid);
        }
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.die();
        if let Some(parent) = self.parent {
            kill(parent);
        }
    }
}

/// Run a victim to a point.
fn stop_at(operation: &Operation, point: Point) -> Result<Stopped, String> {
    let world = World::found(&operation.setup);
    let pid = World::victim(&world.arena, || {
        if operation.role != Role::Stranger {
            liveness::me().expect("an entry in the process table");
        }
        (operation.victim)(&world.values)
    });
    let mut stopped = Stopped {
        world,
        runner: Runner::new(pid),
        parent: None,
        accesses: 0,
        candidates: 0,
        place: None,
        through: false,
        died: false,
    };
    let mut seen: HashMap<u64, u32> = HashMap::new();
    // A child that is to be the victim has no points before it is forked.
    let mut counts = operation.role != Role::Child;
    while !(counts && matches!(point, Point::After(wanted) if wanted == stopped.candidates)) {
        let place = match stopped.runner.run() {
            Halt::Through => {
                stopped.through = true;
                break;
            }
            Halt::Ended(status) => return Err(format!("it ended by itself: status {status:#x}: {}", board().said())),
            Halt::Forked(child) => {
                wait(child);
                if counts {
                    kill(child);
                } else {
                    let parent = std::mem::replace(&mut stopped.runner, Runner::new(child));
                    stopped.parent = Some(parent.pid);
                    finish(&parent, Duration::from_secs(10))?;
                    counts = true;
                }
                continue;
            }
            Halt::Accessed(place) => place,
            Halt::Called(number) => number,
        };
        if counts {
            stopped.accesses += 1;
            let times = seen.entry(place).or_default();
            *times += 1;
            if *times <= TIMES {
                stopped.candidates += 1;
                stopped.place = Some(place);
            }
        }
    }
    Ok(stopped)
}

/// Continue a victim until it is through.
fn finish(runner: &Runner, limit: Duration) -> Result<(), String> {
    runner.open();
    let pid = runner.pid;
    let begin = Instant::now();
    let mut signal = 0;
    loop {
        // SAFETY: the process is stopped and ours to trace.
        unsafe { libc::ptrace(libc::PTRACE_CONT, pid, 0, libc::c_ulong::from(signal as u32)) };
        let mut status: c_int = 0;
        // SAFETY: `status` outlives the call.
        while unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL | libc::WNOHANG) } == 0 {
            if begin.elapsed() > limit {
                return Err("continued, it does not come to its end".to_owned());
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        if !libc::WIFSTOPPED(status) {
            return Err(format!("continued, it ended: status {status:#x}: {}", board().said()));
        }
        signal = 0;
        match (libc::WSTOPSIG(status), status >> 16) {
            (libc::SIGSTOP, 0) => return Ok(()),
            (libc::SIGTRAP, 0) => {}
            (libc::SIGTRAP, _) => {
                let child = crate::remote::event(pid);
                wait(child);
                kill(child);
            }
            (other, _) => signal = other,
        }
    }
}

/// Stop `operation` at every point.
pub fn explore(operation: &Operation, how: Thoroughness) -> Report {
    let mut report = Report::default();
    let count = match stop_at(operation, Point::End) {
        Ok(stopped) => {
            report.accesses = stopped.accesses;
            stopped.candidates + 2
        }
        Err(why) => {
            report.failures.push(format!("undisturbed: {why}"));
            return report;
        }
    };
    let mut all_is_well: Option<Counters> = None;
    for number in (0..count).filter(|&number| is_chosen(number, count, how.points)) {
        let point = if number + 1 == count {
            Point::End
        } else {
            Point::After(number)
        };
        report.stops += 1;
        if let Err(why) = report.stop(operation, point, how.limit, &mut all_is_well) {
            report.failures.push(why);
            if report.failures.len() == ENOUGH {
                break;
            }
        }
    }
    report
}

impl Report {
    fn stop(
        &mut self,
        operation: &Operation,
        point: Point,
        limit: Duration,
        all_is_well: &mut Option<Counters>,
    ) -> Result<(), String> {
        let mut stopped = stop_at(operation, point)?;
        let place = match stopped.place {
            _ if stopped.through => "stopped after its end".to_owned(),
            None => "stopped before its beginning".to_owned(),
            Some(place) => format!("stopped at access {}{}", stopped.accesses, name_of(place)),
        };
        let values = stopped.world.values.clone();
        let others = World::bystander(&stopped.world.arena, || {
            let mut clock = Clock::default();
            go_on(&mut clock);
            (operation.beside)(&values, &mut clock);
            clock.report();
        });
        let doing = || board().said();
        match end_of(others, limit) {
            Some(0) => {}
            Some(_) => return Err(format!("{place}: another process fails: {}", doing())),
            None => return Err(format!("{place}: another process is held up: {}", doing())),
        }
        let (slowest, late) = Clock::read();
        self.slowest = self.slowest.max(slowest);
        if let Some(late) = late {
            return Err(format!("{place}: another process is held up: {late}"));
        }
        if !stopped.through {
            finish(&stopped.runner, limit).map_err(|why| format!("{place}: {why}"))?;
        }
        stopped.die();
        let survived = survive(&stopped.world.arena, limit, || (operation.survivor)(&values, true));
        match survived.found {
            Ok((found, counters)) => {
                *self.findings.entry(found).or_default() += 1;
                let expected = *all_is_well.get_or_insert(counters);
                if counters != expected {
                    return Err(format!("{place}: {expected:?} would be right, {counters:?} is left"));
                }
                Ok(())
            }
            Err(why) => Err(format!("{place}: continued: {why}")),
        }
    }
}

/// The function that an address of this program lies in, for the report of a failure.
fn name_of(place: u64) -> String {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let program = std::env::current_exe().unwrap_or_default();
    let base = maps
        .lines()
        .find(|line| line.ends_with(&*program.to_string_lossy()))
        .and_then(|line| u64::from_str_radix(line.split('-').next()?, 16).ok());
    let Some(offset) = base.and_then(|base| place.checked_sub(base)) else {
        return format!(", call or address {place:#x}");
    };
    let found = Command::new("addr2line")
        .args(["-f", "-C", "-i", "-s", "-e"])
        .arg(program)
        .arg(format!("{offset:#x}"))
        .output();
    let text = found.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let lines: Vec<_> = text.unwrap_or_default().lines().map(str::to_owned).collect();
    let names: Vec<_> = lines
        .chunks(2)
        .map(|pair| {
            let name = pair[0]
                .split(['<', '{'])
                .next()
                .unwrap_or_default()
                .trim_end_matches("::");
            format!("{name} {}", pair.get(1).map_or("", String::as_str))
        })
        .filter(|pair| !pair.starts_with(' ') && !pair.contains("atomic.rs"))
        .take(3)
        .collect();
    format!(", in {}", names.join(" < "))
}
