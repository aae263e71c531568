//! A lane: a queue beside the descriptor of a pipe, which carries the messages of one direction between the processes of
//! a family. The README of this folder, "Lanes", argues its correctness.
//!
//! Only the descriptor reports the end of the pipe, and poll(2) sees only the descriptor. If there is a message in the
//! lane, the descriptor is readable, because a *bell* lies in it. Leaves to the faces what a frame is.

use super::layout::Queue;
use super::segment::SlotState;
use super::{Incoming, Message};
use crate::arena::Ref;
use crate::ids::Handle;
use crate::sync::descriptor::{until, Direction};
use crate::sync::primitive::{fence, AtomicU32, Ordering};
use crate::sync::wait::{is_interruptible, SLICE};
use crate::{Deadline, Error, Result, WaitError};
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::io::{Errno, IoSlice, IoSliceMut, ReadWriteFlags};
use rustix::net::{RecvFlags, SendFlags};
use rustix::pipe::{PipeFlags, SpliceFlags};
use rustix::time::{clock_gettime, ClockId};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;
use Ordering::{Relaxed, SeqCst};

/// Flag of [`LaneWords::mode`](super::layout::LaneWords): messages go through the descriptor, for good.
const DESCRIPTOR_ONLY: u32 = 1;
/// Flag of the same word: a bell is in the descriptor, or a sender is about to write one.
const BELL: u32 = 2;
/// What makes the descriptor readable: the header of a frame of a length that no frame has.
pub const BELL_FRAME: [u8; 4] = (-2i32).to_be_bytes();

/// The most messages in a lane.
const MESSAGES: u64 = 1024;
/// The number of bytes from which on a sender waits; but there is always room for two messages.
const BYTES: u64 = 1 << 20;
/// How long a receiver sleeps on the lane before it sleeps on the descriptor. Longer than the scheduler's tick, as the
/// first slice of any wait.
const BRISK: Duration = Duration::from_millis(10);
/// How long a sender waits for room without checking that a receiver is left.
const ROOM_CHECK: Duration = Duration::from_millis(25);

/// What became of a message to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is in the lane.
    Done,
    /// There is no room.
    Full,
    /// It must go through the descriptor.
    Descriptor,
    /// No process holds a receiving end any more.
    Broken,
}

/// What a receiver finds.
#[derive(Debug)]
pub enum Received {
    /// The oldest message of the lane.
    Message(Incoming),
    /// A frame must be read from the descriptor.
    Descriptor,
    /// No process holds a sending end any more, and there is nothing left.
    End,
}

/// What is next in the descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Nothing,
    Bell,
    Frame,
    End,
}

/// What a receiver that wants to sleep on the descriptor finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Message,
    Nothing,
    Frame,
    End,
}

/// When this process last asked the kernel whether the other side is still there. It asks again after a close, and
/// otherwise once in about four milliseconds, as long as messages go to and fro.
#[derive(Debug, Default)]
struct Checked {
    closes: AtomicU32,
    tick: AtomicU32,
}

impl Checked {
    /// Whether the other side is gone, if it is time to ask. `closes` is how often an end of that side was closed.
    fn is_gone(&self, closes: u32, fd: BorrowedFd<'_>) -> Result<bool> {
        let now = clock_gettime(ClockId::MonotonicCoarse);
        let tick = (now.tv_sec as u32) << 8 | (now.tv_nsec as u32) >> 22;
        if self.closes.load(Relaxed) == closes && self.tick.load(Relaxed) == tick {
            return Ok(false);
        }
        if is_hung_up(fd)? {
            return Ok(true);
        }
        self.closes.store(closes, Relaxed);
        self.tick.store(tick, Relaxed);
        Ok(false)
    }
}

/// The sending end of a lane.
#[derive(Debug)]
pub struct Sender {
    queue: Ref<Queue>,
    checked: Checked,
}

