//! One client: what it has sent of its request, and what it has not read yet of the answer.

use super::answer::{Answer, Body};
use super::request::{head_of, Head};
use super::{Patience, Stream};
use rustix::event::PollFlags;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::rc::Rc;
use std::time::Instant;

/// What a client is at.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It sends its request's head.
    Asks(Vec<u8>),
    /// It is sent an answer.
    Answered,
    /// It is sent the events of a stream.
    Follows(Stream),
}

pub(super) struct Client {
    stream: TcpStream,
    pub(super) stage: Stage,
    /// What is being sent, and how much of it was.
    sent: Option<(Rc<[u8]>, usize)>,
    /// The event that is sent after that. A newer one takes its place, so a slow client is sent fewer, and a bounded
    /// number waits.
    next: Option<Rc<[u8]>>,
    /// When it is given up, unless it has got on by then.
    pub(super) until: Option<Instant>,
}

impl Client {
    pub(super) fn new(stream: TcpStream, patience: &Patience) -> Option<Self> {
        stream.set_nonblocking(true).ok()?;
        Some(Self {
            stream,
            stage: Stage::Asks(Vec::new()),
            sent: None,
            next: None,
            until: Some(Instant::now() + patience.head),
        })
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// What to wait for. That a client is gone shows as something to read, or as an error in writing.
    pub(super) fn flags(&self) -> PollFlags {
        match (&self.stage, &self.sent) {
            (Stage::Answered, _) => PollFlags::OUT,
            (Stage::Follows(_), Some(_)) => PollFlags::IN | PollFlags::OUT,
            _ => PollFlags::IN,
        }
    }

    /// Take what it has sent. An error: it is gone, or sends what it should not.
    pub(super) fn read(&mut self) -> io::Result<Head> {
        let mut part = [0; 1024];
        let part = match self.stream.read(&mut part) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(more) => &part[..more],
            Err(error) if is_for_now(&error) => return Ok(Head::Begun),
            Err(error) => return Err(error),
        };
        match &mut self.stage {
            Stage::Asks(head) => {
                head.extend_from_slice(part);
                Ok(head_of(head))
            }
            Stage::Answered | Stage::Follows(_) => Err(ErrorKind::InvalidData.into()),
        }
    }

    /// Begin to send an answer.
    pub(super) fn answer(&mut self, answer: &Answer, is_head: bool, patience: &Patience) -> io::Result<bool> {
        self.stage = match answer.body {
            Body::Events(stream) if !is_head => Stage::Follows(stream),
            _ => Stage::Answered,
        };
        self.sent = Some((answer.bytes(is_head), 0));
        self.until = Some(Instant::now() + patience.answer);
        self.write(patience)
    }

    /// The stream that it follows, if it does.
    pub(super) fn follows(&self) -> Option<Stream> {
        match self.stage {
            Stage::Follows(stream) => Some(stream),
            Stage::Asks(_) | Stage::Answered => None,
        }
    }

    /// Send an event, if it follows this stream; after the one that it reads now.
    pub(super) fn tell(&mut self, stream: Stream, event: &Rc<[u8]>, patience: &Patience) -> io::Result<bool> {
        if self.follows() == Some(stream) {
            self.next = Some(Rc::clone(event));
        }
        self.write(patience)
    }

    /// Write as much as it takes. True: it stays. An error: it is gone.
    pub(super) fn write(&mut self, patience: &Patience) -> io::Result<bool> {
        loop {
            let Some((bytes, from)) = &mut self.sent else {
                let Some(next) = self.next.take() else {
                    return Ok(self.stage != Stage::Answered);
                };
                self.sent = Some((next, 0));
                self.until = Some(Instant::now() + patience.answer);
                continue;
            };
            match self.stream.write(&bytes[*from..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(more) => *from += more,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
            if *from == bytes.len() {
                self.sent = None;
                self.until = None;
                if self.stage == Stage::Answered {
                    let _ = self.stream.shutdown(Shutdown::Write);
                }
            }
        }
    }

    /// Whether it has yet to read something.
    pub(super) fn is_behind(&self) -> bool {
        self.sent.is_some()
    }
}

fn is_for_now(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock)
}
