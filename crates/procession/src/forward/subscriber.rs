//! The subscriber of a child: it sends events, with the spans that they are in, to the process that asked for them.

use super::{send, Said};
use crate::current;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tracing_core::field::{Field, Visit};
use tracing_core::span::{Attributes, Current, Id, Record};
use tracing_core::{Dispatch, Event, Level, LevelFilter, Metadata, Subscriber};

/// An event.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ChildEvent {
    pub place: EventPlace,
    /// As many as the place has fields.
    pub values: Vec<Recorded>,
    pub process: String,
    pub pid: u32,
    /// The names and fields of the spans around it, the outermost first; empty if there is none.
    pub spans: String,
}

/// Where it is in the program.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct EventPlace {
    pub level: u8,
    pub name: String,
    pub target: String,
    pub module: Option<String>,
    pub file: Option<String>,
    pub line: Option<u32>,
    /// The names of the fields that have values.
    pub fields: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Recorded {
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Str(String),
    /// What is shown by `Debug` or `Display`.
    Shown(String),
}

/// Levels as numbers: 0 is none.
const LEVELS: [Level; 5] = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];

pub(super) fn level_of(number: u8) -> Option<Level> {
    LEVELS.get(usize::from(number).checked_sub(1)?).copied()
}

fn number_of(level: Option<Level>) -> u8 {
    let place = LEVELS.iter().position(|other| Some(*other) == level);
    place.map_or(0, |at| at as u8 + 1)
}

/// The level of this process's subscriber.
pub(super) fn level() -> u8 {
    number_of(LevelFilter::current().into_level())
}

/// Install the subscriber in this process, unless it has one.
pub(super) fn install(level: u8) {
    if let Some(level) = level_of(level) {
        let new = EventsToParent {
            level,
            next: AtomicU64::new(1),
            spans: Mutex::default(),
        };
        let _ = tracing_core::dispatcher::set_global_default(Dispatch::new(new));
    }
}

struct EventsToParent {
    level: Level,
    next: AtomicU64,
    spans: Mutex<HashMap<u64, Span>>,
}

struct Span {
    text: String,
    parent: Option<u64>,
    metadata: &'static Metadata<'static>,
    references: usize,
}

thread_local! {
    /// The spans that this thread is in, the innermost last.
    static ENTERED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

fn innermost() -> Option<u64> {
    ENTERED.try_with(|all| all.borrow().last().copied()).ok().flatten()
}

impl EventsToParent {
    fn spans(&self) -> MutexGuard<'_, HashMap<u64, Span>> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The span with this number, and those around it.
    fn path(&self, innermost: Option<u64>) -> String {
        let spans = self.spans();
        let around = |number: &u64| spans.get(number).and_then(|span| span.parent);
        let numbers: Vec<u64> = std::iter::successors(innermost, around).collect();
        let texts = numbers.iter().rev().filter_map(|number| spans.get(number));
        texts.map(|span| &*span.text).collect::<Vec<_>>().join(":")
    }
}

impl Subscriber for EventsToParent {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::from_level(self.level))
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let number = self.next.fetch_add(1, Relaxed);
        let metadata = attributes.metadata();
        let mut text = Text(metadata.name().to_owned());
        attributes.record(&mut text);
        let contextual = attributes.is_contextual().then(innermost).flatten();
        let span = Span {
            text: text.0,
            parent: attributes.parent().map(Id::into_u64).or(contextual),
            metadata,
            references: 1,
        };
        self.spans().insert(number, span);
        Id::from_u64(number)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let mut more = Text(String::new());
        values.record(&mut more);
        if let Some(span) = self.spans().get_mut(&span.into_u64()) {
            span.text.push_str(&more.0);
        }
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut values = Values::default();
        event.record(&mut values);
        let metadata = event.metadata();
        let contextual = event.is_contextual().then(innermost).flatten();
        send(&Said::Event(ChildEvent {
            place: EventPlace {
                level: number_of(Some(*metadata.level())),
                name: metadata.name().to_owned(),
                target: metadata.target().to_owned(),
                module: metadata.module_path().map(str::to_owned),
                file: metadata.file().map(str::to_owned),
                line: metadata.line(),
                fields: values.fields,
            },
            values: values.values,
            process: current().name().to_owned(),
            pid: std::process::id(),
            spans: self.path(event.parent().map(Id::into_u64).or(contextual)),
        }));
    }

    fn enter(&self, span: &Id) {
        let _ = ENTERED.try_with(|all| all.borrow_mut().push(span.into_u64()));
    }

    fn exit(&self, span: &Id) {
        let _ = ENTERED.try_with(|all| {
            let mut all = all.borrow_mut();
            if let Some(at) = all.iter().rposition(|number| *number == span.into_u64()) {
                all.remove(at);
            }
        });
    }

    fn clone_span(&self, id: &Id) -> Id {
        if let Some(span) = self.spans().get_mut(&id.into_u64()) {
            span.references += 1;
        }
        id.clone()
    }

    fn try_close(&self, id: Id) -> bool {
        let mut spans = self.spans();
        let Some(span) = spans.get_mut(&id.into_u64()) else {
            return false;
        };
        span.references -= 1;
        let last = span.references == 0;
        if last {
            spans.remove(&id.into_u64());
        }
        last
    }

    fn current_span(&self) -> Current {
        let spans = self.spans();
        let known = innermost().and_then(|number| Some((number, spans.get(&number)?.metadata)));
        known.map_or_else(Current::none, |(number, metadata)| {
            Current::new(Id::from_u64(number), metadata)
        })
    }
}

/// The fields of a span as text: `name{field=value}`.
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = write!(self.0, "{{{}={value:?}}}", field.name());
    }
}

/// The fields of an event.
#[derive(Default)]
struct Values {
    fields: Vec<String>,
    values: Vec<Recorded>,
}

impl Values {
    fn push(&mut self, field: &Field, value: Recorded) {
        self.fields.push(field.name().to_owned());
        self.values.push(value);
    }
}

impl Visit for Values {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field, Recorded::Shown(format!("{value:?}")));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field, Recorded::Float(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, Recorded::Signed(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, Recorded::Unsigned(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, Recorded::Bool(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, Recorded::Str(value.to_owned()));
    }
}
