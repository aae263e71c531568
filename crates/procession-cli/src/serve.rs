//! `procession metrics --listen`: the figures over HTTP, to this machine only.

use crate::findings::{Limits, Watch};
use crate::{metrics, Failure, MISUSED};
use procession_core::inspect::{InspectError, Inspector};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// How long a client may take to send the head of its request, and to read the answer. Heads are awaited of all clients at
/// once, but answers are written one after the other.
const HEAD_PATIENCE: Duration = Duration::from_secs(5);
const ANSWER_PATIENCE: Duration = Duration::from_secs(1);
/// How many clients are waited for at once. Another one takes the place of the first.
const MOST_CLIENTS: usize = 16;
/// The longest head of a request, in bytes.
const MOST_BYTES: usize = 8192;
/// How often it is checked whether the family has ended: an open file keeps its memory.
const CHECK: Duration = Duration::from_secs(5);

const TEXT: &str = "text/plain; charset=utf-8";
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Answer requests until the family has ended.
pub(crate) fn serve(
    out: &mut dyn Write,
    inspector: &Inspector,
    address: SocketAddr,
    limits: &Limits,
) -> Result<(), Failure> {
    if !address.ip().is_loopback() {
        return Err(Failure {
            code: MISUSED,
            message: format!(
                "{} is not an address of this machine alone, as 127.0.0.1 is",
                address.ip()
            ),
        });
    }
    let listener = TcpListener::bind(address)?;
    // A client may be gone before it is accepted.
    listener.set_nonblocking(true)?;
    writeln!(out, "http://{}/metrics", listener.local_addr()?)?;
    out.flush()?;
    let mut watch = Watch::new(limits.clone());
    let mut clients: VecDeque<Client> = VecDeque::new();
    let mut check = Instant::now() + CHECK;
    loop {
        let now = Instant::now();
        // Whatever comes meanwhile.
        if now >= check {
            if let Err(InspectError::Ended(pid)) = inspector.processes() {
                return Err(InspectError::Ended(pid).into());
            }
            check = now + CHECK;
        }
        while clients.front().is_some_and(|client| client.until <= now) {
            if let Some(late) = clients.pop_front() {
                late.answer(&refusal("408 Request Timeout"));
            }
        }
        let until = clients.front().map_or(check, |client| client.until.min(check));
        let (is_new, ready) = wait(&listener, &clients, until.saturating_duration_since(now))?;
        for (mut client, is_ready) in std::mem::take(&mut clients).into_iter().zip(ready) {
            if !is_ready {
                clients.push_back(client);
                continue;
            }
            // What goes wrong with one client is no reason not to answer the next one.
            let head = match client.read() {
                Ok(Head::Whole(head)) => head,
                Ok(Head::TooLong) => {
                    client.answer(&refusal("431 Request Header Fields Too Large"));
                    continue;
                }
                Ok(Head::Begun) => {
                    clients.push_back(client);
                    continue;
                }
                Err(_) => continue,
            };
            let mut ended = None;
            let answer = answer(&head, || {
                let page = look(inspector, &mut watch);
                if let Err(InspectError::Ended(pid)) = page {
                    ended = Some(pid);
                }
                page.map_err(|error| error.to_string())
            });
            client.answer(&answer);
            if let Some(pid) = ended {
                return Err(InspectError::Ended(pid).into());
            }
        }
        if is_new {
            match listener.accept() {
                Ok((stream, _)) => {
                    if clients.len() == MOST_CLIENTS {
                        clients.pop_front();
                    }
                    clients.extend(Client::new(stream));
                }
                Err(error) if is_of_client(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn look(inspector: &Inspector, watch: &mut Watch) -> Result<String, InspectError> {
    watch.look(inspector, None)?;
    Ok(metrics::text(&watch.found))
}

/// Whether a client was gone before it was accepted.
fn is_of_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, WouldBlock};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionReset | Interrupted | WouldBlock
    )
}

/// Wait until a client comes, or sends something, or a signal or `patience` ends it: whether one comes, and which send.
fn wait(listener: &TcpListener, clients: &VecDeque<Client>, patience: Duration) -> io::Result<(bool, Vec<bool>)> {
    let mut polled = vec![PollFd::new(listener, PollFlags::IN)];
    polled.extend(clients.iter().map(|client| PollFd::new(&client.stream, PollFlags::IN)));
    let patience = Timespec {
        tv_sec: patience.as_secs() as i64,
        tv_nsec: patience.subsec_nanos().into(),
    };
    match rustix::event::poll(&mut polled, Some(&patience)) {
        Ok(_) => {}
        Err(Errno::INTR) => return Ok((false, vec![false; clients.len()])),
        Err(error) => return Err(error.into()),
    }
    let mut ready = polled.iter().map(|one| !one.revents().is_empty());
    Ok((ready.next().unwrap_or(false), ready.collect()))
}

/// A client that has not sent all of its request's head yet.
struct Client {
    stream: TcpStream,
    head: Vec<u8>,
    /// When it is given up.
    until: Instant,
}

/// What has come of a head.
#[derive(Debug, PartialEq, Eq)]
enum Head {
    Begun,
    Whole(String),
    TooLong,
}

impl Client {
    fn new(stream: TcpStream) -> Option<Self> {
        stream.set_nonblocking(true).ok()?;
        Some(Self {
            stream,
            head: Vec::new(),
            until: Instant::now() + HEAD_PATIENCE,
        })
    }

    /// Take what it has sent. An error: it is gone.
    fn read(&mut self) -> io::Result<Head> {
        let mut part = [0; 1024];
        match self.stream.read(&mut part) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(more) => self.head.extend_from_slice(&part[..more]),
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
            Err(error) => return Err(error),
        }
        Ok(head_of(&self.head))
    }

    /// Write an answer. A client that does not read is given up, as one that is gone.
    fn answer(&self, answer: &str) {
        let _ = self.stream.set_nonblocking(false);
        let _ = write_to(&self.stream, answer.as_bytes());
    }
}

fn head_of(bytes: &[u8]) -> Head {
    let end = bytes.windows(4).position(|part| part == b"\r\n\r\n");
    match end {
        Some(end) if end <= MOST_BYTES => Head::Whole(String::from_utf8_lossy(&bytes[..end]).into_owned()),
        None if bytes.len() <= MOST_BYTES => Head::Begun,
        _ => Head::TooLong,
    }
}

fn refusal(status: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

/// Write it all, before the time is over.
fn write_to(mut client: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    let end = Instant::now() + ANSWER_PATIENCE;
    while !bytes.is_empty() {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        client.set_write_timeout(Some(left))?;
        match client.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The answer to a request. `page` is asked for only if it is to be sent.
fn answer(request: &str, page: impl FnOnce() -> Result<String, String>) -> String {
    let mut lines = request.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, path, version) = (words.next(), words.next(), words.next());
    let path = path.and_then(|path| path.split('?').next());
    let hosts = lines
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, _)| name.eq_ignore_ascii_case("host"));
    // A page of the web whose name was made to lead here names its own host.
    let is_ours = hosts.map(|(_, host)| is_this_machine(host.trim())).eq([true]);
    let (status, kind, body) = match (method, path) {
        _ if !version.is_some_and(|version| version.starts_with("HTTP/1.")) => {
            ("400 Bad Request", TEXT, "this is not HTTP/1.1\n".to_owned())
        }
        _ if !is_ours => ("403 Forbidden", TEXT, "the host is not this machine\n".to_owned()),
        (Some("GET" | "HEAD"), Some("/metrics")) => match page() {
            Ok(page) => ("200 OK", EXPOSITION, page),
            Err(error) => ("503 Service Unavailable", TEXT, format!("{error}\n")),
        },
        (Some("GET" | "HEAD"), _) => ("404 Not Found", TEXT, "there is /metrics\n".to_owned()),
        _ => ("405 Method Not Allowed", TEXT, "there is only GET\n".to_owned()),
    };
    let length = body.len();
    let allowed = if status.starts_with("405") {
        "Allow: GET, HEAD\r\n"
    } else {
        ""
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{allowed}Connection: close\r\n\r\n"
    );
    if method == Some("HEAD") {
        head
    } else {
        head + &body
    }
}

/// Whether a `Host` names this machine and no other: `localhost`, or a loopback address, with or without a port.
fn is_this_machine(host: &str) -> bool {
    let address = host.parse().map(|address: SocketAddr| address.ip());
    let address = address.or_else(|_| host.trim_matches(['[', ']']).parse::<IpAddr>());
    let name = host.split(':').next().unwrap_or_default();
    address.map_or(name.eq_ignore_ascii_case("localhost"), |address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(request: &str) -> String {
        let answer = answer(request, || Ok("page".to_owned()));
        answer.split("\r\n").next().unwrap_or_default().to_owned()
    }

    #[test]
    fn only_this_machines_names_are_answered() {
        for host in [
            "127.0.0.1:9",
            "127.0.0.1",
            "localhost",
            "LocalHost:9",
            "[::1]:9",
            "[::1]",
            "::1",
        ] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example:9",
            "10.0.0.1",
            "[::2]:9",
            "",
            "127.0.0.1.evil.example",
        ] {
            assert!(!is_this_machine(host), "{host}");
        }
        assert_eq!(
            status("GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n"),
            "HTTP/1.1 403 Forbidden"
        );
        assert_eq!(status("GET /metrics HTTP/1.1\r\n\r\n"), "HTTP/1.1 403 Forbidden");
        let two = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n";
        assert_eq!(status(two), "HTTP/1.1 403 Forbidden");
    }

    #[test]
    fn a_head_ends_with_an_empty_line_and_is_not_too_long() {
        let long = "x".repeat(MOST_BYTES);
        assert_eq!(head_of(b"GET / HTTP/1.1\r\n\r"), Head::Begun);
        assert_eq!(head_of(b"a\xff\r\n\r\nb"), Head::Whole("a\u{fffd}".to_owned()));
        assert_eq!(head_of(long.as_bytes()), Head::Begun);
        assert_eq!(head_of(format!("{long}\r\n\r\n").as_bytes()), Head::Whole(long.clone()));
        assert_eq!(head_of(format!("{long}x\r\n\r\n").as_bytes()), Head::TooLong);
        assert_eq!(head_of(format!("{long}x").as_bytes()), Head::TooLong);
    }

    #[test]
    fn there_is_one_page_to_get() {
        let request = |line: &str| format!("{line} HTTP/1.1\r\nHost: localhost:9\r\n\r\n");
        assert_eq!(status(&request("GET /metrics")), "HTTP/1.1 200 OK");
        assert_eq!(status(&request("GET /metrics?of=all")), "HTTP/1.1 200 OK");
        assert_eq!(status(&request("GET /")), "HTTP/1.1 404 Not Found");
        assert_eq!(status(&request("POST /metrics")), "HTTP/1.1 405 Method Not Allowed");
        assert_eq!(status("nonsense\r\n\r\n"), "HTTP/1.1 400 Bad Request");
        let whole = answer(&request("GET /metrics"), || Ok("page".to_owned()));
        assert!(whole.ends_with("Content-Length: 4\r\nConnection: close\r\n\r\npage"));
        let head = answer(&request("HEAD /metrics"), || Ok("page".to_owned()));
        assert!(head.ends_with("Content-Length: 4\r\nConnection: close\r\n\r\n"));
        let failed = answer(&request("GET /metrics"), || Err("it has ended".to_owned()));
        assert!(failed.starts_with("HTTP/1.1 503 ") && failed.ends_with("\r\n\r\nit has ended\n"));
    }
}