/// The receiving end of a lane.
#[derive(Debug)]
pub struct Receiver {
    queue: Ref<Queue>,
    checked: Checked,
}

/// Create a lane.
pub fn lane() -> Result<(Sender, Receiver)> {
    let queue = Queue::create(MESSAGES)?;
    let sender = Sender::attach(queue.handle())?;
    let checked = Checked::default();
    Ok((sender, Receiver { queue, checked }))
}

impl Sender {
    /// The end behind a handle.
    pub fn attach(handle: Handle) -> Result<Self> {
        let (queue, checked) = (Ref::attach(handle)?, Checked::default());
        Ok(Self { queue, checked })
    }

    /// The handle to send.
    pub fn handle(&self) -> Handle {
        self.queue.handle()
    }

    /// Whether messages go through the descriptor.
    pub fn is_left(&self) -> bool {
        is_left(&self.queue)
    }

    /// Send all further messages through the descriptor. Those in the lane come first.
    pub fn leave(&self) {
        let _ = leave(&self.queue);
    }

    /// Record that this end was closed. Call it when the descriptor is closed.
    pub fn closed(&self) {
        self.queue.front.lane.closed_senders.fetch_add(1, SeqCst);
        self.queue.wake_consumers();
    }

    /// What a sender does before it rings.
    #[cfg(test)]
    pub(super) fn claim_the_bell(&self) {
        self.queue.front.lane.mode.fetch_or(BELL, SeqCst);
    }

    /// Send a message if there is room. If it is not sent it stays in `message`.
    pub fn try_send(&self, message: &mut Option<Message>, fd: BorrowedFd<'_>) -> Result<Sent> {
        match self.send_by(message, fd, Deadline::Now) {
            Ok(sent) => Ok(sent),
            Err(WaitError::Other(error)) => Err(error),
            Err(_) => Ok(Sent::Full),
        }
    }

    /// As [`try_send`](Self::try_send), but wait for room.
    pub fn send(&self, message: &mut Option<Message>, fd: BorrowedFd<'_>) -> Result<Sent, WaitError> {
        loop {
            match self.send_by(message, fd, Deadline::after(ROOM_CHECK)) {
                // The deadline of one check comes before the end of a slice, at which the caller looks for signals.
                Err(WaitError::TimedOut) if is_interruptible() => return Err(WaitError::Interrupted),
                Err(WaitError::TimedOut) => {}
                end => return end,
            }
        }
    }

    fn send_by(
        &self,
        message: &mut Option<Message>,
        fd: BorrowedFd<'_>,
        deadline: Deadline,
    ) -> Result<Sent, WaitError> {
        let lane = &self.queue.front.lane;
        if self.is_left() {
            return Ok(Sent::Descriptor);
        }
        if self.checked.is_gone(lane.closed_receivers.load(Relaxed), fd)? {
            return Ok(Sent::Broken);
        }
        let size = message.as_ref().map_or(0, Message::size) as u64;
        let limit = (BYTES / size.max(1)).clamp(2, MESSAGES);
        self.queue.put_within(limit, message, deadline)?;
        // SYNC: `put` fences after it published: either this load sees that the bell was taken away, or the process
        // that took it away sees the message.
        if lane.mode.load(SeqCst) & BELL == 0 && lane.mode.fetch_or(BELL, SeqCst) & BELL == 0 {
            // DEATH: a sender that dies here leaves a descriptor that is not readable. A receiver that sleeps on it
            // finds the message after its slice, and then takes the bell away.
            // The receiver may have taken the message, and closed its end, already. A later send asks.
            if !ring(fd)? {
                self.checked.tick.store(0, Relaxed);
            }
        }
        Ok(Sent::Done)
    }
}

impl Receiver {
    /// The end behind a handle.
    pub fn attach(handle: Handle) -> Result<Self> {
        let (queue, checked) = (Ref::attach(handle)?, Checked::default());
        Ok(Self { queue, checked })
    }

