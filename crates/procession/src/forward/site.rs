//! Events of other processes, given to this process's subscriber.
//!
//! A subscriber knows events by their places in the program, which live for ever. So each place of which an event comes
//! gets a copy here, once; the program has a limited number of them.

use super::subscriber::{level_of, ChildEvent, EventPlace, Recorded};
use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};
use tracing_core::callsite::{self, Callsite};
use tracing_core::field::{display, DisplayValue, Field, FieldSet, Value};
use tracing_core::metadata::Kind;
use tracing_core::subscriber::Interest;
use tracing_core::{dispatcher, identify_callsite, Event, Metadata};

/// The most fields of an event here, with those that tell of its process; so many may a set of values have.
const MOST_FIELDS: usize = 32;
/// The fields that tell of the process.
const OURS: [&str; 3] = ["process.name", "process.pid", "process.spans"];
/// The most places: a bound on the memory that children can make this process use.
const MOST_SITES: usize = 65_536;

/// The copy of a place.
struct Site(OnceLock<Metadata<'static>>);

impl Callsite for Site {
    fn set_interest(&self, _: Interest) {}

    fn metadata(&self) -> &Metadata<'_> {
        self.0.get().expect("it is set before the site is known")
    }
}

fn leak(text: &str) -> &'static str {
    Box::leak(text.to_owned().into_boxed_str())
}

/// The copy of this place.
fn site(place: &EventPlace) -> Option<&'static Metadata<'static>> {
    static SITES: Mutex<Option<HashMap<EventPlace, &'static Site>>> = Mutex::new(None);
    let level = level_of(place.level)?;
    let mut sites = SITES.lock().unwrap_or_else(PoisonError::into_inner);
    let sites = sites.get_or_insert_default();
    if let Some(site) = sites.get(place) {
        return site.0.get();
    }
    if sites.len() >= MOST_SITES {
        return None;
    }
    let site: &'static Site = Box::leak(Box::new(Site(OnceLock::new())));
    let own = place.fields.iter().take(MOST_FIELDS - OURS.len());
    let names: Vec<&'static str> = own.map(|name| leak(name)).chain(OURS).collect();
    let fields = FieldSet::new(Vec::leak(names), identify_callsite!(site));
    let module = place.module.as_deref().map(leak);
    let file = place.file.as_deref().map(leak);
    let (name, target) = (leak(&place.name), leak(&place.target));
    let metadata = Metadata::new(name, target, level, file, place.line, module, fields, Kind::EVENT);
    let metadata = site.0.get_or_init(|| metadata);
    callsite::register(site);
    sites.insert(place.clone(), site);
    Some(metadata)
}

enum Shown<'a> {
    Plain(&'a dyn Value),
    Text(DisplayValue<&'a str>),
}

/// Give this process's subscriber an event of another process.
pub(super) fn emit(occurred: &ChildEvent) {
    let Some(metadata) = site(&occurred.place) else {
        return;
    };
    let own = metadata.fields().len().saturating_sub(OURS.len());
    let values = occurred.values.iter().take(own).map(|value| match value {
        Recorded::Bool(value) => Shown::Plain(value),
        Recorded::Signed(value) => Shown::Plain(value),
        Recorded::Unsigned(value) => Shown::Plain(value),
        Recorded::Float(value) => Shown::Plain(value),
        Recorded::Str(value) => Shown::Plain(value),
        Recorded::Shown(text) => Shown::Text(display(text)),
    });
    let mut values: Vec<Shown<'_>> = values.collect();
    values.push(Shown::Plain(&occurred.process));
    values.push(Shown::Plain(&occurred.pid));
    let fields: Vec<Field> = metadata.fields().iter().collect();
    let mut set: [(&Field, Option<&dyn Value>); MOST_FIELDS] = [(&fields[0], None); MOST_FIELDS];
    let named = fields.iter().zip(&values);
    for (entry, (field, value)) in set.iter_mut().zip(named) {
        let value: &dyn Value = match value {
            Shown::Plain(value) => *value,
            Shown::Text(text) => text,
        };
        *entry = (field, Some(value));
    }
    if !occurred.spans.is_empty() {
        set[fields.len() - 1] = (&fields[fields.len() - 1], Some(&occurred.spans));
    }
    dispatcher::get_default(|subscriber| {
        if subscriber.enabled(metadata) {
            subscriber.event(&Event::new(metadata, &metadata.fields().value_set(&set)));
        }
    });
}
