//! Events as Chrome's trace format has them: slices of threads, arrows between them, and what lies in queues and holds
//! locks meanwhile. Leaves it to the rest of `trace` where the events come from.
//!
//! An arrow, or the time of an item in a queue, is written when both its ends are known, in whichever order they come:
//! the rings of two processes are read one after the other.

use crate::text;
use procession_core::inspect::{FamilySnapshot, ObjectId, TraceEvent};
use procession_core::trace::What;
use serde_json::{json, Value};
use std::collections::HashMap;
use std::io::{self, Write};

/// Bits of an item's ticket; its events have the number of items above them.
const TICKET: u32 = 48;
/// How many ends are remembered whose other end has not come: if events were lost it never comes.
const MOST_OPEN: usize = 1 << 20;
/// Length in nanoseconds of what has none.
const INSTANT: u64 = 1;

/// How many nanoseconds before a task's end its arrow begins: viewers that cut fractions of microseconds would find it
/// outside of the task's slice.
const BEFORE_END: u64 = 500;

/// A place on a thread's track.
#[derive(Clone, Copy)]
struct Place {
    pid: u32,
    thread: u32,
    time: u64,
}

/// One end of what another event ends.
enum End {
    Begin(Place),
    End(Place),
}

/// What is known of a task.
#[derive(Default)]
struct Task {
    submit: Option<Place>,
    start: Option<Place>,
    end: Option<Place>,
    result: Option<Place>,
    has_run_arrow: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Slice {
    Wait,
    Task,
}

/// A thread's track.
#[derive(Default)]
struct Track {
    open: Vec<Slice>,
    /// A task that has begun, and the pieces of its name so far: its slice is written with the next event.
    begun: Option<(Place, String, Vec<u8>)>,
    last: u64,
}

/// A trace file that is being written.
pub(super) struct Chrome<W: Write> {
    out: W,
    events: u64,
    is_first: bool,
    /// Times are counted from the first event.
    zero: Option<u64>,
    /// The identifiers of processes, by the tracer's numbers, and their names.
    processes: HashMap<u32, u32>,
    names: HashMap<u32, String>,
    tracks: HashMap<(u32, u32), Track>,
    items: HashMap<(ObjectId, u64), End>,
    held: HashMap<(ObjectId, u32), Place>,
    tasks: HashMap<(ObjectId, u64), Task>,
    /// The arrows to tasks whose slices are not written yet, by process and thread: viewers want the slice first.
    unwritten: HashMap<(u32, u32), Vec<(Place, Place)>>,
    /// When processes were found dead.
    deaths: HashMap<u32, u64>,
    /// The programs of processes without a name, by their identifiers.
    programs: HashMap<u32, String>,
    /// The name of an object, or the line that made it.
    labels: HashMap<ObjectId, String>,
    arrows: u64,
}

impl<W: Write> Chrome<W> {
    pub(super) fn begin(mut out: W) -> io::Result<Self> {
        out.write_all(b"{\"traceEvents\":[")?;
        Ok(Self {
            out,
            events: 0,
            is_first: true,
            zero: None,
            processes: HashMap::new(),
            names: HashMap::new(),
            tracks: HashMap::new(),
            items: HashMap::new(),
            held: HashMap::new(),
            tasks: HashMap::new(),
            unwritten: HashMap::new(),
            deaths: HashMap::new(),
            programs: HashMap::new(),
            labels: HashMap::new(),
            arrows: 0,
        })
    }

    /// How many events of the family were added.
    pub(super) fn events(&self) -> u64 {
        self.events
    }

    pub(super) fn name(&mut self, process: u32, name: String) {
        self.names.insert(process, name);
    }

    /// Note the names of the family's objects, or the lines that made them, and which programs run.
    pub(super) fn note_objects(&mut self, seen: &FamilySnapshot) {
        for process in seen.processes.iter().filter(|process| process.name.is_empty()) {
            if !process.program.is_empty() {
                self.programs.insert(process.pid, text::clean(&process.program));
            }
        }
        for (&id, label) in &seen.labels {
            let text = match (&label.name, &label.made) {
                (Some(name), _) => text::escaped(name),
                (None, Some(made)) => made.to_string(),
                (None, None) => continue,
            };
            self.labels.insert(id, text);
        }
    }

