//! The page of one process.

use super::state::{Stack, State};
use crate::text::{self, bytes, clean, time};
use procession_core::inspect::ProcessSeen;

/// The lines of the page of process `pid`.
pub(super) fn lines(state: &State, pid: u32) -> Vec<String> {
    let seen = state.seen();
    let Some(process) = seen.processes.iter().find(|process| process.pid == pid) else {
        let mut lines = vec![format!("process {pid} is gone")];
        lines.extend(ending(state, pid));
        return lines;
    };
    let mut lines = about(process, state);
    let task = text::task(pid, seen);
    let waits = process.waits.iter().map(|wait| {
        let lock = seen.locks.iter().find(|lock| Some(lock.id) == wait.object);
        let made = lock.and_then(|lock| lock.made.as_ref());
        let made = made.map_or(String::new(), |made| format!(", made at {}", clean(&made.to_string())));
        format!("{}{made}", text::wait(wait, seen))
    });
    lines.push(format!("runs       {}", task.unwrap_or_else(|| "-".to_owned())));
    listed(&mut lines, "waits for", waits);
    let held = seen.locks.iter().filter(|lock| {
        let holder = lock.holder.as_ref();
        holder.is_some_and(|holder| holder.pid == Some(pid))
    });
    let held = held.map(|lock| {
        let waiting = lock.waiters.len();
        format!(
            "{}, {waiting} waiting",
            text::lock(lock.kind, lock.id, seen.name(lock.id), lock.made.as_ref())
        )
    });
    listed(&mut lines, "holds", held);
    let children = seen.processes.iter().filter(|other| other.parent == Some(pid));
    listed(&mut lines, "started", children.map(text::label));
    lines.push(String::new());
    match state.stack_of(pid) {
        None => lines.push("s shows in which functions its threads are".to_owned()),
        Some(Stack::Asked) => lines.push("stacks: looking".to_owned()),
        Some(Stack::Seen(stacks)) => {
            lines.push("stacks, innermost call first; s looks again".to_owned());
            lines.extend(text_lines(stacks));
        }
    }
    lines
}

fn text_lines(stacks: &crate::stacks::Stacks) -> impl Iterator<Item = String> {
    crate::stacks::lines(stacks).into_iter().map(|line| format!("  {line}"))
}

fn about(process: &ProcessSeen, state: &State) -> Vec<String> {
    let share = state.cpu_share(process.pid);
    let share = share.map_or(String::new(), |share| format!(", {share:.0}% lately"));
    let started = process.start_method.unwrap_or("-");
    let parent = process.parent.map_or(String::new(), |parent| format!(" by {parent}"));
    vec![
        format!("process    {}", text::label(process)),
        format!("program    {}", clean(&process.program)),
        format!("role       {}", process.role.unwrap_or("-")),
        format!("state      {}, {} threads", process.state.name(), process.threads),
        format!("start      {started}{parent}, {} ago", time(process.age_ms)),
        format!("processor  {}{share}", time(process.cpu_ms)),
        format!(
            "memory     {} private, {} shared; {} of items that it took or is about to send",
            bytes(process.private_bytes),
            bytes(process.shared_bytes),
            bytes(process.owned_bytes),
        ),
    ]
}

fn listed(lines: &mut Vec<String>, title: &str, texts: impl Iterator<Item = String>) {
    let before = lines.len();
    for text in texts {
        let title = if lines.len() == before { title } else { "" };
        lines.push(format!("{title:<10} {text}"));
    }
    if lines.len() == before {
        lines.push(format!("{title:<10} -"));
    }
}

fn ending(state: &State, pid: u32) -> Option<String> {
    let ended = state.seen().ended.iter().rev().find(|ended| ended.pid == pid)?;
    Some(format!("it ended: {}", text::cause(ended)))
}
