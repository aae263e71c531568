//! The request for a child of the Rust API: it may be damaged anywhere, or may never have been one.

use crate::choices::Choices;
use crate::handles::handle;
use crate::objects::Objects;
use procession::{codec, current, StartMethod};
use procession_core::channel::{Mailbox, Outgoing};
use serde::Serialize;
use std::ffi::OsString;

const STEPS: usize = 40;

/// Run one process that gets nonsense from its parents.
pub fn requests(input: &[u8]) {
    let mut choices = Choices::new(input);
    let mut objects = Objects::build();
    for _ in 0..STEPS {
        if choices.are_over() {
            break;
        }
        let bytes = request(&mut choices, &objects);
        let mailbox = Mailbox::pack(Outgoing {
            body: &bytes,
            ..Outgoing::default()
        });
        let mailbox = mailbox.expect("an arena that is whole has room");
        let _ = procession::inspect(mailbox.token());
    }
    objects.use_all(&mut choices);
}

/// As the crate's request is serialized, whose type is not public.
#[derive(Serialize)]
struct Request {
    me: procession::Process,
    parent: procession::Process,
    result_slot: u64,
    start_method: StartMethod,
    backtrace: bool,
    surroundings: Option<Surroundings>,
    log: Option<Setting>,
    image: u64,
    call: u64,
    function: u64,
}

#[derive(Serialize)]
struct Surroundings {
    environment: Vec<(OsString, OsString)>,
    umask: u32,
    descriptors: Vec<()>,
}

#[derive(Serialize)]
struct Setting {
    path: Option<OsString>,
    level: Level,
}

#[derive(Serialize)]
#[serde(rename_all = "UPPERCASE")]
enum Level {
    Off,
    Debug,
}

/// A request and its arguments: as they are, damaged, or any bytes.
fn request(choices: &mut Choices, objects: &Objects) -> Vec<u8> {
    let request = Request {
        me: current().clone(),
        parent: current().clone(),
        result_slot: handle(choices, objects).to_bits(),
        start_method: match choices.below(3) {
            0 => StartMethod::Spawn,
            1 => StartMethod::Fork,
            _ => StartMethod::Forkserver,
        },
        backtrace: choices.below(2) == 0,
        surroundings: (choices.below(2) == 0).then(|| Surroundings {
            environment: vec![("name".into(), "value".into())],
            umask: choices.below(1 << 20) as u32,
            descriptors: Vec::new(),
        }),
        log: (choices.below(2) == 0).then(|| Setting {
            path: Some("x".into()),
            level: if choices.below(2) == 0 {
                Level::Off
            } else {
                Level::Debug
            },
        }),
        image: choices.word(),
        call: choices.below(1 << 26),
        function: choices.below(1 << 26),
    };
    let mut bytes = codec::collect(Vec::new(), &request).expect("it can be packed").bytes;
    bytes.extend(choices.bytes(20));
    for _ in 0..choices.below(4) {
        let at = choices.below(bytes.len() as u64) as usize;
        match choices.below(4) {
            0 => drop(bytes.splice(at..at, choices.bytes(12).iter().copied())),
            1 => drop(bytes.remove(at)),
            _ => bytes[at] ^= choices.below(256) as u8,
        }
    }
    if choices.below(8) == 0 {
        bytes.truncate(choices.below(bytes.len() as u64) as usize);
    }
    bytes
}
