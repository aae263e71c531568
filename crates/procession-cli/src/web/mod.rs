//! `procession web`: a page about a family, for a browser. It shows, and changes nothing.
//!
//! All paths lie below a random token, which only the printed address has. So another program's page, or another user of
//! the machine, can ask nothing, although it can connect.

mod assets;
#[cfg(test)]
mod tests;

use crate::findings::{Findings, Limits, Watch};
use crate::http::{event, serve, Answer, Hosts, Patience, Request, Site};
use crate::listen::{metrics_of, CHECK};
use crate::{json, pick, ps, Failure};
use procession_core::inspect::{FamilySnapshot, InspectError, Inspector};
use rustix::rand::{getrandom, GetRandomFlags};
use serde_json::{json, Value};
use std::fmt::Write as _;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The least time between two looks.
const LEAST: Duration = Duration::from_millis(100);
/// How many times as long as the last look took is waited for the next one. So a large family, too, costs its observer a
/// fifth of a core at most.
const REST: u32 = 4;
/// The least time until the next look after one that failed.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// How many of a kind an event has. The others are counted.
const MOST_OF_A_KIND: usize = 1000;

/// Bytes of the token.
const TOKEN: usize = 16;

const JSON: &str = "application/json";

/// Where looks come from.
trait Source {
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

/// The page's site.
struct Web<S> {
    source: S,
    watch: Watch,
    interval: Duration,
    token: String,
    /// When the last look began, if there was one.
    looked: Option<Instant>,
    /// When the next look is due while a page is open.
    next: Instant,
    /// When it is checked whether the family has ended while none is.
    check: Instant,
    ended: Option<u32>,
}

impl<S: Source> Web<S> {
    fn new(source: S, interval: Duration, token: String, limits: Limits) -> Self {
        Self {
            source,
            watch: Watch::new(limits),
            interval,
            token,
            looked: None,
            next: Instant::now(),
            check: Instant::now() + CHECK,
            ended: None,
        }
    }

    fn look(&mut self) -> Result<(), InspectError> {
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

    /// The part of a path behind the token, if that is right.
    fn below<'a>(&self, path: &'a str) -> Option<&'a str> {
        let (token, rest) = path.strip_prefix('/')?.split_once('/')?;
        // In the same time wherever it differs.
        let differs = token
            .bytes()
            .zip(self.token.bytes())
            .fold(0, |sum, (one, other)| sum | (one ^ other));
        (token.len() == self.token.len() && differs == 0).then_some(rest)
    }
}

impl<S: Source> Site for Web<S> {
    type End = Failure;

    fn answer(&mut self, request: &Request) -> Answer {
        match self.below(&request.path) {
            None => Answer::text(
                "403 Forbidden",
                "the address that procession web has printed has a token: use the whole of it\n",
            ),
            Some("metrics") => metrics_of(self.found()),
            Some("api/family") => match self.found() {
                Ok(found) => Answer::ok(JSON, json::text(&json::family(found))),
                Err(error) => Answer {
                    kind: JSON,
                    ..Answer::text("503 Service Unavailable", &json!({ "error": error }).to_string())
                },
            },
            Some("api/events") => {
                // It need not wait for long until it sees something.
                let soon = self.looked.map_or_else(Instant::now, |looked| looked + LEAST);
                self.next = self.next.min(soon);
                Answer::events()
            }
            Some(name) => {
                assets::find(name).unwrap_or_else(|| Answer::text("404 Not Found", "there is no such page\n"))
            }
        }
    }

    fn due(&self, is_followed: bool) -> Instant {
        match self.ended {
            Some(_) => Instant::now(),
            None if is_followed => self.next,
            None => self.check,
        }
    }

    fn tick(&mut self, is_followed: bool) -> (Option<Rc<[u8]>>, Option<Failure>) {
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
                let news = event("family", &news(&self.watch.found).to_string());
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
fn news(found: &Findings) -> Value {
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
    fields.insert("taken_ms".to_owned(), json!(found.seen.taken_ms));
    value
}

/// Whether nothing waits for an object, and a process for nothing.
fn is_quiet(value: &Value) -> bool {
    ["waits", "waiters", "getters", "putters", "joiners"]
        .iter()
        .all(|name| value[name].as_array().is_none_or(Vec::is_empty))
}

/// As many random bytes as make a token, in hexadecimal digits.
fn token() -> io::Result<String> {
    let mut bytes = [0; TOKEN];
    let mut filled = 0;
    while filled < bytes.len() {
        match getrandom(&mut bytes[filled..], GetRandomFlags::empty()) {
            Ok(more) => filled += more,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

/// Serve the page until the family has ended.
pub(crate) fn show(
    out: &mut dyn Write,
    pid: Option<u32>,
    address: SocketAddr,
    interval: Duration,
    limits: &Limits,
) -> Result<(), Failure> {
    let inspector = pick::family(pid)?;
    let listener = TcpListener::bind(address)?;
    let mut site = Web::new(inspector, interval, token()?, limits.clone());
    if !address.ip().is_loopback() {
        let _ = writeln!(
            io::stderr(),
            "procession: other machines can connect; whoever knows this address sees the page, and it is sent unencrypted"
        );
    }
    writeln!(out, "http://{}/{}/", listener.local_addr()?, site.token)?;
    out.flush()?;
    serve(&listener, &mut site, Hosts::of(address.ip()), &Patience::default())
}
