//! A small server of HTTP/1.1 for `metrics --listen` and `web`: it answers questions, and sends events.
//!
//! One thread serves all clients, and waits for none of them: a client that is slow or silent is in nobody's way. What
//! is kept for them is bounded.

mod answer;
mod client;
mod door;
mod request;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use answer::TEXT;
pub(crate) use answer::{event, Answer, Body};
pub(crate) use request::{Hosts, Request};

use client::{Client, Stage};
use door::{Came, Door};
use request::Head;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How many clients ask or are answered at once. Another one takes the place of the first.
const MOST_CLIENTS: usize = 16;
/// How many clients follow the events at once. Another one is refused.
const MOST_FOLLOWERS: usize = 8;

/// How long is waited for a client.
pub(crate) struct Patience {
    /// To send the head of its request.
    head: Duration,
    /// To read an answer, or an event.
    answer: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(5),
            answer: Duration::from_secs(10),
        }
    }
}

/// Which events a client follows.
pub(crate) type Stream = u64;

/// Events, each with the stream whose followers it is for.
pub(crate) type Events = Vec<(Stream, Rc<[u8]>)>;

/// What is served.
pub(crate) trait Site {
    /// Why it is over.
    type End: From<io::Error>;

    /// The answer to a request.
    fn answer(&mut self, request: &Request) -> Answer;

    /// When [`tick`](Self::tick) is due, given the streams that some client follows.
    fn due(&self, followed: &[Stream]) -> Instant;

    /// Do what is due: the events to send; and whether, and why, it is over.
    fn tick(&mut self, followed: &[Stream]) -> (Events, Option<Self::End>);
}

/// Serve until the site is over.
pub(crate) fn serve<S: Site>(
    listener: &TcpListener,
    site: &mut S,
    hosts: Hosts,
    patience: &Patience,
) -> Result<(), S::End> {
    let mut door = Door::new(listener)?;
    let mut clients: VecDeque<Client> = VecDeque::new();
    loop {
        let followed = streams_of(&clients);
        // Whatever comes meanwhile.
        if site.due(&followed) <= Instant::now() {
            let (events, end) = site.tick(&followed);
            for (stream, event) in events {
                clients.retain_mut(|client| client.tell(stream, &event, patience).unwrap_or(false));
            }
            if let Some(end) = end {
                finish(clients, patience)?;
                return Err(end);
            }
        }
        let now = Instant::now();
        let mut late = VecDeque::new();
        for mut client in std::mem::take(&mut clients) {
            if client.until.is_none_or(|until| until > now) {
                clients.push_back(client);
            } else if matches!(client.stage, Stage::Asks(_)) {
                let refusal = Answer::text("408 Request Timeout", "");
                if client.answer(&refusal, false, patience).unwrap_or(false) {
                    late.push_back(client);
                }
            }
        }
        clients.append(&mut late);
        let followed = streams_of(&clients);
        let until = clients
            .iter()
            .filter_map(|client| client.until)
            .chain(door.closed_until(now))
            .fold(site.due(&followed), Instant::min);
        let (is_new, ready) = wait(door.open(now), &clients, until.saturating_duration_since(now))?;
        let mut followers = followed.len();
        for (mut client, ready) in std::mem::take(&mut clients).into_iter().zip(ready) {
            // What goes wrong with one client is no reason not to answer the next one.
            let stays = attend(&mut client, ready, site, hosts, patience, &mut followers);
            if stays.unwrap_or(false) {
                clients.push_back(client);
            }
        }
        if is_new {
            match door.accept()? {
                Came::Client(stream) => {
                    let is_short = |client: &Client| client.follows().is_none();
                    if clients.iter().filter(|client| is_short(client)).count() >= MOST_CLIENTS {
                        let first = clients.iter().position(is_short);
                        first.and_then(|first| clients.remove(first));
                    }
                    clients.extend(Client::new(stream, patience));
                }
                Came::Nobody => {}
            }
        }
    }
}

/// The stream of each client that follows one.
fn streams_of(clients: &VecDeque<Client>) -> Vec<Stream> {
    clients.iter().filter_map(Client::follows).collect()
}

/// Read and write as far as a client is ready. Whether it stays; an error: it is gone.
fn attend(
    client: &mut Client,
    ready: PollFlags,
    site: &mut impl Site,
    hosts: Hosts,
    patience: &Patience,
    followers: &mut usize,
) -> io::Result<bool> {
    if ready.is_empty() {
        return Ok(true);
    }
    match client.stage {
        Stage::Asks(_) => {}
        Stage::Answered => return client.write(patience),
        Stage::Follows(_) => {
            // It has nothing more to say.
            if ready.intersects(!PollFlags::OUT) {
                client.read()?;
            }
            return client.write(patience);
        }
    }
    let (answer, is_head) = match client.read()? {
        Head::Begun => return Ok(true),
        Head::TooLong => (Answer::text("431 Request Header Fields Too Large", ""), false),
        Head::Whole(head) => match request::read(&head, hosts) {
            Ok(request) => (site.answer(&request), request.is_head),
            Err(refusal) => (refusal, false),
        },
    };
    if matches!(answer.body, Body::Events(_)) && !is_head {
        if *followers >= MOST_FOLLOWERS {
            let refusal = Answer::text("503 Service Unavailable", "too many pages are open\n");
            return client.answer(&refusal, false, patience);
        }
        *followers += 1;
    }
    client.answer(&answer, is_head, patience)
}

/// Let the clients read what was sent to them, as long as they are waited for.
fn finish(mut clients: VecDeque<Client>, patience: &Patience) -> io::Result<()> {
    let end = Instant::now() + patience.answer;
    loop {
        clients.retain(Client::is_behind);
        let left = end.saturating_duration_since(Instant::now());
        if clients.is_empty() || left.is_zero() {
            return Ok(());
        }
        let (_, ready) = wait(None, &clients, left)?;
        let mut ready = ready.into_iter();
        clients.retain_mut(|client| {
            let ready = ready.next().unwrap_or(PollFlags::empty());
            let has_sent = client.follows().is_some() && ready.intersects(!PollFlags::OUT);
            let is_gone = has_sent && client.read().is_err();
            !is_gone && client.write(patience).is_ok()
        });
    }
}

/// Wait until a client comes, or is ready, or a signal or `patience` ends it: whether one comes, and what for each of the
/// others is ready.
fn wait(
    listener: Option<&TcpListener>,
    clients: &VecDeque<Client>,
    patience: Duration,
) -> io::Result<(bool, Vec<PollFlags>)> {
    let streams = clients
        .iter()
        .map(|client| PollFd::new(client.stream(), client.flags()));
    let mut polled: Vec<PollFd<'_>> = streams.collect();
    polled.extend(listener.map(|listener| PollFd::new(listener, PollFlags::IN)));
    let patience = Timespec {
        tv_sec: patience.as_secs() as i64,
        tv_nsec: patience.subsec_nanos().into(),
    };
    match rustix::event::poll(&mut polled, Some(&patience)) {
        Ok(_) => {}
        Err(Errno::INTR) => return Ok((false, vec![PollFlags::empty(); clients.len()])),
        Err(error) => return Err(error.into()),
    }
    let mut ready: Vec<PollFlags> = polled.iter().map(PollFd::revents).collect();
    let is_new = listener.is_some() && ready.pop().is_some_and(|flags| !flags.is_empty());
    Ok((is_new, ready))
}
