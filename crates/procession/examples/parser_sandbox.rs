//! A sandbox for a parser that trusts its input. Each input is parsed in a process of its own, which may crash, hang,
//! use up its memory or never come to an end. The program survives all of it, and says what became of each input.
//!
//! Arguments: files to parse. Without any, a few harmless and hostile inputs: `cargo run --example parser_sandbox`.
//! Each input has 2 seconds; the environment variable `SANDBOX_SECONDS` gives another number.
//!
//! The format: numbers, words, and lists in parentheses. `3*x` stands for `x x x`, and `;` begins a comment that ends
//! with the line. The sandbox bounds time, memory and output. What comes out of it are flat tokens: to receive a nested
//! value takes stack in proportion to its depth, which the input chooses, and would crash the program itself.
//!
//! It is made for a parser that fails, not for one that an attacker has taken over: it keeps it neither from files and
//! the network (that is the business of namespaces and seccomp) nor from writing to the memory that the processes share.

use procession::{bounded, Builder, RecvError, SendError, Sender};
use rustix::process::{getrlimit, setrlimit, Resource, Rlimit};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// What an input may use.
const SECONDS: u64 = 2;
const MEMORY: u64 = 256 << 20;
const TOKENS: usize = 10_000;
/// The most bytes of a word. A longer one is received, and then ends the parser: it is no larger than its memory.
const WORD: usize = 1000;

/// What the parser makes of the input.
#[derive(Debug, Clone)]
enum Item {
    Number(i64),
    Word(String),
    List(Vec<Item>),
}

/// What the sandbox receives. A list is what stands between `Open` and `Close`.
#[derive(Debug, Serialize, Deserialize)]
enum Token {
    Number(i64),
    Word(String),
    Open,
    Close,
}

/// What became of an input.
enum Verdict {
    Parsed(Vec<Token>),
    /// The parser found an error.
    Refused(String),
    /// The parser's process died.
    Died(procession::JoinError),
    /// The sandbox ended it.
    Stopped(String),
}

/// The parser, with the faults of one that nobody expected to be attacked.
struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn skip(&mut self) {
        loop {
            self.rest = self.rest.trim_start();
            let Some(comment) = self.rest.strip_prefix(';') else {
                return;
            };
            // A fault: without a last newline, this never ends.
            if let Some(end) = comment.find('\n') {
                self.rest = &comment[end..];
            }
        }
    }

    /// The next item and how often it stands there, or `None` at the end.
    fn item(&mut self) -> Result<Option<(u64, Item)>, String> {
        self.skip();
        if self.rest.is_empty() || self.rest.starts_with(')') {
            return Ok(None);
        }
        if let Some(rest) = self.rest.strip_prefix('(') {
            self.rest = rest;
            let mut list = Vec::new();
            // A fault: lists may be as deep as the input likes, and the stack is not.
            while let Some((times, item)) = self.item()? {
                // A fault: a short input may ask for any amount of memory.
                list.extend((0..times).map(|_| item.clone()));
            }
            self.rest = self.rest.strip_prefix(')').ok_or("a list does not end")?;
            return Ok(Some((1, Item::List(list))));
        }
        let end = self.rest.find(|c: char| c.is_whitespace() || "();*".contains(c));
        // A fault: `*` without a number before it is cut at 0, and the next index is out of bounds.
        let (text, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        assert!(!text.is_empty(), "no item begins with {:?}", &rest[..1]);
        self.rest = rest;
        if let Some(rest) = rest.strip_prefix('*') {
            let times: u64 = text.parse().map_err(|error| format!("{text}: {error}"))?;
            self.rest = rest;
            let (inner, item) = self.item()?.ok_or("nothing to repeat")?;
            return Ok(Some((times.saturating_mul(inner), item)));
        }
        Ok(Some((
            1,
            text.parse().map_or_else(|_| Item::Word(text.to_owned()), Item::Number),
        )))
    }
}

fn send(item: &Item, to: &Sender<Token>) -> Result<(), SendError> {
    match item {
        Item::Number(number) => to.send(&Token::Number(*number)),
        Item::Word(word) => to.send(&Token::Word(word.clone())),
        Item::List(items) => {
            to.send(&Token::Open)?;
            items.iter().try_for_each(|item| send(item, to))?;
            to.send(&Token::Close)
        }
    }
}

