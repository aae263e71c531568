//! The command line.

use crate::findings::Limits;
use clap::{CommandFactory, Parser, Subcommand};
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// See what the processes of a program do that runs on procession.
///
/// The program need not be prepared for it, and is not changed: its shared memory is read, and nothing is written, stopped
/// or waited for. Only `trace` has its processes write down what they do.
#[derive(Debug, Parser)]
#[command(
    name = "procession",
    version,
    after_help = "Exit codes: 0 shown; 1 the family cannot be read; 2 wrong command line; 3 no such process or family."
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the families of processes of this user
    #[command(after_help = "Examples:\n  procession ps\n  procession ps --json | jq '.families[].root'")]
    Ps {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Look twice, so many seconds apart: then a queue that grows is told from one that is full
        #[arg(long, value_name = "SECONDS", value_parser = seconds)]
        seconds: Option<Duration>,
        #[command(flatten)]
        limits: Limits,
    },
    /// Print what each process of a family waits for, what holds each lock, how much lies in each queue
    ///
    /// Values, keys and arguments of the program are never printed.
    #[command(
        after_help = "Examples:\n  procession dump                 the only family\n  procession dump --seconds 10    as well: which queues grow, which workers fail\n  procession dump 4711            the family of process 4711\n  procession dump 4711 --stacks   as well: in which functions they are\n  procession dump 4711 --json > report.json"
    )]
    Dump {
        /// A process of the family; may be left out if there is only one family
        pid: Option<u32>,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Show as well which Python functions the threads of all processes are in
        ///
        /// It takes the right to trace the processes. It is done by py-spy if that is installed (pip install
        /// 'procession[stacks]'). If not, Python 3.14 and later does it itself: then a few lines run in
        /// the first thread of each process.
        #[arg(long)]
        stacks: bool,
        /// Look twice, so many seconds apart: then a queue that grows is told from one that is full
        #[arg(long, value_name = "SECONDS", value_parser = seconds)]
        seconds: Option<Duration>,
        #[command(flatten)]
        limits: Limits,
    },
    /// Watch a family: processes, queues, locks, pools
    #[command(
        after_help = "Examples:\n  procession top\n  procession top 4711 --interval 0.5\n  NO_COLOR=1 procession top"
    )]
    Top {
        /// A process of the family; may be left out if there is only one family
        pid: Option<u32>,
        /// Seconds between two looks, from 0.1 to 60
        #[arg(long, default_value = "1", value_parser = seconds)]
        interval: Duration,
        #[command(flatten)]
        limits: Limits,
    },
    /// Write down what happens in a family, for Perfetto and other viewers of Chrome's traces
    ///
    /// Slices show tasks and waits of each thread, arrows lead from put to get and from submit to run to result, and spans
    /// show how long items lay in queues and locks were held. It ends with the family, after some seconds, or on Ctrl-C.
    ///
    /// Unlike the other commands, this one changes the program: it sets a word in its shared memory, so that each process
    /// writes its events there too. That takes a fraction of a microsecond for each, and 256 KiB of shared memory for
    /// each process, which the program keeps. Nothing waits for the trace: if it cannot keep up, events are lost, and counted.
    #[command(
        after_help = "Examples:\n  procession trace -o trace.json              the only family, until Ctrl-C\n  procession trace 4711 -o trace.json --seconds 10\n  procession run --trace trace.json program.py\n\nOpen the file at https://ui.perfetto.dev, or with vizviewer of viztracer."
    )]
    Trace {
        /// A process of the family; may be left out if there is only one family
        pid: Option<u32>,
        /// The file to write
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
        /// End after so many seconds
        #[arg(long, value_name = "SECONDS", value_parser = duration)]
        seconds: Option<Duration>,
    },
    /// Serve a page about a family to a browser: what waits for what, tables, time lines
    ///
    /// Prints the page's address, which has a random token: without it nothing is shown. The page loads nothing from
    /// elsewhere, and changes nothing. Ends with the family. If there are several families, and none is named, the page
    /// lists them, and has a page for each.
    #[command(
        after_help = "Examples:\n  procession web\n  procession web 4711 --port 8111\n  ssh -L 8111:127.0.0.1:8111 server procession web 4711 --port 8111"
    )]
    Web {
        /// A process of the family; if it is left out, all families are shown
        pid: Option<u32>,
        /// The port; 0: the system chooses one
        #[arg(long, default_value = "0")]
        port: u16,
        /// The address to listen at. Another one than this machine's own shows the page to others: to all that know the token, and unencrypted
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
        host: IpAddr,
        /// Seconds between two looks while a page is open, from 0.1 to 60
        #[arg(long, default_value = "0.5", value_parser = seconds)]
        interval: Duration,
        #[command(flatten)]
        limits: Limits,
    },
    /// Print a family's figures in the text format of Prometheus
    #[command(
        after_help = "Examples:\n  procession metrics 4711 --listen 127.0.0.1:9464\n  procession metrics 4711 > /var/lib/node_exporter/textfile/shop.prom.$$ &&\n      mv /var/lib/node_exporter/textfile/shop.prom.$$ /var/lib/node_exporter/textfile/shop.prom"
    )]
    Metrics {
        /// A process of the family; may be left out if there is only one family
        pid: Option<u32>,
        /// Look twice, so many seconds apart: then a queue that grows is told from one that is full
        #[arg(long, value_name = "SECONDS", value_parser = seconds)]
        seconds: Option<Duration>,
        /// Answer requests for /metrics at this address of this machine, for example 127.0.0.1:9464, until the family ends
        ///
        /// Each answer is a new look, compared with those of the last minute. With port 0 the system chooses one; the
        /// address is printed.
        #[arg(long, value_name = "ADDRESS:PORT", conflicts_with = "seconds")]
        listen: Option<SocketAddr>,
        #[command(flatten)]
        limits: Limits,
    },
    /// Print a script that completes this command's words in a shell
    #[command(
        after_help = "Example:\n  procession completions bash > ~/.local/share/bash-completion/completions/procession"
    )]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.1..=60.0).contains(&number) {
        Ok(Duration::from_secs_f64(number))
    } else {
        Err("not from 0.1 to 60".to_owned())
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    Duration::try_from_secs_f64(number).map_err(|_| "not a time".to_owned())
}

pub(crate) fn write_completions(shell: clap_complete::Shell, out: &mut dyn Write) -> io::Result<()> {
    // The generator panics where it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "procession", &mut script);
    out.write_all(&script)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_script_that_cannot_be_written_is_an_error() {
        use clap_complete::Shell;
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::Elvish, Shell::PowerShell] {
            let mut room = [0; 100];
            let error = write_completions(shell, &mut &mut room[..]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::WriteZero);
        }
    }

    #[test]
    fn intervals_have_bounds() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for bad in ["0", "61", "nan", "inf", "-1", "x", ""] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
