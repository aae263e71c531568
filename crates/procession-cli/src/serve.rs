//! `procession metrics --listen`: the figures over HTTP, to this machine only.

use crate::findings::{Limits, Watch};
use crate::{metrics, Failure, MISUSED};
use procession_core::inspect::{InspectError, Inspector};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// Requests are answered one after the other, so none may last for longer than this to be read, or to be written.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest head of a request, in bytes.
const MOST_BYTES: usize = 8192;
/// How often it is checked, in seconds, whether the family has ended: an open file keeps its memory.
const CHECK_SECONDS: i64 = 5;

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
    loop {
        if !wait_for_client(&listener)? {
            if let Err(InspectError::Ended(pid)) = inspector.processes() {
                return Err(InspectError::Ended(pid).into());
            }
            continue;
        }
        let client = match listener.accept() {
            Ok((client, _)) => client,
            Err(error) if is_of_client(&error) => continue,
            Err(error) => return Err(error.into()),
        };
        // What goes wrong with one client is no reason not to answer the next one.
        let Some(request) = read_head(&client) else { continue };
        let mut ended = None;
        let answer = answer(&request, || {
            let page = look(inspector, &mut watch);
            if let Err(InspectError::Ended(pid)) = page {
                ended = Some(pid);
            }
            page.map_err(|error| error.to_string())
        });
        // A client that does not read is given up, as one that is gone.
        let _ = write_to(&client, answer.as_bytes());
        if let Some(pid) = ended {
            return Err(InspectError::Ended(pid).into());
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

/// False: nothing came for a while.
fn wait_for_client(listener: &TcpListener) -> io::Result<bool> {
    let mut polled = [PollFd::new(listener, PollFlags::IN)];
    let patience = Timespec {
        tv_sec: CHECK_SECONDS,
        tv_nsec: 0,
    };
    match rustix::event::poll(&mut polled, Some(&patience)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The head of a request. `None`: it did not come in time, or is too long.
fn read_head(mut client: &TcpStream) -> Option<String> {
    let end = Instant::now() + PATIENCE;
    client.set_nonblocking(false).ok()?;
    let mut head = Vec::new();
    while !head.windows(4).any(|part| part == b"\r\n\r\n") {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() || head.len() > MOST_BYTES {
            return None;
        }
        client.set_read_timeout(Some(left)).ok()?;
        let mut part = [0; 1024];
        match client.read(&mut part) {
            Ok(0) | Err(_) => return None,
            Ok(more) => head.extend_from_slice(&part[..more]),
        }
    }
    String::from_utf8(head).ok()
}

/// Write it all, before the time is over.
fn write_to(mut client: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    let end = Instant::now() + PATIENCE;
    while !bytes.is_empty() {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        client.set_write_timeout(Some(left))?;
        match client.write(bytes)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => bytes = &bytes[written..],
        }
    }
    Ok(())
}

/// The answer to a request. `page` is asked for only if it is to be sent.
fn answer(request: &str, page: impl FnOnce() -> Result<String, String>) -> String {
    let mut lines = request.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, path, version) = (words.next(), words.next(), words.next());
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
    fn there_is_one_page_to_get() {
        let request = |line: &str| format!("{line} HTTP/1.1\r\nHost: localhost:9\r\n\r\n");
        assert_eq!(status(&request("GET /metrics")), "HTTP/1.1 200 OK");
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