    /// Add an event. Those of a thread come in their order.
    pub(super) fn add(&mut self, event: &TraceEvent) -> io::Result<()> {
        self.events += 1;
        self.zero.get_or_insert(event.time_ns);
        self.processes.insert(event.process, event.pid);
        let place = Place {
            pid: event.pid,
            thread: event.thread,
            time: event.time_ns,
        };
        let key = (event.process, event.thread);
        if event.what == What::Label {
            if let Some((.., pieces)) = self.tracks.entry(key).or_default().begun.as_mut() {
                pieces.extend(event.text());
            }
            return Ok(());
        }
        self.write_begun(key)?;
        self.tracks.entry(key).or_default().last = event.time_ns;
        match (event.what, event.object()) {
            (What::WaitBegin, object) => {
                let name = format!("wait {}", self.text_of(event.awaited(), object));
                self.open(key, Slice::Wait, place, name.trim_end(), json!({}))
            }
            (What::WaitEnd, _) => self.close(key, Slice::Wait, place),
            (What::Put, Some(queue)) => self.item(queue, event.detail, place, true),
            (What::Get, Some(queue)) => self.item(queue, event.detail, place, false),
            (What::Acquire, Some(lock)) => {
                self.held.insert((lock, event.process), place);
                Ok(())
            }
            (What::Release, Some(lock)) => match self.held.remove(&(lock, event.process)) {
                Some(since) => self.hold(lock, since, place.time),
                None => Ok(()),
            },
            (What::TaskSubmit, Some(pool)) => {
                self.moment(
                    place,
                    "submit",
                    json!({ "pool": self.text_of("", Some(pool)).trim_start() }),
                )?;
                self.task((pool, event.detail), |task| task.submit = Some(place))
            }
            (What::TaskStart, Some(pool)) => {
                let about = self.text_of("pool", Some(pool));
                self.tracks.entry(key).or_default().begun = Some((place, about, Vec::new()));
                self.unwritten.insert((place.pid, place.thread), Vec::new());
                self.task((pool, event.detail), |task| task.start = Some(place))
            }
            (What::TaskEnd, Some(pool)) => {
                self.close(key, Slice::Task, place)?;
                self.task((pool, event.detail), |task| task.end = Some(place))
            }
            (What::TaskResult, Some(pool)) => {
                self.moment(
                    place,
                    "result",
                    json!({ "pool": self.text_of("", Some(pool)).trim_start() }),
                )?;
                self.task((pool, event.detail), |task| task.result = Some(place))
            }
            (What::ProcessStart, _) => self.mark(place, &format!("start of process {}", event.detail)),
            (What::ProcessEnd, _) => self.mark(place, &format!("exit with code {}", event.detail)),
            (What::Death, _) => {
                if let Ok(pid) = u32::try_from(event.detail) {
                    self.deaths.insert(pid, event.time_ns);
                }
                self.mark(place, &format!("process {} was found to have ended", event.detail))
            }
            // An event whose object is no handle is damaged.
            _ => Ok(()),
        }
    }