    /// The handle to send.
    pub fn handle(&self) -> Handle {
        self.queue.handle()
    }

    /// Use the descriptor alone from now on, but for what is in the lane. True if the lane was in use.
    ///
    /// If so, `prepare_poll` must follow: then the descriptor is readable if and only if there is something to receive.
    pub fn leave(&self) -> bool {
        leave(&self.queue)
    }

    /// The number of bytes in the lane. `None` if there is no message, or one with parts outside its body.
    pub fn pending(&self) -> Result<Option<usize>> {
        let mut sizes = Vec::new();
        self.queue.visit(|view, _, slot, stamp| {
            if stamp == view.stamp(SlotState::Full, None) {
                sizes.push(slot.header.lone_body());
            }
            true
        })?;
        Ok(sizes.into_iter().reduce(|sum, size| Some(sum? + size?)).flatten())
    }

    /// Record that this end was closed. Call it when the descriptor is closed.
    pub fn closed(&self) {
        self.queue.front.lane.closed_receivers.fetch_add(1, SeqCst);
    }

    /// Take the oldest message of the lane, if there is one.
    pub fn try_receive(&self, fd: BorrowedFd<'_>) -> Result<Option<Incoming>> {
        let incoming = match self.queue.get(Deadline::Now) {
            Ok(incoming) => incoming,
            Err(WaitError::Other(error)) => return Err(error),
            Err(_) => return Ok(None),
        };
        if is_left(&self.queue) {
            // Others may look at the descriptor: it must not stay readable.
            self.settle(fd)?;
        }
        Ok(Some(incoming))
    }

    /// Wait for a message. `idle` is false at the beginning of a wait, and kept across interruptions.
    pub fn receive(&self, fd: BorrowedFd<'_>, idle: &mut bool) -> Result<Received, WaitError> {
        let lane = &self.queue.front.lane;
        loop {
            if let Some(incoming) = self.try_receive(fd)? {
                return Ok(Received::Message(incoming));
            }
            if is_left(&self.queue) {
                return Ok(Received::Descriptor);
            }
            if *idle {
                match self.settle(fd)? {
                    Found::Message => {}
                    Found::Nothing => drop(until(fd, Direction::Reading, Deadline::after(SLICE))?),
                    Found::Frame => return Ok(Received::Descriptor),
                    Found::End => return Ok(self.last(fd)?),
                }
                continue;
            }
            let closes = lane.closed_senders.load(SeqCst);
            if self.checked.is_gone(closes, fd)? {
                return Ok(self.last(fd)?);
            }
            let over = || is_left(&self.queue) || lane.closed_senders.load(SeqCst) != closes;
            match self.queue.get_or(Deadline::after(BRISK), over) {
                Ok(Some(incoming)) => return Ok(Received::Message(incoming)),
                Ok(None) => {}
                Err(WaitError::TimedOut) => *idle = true,
                Err(error) => return Err(error),
            }
        }
    }

    /// What is left when no process holds a sending end any more.
    fn last(&self, fd: BorrowedFd<'_>) -> Result<Received> {
        // SYNC: the lane is looked at after the end was seen, and so holds all that was sent before.
        Ok(match self.try_receive(fd)? {
            Some(incoming) => Received::Message(incoming),
            None if is_left(&self.queue) => Received::Descriptor,
            None => Received::End,
        })
    }

    /// Whether a `receive` would not have to wait.
    pub fn is_ready(&self, fd: BorrowedFd<'_>) -> Result<bool> {
        if !self.queue.is_empty()? {
            return Ok(true);
        }
        if is_left(&self.queue) {
            return Ok(self.settle(fd)? != Found::Nothing);
        }
        // As long as the lane is used there are only bells in the descriptor.
        Ok(is_hung_up(fd)? || !self.queue.is_empty()?)
    }

