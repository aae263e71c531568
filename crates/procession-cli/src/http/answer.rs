//! What is sent back.

use super::Stream;
use std::rc::Rc;

pub(crate) const TEXT: &str = "text/plain; charset=utf-8";

/// What holds for every answer: a page may load and ask only what comes from here, nothing is kept, no other page may
/// show or read it, and its address is told nobody.
const GUARDS: &str =
    "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n\
     X-Content-Type-Options: nosniff\r\n\
     Referrer-Policy: no-referrer\r\n\
     Cross-Origin-Opener-Policy: same-origin\r\n\
     Cross-Origin-Resource-Policy: same-origin\r\n\
     Cache-Control: no-store\r\n";

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) body: Body,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Body {
    Whole(String),
    /// Server-sent events: those of a stream that come from now on.
    Events(Stream),
}

impl Answer {
    pub(crate) fn ok(kind: &'static str, body: String) -> Self {
        Self {
            status: "200 OK",
            kind,
            body: Body::Whole(body),
        }
    }

    /// A sentence.
    pub(crate) fn text(status: &'static str, body: &str) -> Self {
        Self {
            status,
            kind: TEXT,
            body: Body::Whole(body.to_owned()),
        }
    }

    pub(crate) fn events(stream: Stream) -> Self {
        Self {
            status: "200 OK",
            kind: "text/event-stream",
            body: Body::Events(stream),
        }
    }

    /// What is written first: of events the head alone.
    pub(super) fn bytes(&self, is_head: bool) -> Rc<[u8]> {
        let Self { status, kind, body } = self;
        let (length, body) = match body {
            Body::Whole(body) => (format!("Content-Length: {}\r\n", body.len()), body.as_str()),
            Body::Events(_) => (String::new(), ""),
        };
        let body = if is_head { "" } else { body };
        format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{length}Connection: close\r\n{GUARDS}\r\n{body}")
            .into_bytes()
            .into()
    }
}

/// An event of a stream. `data` is one line.
pub(crate) fn event(name: &str, data: &str) -> Rc<[u8]> {
    debug_assert!(!data.contains(['\r', '\n']));
    format!("event: {name}\ndata: {data}\n\n").into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(answer: &Answer, is_head: bool) -> String {
        String::from_utf8(answer.bytes(is_head).to_vec()).unwrap()
    }

    #[test]
    fn an_answer_says_how_long_it_is_and_what_a_page_may_do() {
        let answer = Answer::ok(TEXT, "page\u{e9}".to_owned());
        let whole = text(&answer, false);
        assert!(whole.starts_with("HTTP/1.1 200 OK\r\n"), "{whole}");
        assert!(whole.contains("\r\nContent-Length: 6\r\n"), "{whole}");
        assert!(
            whole.contains("\r\nContent-Security-Policy: default-src 'none';"),
            "{whole}"
        );
        assert!(whole.ends_with("\r\n\r\npage\u{e9}"), "{whole}");
        assert_eq!(text(&answer, true) + "page\u{e9}", whole);
    }

    #[test]
    fn events_have_no_length() {
        let head = text(&Answer::events(0), false);
        assert!(!head.contains("Content-Length"), "{head}");
        assert!(head.ends_with("\r\n\r\n"), "{head}");
        assert_eq!(&*event("family", "{}"), b"event: family\ndata: {}\n\n");
    }
}