    /// Close what is open, and end the file.
    pub(super) fn end(mut self, lost: u64) -> io::Result<()> {
        let keys: Vec<_> = self.tracks.keys().copied().collect();
        for &key in &keys {
            self.write_begun(key)?;
        }
        let over = self.tracks.values().map(|track| track.last).max().unwrap_or(0);
        for &(process, thread) in &keys {
            let Some(track) = self.tracks.get_mut(&(process, thread)) else {
                continue;
            };
            let (open, latest) = (std::mem::take(&mut track.open), track.last);
            let pid = self.processes.get(&process).copied().unwrap_or(0);
            let time = self.deaths.get(&pid).copied().unwrap_or(over).max(latest);
            for _ in open {
                self.write(json!({ "ph": "E" }), Place { pid, thread, time })?;
            }
        }
        for ((lock, process), since) in std::mem::take(&mut self.held) {
            let pid = self.processes.get(&process).copied().unwrap_or(0);
            let time = self.deaths.get(&pid).copied().unwrap_or(over).max(since.time);
            self.hold(lock, since, time)?;
        }
        for ((queue, ticket), end) in std::mem::take(&mut self.items) {
            if let End::Begin(put) = end {
                self.in_queue(queue, ticket, put, over.max(put.time))?;
            }
        }
        for (process, pid) in std::mem::take(&mut self.processes) {
            let name = self.names.remove(&process).or_else(|| self.programs.get(&pid).cloned());
            let name = name.unwrap_or_else(|| "process".to_owned());
            let about = |thread: u32, what: &str, name: &str| {
                let args = json!({ "name": name });
                json!({ "ph": "M", "pid": pid, "tid": thread, "name": what, "args": args })
            };
            self.line(&about(pid, "process_name", &name))?;
            for &(_, thread) in keys.iter().filter(|(of, _)| *of == process) {
                let name = if thread == pid { "main thread" } else { "thread" };
                self.line(&about(thread, "thread_name", name))?;
            }
        }
        let about = json!({ "events": self.events, "lost": lost });
        write!(self.out, "\n],\"displayTimeUnit\":\"ns\",\"otherData\":{about}}}\n")?;
        self.out.flush()
    }

    fn text_of(&self, kind: &str, object: Option<ObjectId>) -> String {
        match object.map(|id| (id, self.labels.get(&id))) {
            Some((id, Some(label))) => format!("{kind} {id} ({label})"),
            Some((id, None)) => format!("{kind} {id}"),
            None => kind.to_owned(),
        }
    }

    fn open(&mut self, key: (u32, u32), slice: Slice, place: Place, name: &str, args: Value) -> io::Result<()> {
        self.tracks.entry(key).or_default().open.push(slice);
        self.write(json!({ "ph": "B", "name": name, "args": args }), place)
    }

    /// End the innermost slice of this kind, and those in it, whose ends were lost. Without one its begin was lost.
    fn close(&mut self, key: (u32, u32), slice: Slice, place: Place) -> io::Result<()> {
        let open = &mut self.tracks.entry(key).or_default().open;
        let Some(at) = open.iter().rposition(|&one| one == slice) else {
            return Ok(());
        };
        let number = open.len() - at;
        open.truncate(at);
        (0..number).try_for_each(|_| self.write(json!({ "ph": "E" }), place))
    }

    fn write_begun(&mut self, key: (u32, u32)) -> io::Result<()> {
        let Some((place, about, pieces)) = self.tracks.get_mut(&key).and_then(|track| track.begun.take()) else {
            return Ok(());
        };
        let name = String::from_utf8_lossy(&pieces);
        let name = match name.trim_end_matches('\0') {
            "" => "task",
            name => name,
        };
        self.open(key, Slice::Task, place, name, json!({ "of": about }))?;
        let arrows = self.unwritten.remove(&(place.pid, place.thread)).unwrap_or_default();
        let mut arrows = arrows.into_iter();
        arrows.try_for_each(|(submit, start)| self.arrow("run", submit, start))
    }

    /// What takes no time: a slice all the same, because an arrow begins and ends at slices.
    fn moment(&mut self, place: Place, name: &str, args: Value) -> io::Result<()> {
        let mut slice = json!({ "ph": "X", "name": name, "args": args });
        slice["dur"] = micros(INSTANT);
        self.write(slice, place)
    }

    fn mark(&mut self, place: Place, name: &str) -> io::Result<()> {
        self.write(json!({ "ph": "i", "s": "p", "name": name }), place)
    }

    fn item(&mut self, queue: ObjectId, detail: u64, place: Place, is_put: bool) -> io::Result<()> {
        let (first, number) = (detail & ((1 << TICKET) - 1), detail >> TICKET);
        let (name, text) = (if is_put { "put" } else { "get" }, self.text_of("queue", Some(queue)));
        self.moment(place, name, json!({ "queue": text, "items": number }))?;
        for ticket in first..first.saturating_add(number) {
            let ends = match (self.items.remove(&(queue, ticket)), is_put) {
                (Some(End::Begin(put)), false) => Some((put, place)),
                (Some(End::End(got)), true) => Some((place, got)),
                (_, true) => self.remember(queue, ticket, End::Begin(place)),
                (_, false) => self.remember(queue, ticket, End::End(place)),
            };
            if let Some((put, got)) = ends {
                self.in_queue(queue, ticket, put, got.time)?;
                self.arrow("item", put, got)?;
            }
        }
        Ok(())
    }