    /// Clear the flag, so that the next message makes the descriptor readable. Returns true if a `receive` would not
    /// wait now; false means: poll the descriptor.
    pub fn arm(&self, fd: BorrowedFd<'_>) -> Result<bool> {
        let rung = self.queue.front.lane.mode.fetch_and(!BELL, SeqCst) & BELL != 0;
        // SYNC: as in `settle`.
        fence(SeqCst);
        Ok(!self.queue.is_empty()? || rung && self.settle(fd)? != Found::Nothing)
    }

    /// The same as [`is_ready`](Self::is_ready), and if it is false, the descriptor is not readable until the next
    /// message.
    pub fn prepare_poll(&self, fd: BorrowedFd<'_>) -> Result<bool> {
        Ok(!self.queue.is_empty()? || self.settle(fd)? != Found::Nothing)
    }

    /// Wait until a `receive` would not have to. `idle` is as for [`receive`](Self::receive).
    pub fn wait_until_ready(&self, fd: BorrowedFd<'_>, idle: &mut bool, deadline: Deadline) -> Result<(), WaitError> {
        let lane = &self.queue.front.lane;
        loop {
            if *idle || is_left(&self.queue) {
                if self.prepare_poll(fd)? {
                    return Ok(());
                }
                if deadline.is_over() {
                    return Err(WaitError::TimedOut);
                }
                until(fd, Direction::Reading, Deadline::after(deadline.slice(SLICE)))?;
                continue;
            }
            let closes = lane.closed_senders.load(SeqCst);
            if self.is_ready(fd)? {
                return Ok(());
            }
            if deadline.is_over() {
                return Err(WaitError::TimedOut);
            }
            let over = || is_left(&self.queue) || lane.closed_senders.load(SeqCst) != closes;
            let brisk = Deadline::after(deadline.slice(BRISK));
            match self.queue.wait_until_ready_or(brisk, over) {
                Ok(()) => {}
                Err(WaitError::TimedOut) => *idle = true,
                Err(error) => return Err(error),
            }
        }
    }

    /// Remove a stale bell and clear the flag, so that the next sender writes a new one. If the result is `Nothing`, the
    /// descriptor becomes readable with the next message.
    fn settle(&self, fd: BorrowedFd<'_>) -> Result<Found> {
        loop {
            // The flag goes first, then one bell. A sender that rings in between adds a bell to the one that is taken
            // away, so other processes that sleep on the descriptor are woken.
            self.queue.front.lane.mode.fetch_and(!BELL, SeqCst);
            // SYNC: the flag comes before the look, the sender's message before its look at the flag.
            fence(SeqCst);
            if !self.queue.is_empty()? {
                return Ok(Found::Message);
            }
            match peek(fd)? {
                Next::Bell => take_bell(fd)?,
                Next::Nothing => return Ok(Found::Nothing),
                Next::Frame => return Ok(Found::Frame),
                Next::End => return Ok(Found::End),
            }
        }
    }
}

fn is_left(lane: &Queue) -> bool {
    lane.front.lane.mode.load(SeqCst) & DESCRIPTOR_ONLY != 0
}

/// True if this call made the difference.
fn leave(lane: &Queue) -> bool {
    let left = !is_left(lane) && lane.front.lane.mode.fetch_or(DESCRIPTOR_ONLY, SeqCst) & DESCRIPTOR_ONLY == 0;
    if left {
        lane.wake_consumers();
    }
    left
}

/// Whether no process holds the other side of the descriptor any more.
fn is_hung_up(fd: BorrowedFd<'_>) -> Result<bool> {
    let mut fds = [PollFd::new(&fd, PollFlags::RDHUP)];
    poll_now(&mut fds)?;
    let events = fds[0].revents();
    if events.contains(PollFlags::NVAL) {
        return Err(Error::os("poll", Errno::BADF));
    }
    Ok(!events.is_empty())
}

fn poll_now(fds: &mut [PollFd<'_>]) -> Result<()> {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    loop {
        match poll(fds, Some(&now)) {
            Err(Errno::INTR) => {}
            result => return result.map(drop).map_err(|error| Error::os("poll", error)),
        }
    }
}

