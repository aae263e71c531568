//! Messages of a pipe: handed over, or named by a frame. The descriptor is left out: a survivor knows which frames were
//! written.

use super::queue::{number_of, outgoing, Make, MINE};
use super::{handle, in_a_child_that_dies, Operation};
use crate::battery::Clock;
use crate::stage::Values;
use procession_core::arena::Ref;
use procession_core::channel::{Incoming, Lane, Message};
use procession_core::ids::Handle;
use procession_core::sync::Lock;
use procession_core::{liveness, Error};

/// The number of slots of a lane.
const SLOTS: usize = 31;
/// The header of the first frame of a lane: of slot 0, in generation 1.
const FIRST: i32 = -34;
/// How often other processes may have used a slot before.
const USES: i32 = 5;

/// A lane, and a lock for messages to refer to.
fn stock() -> Vec<u64> {
    let lane = std::mem::ManuallyDrop::new(Lane::create().expect("a lane"));
    let lock = std::mem::ManuallyDrop::new(Lock::create().expect("a lock"));
    vec![lane.handle().to_bits(), lock.handle().to_bits()]
}

fn attach(values: &Values) -> (Ref<Lane>, Handle) {
    let lane = Ref::<Lane>::attach(handle(values[0])).expect("the lane");
    (lane, handle(values[1]))
}

/// Let a receiver die that waits.
fn wait_and_die(values: &[u64]) {
    let bits = values[0];
    in_a_child_that_dies(|| {
        let lane = Ref::<Lane>::attach(handle(bits)).expect("the lane");
        assert!(lane.begin().expect("an entry in the process table"));
        std::mem::forget(lane);
    });
}

fn message(make: Make, number: u64, object: Handle) -> Message {
    outgoing(make, number, object, |out| Message::pack(out).expect("memory"))
}

fn hand_over(lane: &Lane, make: Make, number: u64, object: Handle) -> bool {
    let posted = lane.post(message(make, number, object)).expect("a lane");
    posted.is_some_and(|posted| posted.hand_over().is_ok())
}

/// Returns the header of the frame; `None` without a slot.
fn name(lane: &Lane, make: Make, number: u64, object: Handle) -> Option<i32> {
    let posted = lane.post(message(make, number, object)).expect("a lane")?;
    let Ok(named) = posted.announce() else { panic!("plain") };
    let frame = named.frame();
    named.written();
    Some(i32::from_be_bytes(frame))
}

fn open(lane: &Lane, header: i32) -> Option<Incoming> {
    match lane.open(header) {
        Ok(incoming) => {
            lane.settle();
            Some(incoming)
        }
        Err(Error::Corrupt(_)) => None,
        Err(error) => panic!("open: {error}"),
    }
}

/// What is left in the lane: the message that was handed over, or the one that a frame names.
fn left(lane: &Lane, make: Make) -> (Option<u64>, Option<u64>) {
    liveness::sweep();
    let handed = lane
        .take_left()
        .expect("a lane")
        .map(|incoming| number_of(incoming, make));
    let mut headers = (0..SLOTS as i32).flat_map(|slot| (0..USES).map(move |used| FIRST - slot - 32 * used));
    let named = headers
        .find_map(|header| open(lane, header))
        .map(|incoming| number_of(incoming, make));
    (handed, named)
}

/// Check that the lane works, and has all its slots. `quiet`: no frame can be pending.
fn still_works(lane: &Lane, object: Handle, quiet: bool) {
    assert!(!quiet || !lane.is_pending(), "a frame that was never announced");
    let headers: Vec<_> = std::iter::from_fn(|| name(lane, Make::Inline, MINE, object)).collect();
    assert_eq!(headers.len(), SLOTS, "slots");
    for header in headers {
        let incoming = open(lane, header).expect("what was named");
        assert_eq!(number_of(incoming, Make::Inline), MINE);
    }
    if quiet {
        assert!(lane.begin().expect("a lane"), "another receiver waits");
        assert!(hand_over(lane, Make::Inline, MINE, object), "a receiver waits");
        let incoming = lane.withdraw().expect("a lane").expect("what was handed over");
        assert_eq!(number_of(incoming, Make::Inline), MINE);
    }
}

/// What other processes do with the same lane.
fn beside(values: &Values, clock: &mut Clock) {
    let (lane, object) = attach(values);
    clock.time("send and receive by the same lane", || {
        let header = name(&lane, Make::Large, MINE, object).expect("a slot");
        let incoming = open(&lane, header).expect("what was named");
        assert_eq!(number_of(incoming, Make::Large), MINE);
    });
    clock.time("look at the same lane", || {
        lane.has_left();
        if lane.begin().expect("a lane") {
            drop(lane.withdraw().expect("a lane"));
        }
    });
}

/// A sender. `by_hand`: a receiver waits, which then dies.
fn send(name_of: &str, make: Make, by_hand: bool) -> Operation {
    Operation::new(
        format!("pipe send, {name_of}"),
        move || {
            let values = stock();
            if by_hand {
                wait_and_die(&values);
            }
            values
        },
        move |values| {
            let (lane, object) = attach(values);
            move || {
                if by_hand {
                    assert!(hand_over(&lane, make, MINE, object));
                } else {
                    name(&lane, make, MINE, object).expect("a slot");
                }
                std::mem::forget(lane);
            }
        },
        move |values, done| {
            let (lane, object) = attach(values);
            let (handed, named) = left(&lane, make);
            assert!(handed.is_none() || by_hand && handed == Some(MINE));
            assert!(named.is_none() || handed.is_none() && named == Some(MINE));
            let sent = if by_hand { handed } else { named };
            assert!(sent.is_some() || !done, "the send had returned");
            still_works(&lane, object, by_hand || done);
            match (handed, named) {
                (Some(_), _) => "handed over",
                (_, Some(_)) => "in a slot",
                _ => "not there",
            }
            .to_owned()
        },
    )
    .beside(beside)
}

