//! Operations while the family is traced: their events, and the first event of a process.

use super::{in_a_child_that_dies, Operation};
use procession_core::inspect::{Inspector, TraceEvent};
use procession_core::sync::Lock;
use procession_core::trace::What;
use std::collections::HashMap;

/// Those of the operations that are stepped again while the family is traced, and whether the victim's first event is
/// one of the operation's own.
const TRACED: [(&str, bool); 5] = [
    ("queue put, inline", false),
    ("queue get, inline", false),
    ("lock acquire", true),
    ("lock acquire", false),
    ("lock release", false),
];

/// The traced forms of these operations.
pub fn operations(of: impl Fn() -> Vec<Operation>) -> Vec<Operation> {
    let form = |(name, first)| {
        let operation = of().into_iter().find(|operation| operation.name == name);
        traced(operation.expect("an operation of this name"), first)
    };
    TRACED.into_iter().map(form).collect()
}

fn traced(operation: Operation, first: bool) -> Operation {
    let Operation {
        name,
        setup,
        victim,
        survivor,
        ..
    } = operation;
    let which = if first { "the first event" } else { "traced" };
    Operation {
        name: format!("{name}, {which}"),
        setup: Box::new(move || {
            let values = setup();
            switch_on();
            values
        }),
        victim: Box::new(move |values| {
            if !first {
                an_event();
            }
            victim(values)
        }),
        survivor: Box::new(move |values, done| {
            let found = survivor(values, done);
            check();
            found
        }),
        ..operation
    }
}

/// Have the family write events. The tracer is gone, so that others can be: see [`check`].
fn switch_on() {
    in_a_child_that_dies(|| {
        std::mem::forget(Inspector::own().and_then(Inspector::trace).expect("a trace"));
    });
    assert!(procession_core::trace::is_on());
}

fn an_event() {
    let lock = Lock::create().expect("a lock");
    assert!(lock.try_free().expect("a lock") && lock.release());
}

/// Check that every event that can be read is whole, that those of a thread are in order, and that this process's own
/// events are all there.
fn check() {
    let mut tracer = Inspector::own().and_then(Inspector::trace).expect("a trace");
    tracer.rewind();
    let mut events = Vec::new();
    tracer.read(true, &mut events).expect("the rings");
    let mut latest: HashMap<(u32, u32), u64> = HashMap::new();
    for event in &events {
        assert!(is_whole(event), "a torn event: {event:?}");
        let before = latest.insert((event.process, event.thread), event.time_ns).unwrap_or(0);
        assert!(before <= event.time_ns, "out of order: {event:?}");
    }
    let lost = tracer.lost();
    an_event();
    let mut mine = Vec::new();
    tracer.read(true, &mut mine).expect("the rings");
    let mine: Vec<What> = mine
        .iter()
        .filter(|event| event.pid == std::process::id())
        .map(|event| event.what)
        .collect();
    assert_eq!(mine, [What::Acquire, What::Release]);
    assert_eq!(tracer.lost(), lost, "an event of a survivor was lost");
}

fn is_whole(event: &TraceEvent) -> bool {
    event.pid != 0
        && event.thread != 0
        && event.time_ns != 0
        && match event.what {
            What::Put | What::Get => event.object().is_some() && event.detail >> 48 == 1,
            What::Acquire | What::Release => event.object().is_some() && event.detail == 0,
            _ => true,
        }
}