    fn remember(&mut self, queue: ObjectId, ticket: u64, end: End) -> Option<(Place, Place)> {
        if self.items.len() < MOST_OPEN {
            self.items.insert((queue, ticket), end);
        }
        None
    }

    /// An item's time in a queue.
    fn in_queue(&mut self, queue: ObjectId, ticket: u64, put: Place, until: u64) -> io::Result<()> {
        self.span(
            "queue",
            &format!("in {}", self.text_of("queue", Some(queue))),
            &format!("{queue}:{ticket}"),
            put,
            until,
        )
    }

    /// The time for which a process held a lock.
    fn hold(&mut self, lock: ObjectId, since: Place, until: u64) -> io::Result<()> {
        let name = format!("holds {}", self.text_of("lock", Some(lock)));
        self.span(
            "lock",
            &name,
            &format!("{lock}:{}:{}", since.pid, since.time),
            since,
            until,
        )
    }

    fn span(&mut self, category: &str, name: &str, id: &str, begin: Place, until: u64) -> io::Result<()> {
        let one = |phase| json!({ "ph": phase, "cat": category, "name": name, "id": id });
        self.write(one("b"), begin)?;
        let end = Place {
            time: until.max(begin.time),
            ..begin
        };
        self.write(one("e"), end)
    }

    fn task(&mut self, id: (ObjectId, u64), change: impl FnOnce(&mut Task)) -> io::Result<()> {
        if self.tasks.len() >= MOST_OPEN && !self.tasks.contains_key(&id) {
            return Ok(());
        }
        let task = self.tasks.entry(id).or_default();
        change(task);
        let run = task.submit.zip(task.start).filter(|_| !task.has_run_arrow);
        task.has_run_arrow |= run.is_some();
        let result = task.end.zip(task.result);
        let began = task.start.map_or(0, |start| start.time);
        if result.is_some() {
            self.tasks.remove(&id);
        }
        if let Some((submit, start)) = run {
            match self.unwritten.get_mut(&(start.pid, start.thread)) {
                Some(arrows) => arrows.push((submit, start)),
                None => self.arrow("run", submit, start)?,
            }
        }
        match result {
            Some((end, result)) => {
                // An arrow begins in a slice, and the task's ends at this very moment.
                let end = Place {
                    time: end.time.saturating_sub(BEFORE_END).max(began),
                    ..end
                };
                self.arrow("result", end, result)
            }
            None => Ok(()),
        }
    }

    fn arrow(&mut self, name: &str, from: Place, to: Place) -> io::Result<()> {
        self.arrows += 1;
        let id = self.arrows;
        self.write(json!({ "ph": "s", "cat": "flow", "name": name, "id": id }), from)?;
        let to = Place {
            time: to.time.max(from.time),
            ..to
        };
        self.write(
            json!({ "ph": "f", "bp": "e", "cat": "flow", "name": name, "id": id }),
            to,
        )
    }

    fn write(&mut self, mut event: Value, place: Place) -> io::Result<()> {
        event["pid"] = place.pid.into();
        event["tid"] = place.thread.into();
        event["ts"] = micros(place.time.saturating_sub(self.zero.unwrap_or(0)));
        self.line(&event)
    }

    fn line(&mut self, event: &Value) -> io::Result<()> {
        self.out.write_all(if self.is_first { b"\n" } else { b",\n" })?;
        self.is_first = false;
        serde_json::to_writer(&mut self.out, event)?;
        Ok(())
    }
}

/// Nanoseconds as the format counts them.
fn micros(nanoseconds: u64) -> Value {
    (nanoseconds as f64 / 1000.0).into()
}
