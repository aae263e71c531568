//! `procession web`: a page about a family, for a browser, or a page for each of several. It shows, and changes nothing.
//!
//! All paths lie below a random token, which only the printed address has. So another program's page, or another user of
//! the machine, can ask nothing, although it can connect.

mod assets;
mod family;
mod several;
#[cfg(test)]
mod tests;

use crate::findings::Limits;
use crate::http::{serve, Answer, Events, Hosts, Patience, Request, Site, Stream};
use crate::{pick, Failure};
use family::{Page, Source};
use procession_core::inspect::Inspector;
use rustix::rand::{getrandom, GetRandomFlags};
use several::Several;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

/// Bytes of the token.
const TOKEN: usize = 16;

/// What is shown below the token.
enum Shown<S> {
    One(Box<Page<S>>),
    Several(Several<S>),
}

struct Web<S> {
    shown: Shown<S>,
    token: String,
}

impl<S> Web<S> {
    /// The part of a path behind the token, if that is right.
    fn below<'a>(&self, path: &'a str) -> Option<&'a str> {
        let (token, rest) = path.strip_prefix('/')?.split_once('/')?;
        // In the same time wherever it differs.
        let differs = token
            .bytes()
            .zip(self.token.bytes())
            .fold(0, |sum, (one, other)| sum | (one ^ other));
        (token.len() == self.token.len() && differs == 0).then_some(rest)
    }
}

impl<S: Source> Site for Web<S> {
    type End = Failure;

    fn answer(&mut self, request: &Request) -> Answer {
        match (self.below(&request.path), &mut self.shown) {
            (None, _) => Answer::text(
                "403 Forbidden",
                "the address that procession web has printed has a token: use the whole of it\n",
            ),
            (Some(name), Shown::One(page)) => page.answer(name, 0),
            (Some(name), Shown::Several(pages)) => pages.answer(name),
        }
    }

    fn due(&self, followed: &[Stream]) -> Instant {
        match &self.shown {
            Shown::One(page) => page.due(!followed.is_empty()),
            Shown::Several(pages) => pages.due(followed),
        }
    }

    fn tick(&mut self, followed: &[Stream]) -> (Events, Option<Failure>) {
        match &mut self.shown {
            Shown::One(page) => {
                let (event, end) = page.tick(!followed.is_empty());
                (event.map(|event| (0, event)).into_iter().collect(), end)
            }
            Shown::Several(pages) => pages.tick(followed),
        }
    }
}

fn nothing() -> Answer {
    Answer::text("404 Not Found", "there is no such page\n")
}

/// As many random bytes as make a token, in hexadecimal digits.
fn token() -> io::Result<String> {
    let mut bytes = [0; TOKEN];
    let mut filled = 0;
    while filled < bytes.len() {
        match getrandom(&mut bytes[filled..], GetRandomFlags::empty()) {
            Ok(more) => filled += more,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

/// Serve the page until the family has ended, or all have.
pub(crate) fn show(
    out: &mut dyn Write,
    pid: Option<u32>,
    address: SocketAddr,
    interval: Duration,
    limits: &Limits,
) -> Result<(), Failure> {
    let shown = match pid {
        None if pick::living().len() > 1 => Shown::Several(Several::new(several::find, interval, limits.clone())),
        _ => Shown::One(Box::new(Page::new(pick::family(pid)?, interval, limits.clone()))),
    };
    let listener = TcpListener::bind(address)?;
    let mut site: Web<Inspector> = Web { shown, token: token()? };
    if !address.ip().is_loopback() {
        let _ = writeln!(
            io::stderr(),
            "procession: other machines can connect; whoever knows this address sees the page, and it is sent unencrypted"
        );
    }
    writeln!(out, "http://{}/{}/", listener.local_addr()?, site.token)?;
    out.flush()?;
    serve(&listener, &mut site, Hosts::of(address.ip()), &Patience::default())
}