/// Make the descriptor readable for the other side. False if there is no other side any more.
fn ring(fd: BorrowedFd<'_>) -> Result<bool> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    let rung = match rustix::net::send(fd, &BELL_FRAME, flags) {
        Err(Errno::NOTSOCK) => ring_pipe(fd),
        rung => rung,
    };
    match rung {
        // Where nothing more fits, there is something to read.
        Ok(_) | Err(Errno::AGAIN) => Ok(true),
        Err(Errno::PIPE | Errno::CONNRESET) => Ok(false),
        Err(error) => Err(Error::os("write to a pipe", error)),
    }
}

fn ring_pipe(fd: BorrowedFd<'_>) -> rustix::io::Result<usize> {
    let parts = [IoSlice::new(&BELL_FRAME)];
    match rustix::io::pwritev2(fd, &parts, u64::MAX, ReadWriteFlags::NOWAIT) {
        // Linux before 6.5. So few bytes are written at once if the pipe has room at all.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
            let mut fds = [PollFd::new(&fd, PollFlags::OUT)];
            poll_now(&mut fds).map_err(|_| Errno::AGAIN)?;
            if fds[0].revents().is_empty() {
                return Err(Errno::AGAIN);
            }
            rustix::io::write(fd, &BELL_FRAME)
        }
        rung => rung,
    }
}

/// Look at what is next in the descriptor, and leave it there.
fn peek(fd: BorrowedFd<'_>) -> Result<Next> {
    let mut head = [0; BELL_FRAME.len()];
    let got = match rustix::net::recv(fd, &mut head, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((_, got)) => Ok(got),
        Err(Errno::NOTSOCK) => peek_pipe(fd, &mut head),
        // The other side ended with a bell unread.
        Err(Errno::CONNRESET) => Ok(0),
        Err(error) => Err(error),
    };
    match got {
        Ok(0) => Ok(Next::End),
        Ok(_) if head == BELL_FRAME => Ok(Next::Bell),
        Ok(_) => Ok(Next::Frame),
        Err(Errno::AGAIN | Errno::INTR) => Ok(Next::Nothing),
        Err(error) => Err(Error::os("read from a pipe", error)),
    }
}

/// Copy the first bytes of a pipe: tee(2) can, into another pipe.
fn peek_pipe(fd: BorrowedFd<'_>, head: &mut [u8; 4]) -> rustix::io::Result<usize> {
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    poll_now(&mut fds).map_err(|_| Errno::AGAIN)?;
    let events = fds[0].revents();
    if !events.contains(PollFlags::IN) {
        return if events.is_empty() { Err(Errno::AGAIN) } else { Ok(0) };
    }
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    rustix::pipe::tee(fd, writer.as_fd(), head.len(), SpliceFlags::NONBLOCK)?;
    rustix::io::read(&reader, head)
}

/// Take the bell that is next in the descriptor, unless another process was faster.
fn take_bell(fd: BorrowedFd<'_>) -> Result<()> {
    let mut bell = [0; BELL_FRAME.len()];
    let taken = match rustix::net::recv(fd, &mut bell, RecvFlags::DONTWAIT) {
        Err(Errno::NOTSOCK) => take_from_pipe(fd, &mut bell),
        taken => taken.map(|(_, got)| got),
    };
    match taken {
        Ok(_) | Err(Errno::AGAIN | Errno::INTR | Errno::CONNRESET) => Ok(()),
        Err(error) => Err(Error::os("read from a pipe", error)),
    }
}

fn take_from_pipe(fd: BorrowedFd<'_>, bell: &mut [u8]) -> rustix::io::Result<usize> {
    match rustix::io::preadv2(fd, &mut [IoSliceMut::new(bell)], u64::MAX, ReadWriteFlags::NOWAIT) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => rustix::io::read(fd, bell),
        taken => taken,
    }
}