/// Runs in the child: sends the tokens of the input one by one.
fn parse((input, seconds, to): (String, u64, Sender<Token>)) -> Result<(), String> {
    limit(seconds).map_err(|error| error.to_string())?;
    let mut parser = Parser { rest: &input };
    while let Some((times, item)) = parser.item()? {
        for _ in 0..times {
            // It fails once the sandbox has enough.
            send(&item, &to).map_err(|error| error.to_string())?;
        }
    }
    match parser.rest {
        "" => Ok(()),
        _ => Err("a parenthesis too many".to_owned()),
    }
}

/// Let this process use [`MEMORY`] more than it does already, write no core file, and use little time of a processor
/// even if the sandbox is stopped.
fn limit(seconds: u64) -> std::io::Result<()> {
    let used = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = used.split(' ').next().and_then(|size| size.parse().ok()).unwrap_or(0);
    let lower = |resource, most| {
        let maximum = getrlimit(resource).maximum.map_or(most, |now| now.min(most));
        let both = Some(maximum);
        setrlimit(
            resource,
            Rlimit {
                current: both,
                maximum: both,
            },
        )
    };
    lower(Resource::As, pages * rustix::param::page_size() as u64 + MEMORY)?;
    lower(Resource::Core, 0)?;
    lower(Resource::Cpu, seconds.saturating_add(10))?;
    Ok(())
}

fn examine(input: String, seconds: u64) -> procession::Result<Verdict> {
    // A full channel makes the parser wait: it cannot fill the memory that processes share.
    let (to, from) = bounded(256)?;
    let child = Builder::new()
        .name("parser")
        .die_with_parent(true)
        .spawn(parse, (input, seconds, to))?;
    let end = Instant::now() + Duration::from_secs(seconds);
    let left = || end.saturating_duration_since(Instant::now());
    let slow = || format!("it takes more than {seconds} s");
    let mut tokens = Vec::new();
    let mut stopped = loop {
        match from.recv_timeout(left()) {
            Ok(_) if tokens.len() == TOKENS => break Some(format!("it has more than {TOKENS} tokens")),
            Ok(Token::Word(word)) if word.len() > WORD => break Some(format!("a word has more than {WORD} bytes")),
            Ok(token) => tokens.push(token),
            Err(RecvError::Disconnected) => break None,
            Err(RecvError::Timeout) => break Some(slow()),
            Err(error) => break Some(error.to_string()),
        }
    };
    // A process that sends no more may still hang: so does one that runs out of memory while it writes a backtrace.
    if stopped.is_none() && !child.wait(left())? {
        stopped = Some(slow());
    }
    if let Some(reason) = stopped {
        child.kill()?;
        let _ = child.join(); // an error: it was killed
        return Ok(Verdict::Stopped(reason));
    }
    Ok(match child.join() {
        Ok(Ok(())) => Verdict::Parsed(tokens),
        Ok(Err(reason)) => Verdict::Refused(reason),
        Err(death) => Verdict::Died(death),
    })
}

fn inputs() -> Result<Vec<(String, String)>, Box<dyn std::error::Error>> {
    let files: Vec<String> = std::env::args().skip(1).collect();
    if files.is_empty() {
        let inputs = [
            ("harmless", "(add 1 2) 3*x ; and a comment\n"),
            ("unfinished", "(add 1"),
            ("panic", "(a *b)"),
            ("crash", &"(".repeat(1_000_000)),
            // Parsed or not, as the parser's stack allows.
            ("deep", &("(".repeat(5200) + &")".repeat(5200))),
            ("long word", &"x".repeat(1_000_000)),
            ("hang", "(a b) ; no newline"),
            ("memory bomb", "(999999999*(x))"),
            ("endless output", "9999999999*(x)"),
            ("harmless again", "1 2 3\n"),
        ];
        return Ok(inputs.map(|(name, input)| (name.to_owned(), input.to_owned())).into());
    }
    let read = |file: String| Ok((file.clone(), std::fs::read_to_string(file)?));
    files.into_iter().map(read).collect()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seconds = std::env::var("SANDBOX_SECONDS").map_or(Ok(SECONDS), |text| text.parse())?;
    for (name, input) in inputs()? {
        match examine(input, seconds)? {
            Verdict::Parsed(tokens) => println!("{name}: {} tokens", tokens.len()),
            Verdict::Refused(reason) => println!("{name}: refused: {reason}"),
            Verdict::Died(death) => println!("{name}: the parser died: {death}"),
            Verdict::Stopped(reason) => println!("{name}: stopped: {reason}"),
        }
    }
    Ok(())
}
