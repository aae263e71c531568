//! The head of a request, and which requests are answered at all.

use super::answer::Answer;
use std::net::{IpAddr, SocketAddr};

/// The longest head of a request, in bytes.
pub(super) const MOST_BYTES: usize = 8192;

/// What has come of a head.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Head {
    Begun,
    Whole(String),
    TooLong,
}

pub(super) fn head_of(bytes: &[u8]) -> Head {
    let end = bytes.windows(4).position(|part| part == b"\r\n\r\n");
    match end {
        Some(end) if end <= MOST_BYTES => Head::Whole(String::from_utf8_lossy(&bytes[..end]).into_owned()),
        None if bytes.len() <= MOST_BYTES => Head::Begun,
        _ => Head::TooLong,
    }
}

/// Which `Host` a request may name. A page of the web whose name was made to lead here names its own host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hosts {
    /// This machine: `localhost`, or a loopback address.
    Loopback,
    /// An address of any machine, or `localhost`: no name that somebody else could make lead here.
    Addresses,
}

impl Hosts {
    /// Those that a server at this address answers.
    pub(crate) fn of(address: IpAddr) -> Self {
        if address.is_loopback() {
            Self::Loopback
        } else {
            Self::Addresses
        }
    }

    /// With or without a port.
    fn allow(self, host: &str) -> bool {
        let address = host.parse().map(|address: SocketAddr| address.ip());
        let address = address.or_else(|_| host.trim_matches(['[', ']']).parse::<IpAddr>());
        let name = host.split(':').next().unwrap_or_default();
        match address {
            Ok(address) => self == Self::Addresses || address.is_loopback(),
            Err(_) => name.eq_ignore_ascii_case("localhost"),
        }
    }
}

/// A request to be answered: it only asks, and names a host that it may.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// The path, without what follows a question mark.
    pub(crate) path: String,
    /// Whether only the head of the answer is asked for.
    pub(super) is_head: bool,
}

#[cfg(test)]
impl Request {
    pub(crate) fn get(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            is_head: false,
        }
    }
}

/// Read a head. An error is the answer to a request that is refused.
pub(super) fn read(head: &str, hosts: Hosts) -> Result<Request, Answer> {
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, path, version) = (words.next(), words.next(), words.next());
    let named = lines
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, _)| name.eq_ignore_ascii_case("host"));
    let is_ours = named.map(|(_, host)| hosts.allow(host.trim())).eq([true]);
    let (Some(path), Some(version), None) = (path, version, words.next()) else {
        return Err(Answer::text("400 Bad Request", "this is not HTTP/1.1\n"));
    };
    if !version.starts_with("HTTP/1.") {
        return Err(Answer::text("400 Bad Request", "this is not HTTP/1.1\n"));
    }
    if !is_ours {
        return Err(Answer::text("403 Forbidden", "the host is not this machine\n"));
    }
    let is_head = match method {
        Some("GET") => false,
        Some("HEAD") => true,
        _ => return Err(Answer::text("405 Method Not Allowed", "there is only GET\n")),
    };
    Ok(Request {
        path: path.split('?').next().unwrap_or_default().to_owned(),
        is_head,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(request: &str) -> &'static str {
        read(request, Hosts::Loopback).map_or_else(|answer| answer.status, |_| "200 OK")
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
            assert!(Hosts::Loopback.allow(host), "{host}");
            assert!(Hosts::Addresses.allow(host), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example:9",
            "",
            "127.0.0.1.evil.example",
            "2130706433",
        ] {
            assert!(!Hosts::Loopback.allow(host), "{host}");
            assert!(!Hosts::Addresses.allow(host), "{host}");
        }
        for host in ["10.0.0.1", "[::2]:9"] {
            assert!(!Hosts::Loopback.allow(host), "{host}");
            assert!(Hosts::Addresses.allow(host), "{host}");
        }
        assert_eq!(Hosts::of([127, 0, 0, 2].into()), Hosts::Loopback);
        assert_eq!(Hosts::of([0, 0, 0, 0].into()), Hosts::Addresses);
        assert_eq!(
            status("GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n"),
            "403 Forbidden"
        );
        assert_eq!(status("GET /metrics HTTP/1.1\r\n\r\n"), "403 Forbidden");
        let two = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n";
        assert_eq!(status(two), "403 Forbidden");
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
    fn nothing_but_a_question_is_answered() {
        let request = |line: &str| format!("{line} HTTP/1.1\r\nHost: localhost:9\r\n\r\n");
        assert_eq!(
            read(&request("HEAD /metrics?of=all"), Hosts::Loopback).unwrap(),
            Request {
                path: "/metrics".to_owned(),
                is_head: true
            }
        );
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "get"] {
            assert_eq!(
                status(&request(&format!("{method} /metrics"))),
                "405 Method Not Allowed"
            );
        }
        for line in ["nonsense", "GET /a /b", "", "GET"] {
            assert_eq!(status(&request(line)), "400 Bad Request", "{line}");
        }
        assert_eq!(status("GET / HTTP/2.0\r\nHost: localhost\r\n\r\n"), "400 Bad Request");
    }
}
