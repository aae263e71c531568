//! What a sender and a receiver do with a mailbox.

use super::{handle, Operation};
use procession_core::channel::{Mailbox, Outgoing};
use procession_core::sync::Lock;

pub fn operations() -> [Operation; 5] {
    let pack = |object: u64| {
        let out = Outgoing {
            body: &[7; 200],
            buffers: &[&[8; 300]],
            handles: &[handle(object)],
            ..Outgoing::default()
        };
        Mailbox::pack(out).expect("a mailbox")
    };
    let setup = || {
        vec![
            0,
            std::mem::ManuallyDrop::new(Lock::create().expect("a lock"))
                .handle()
                .to_bits(),
        ]
    };
    let sent = move || {
        let mut values = setup();
        let mailbox = pack(values[1]);
        values[0] = mailbox.token();
        std::mem::forget(mailbox);
        values
    };
    [
        Operation::new(
            "mailbox pack and drop",
            setup,
            move |values| {
                let object = values[1];
                move || drop(pack(object))
            },
            |_, _| "gone".to_owned(),
        ),
        Operation::new(
            "mailbox pack and tell",
            setup,
            move |values| {
                let object = values[1];
                move || {
                    let mailbox = pack(object);
                    mailbox.token();
                    std::mem::forget(mailbox);
                }
            },
            |_, _| "gone".to_owned(),
        ),
        Operation::new(
            "mailbox given back, its sender having died",
            move || {
                let values = setup();
                // SAFETY: one thread; the child leaves by `_exit`.
                let packer = unsafe { libc::fork() };
                if packer == 0 {
                    let mailbox = pack(values[1]);
                    mailbox.token();
                    // SAFETY: ends the child.
                    unsafe { libc::_exit(0) }
                }
                crate::remote::wait(packer);
                values
            },
            |_| || assert_eq!(procession_core::liveness::sweep(), 2),
            |_, _| "gone".to_owned(),
        ),
        Operation::new(
            "mailbox expect",
            sent,
            |values| {
                let token = values[0];
                move || Mailbox::expect(token).expect("the mailbox")
            },
            // It waits for its packer, which lives, or for the dead process.
            |values, done| {
                procession_core::liveness::sweep();
                let Ok(incoming) = Mailbox::take(values[0]) else {
                    return "given back".to_owned();
                };
                assert!(!done, "it waits for a dead process");
                assert_eq!(incoming.body(), [7; 200]);
                "still there".to_owned()
            },
        ),
        Operation::new(
            "mailbox take",
            sent,
            |values| {
                let token = values[0];
                move || std::mem::forget(Mailbox::take(token).expect("the mailbox"))
            },
            |values, done| match Mailbox::take(values[0]) {
                Ok(incoming) => {
                    assert!(!done, "taken twice");
                    assert_eq!(incoming.body(), [7; 200]);
                    "still there".to_owned()
                }
                Err(_) => "taken".to_owned(),
            },
        ),
    ]
}
