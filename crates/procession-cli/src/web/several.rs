//! The pages of several families, and the page that lists them.

use super::family::{Page, Source, JSON};
use super::{assets, nothing};
use crate::findings::Limits;
use crate::http::{Answer, Events, Stream};
use crate::listen::CHECK;
use crate::{json, pick, ps, Failure, NOTHING};
use procession_core::inspect::{InspectError, Inspector};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The least time between two searches for families.
const LEAST: Duration = Duration::from_secs(1);

/// Finds the families that run, each with a number that no other family has.
type Find<S> = fn() -> Vec<(Stream, S)>;

pub(super) struct Several<S> {
    find: Find<S>,
    interval: Duration,
    limits: Limits,
    /// Of each family, by its number, which is also that of the stream of its events.
    pages: BTreeMap<Stream, Page<S>>,
    /// When families were searched last, and what was told then.
    found: Option<(Instant, String)>,
    /// When it is looked whether there are others.
    check: Instant,
}

/// The families of this user that live and can be read. An arena's inode is its number.
pub(super) fn find() -> Vec<(Stream, Inspector)> {
    let readable = pick::living().into_iter().filter_map(|family| family.inspector.ok());
    let living = readable.filter(|one| !matches!(one.processes(), Err(InspectError::Ended(_))));
    living.filter_map(|one| Some((one.number().ok()?, one))).collect()
}

impl<S: Source> Several<S> {
    pub(super) fn new(find: Find<S>, interval: Duration, limits: Limits) -> Self {
        let mut new = Self {
            find,
            interval,
            limits,
            pages: BTreeMap::new(),
            found: None,
            check: Instant::now() + CHECK,
        };
        new.search();
        new
    }

    #[cfg(test)]
    pub(super) fn page(&mut self, number: Stream) -> &mut Page<S> {
        self.pages.get_mut(&number).unwrap()
    }

    /// Add the families that have begun.
    fn search(&mut self) {
        for (number, source) in (self.find)() {
            self.pages.entry(number).or_insert_with(|| {
                let mut page = Page::new(source, self.interval, self.limits.clone());
                page.is_one_of_several = true;
                page
            });
        }
    }

    /// What the list shows: of each family the same as `ps --json`, and the number that its address has.
    fn list(&mut self) -> String {
        if let Some((_, text)) = self.found.as_ref().filter(|(when, _)| when.elapsed() < LEAST) {
            return text.clone();
        }
        let begin = Instant::now();
        self.search();
        let mut families = Vec::new();
        for (number, page) in &mut self.pages {
            let looked = page.look().map(|()| &page.watch.found);
            if page.ended.is_none() {
                let mut family = ps::json_of(looked.as_ref().copied());
                family["number"] = json!(number);
                families.push(family);
            }
        }
        let text = json::text(&json!({ "families": families }));
        // A search among many processes takes its time.
        self.found = Some((begin + begin.elapsed() * 4, text.clone()));
        text
    }

    pub(super) fn answer(&mut self, name: &str) -> Answer {
        match name {
            "" => assets::find("families.html").unwrap_or_else(nothing),
            "api/families" => Answer::ok(JSON, self.list()),
            name => match name.split_once('/').map(|(number, rest)| (number.parse(), rest)) {
                Some((Ok(number), rest)) => match self.pages.get_mut(&number) {
                    Some(page) => page.answer(rest, number),
                    None => Answer::text("404 Not Found", "there is no such family, or it has ended\n"),
                },
                _ => assets::find(name).unwrap_or_else(nothing),
            },
        }
    }

    pub(super) fn due(&self, followed: &[Stream]) -> Instant {
        let pages = self.pages.iter();
        pages
            .map(|(number, page)| page.due(followed.contains(number)))
            .fold(self.check, Instant::min)
    }

    pub(super) fn tick(&mut self, followed: &[Stream]) -> (Events, Option<Failure>) {
        let mut events = Events::new();
        self.pages.retain(|number, page| {
            let is_followed = followed.contains(number);
            if page.due(is_followed) > Instant::now() {
                return true;
            }
            let (event, end) = page.tick(is_followed);
            events.extend(event.map(|event| (*number, event)));
            end.is_none()
        });
        if self.check <= Instant::now() || self.pages.is_empty() {
            self.check = Instant::now() + CHECK;
            self.search();
        }
        let end = self.pages.is_empty().then(|| Failure {
            code: NOTHING,
            message: "all families have ended".to_owned(),
        });
        (events, end)
    }
}