/// A receiver that is handed a message while it waits.
fn receive(name_of: &str, make: Make) -> Operation {
    Operation::new(
        format!("pipe receive, {name_of}"),
        stock,
        move |values| {
            let (lane, object) = attach(values);
            move || {
                assert!(lane.begin().expect("a lane"));
                assert!(hand_over(&lane, make, MINE, object));
                let got = lane.withdraw().expect("a lane").expect("what was handed over");
                std::mem::forget((lane, got));
            }
        },
        move |values, done| {
            let (lane, object) = attach(values);
            let (handed, named) = left(&lane, make);
            assert!(handed.is_none() || named.is_none());
            assert!(!done || handed.or(named).is_none(), "got twice");
            still_works(&lane, object, true);
            match (handed, named) {
                (Some(_), _) => "handed over",
                (_, Some(_)) => "in a slot",
                _ => "gone, or never there",
            }
            .to_owned()
        },
    )
    .beside(beside)
}

/// A receiver that succeeds a dead one.
fn succeed(name_of: &str, make: Make) -> Operation {
    Operation::new(
        format!("pipe receive, in the place of the dead, {name_of}"),
        move || {
            let values = stock();
            wait_and_die(&values);
            let lane = Ref::<Lane>::attach(handle(values[0])).expect("the lane");
            assert!(hand_over(&lane, make, MINE, handle(values[1])));
            std::mem::forget(lane);
            values
        },
        move |values| {
            let (lane, _) = attach(values);
            liveness::sweep();
            move || {
                let got = lane.take_left().expect("a lane").expect("what was left");
                std::mem::forget((lane, got));
            }
        },
        move |values, done| {
            let (lane, object) = attach(values);
            let (handed, named) = left(&lane, make);
            assert!(named.is_none());
            assert!(!done || handed.is_none(), "got twice");
            still_works(&lane, object, true);
            if handed.is_some() { "still there" } else { "taken" }.to_owned()
        },
    )
    .beside(|values, clock| {
        let (lane, object) = attach(values);
        clock.time("send and receive by the same lane", || {
            let header = name(&lane, Make::Large, MINE, object).expect("a slot");
            assert_eq!(
                number_of(open(&lane, header).expect("what was named"), Make::Large),
                MINE
            );
        });
    })
}

/// A receiver that has read a frame.
fn read(name_of: &str, make: Make) -> Operation {
    Operation::new(
        format!("pipe receive, named, {name_of}"),
        move || {
            let values = stock();
            let lane = Ref::<Lane>::attach(handle(values[0])).expect("the lane");
            assert_eq!(name(&lane, make, MINE, handle(values[1])), Some(FIRST));
            std::mem::forget(lane);
            values
        },
        move |values| {
            let (lane, _) = attach(values);
            move || {
                let got = open(&lane, FIRST).expect("what was named");
                std::mem::forget((lane, got));
            }
        },
        move |values, done| {
            let (lane, object) = attach(values);
            let (handed, named) = left(&lane, make);
            assert!(handed.is_none());
            assert!(!done || named.is_none(), "got twice");
            still_works(&lane, object, done);
            if named.is_some() { "still there" } else { "taken" }.to_owned()
        },
    )
    .beside(beside)
}

/// What a sender takes back, and a lane that ends.
fn undone() -> [Operation; 2] {
    [
        Operation::new(
            "pipe send, taken back",
            stock,
            |values| {
                let (lane, object) = attach(values);
                move || {
                    let posted = lane.post(message(Make::Large, MINE, object)).expect("a lane");
                    drop(posted.expect("a slot").announce());
                    std::mem::forget(lane);
                }
            },
            |values, done| {
                let (lane, object) = attach(values);
                let (handed, named) = left(&lane, Make::Large);
                assert!(handed.is_none() && (named.is_none() || !done));
                still_works(&lane, object, done);
                if named.is_some() { "in a slot" } else { "not there" }.to_owned()
            },
        )
        .beside(beside),
        Operation::new(
            "pipe end, with a message",
            stock,
            |values| {
                let object = handle(values[1]);
                move || {
                    let lane = Lane::create().expect("a lane");
                    name(&lane, Make::Large, MINE, object).expect("a slot");
                    drop(lane);
                }
            },
            |values, _| {
                let (lane, object) = attach(values);
                still_works(&lane, object, true);
                "gone".to_owned()
            },
        ),
    ]
}

pub fn operations() -> Vec<Operation> {
    use Make::{Inline, Large};
    let mut all = vec![
        send("by hand, inline", Inline, true),
        send("by hand, large", Large, true),
        send("named, inline", Inline, false),
        send("named, large", Large, false),
        receive("by hand, inline", Inline),
        receive("by hand, large", Large),
        succeed("inline", Inline),
        succeed("large", Large),
        read("inline", Inline),
        read("large", Large),
    ];
    all.extend(undone());
    all
}
