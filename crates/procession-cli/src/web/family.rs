//! The page of one family: what it answers, and the events that it tells.

use super::{assets, nothing};
use crate::findings::{Findings, Limits, Watch};
use crate::http::{event, Answer, Stream};
use crate::listen::{metrics_of, CHECK};
use crate::{json, ps, Failure};
use procession_core::inspect::{FamilySnapshot, InspectError, Inspector};
use serde_json::{json, Value};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The least time between two looks.
pub(super) const LEAST: Duration = Duration::from_millis(100);
/// How many times as long as the last look took is waited for the next one. So a large family, too, costs its observer a
/// fifth of a core at most.
const REST: u32 = 4;
/// The least time until the next look after one that failed.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// How many of a kind an event has. The others are counted.
pub(super) const MOST_OF_A_KIND: usize = 1000;

pub(super) const JSON: &str = "application/json";

/// Where looks come from.
pub(super) trait Source {
    fn snapshot(&self) -> Result<FamilySnapshot, InspectError>;

    /// Whether the family has ended.
    fn check(&self) -> Result<(), InspectError>;
}

impl Source for Inspector {
    fn snapshot(&self) -> Result<FamilySnapshot, InspectError> {
        Inspector::snapshot(self)
    }

    fn check(&self) -> Result<(), InspectError> {
        self.processes().map(drop)
    }
}

/// The page of one family.
pub(super) struct Page<S> {
    pub(super) source: S,
    pub(super) watch: Watch,
    pub(super) interval: Duration,
    /// Whether it is one of several.
    pub(super) is_one_of_several: bool,
    /// When the last look began, if there was one.
    pub(super) looked: Option<Instant>,
    /// When the next look is due while a page is open.
    pub(super) next: Instant,
    /// When it is checked whether the family has ended while none is.
    check: Instant,
    pub(super) ended: Option<u32>,
}

impl<S: Source> Page<S> {
    pub(super) fn new(source: S, interval: Duration, limits: Limits) -> Self {
        Self {
            source,
            watch: Watch::new(limits),
            interval,
            is_one_of_several: false,
            looked: None,
            next: Instant::now(),
            check: Instant::now() + CHECK,
            ended: None,
        }
    }

    pub(super) fn look(&mut self) -> Result<(), InspectError> {
        let begin = Instant::now();
        let seen = self.source.snapshot();
        if let Err(InspectError::Ended(pid)) = seen {
            self.ended = Some(pid);
        }
        let seen = seen.inspect_err(|_| self.next = begin + self.interval.max(AFTER_FAILURE))?;
        self.watch.see(seen);
        self.looked = Some(begin);
        // A second look soon tells whether what may be a deadlock is one.
        let pause = self
            .watch
            .wants_pause()
            .map_or(self.interval, |pause| pause.min(self.interval));
        self.next = begin + pause.max(LEAST).max(begin.elapsed() * REST);
        Ok(())
    }

    /// What was found just now, for a single question.
    fn found(&mut self) -> Result<&Findings, String> {
        if self.looked.is_none_or(|looked| looked.elapsed() >= LEAST) {
            self.look().map_err(|error| error.to_string())?;
            for _ in 0..crate::findings::MOST_LOOKS_MORE {
                let Some(pause) = self.watch.wants_pause() else { break };
                std::thread::sleep(pause);
                self.look().map_err(|error| error.to_string())?;
            }
        }
        Ok(&self.watch.found)
    }

    /// The answer to a request for what lies below the page's address. `stream` is that of its events.
    pub(super) fn answer(&mut self, name: &str, stream: Stream) -> Answer {
        match name {
            "metrics" => metrics_of(self.found()),
            "api/family" => match self.found() {
                Ok(found) => Answer::ok(JSON, json::text(&json::family(found))),
                Err(error) => Answer {
                    kind: JSON,
                    ..Answer::text("503 Service Unavailable", &json!({ "error": error }).to_string())
                },
            },
            "api/events" => {
                // It need not wait for long until it sees something.
                let soon = self.looked.map_or_else(Instant::now, |looked| looked + LEAST);
                self.next = self.next.min(soon);
                Answer::events(stream)
            }
            name => assets::find(name).unwrap_or_else(nothing),
        }
    }

    pub(super) fn due(&self, is_followed: bool) -> Instant {
        match self.ended {
            Some(_) => Instant::now(),
            None if is_followed => self.next,
            None => self.check,
        }
    }

    /// Do what is due: the event that tells it, and why it is over if it is.
    pub(super) fn tick(&mut self, is_followed: bool) -> (Option<Rc<[u8]>>, Option<Failure>) {
        self.check = Instant::now() + CHECK;
        let looked = match self.ended {
            Some(pid) => Err(InspectError::Ended(pid)),
            None if is_followed => self.look(),
            None => match self.source.check() {
                // That it cannot be read is told to those that ask.
                Err(InspectError::Ended(pid)) => Err(InspectError::Ended(pid)),
                _ => return (None, None),
            },
        };
        match looked {
            Ok(()) => {
                let begin = self.looked.unwrap_or_else(Instant::now);
                let news = event("family", &news(&self.watch.found, self.is_one_of_several).to_string());
                // What the text took counts as well.
                self.next = self.next.max(begin + begin.elapsed() * REST);
                (Some(news), None)
            }
            Err(error) => {
                let text = json!({ "error": error.to_string() }).to_string();
                match error {
                    InspectError::Ended(_) => (Some(event("ended", &text)), Some(error.into())),
                    _ => (Some(event("trouble", &text)), None),
                }
            }
        }
    }
}

/// What an event tells: as `dump --json`, with a bounded number of each kind, and a little more.
fn news(found: &Findings, is_one_of_several: bool) -> Value {
    let mut value = json::family(found);
    let Some(fields) = value.as_object_mut() else {
        return value;
    };
    let mut beyond = serde_json::Map::new();
    for (kind, list) in fields.iter_mut() {
        let Value::Array(list) = list else { continue };
        if let Some(more @ 1..) = list.len().checked_sub(MOST_OF_A_KIND) {
            // What nothing waits for is left out first.
            list.sort_by_key(is_quiet);
            list.truncate(MOST_OF_A_KIND);
            beyond.insert(kind.clone(), json!(more));
        }
    }
    fields.insert("beyond".to_owned(), Value::Object(beyond));
    fields.insert("program".to_owned(), json!(ps::program(&found.seen)));
    fields.insert("is_one_of_several".to_owned(), json!(is_one_of_several));
    fields.insert("taken_ms".to_owned(), json!(found.seen.taken_ms));
    value
}

/// Whether nothing waits for an object, and a process for nothing.
fn is_quiet(value: &Value) -> bool {
    ["waits", "waiters", "getters", "putters", "joiners"]
        .iter()
        .all(|name| value[name].as_array().is_none_or(Vec::is_empty))
}
