//! The page's site, on families that are made up.

use super::family::{LEAST, MOST_OF_A_KIND};
use super::*;
use crate::http::{Body, Request};
use crate::samples::{deadlocked, family, queue};
use procession_core::inspect::{FamilySnapshot, InspectError};
use serde_json::{json, Value};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

/// Shows these looks, the last one again and again; then the family ends.
struct Looks {
    shown: RefCell<VecDeque<FamilySnapshot>>,
    has_ended: Cell<bool>,
    taken: Cell<usize>,
}

impl Source for Looks {
    fn snapshot(&self) -> Result<FamilySnapshot, InspectError> {
        self.check()?;
        self.taken.set(self.taken.get() + 1);
        let mut looks = self.shown.borrow_mut();
        if looks.len() > 1 {
            return Ok(looks.pop_front().unwrap());
        }
        Ok(looks[0].clone())
    }

    fn check(&self) -> Result<(), InspectError> {
        if self.has_ended.get() {
            return Err(InspectError::Ended(100));
        }
        Ok(())
    }
}

impl Looks {
    fn new(looks: impl IntoIterator<Item = FamilySnapshot>) -> Self {
        Self {
            shown: RefCell::new(looks.into_iter().collect()),
            has_ended: Cell::new(false),
            taken: Cell::new(0),
        }
    }
}

fn site(looks: impl IntoIterator<Item = FamilySnapshot>, interval: Duration) -> Web<Looks> {
    Web {
        shown: Shown::One(Box::new(Page::new(Looks::new(looks), interval, Limits::default()))),
        token: "0123456789abcdef".to_owned(),
    }
}

/// The only page of a site.
fn page(site: &mut Web<Looks>) -> &mut Page<Looks> {
    match &mut site.shown {
        Shown::One(page) => page,
        Shown::Several(_) => panic!("there are several"),
    }
}

fn ask(site: &mut Web<Looks>, path: &str) -> Answer {
    site.answer(&Request::get(path))
}

fn text(answer: &Answer) -> &str {
    match &answer.body {
        Body::Whole(text) => text,
        Body::Events(_) => panic!("these are events"),
    }
}

/// The name and the content of the event that a tick gives.
fn told(site: &mut Web<Looks>) -> (String, Value) {
    let (events, _) = site.tick(&[0]);
    parse(&events[0].1)
}

fn parse(event: &[u8]) -> (String, Value) {
    let event = String::from_utf8(event.to_vec()).unwrap();
    let lines: Vec<&str> = event.split('\n').collect();
    let [name, data, "", ""] = lines[..] else {
        panic!("{event}")
    };
    let data = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
    (name.strip_prefix("event: ").unwrap().to_owned(), data)
}

#[test]
fn without_the_whole_token_nothing_is_shown() {
    let mut site = site([family(10)], LEAST);
    for path in [
        "/",
        "",
        "/metrics",
        "/api/family",
        "//",
        "/0123456789abcde/",
        "/0123456789abcdeF/",
        "/0123456789abcdef0/",
        "/0123456789abcdef",
        "/x/0123456789abcdef/",
        "//0123456789abcdef/",
        "/%30123456789abcdef/",
    ] {
        assert_eq!(ask(&mut site, path).status, "403 Forbidden", "{path}");
    }
    assert_eq!(page(&mut site).source.taken.get(), 0);
    assert_eq!(ask(&mut site, "/0123456789abcdef/").status, "200 OK");
    assert_eq!(ask(&mut site, "/0123456789abcdef/../page.js").status, "404 Not Found");
}

#[test]
fn tokens_are_long_and_different() {
    let tokens: std::collections::HashSet<String> = (0..100).map(|_| token().unwrap()).collect();
    assert_eq!(tokens.len(), 100);
    assert!(tokens
        .iter()
        .all(|token| token.len() == 2 * TOKEN && token.bytes().all(|byte| byte.is_ascii_hexdigit())));
}

