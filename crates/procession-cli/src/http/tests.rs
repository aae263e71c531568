//! The server, with clients of all manners.

use super::*;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc::{channel, Receiver, Sender};

/// Answers `/page`, and tells what the test sends it; nothing is its end.
struct Fake {
    told: Receiver<Option<Vec<u8>>>,
    next: Instant,
}

#[derive(Debug)]
enum Over {
    AsTold,
    Failed(io::Error),
}

impl From<io::Error> for Over {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl Site for Fake {
    type End = Over;

    fn answer(&mut self, request: &Request) -> Answer {
        match &*request.path {
            "/page" => Answer::ok(TEXT, "page".to_owned()),
            "/events" => Answer::events(0),
            "/others" => Answer::events(1),
            _ => Answer::text("404 Not Found", ""),
        }
    }

    fn due(&self, _: &[Stream]) -> Instant {
        self.next
    }

    fn tick(&mut self, _: &[Stream]) -> (Events, Option<Over>) {
        self.next = Instant::now() + Duration::from_millis(2);
        match self.told.try_recv() {
            Ok(Some(event)) => (vec![(0, event.into())], None),
            Ok(None) => {
                let last = Rc::from(*b"last");
                (vec![(0, Rc::clone(&last)), (1, last)], Some(Over::AsTold))
            }
            Err(_) => (Vec::new(), None),
        }
    }
}

/// Run a server while a test does; then it must end as it was told.
fn served(answer: Duration, test: impl FnOnce(SocketAddr, &Sender<Option<Vec<u8>>>)) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (teller, told) = channel();
    let patience = Patience {
        head: Duration::from_secs(3600),
        answer,
    };
    let mut site = Fake {
        told,
        next: Instant::now(),
    };
    let server = std::thread::spawn(move || serve(&listener, &mut site, Hosts::Loopback, &patience));
    test(address, &teller);
    teller.send(None).unwrap();
    match server.join().unwrap() {
        Err(Over::AsTold) => {}
        Err(Over::Failed(error)) => panic!("{error}"),
        Ok(()) => panic!("it ended untold"),
    }
}

const LONG: Duration = Duration::from_secs(3600);

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

fn ask(address: SocketAddr, path: &str) -> TcpStream {
    let mut stream = connect(address);
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    stream
}

/// All that comes until the server closes.
fn rest(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Read until this has come.
fn read_to(stream: &mut TcpStream, end: &str) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(end.as_bytes()) {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        bytes.push(byte[0]);
    }
    String::from_utf8(bytes).unwrap()
}

fn follow(address: SocketAddr) -> TcpStream {
    follow_stream(address, "/events")
}

