//! `procession metrics --listen`: the figures over HTTP, to this machine only.

use crate::findings::{Limits, Watch};
use crate::http::{serve, Answer, Events, Hosts, Patience, Request, Site, Stream};
use crate::{metrics, Failure, MISUSED};
use procession_core::inspect::{InspectError, Inspector};
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

/// How often it is checked whether the family has ended: an open file keeps its memory.
pub(crate) const CHECK: Duration = Duration::from_secs(5);

const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The answer to a request for `/metrics`, of what was found, if anything could be.
pub(crate) fn metrics_of(found: Result<&crate::findings::Findings, String>) -> Answer {
    match found {
        Ok(found) => Answer::ok(EXPOSITION, metrics::text(found)),
        Err(error) => Answer::text("503 Service Unavailable", &format!("{error}\n")),
    }
}

struct Metrics<'a> {
    inspector: &'a Inspector,
    watch: Watch,
    check: Instant,
    ended: Option<u32>,
}

impl Site for Metrics<'_> {
    type End = Failure;

    fn answer(&mut self, request: &Request) -> Answer {
        if request.path != "/metrics" {
            return Answer::text("404 Not Found", "there is /metrics\n");
        }
        let looked = self.watch.look(self.inspector, None);
        if let Err(InspectError::Ended(pid)) = looked {
            self.ended = Some(pid);
        }
        metrics_of(looked.map(|()| &self.watch.found).map_err(|error| error.to_string()))
    }

    fn due(&self, _: &[Stream]) -> Instant {
        self.ended.map_or(self.check, |_| Instant::now())
    }

    fn tick(&mut self, _: &[Stream]) -> (Events, Option<Failure>) {
        self.check = Instant::now() + CHECK;
        if let (None, Err(InspectError::Ended(pid))) = (self.ended, self.inspector.processes()) {
            self.ended = Some(pid);
        }
        (Vec::new(), self.ended.map(|pid| InspectError::Ended(pid).into()))
    }
}

/// Answer requests until the family has ended.
pub(crate) fn listen(
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
    writeln!(out, "http://{}/metrics", listener.local_addr()?)?;
    out.flush()?;
    let mut site = Metrics {
        inspector,
        watch: Watch::new(limits.clone()),
        check: Instant::now() + CHECK,
        ended: None,
    };
    serve(&listener, &mut site, Hosts::Loopback, &Patience::default())
}
