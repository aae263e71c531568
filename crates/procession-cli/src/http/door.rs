//! Where clients come in. It goes on where descriptors are used up: clients are refused until there is one again.

use super::Answer;
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// How long no client is accepted when not even the spare descriptor can be had.
const CLOSED: Duration = Duration::from_secs(1);

/// What came of accepting a client.
pub(super) enum Came {
    Client(TcpStream),
    /// It was gone, or was refused.
    Nobody,
}

pub(super) struct Door<'a> {
    listener: &'a TcpListener,
    /// A descriptor that is given up to accept a client that is refused. Without one, a client that cannot be accepted
    /// would wait in the kernel's queue, and `poll` report it again and again.
    spare: Option<File>,
    /// Until when nobody is accepted.
    closed: Option<Instant>,
}

impl<'a> Door<'a> {
    pub(super) fn new(listener: &'a TcpListener) -> io::Result<Self> {
        // A client may be gone before it is accepted.
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            spare: spare(),
            closed: None,
        })
    }

    /// Until when it is closed, if it is.
    pub(super) fn closed_until(&self, now: Instant) -> Option<Instant> {
        self.closed.filter(|&until| until > now)
    }

    /// The listener, unless it is closed.
    pub(super) fn open(&self, now: Instant) -> Option<&TcpListener> {
        self.closed_until(now).is_none().then_some(self.listener)
    }

    /// Accept a client. An error: none can be accepted any more.
    pub(super) fn accept(&mut self) -> io::Result<Came> {
        // One that was given up is had again as soon as that is possible.
        self.spare = self.spare.take().or_else(spare);
        match self.listener.accept() {
            Ok((stream, _)) => Ok(Came::Client(stream)),
            Err(error) if is_of_client(&error) => Ok(Came::Nobody),
            Err(error) if is_shortage(&error) => self.refuse().map(|()| Came::Nobody),
            Err(error) => Err(error),
        }
    }

    /// Refuse the client that waits, in the place of the spare descriptor. Close if that is not possible.
    fn refuse(&mut self) -> io::Result<()> {
        let had_spare = self.spare.take().is_some();
        match self.listener.accept() {
            Ok((mut stream, _)) => {
                let refusal = Answer::text("503 Service Unavailable", "no descriptor is free: ask again later\n");
                // It is sent if the kernel takes it at once, as it does of a new connection.
                let _ = stream
                    .set_nonblocking(true)
                    .and_then(|()| stream.write(&refusal.bytes(false)));
            }
            Err(error) if is_of_client(&error) => {}
            Err(error) if is_shortage(&error) => self.closed = Some(Instant::now() + CLOSED),
            Err(error) => return Err(error),
        }
        self.spare = spare();
        if !had_spare && self.spare.is_none() {
            self.closed = Some(Instant::now() + CLOSED);
        }
        Ok(())
    }
}

fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}

/// Whether `accept` failed because the process, or the system, has no descriptor or memory left just now.
fn is_shortage(error: &io::Error) -> bool {
    let shortages = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| shortages.contains(&errno))
}

/// Whether `accept` failed because a client was gone, or its network failed, before it was accepted. Linux reports such
/// errors of the new connection, too.
fn is_of_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, WouldBlock};
    const OF_NETWORK: [Errno; 8] = [
        Errno::HOSTDOWN,
        Errno::HOSTUNREACH,
        Errno::NETDOWN,
        Errno::NETUNREACH,
        Errno::NONET,
        Errno::NOPROTOOPT,
        Errno::OPNOTSUPP,
        Errno::PROTO,
    ];
    let is_of_network = Errno::from_io_error(error).is_some_and(|errno| OF_NETWORK.contains(&errno));
    is_of_network
        || matches!(
            error.kind(),
            ConnectionAborted | ConnectionReset | Interrupted | WouldBlock
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_that_fails_before_a_client_is_accepted_is_no_end_and_a_shortage_neither() {
        for errno in [
            Errno::CONNABORTED,
            Errno::NETUNREACH,
            Errno::PROTO,
            Errno::INTR,
            Errno::AGAIN,
        ] {
            assert!(is_of_client(&errno.into()), "{errno}");
        }
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM] {
            assert!(is_shortage(&errno.into()) && !is_of_client(&errno.into()), "{errno}");
        }
        for errno in [Errno::BADF, Errno::INVAL] {
            assert!(!is_of_client(&errno.into()) && !is_shortage(&errno.into()), "{errno}");
        }
    }
}