fn follow_stream(address: SocketAddr, path: &str) -> TcpStream {
    let mut stream = ask(address, path);
    let head = read_to(&mut stream, "\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    stream
}

#[test]
fn a_question_is_answered_however_it_comes() {
    served(LONG, |address, _| {
        assert!(rest(ask(address, "/page")).ends_with("\r\n\r\npage"));
        assert!(rest(ask(address, "/other")).starts_with("HTTP/1.1 404 "));
        let mut slow = connect(address);
        for byte in b"GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n" {
            slow.write_all(&[*byte]).unwrap();
        }
        assert!(rest(slow).ends_with("\r\n\r\npage"));
        let half = ask(address, "/page");
        half.shutdown(Shutdown::Write).unwrap();
        assert!(rest(half).ends_with("\r\n\r\npage"));
    });
}

#[test]
fn what_is_hostile_is_refused_and_harms_nobody() {
    served(LONG, |address, _| {
        for (request, status) in [
            ("GET /page HTTP/1.1\r\nHost: evil.example\r\n\r\n", "403"),
            ("GET /page HTTP/1.1\r\n\r\n", "403"),
            ("POST /page HTTP/1.1\r\nHost: localhost\r\n\r\n", "405"),
            (
                "GET http://evil.example/page HTTP/1.1\r\nHost: localhost\r\n\r\n",
                "404",
            ),
            ("GET /../page HTTP/1.1\r\nHost: localhost\r\n\r\n", "404"),
            ("\r\n\r\n", "400"),
            ("\0\0\0\0\r\n\r\n", "400"),
        ] {
            let mut stream = connect(address);
            stream.write_all(request.as_bytes()).unwrap();
            assert!(rest(stream).starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}");
        }
        // As long as it may be without an end, and one more.
        let mut endless = connect(address);
        endless.write_all(&[b'x'; 8193]).unwrap();
        assert!(rest(endless).starts_with("HTTP/1.1 431 "));
        assert!(rest(ask(address, "/page")).ends_with("page"));
    });
}

#[test]
fn silent_clients_are_in_nobodys_way_however_many_they_are() {
    served(LONG, |address, _| {
        let silent: Vec<TcpStream> = (0..3 * MOST_CLIENTS).map(|_| connect(address)).collect();
        assert!(rest(ask(address, "/page")).ends_with("page"));
        // The first have made room for the others.
        let mut silent = silent.into_iter();
        assert_eq!(rest(silent.next().unwrap()), "");
    });
}

#[test]
fn followers_are_told_and_their_number_is_bounded() {
    served(LONG, |address, teller| {
        let mut followers: Vec<TcpStream> = (0..MOST_FOLLOWERS).map(|_| follow(address)).collect();
        assert!(rest(ask(address, "/events")).starts_with("HTTP/1.1 503 "));
        teller.send(Some(b"news;".to_vec())).unwrap();
        for follower in &mut followers {
            assert_eq!(read_to(follower, ";"), "news;");
        }
        // One that leaves, or says something more, makes room for another.
        drop(followers.pop());
        while !status_of(&mut ask(address, "/events")).contains(" 200 ") {}
        let mut talker = followers.pop().unwrap();
        talker.write_all(b"more").unwrap();
        assert!(is_closed(talker));
        assert!(rest(ask(address, "/page")).ends_with("page"));
    });
}

#[test]
fn followers_are_told_the_events_of_their_stream_alone() {
    let mut other = None;
    served(LONG, |address, teller| {
        let mut follower = follow(address);
        other = Some(follow_stream(address, "/others"));
        teller.send(Some(b"news;".to_vec())).unwrap();
        assert_eq!(read_to(&mut follower, ";"), "news;");
    });
    assert_eq!(rest(other.unwrap()), "last");
}

/// A site that is over as soon as it is asked.
struct Finished;

impl Site for Finished {
    type End = Over;

    fn answer(&mut self, _: &Request) -> Answer {
        Answer::text("404 Not Found", "")
    }

    fn due(&self, _: &[Stream]) -> Instant {
        Instant::now()
    }

    fn tick(&mut self, _: &[Stream]) -> (Events, Option<Over>) {
        (Vec::new(), Some(Over::AsTold))
    }
}

#[test]
fn what_is_due_at_once_is_done() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let end = serve(&listener, &mut Finished, Hosts::Loopback, &Patience::default());
    assert!(matches!(end, Err(Over::AsTold)));
}

#[test]
fn the_last_event_is_sent_before_the_end() {
    let mut follower = None;
    served(LONG, |address, _| follower = Some(follow(address)));
    assert_eq!(rest(follower.unwrap()), "last");
}

#[test]
fn a_follower_that_does_not_read_is_given_up_and_costs_nobody_anything() {
    served(Duration::from_millis(500), |address, teller| {
        let mut slow = follow(address);
        // More than the kernel keeps for a socket that nobody reads.
        let event = vec![b'.'; 16 << 20];
        teller.send(Some(event.clone())).unwrap();
        // No other is sent this event, which a busy machine may need longer for.
        slow.read_exact(&mut [0]).unwrap();
        assert!(rest(ask(address, "/page")).ends_with("page"));
        // It reads nothing until it has been given up: its place is free again.
        let _others: Vec<TcpStream> = (0..MOST_FOLLOWERS - 1).map(|_| follow(address)).collect();
        while !status_of(&mut ask(address, "/events")).contains(" 200 ") {}
        let mut read = 1;
        let mut part = vec![0; 1 << 16];
        while let Ok(more @ 1..) = slow.read(&mut part) {
            read += more;
        }
        assert!(read < event.len(), "{read}");
    });
}

#[test]
fn a_slow_follower_is_told_the_newest_and_not_all() {
    served(LONG, |address, teller| {
        let mut slow = follow(address);
        let mut quick = follow(address);
        let mut large = vec![b'.'; 16 << 20];
        large.push(b';');
        teller.send(Some(large.clone())).unwrap();
        read_event(&mut quick, &large);
        for number in 0..100 {
            teller.send(Some(format!("{number};").into_bytes())).unwrap();
            assert_eq!(read_to(&mut quick, ";"), format!("{number};"));
        }
        read_event(&mut slow, &large);
        assert_eq!(read_to(&mut slow, ";"), "99;");
    });
}

/// The first line of an answer, as far as it comes.
fn status_of(stream: &mut TcpStream) -> String {
    read_to(stream, "\r\n")
}

/// Read an event, and nothing of the next one.
fn read_event(stream: &mut TcpStream, event: &[u8]) {
    let mut read = vec![0; event.len()];
    stream.read_exact(&mut read).unwrap();
    assert!(read == event);
}

/// Whether the server closes, orderly or not.
fn is_closed(mut stream: TcpStream) -> bool {
    match stream.read(&mut [0]) {
        Ok(more) => more == 0,
        Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
    }
}
