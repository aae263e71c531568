//! What `top` does besides looking: it asks for stacks, and writes traces. Each in a thread, so that keys are answered.

use super::state::{State, Wish};
use crate::stacks::{self, Stacks};
use crate::{trace, Failure};
use procession_core::inspect::Inspector;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::SystemTime;

/// What a thread tells when it is through.
enum Told {
    Stacks(u32, Stacks),
    Traced(String),
}

pub(super) struct Work {
    tell: Sender<Told>,
    told: Receiver<Told>,
    trace: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
}

impl Work {
    pub(super) fn new() -> Self {
        let (tell, told) = mpsc::channel();
        Self {
            tell,
            told,
            trace: None,
        }
    }

    /// Begin what the user asked for, and note what is through. Returns whether anything was.
    pub(super) fn turn(&mut self, state: &mut State, of: u32) -> bool {
        match state.take_wish() {
            Some(Wish::Stack(pid)) => self.ask(pid),
            Some(Wish::Trace) => self.trace(state, of),
            None => {}
        }
        let mut was_told = false;
        while let Ok(told) = self.told.try_recv() {
            was_told = true;
            match told {
                Told::Stacks(pid, stacks) => state.set_stack(pid, stacks),
                Told::Traced(text) => {
                    self.end_trace();
                    state.tell(text);
                }
            }
        }
        was_told
    }

    fn ask(&self, pid: u32) {
        let tell = self.tell.clone();
        std::thread::spawn(move || {
            let stacks = stacks::of(&[pid]).pop();
            let stacks = stacks.unwrap_or_else(|| Err("there is none".to_owned()));
            // Nobody is there to be told any more.
            let _ = tell.send(Told::Stacks(pid, stacks));
        });
    }

    /// Begin a trace, or end the one that is under way.
    fn trace(&mut self, state: &mut State, of: u32) {
        if let Some((is_over, _)) = &self.trace {
            is_over.store(true, Relaxed);
            return;
        }
        let seconds = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_secs());
        let path = PathBuf::from(format!("procession-{of}-{seconds}.json"));
        state.tell(format!("tracing into {}; t ends it", path.display()));
        let (is_over, tell) = (Arc::new(AtomicBool::new(false)), self.tell.clone());
        let end = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            let traced = Inspector::of(of).map_err(Failure::from);
            let traced = traced.and_then(|it| trace::record(it, &path, || Ok(()), || end.load(Relaxed)));
            let text = match traced {
                Ok((events, lost)) => format!("{events} events, {lost} lost: {}", path.display()),
                Err(failure) => format!("no trace: {failure}"),
            };
            let _ = tell.send(Told::Traced(text));
        });
        self.trace = Some((is_over, thread));
    }

    /// End the trace, if there is one. Its file is complete then.
    pub(super) fn end_trace(&mut self) {
        if let Some((is_over, thread)) = self.trace.take() {
            is_over.store(true, Relaxed);
            // A panic was reported already.
            let _ = thread.join();
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.end_trace();
    }
}
