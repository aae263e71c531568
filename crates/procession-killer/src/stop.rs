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

/// What is stopped: how its processes are made, and what happens once one of them is stopped.
pub trait Scene {
    /// Which process of an operation that forks is stopped.
    fn role(&self) -> Role {
        Role::Caller
    }

    /// Whether the operation lasts until the victim has fallen asleep.
    fn sleeps(&self) -> bool {
        false
    }

    /// Make the processes: a family, and in it a victim before its operation.
    fn set(&self) -> Result<(World, pid_t), String>;

    /// Let others go on beside the stopped victim, continue it, and return what was found then.
    fn judge(&self, stopped: &mut Stopped, others: &mut Others) -> Result<(String, Counters), String>;
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
pub struct Stopped {
    pub world: World,
    pub runner: Runner,
    /// Whether the operation has returned.
    pub through: bool,
    /// The parent of a victim that is a child of fork.
    parent: Option<pid_t>,
    accesses: usize,
    candidates: usize,
    place: Option<u64>,
    died: bool,
}

impl Stopped {
    /// Kill the victim.
    pub fn die(&mut self) {
        if !std::mem::replace(&mut self.died, true) {
            kill(self.runner.pid);
        }
    }

    /// Where it is, for the report of a failure.
    fn place(&self) -> String {
        match self.place {
            _ if self.through => "stopped after its end".to_owned(),
            None => "stopped before its beginning".to_owned(),
            Some(place) => format!("stopped at access {}{}", self.accesses, name_of(place)),
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

/// The processes that must go on beside a stopped one.
pub struct Others {
    /// No process may take longer.
    pub limit: Duration,
    slowest: Duration,
}

impl Others {
    /// Let another process go through every operation on objects of its own, and then do `work`.
    pub fn go_on(&mut self, stopped: &Stopped, work: impl FnOnce(&mut Clock)) -> Result<(), String> {
        let others = World::bystander(&stopped.world.arena, || {
            let mut clock = Clock::default();
            go_on(&mut clock);
            work(&mut clock);
            clock.report();
        });
        match end_of(others, self.limit) {
            Some(0) => self.were_in_time(),
            Some(_) => Err(format!("another process fails: {}", board().said())),
            None => Err(format!("another process is held up: {}", board().said())),
        }
    }

    /// Read what the last of them reported of the time that it took.
    pub fn were_in_time(&mut self) -> Result<(), String> {
        let (slowest, late) = Clock::read();
        self.slowest = self.slowest.max(slowest);
        late.map_or(Ok(()), |late| Err(format!("another process is held up: {late}")))
    }
}

/// Run a victim to a point.
fn stop_at(scene: &dyn Scene, point: Point) -> Result<Stopped, String> {
    let (world, pid) = scene.set()?;
    let mut stopped = Stopped {
        world,
        runner: Runner::new(pid),
        through: false,
        parent: None,
        accesses: 0,
        candidates: 0,
        place: None,
        died: false,
    };
    let mut seen: HashMap<u64, u32> = HashMap::new();
    // A child that is to be the victim has no points before it is forked.
    let mut counts = scene.role() != Role::Child;
    let mut asleep = false;
    while !(asleep || counts && matches!(point, Point::After(wanted) if wanted == stopped.candidates)) {
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
            Halt::Called(number) => {
                asleep = scene.sleeps() && number as i64 == libc::SYS_futex;
                number
            }
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

/// Stop a scene's victim at every point.
pub fn explore(scene: &dyn Scene, how: Thoroughness) -> Report {
    let mut report = Report::default();
    let last = match stop_at(scene, Point::End) {
        Ok(stopped) => {
            report.accesses = stopped.accesses;
            stopped.candidates
        }
        Err(why) => {
            report.failures.push(format!("undisturbed: {why}"));
            return report;
        }
    };
    let points = (0..=last).map(Point::After);
    let points: Vec<_> = points.chain((!scene.sleeps()).then_some(Point::End)).collect();
    let mut all_is_well: Option<Counters> = None;
    for (number, &point) in points.iter().enumerate() {
        if !is_chosen(number, points.len(), how.points) {
            continue;
        }
        report.stops += 1;
        if let Err(why) = report.stop(scene, point, how.limit, &mut all_is_well) {
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
        scene: &dyn Scene,
        point: Point,
        limit: Duration,
        all_is_well: &mut Option<Counters>,
    ) -> Result<(), String> {
        let mut stopped = stop_at(scene, point)?;
        let mut others = Others {
            limit,
            slowest: self.slowest,
        };
        let judged = scene.judge(&mut stopped, &mut others);
        self.slowest = others.slowest;
        let (found, counters) = judged.map_err(|why| format!("{}: {why}", stopped.place()))?;
        *self.findings.entry(found).or_default() += 1;
        let expected = *all_is_well.get_or_insert(counters);
        if counters != expected {
            let place = stopped.place();
            return Err(format!("{place}: {expected:?} would be right, {counters:?} is left"));
        }
        Ok(())
    }
}

impl Scene for Operation {
    fn role(&self) -> Role {
        self.role
    }

    fn set(&self) -> Result<(World, pid_t), String> {
        let world = World::found(&self.setup);
        let pid = World::victim(&world.arena, || {
            if self.role != Role::Stranger {
                liveness::me().expect("an entry in the process table");
            }
            (self.victim)(&world.values)
        });
        Ok((world, pid))
    }

    fn judge(&self, stopped: &mut Stopped, others: &mut Others) -> Result<(String, Counters), String> {
        let values = stopped.world.values.clone();
        others.go_on(stopped, |clock| (self.beside)(&values, clock))?;
        if !stopped.through {
            finish(&stopped.runner, others.limit)?;
        }
        stopped.die();
        let survived = survive(&stopped.world.arena, others.limit, || (self.survivor)(&values, true));
        survived.found.map_err(|why| format!("continued: {why}"))
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