#[test]
fn the_page_names_nothing_that_is_not_there() {
    let mut site = site([family(10)], LEAST);
    let page = ask(&mut site, "/0123456789abcdef/");
    let page = text(&page).to_owned();
    assert!(!page.contains("://"), "{page}");
    let named = |text: &str, before: &str| -> Vec<String> {
        let parts = text.split(before).skip(1);
        parts
            .map(|part| part.split('"').next().unwrap().trim_start_matches("./").to_owned())
            .collect()
    };
    let mut files = [named(&page, "src=\""), named(&page, "link rel=\"icon\" href=\"")].concat();
    files.extend(named(&page, "rel=\"stylesheet\" href=\""));
    assert_eq!(files.len(), 3);
    let script = ask(&mut site, "/0123456789abcdef/page.js");
    files.extend(named(text(&script), "from \""));
    assert!(files.len() > 6, "{files:?}");
    for file in files {
        assert_eq!(
            ask(&mut site, &format!("/0123456789abcdef/{file}")).status,
            "200 OK",
            "{file}"
        );
    }
}

#[test]
fn an_event_tells_a_look_and_questions_share_it() {
    let mut site = site([family(10)], Duration::from_secs(60));
    assert_eq!(ask(&mut site, "/0123456789abcdef/api/events"), Answer::events(0));
    let (name, seen) = told(&mut site);
    assert_eq!(name, "family");
    assert_eq!(
        (&seen["root"], &seen["program"]),
        (&json!(100), &json!("python shop.py"))
    );
    assert_eq!(seen["taken_ms"], 100_000);
    // Within a tenth of a second a question is no reason for another look.
    let before = page(&mut site).source.taken.get();
    page(&mut site).looked = Some(Instant::now());
    let answer = ask(&mut site, "/0123456789abcdef/api/family");
    let asked: Value = serde_json::from_str(text(&answer)).unwrap();
    assert_eq!(asked["processes"], seen["processes"]);
    assert!(text(&ask(&mut site, "/0123456789abcdef/metrics")).contains("procession_queue_items"));
    assert_eq!(page(&mut site).source.taken.get(), before);
}

#[test]
fn looks_are_a_tenth_of_a_second_apart_at_least_and_none_is_taken_for_nobody() {
    let mut site = site([family(10)], LEAST);
    told(&mut site);
    let looked = page(&mut site).looked.unwrap();
    assert!(site.due(&[0]) >= looked + LEAST);
    // Another page that opens need not wait for the interval, but does not hurry the others.
    page(&mut site).interval = Duration::from_secs(60);
    told(&mut site);
    ask(&mut site, "/0123456789abcdef/api/events");
    let soon = page(&mut site).looked.unwrap() + LEAST;
    assert_eq!(site.due(&[0]), soon);
    let taken = page(&mut site).source.taken.get();
    assert_eq!(site.tick(&[]).0, []);
    assert_eq!(page(&mut site).source.taken.get(), taken);
}

#[test]
fn a_deadlock_is_told_with_its_sentence() {
    let mut looks = [deadlocked(100_000), deadlocked(100_100)];
    for look in &mut looks {
        look.processes[1].name = "alice; and others".to_owned();
    }
    let mut site = site(looks, Duration::from_secs(60));
    let (_, first) = told(&mut site);
    assert_eq!(first["deadlocks"], json!([]));
    // It is looked at again soon, whatever the interval.
    assert!(page(&mut site).next <= Instant::now() + Duration::from_secs(30));
    let (_, second) = told(&mut site);
    let deadlock = &second["deadlocks"][0];
    // What separates sentences in the text may be part of a name.
    let sentences: Vec<&str> = deadlock["sentences"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(sentences.len(), 2, "{sentences:?}");
    assert!(
        sentences
            .iter()
            .any(|one| one.starts_with("alice; and others (103) has waited")),
        "{sentences:?}"
    );
    assert!(
        sentences.iter().any(|one| one.starts_with("bob (102) has waited")),
        "{sentences:?}"
    );
    assert_eq!(deadlock["text"], sentences.join("; "));
}

#[test]
fn an_event_is_bounded_and_leaves_out_first_what_nothing_waits_for() {
    let mut seen = family(10);
    seen.queues = (0..5_000).map(|cell| queue(cell, 0, 0)).collect();
    seen.queues[4_999].getters = vec![103];
    let mut site = site([seen], LEAST);
    let (_, seen) = told(&mut site);
    assert_eq!(seen["queues"].as_array().unwrap().len(), MOST_OF_A_KIND);
    assert_eq!(seen["queues"][0]["id"], "4999.0");
    assert_eq!(seen["beyond"], json!({ "queues": 4_000 }));
}

#[test]
fn the_end_of_the_family_is_told_and_ends_the_site() {
    let mut site = site([family(10)], LEAST);
    told(&mut site);
    page(&mut site).source.has_ended.set(true);
    let (events, end) = site.tick(&[0]);
    assert!(events[0].1.starts_with(b"event: ended\n"));
    assert_eq!(end.unwrap().code, crate::NOTHING);
    let answer = ask(&mut site, "/0123456789abcdef/metrics");
    assert_eq!(answer.status, "200 OK");
    page(&mut site).looked = None;
    let answer = ask(&mut site, "/0123456789abcdef/api/family");
    assert_eq!(answer.status, "503 Service Unavailable");
    assert!(text(&answer).contains("has ended"));
    // What a question has shown is told to those that follow.
    assert!(site.due(&[]) <= Instant::now());
    assert!(site.tick(&[]).1.is_some());
}

thread_local! {
    /// The families that a search finds.
    static FAMILIES: RefCell<Vec<(Stream, FamilySnapshot)>> = const { RefCell::new(Vec::new()) };
}

fn found() -> Vec<(Stream, Looks)> {
    FAMILIES.with_borrow(|families| {
        let new = |(number, seen): &(Stream, FamilySnapshot)| (*number, Looks::new([seen.clone()]));
        families.iter().map(new).collect()
    })
}

fn several(numbers: &[Stream]) -> Web<Looks> {
    FAMILIES.set(numbers.iter().map(|&number| (number, family(10))).collect());
    Web {
        shown: Shown::Several(Several::new(found, LEAST, Limits::default())),
        token: "0123456789abcdef".to_owned(),
    }
}

fn end(site: &mut Web<Looks>, number: Stream) {
    FAMILIES.with_borrow_mut(|families| families.retain(|one| one.0 != number));
    let Shown::Several(pages) = &mut site.shown else {
        panic!("there is one")
    };
    let page = pages.page(number);
    page.source.has_ended.set(true);
    page.next = Instant::now();
}

#[test]
fn several_families_are_listed_and_each_has_a_page() {
    let mut site = several(&[7, 8]);
    let list = ask(&mut site, "/0123456789abcdef/");
    assert!(text(&list).contains("families.js"));
    let list = ask(&mut site, "/0123456789abcdef/api/families");
    let list: Value = serde_json::from_str(text(&list)).unwrap();
    assert_eq!(list["families"][1]["number"], 8);
    assert_eq!(list["families"][1]["program"], "python shop.py");
    assert!(text(&ask(&mut site, "/0123456789abcdef/8/")).contains("page.js"));
    assert!(text(&ask(&mut site, "/0123456789abcdef/8/metrics")).contains("procession_queue_items"));
    assert_eq!(ask(&mut site, "/0123456789abcdef/8/api/events"), Answer::events(8));
    for path in [
        "/0123456789abcdef/9/",
        "/0123456789abcdef/8/8/",
        "/0123456789abcdef/8",
        "/8/",
    ] {
        assert_ne!(ask(&mut site, path).status, "200 OK", "{path}");
    }
}

#[test]
fn of_several_families_each_ends_by_itself_and_new_ones_are_found() {
    let mut site = several(&[7, 8]);
    ask(&mut site, "/0123456789abcdef/7/api/events");
    ask(&mut site, "/0123456789abcdef/8/api/events");
    let (events, over) = site.tick(&[7, 8]);
    let streams: Vec<Stream> = events.iter().map(|event| event.0).collect();
    assert_eq!((streams, over.is_none()), (vec![7, 8], true));
    assert_eq!(parse(&events[0].1).1["is_one_of_several"], true);
    end(&mut site, 7);
    FAMILIES.with_borrow_mut(|families| families.push((9, family(10))));
    let list = ask(&mut site, "/0123456789abcdef/api/families");
    let list: Value = serde_json::from_str(text(&list)).unwrap();
    let numbers: Vec<&Value> = list["families"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["number"])
        .collect();
    assert_eq!(numbers, [8, 9]);
    let (events, over) = site.tick(&[7]);
    assert_eq!((parse(&events[0].1).0.as_str(), over.is_none()), ("ended", true));
    assert_eq!(ask(&mut site, "/0123456789abcdef/7/").status, "404 Not Found");
    end(&mut site, 8);
    end(&mut site, 9);
    for number in [8, 9] {
        ask(&mut site, &format!("/0123456789abcdef/{number}/api/events"));
    }
    let (events, over) = site.tick(&[8, 9]);
    assert_eq!(events.len(), 2);
    assert_eq!(over.unwrap().code, crate::NOTHING);
}
