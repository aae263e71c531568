//! What `top` shows: the last snapshot, the rates since the one before, and what the user chose.

use super::page;
use super::rows::{self, Row};
use crate::findings::{Findings, Limits, Watch};
use crate::stacks::Stacks;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use procession_core::inspect::{FamilySnapshot, ObjectId};
use std::collections::HashMap;
use std::time::Instant;

/// The tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    Processes,
    Queues,
    Locks,
    Pools,
    Deaths,
    Warnings,
}

impl Shown {
    pub(super) const ALL: [Self; 6] = [
        Self::Processes,
        Self::Queues,
        Self::Locks,
        Self::Pools,
        Self::Deaths,
        Self::Warnings,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Processes => "processes",
            Self::Queues => "queues",
            Self::Locks => "locks",
            Self::Pools => "pools",
            Self::Deaths => "deaths",
            Self::Warnings => "warnings",
        }
    }
}

/// Changes in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rate {
    pub inward: f64,
    pub outward: f64,
}

/// What the user has asked for that takes a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Stack(u32),
    /// Begin a trace, or end it.
    Trace,
}

/// The stacks of a process.
pub(super) enum Stack {
    Asked,
    Seen(Stacks),
}

/// Counts that only grow, from which rates follow.
#[derive(Default)]
struct Counts {
    /// Of each queue items put and taken, of each pool tasks done.
    objects: HashMap<ObjectId, (u64, u64)>,
    /// Of each process, by pid, milliseconds of processor time.
    cpu: HashMap<u32, u64>,
}

pub(super) struct State {
    pub(super) shown: Shown,
    /// The column by which rows are sorted.
    pub(super) sorted_by: usize,
    pub(super) is_reversed: bool,
    pub(super) filter: String,
    pub(super) is_typing: bool,
    /// The row that keys act on, or the first line of a page.
    pub(super) row: usize,
    /// The process whose page is shown, and the row from which it was opened.
    pub(super) page: Option<(u32, usize)>,
    /// What was told last of something that takes a while.
    pub(super) note: Option<String>,
    wish: Option<Wish>,
    stack: Option<(u32, Stack)>,
    /// Why there are no further snapshots.
    pub(super) ended: Option<String>,
    watch: Watch,
    is_paused: bool,
    taken: Option<Instant>,
    counts: Counts,
    rates: HashMap<ObjectId, Rate>,
    cpu_shares: HashMap<u32, f64>,
}

impl State {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            shown: Shown::Processes,
            sorted_by: 0,
            is_reversed: false,
            filter: String::new(),
            is_typing: false,
            row: 0,
            page: None,
            note: None,
            wish: None,
            stack: None,
            ended: None,
            watch: Watch::new(limits),
            is_paused: false,
            taken: None,
            counts: Counts::default(),
            rates: HashMap::new(),
            cpu_shares: HashMap::new(),
        }
    }

    /// The last look, and what is wrong in it.
    pub(super) fn found(&self) -> &Findings {
        &self.watch.found
    }

    pub(super) fn seen(&self) -> &FamilySnapshot {
        &self.watch.found.seen
    }

    pub(super) fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// A snapshot taken at this moment.
    pub(super) fn see(&mut self, seen: FamilySnapshot, now: Instant) {
        let counts = counts_of(&seen);
        if let Some(taken) = self.taken {
            let seconds = now.saturating_duration_since(taken).as_secs_f64().max(0.001);
            let per_second = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
            let rate = |(id, &(inward, outward)): (&ObjectId, &(u64, u64))| {
                let &(inward_before, outward_before) = self.counts.objects.get(id)?;
                let rate = Rate {
                    inward: per_second(inward, inward_before),
                    outward: per_second(outward, outward_before),
                };
                Some((*id, rate))
            };
            self.rates = counts.objects.iter().filter_map(rate).collect();
            let share = |(pid, &ms): (&u32, &u64)| Some((*pid, per_second(ms, *self.counts.cpu.get(pid)?) / 10.0));
            self.cpu_shares = counts.cpu.iter().filter_map(share).collect();
        }
        self.watch.see(seen);
        (self.counts, self.taken, self.ended) = (counts, Some(now), None);
    }

    /// There are no further snapshots, for this reason; the last one stays.
    pub(super) fn end(&mut self, reason: String) {
        self.ended = Some(reason);
    }

    pub(super) fn take_wish(&mut self) -> Option<Wish> {
        self.wish.take()
    }

    pub(super) fn tell(&mut self, note: String) {
        self.note = Some(note);
    }

    pub(super) fn set_stack(&mut self, pid: u32, stacks: Stacks) {
        if self.stack.as_ref().is_some_and(|(of, _)| *of == pid) {
            self.stack = Some((pid, Stack::Seen(stacks)));
        }
    }

    pub(super) fn stack_of(&self, pid: u32) -> Option<&Stack> {
        let (of, stack) = self.stack.as_ref()?;
        (*of == pid).then_some(stack)
    }

    /// The least age of a queue's oldest item, in milliseconds.
    pub(super) fn oldest(&self, id: ObjectId) -> Option<u64> {
        self.watch.found.oldest.get(&id).copied()
    }

    pub(super) fn rate(&self, id: ObjectId) -> Option<Rate> {
        self.rates.get(&id).copied()
    }

    /// Per cent of a core that a process used lately.
    pub(super) fn cpu_share(&self, pid: u32) -> Option<f64> {
        self.cpu_shares.get(&pid).copied()
    }

    /// The rows to show: filtered and sorted.
    pub(super) fn rows(&self) -> Vec<Row> {
        let needle = self.filter.to_lowercase();
        let fits = |row: &Row| row.cells.iter().any(|cell| cell.text.to_lowercase().contains(&needle));
        let mut rows: Vec<Row> = rows::of(self).into_iter().filter(fits).collect();
        rows.sort_by(|one, other| one.compare(other, self.sorted_by));
        if self.is_reversed {
            rows.reverse();
        }
        rows
    }

    /// A key was pressed. True: leave.
    pub(super) fn press(&mut self, key: KeyEvent) -> bool {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return matches!(key.code, KeyCode::Char('c' | 'd'));
        }
        if self.is_typing {
            match key.code {
                KeyCode::Enter => self.is_typing = false,
                KeyCode::Esc => (self.is_typing, self.filter) = (false, String::new()),
                KeyCode::Backspace => drop(self.filter.pop()),
                KeyCode::Char(char) if !char.is_control() => self.filter.push(char),
                _ => {}
            }
            self.row = 0;
            return false;
        }
        let at = Shown::ALL.iter().position(|&one| one == self.shown).unwrap_or(0);
        let last = match self.page {
            Some((pid, _)) => page::lines(self, pid).len(),
            None => self.rows().len(),
        };
        let last = last.saturating_sub(1);
        match key.code {
            KeyCode::Esc if self.page.is_some() => self.leave_page(),
            KeyCode::Char('q') | KeyCode::Esc => return true,
            KeyCode::Enter => self.open_page(),
            KeyCode::Char('s') => {
                self.open_page();
                if let Some((pid, _)) = self.page {
                    self.stack = Some((pid, Stack::Asked));
                    self.wish = Some(Wish::Stack(pid));
                }
            }
            KeyCode::Char('t') => self.wish = Some(Wish::Trace),
            KeyCode::Tab | KeyCode::Right => self.show(at + 1),
            KeyCode::BackTab | KeyCode::Left => self.show(at + Shown::ALL.len() - 1),
            KeyCode::Char(number @ '1'..='6') => self.show(number as usize - '1' as usize),
            KeyCode::Char('o') => self.sorted_by = (self.sorted_by + 1) % rows::head(self.shown).len(),
            KeyCode::Char('r') => self.is_reversed = !self.is_reversed,
            KeyCode::Char('/') => self.is_typing = true,
            KeyCode::Char(' ') => self.is_paused = !self.is_paused,
            KeyCode::Down => self.row = (self.row + 1).min(last),
            KeyCode::Up => self.row = self.row.min(last).saturating_sub(1),
            KeyCode::PageDown => self.row = (self.row + 10).min(last),
            KeyCode::PageUp => self.row = self.row.min(last).saturating_sub(10),
            KeyCode::Home => self.row = 0,
            _ => {}
        }
        false
    }

    fn show(&mut self, number: usize) {
        self.shown = Shown::ALL[number % Shown::ALL.len()];
        (self.sorted_by, self.is_reversed, self.row, self.page) = (0, false, 0, None);
    }

    /// Open the page of the process in the chosen row, if it is a process's.
    fn open_page(&mut self) {
        if self.page.is_some() || self.shown != Shown::Processes {
            return;
        }
        let rows = self.rows();
        let Some(row) = rows.get(self.row.min(rows.len().saturating_sub(1))) else {
            return;
        };
        // A process that is being started has no pid yet.
        if let Some(pid) = row.cells[0].text.parse().ok().filter(|&pid| pid != 0) {
            (self.page, self.row) = (Some((pid, self.row)), 0);
        }
    }

    fn leave_page(&mut self) {
        if let Some((_, row)) = self.page.take() {
            self.row = row;
        }
    }
}

fn counts_of(seen: &FamilySnapshot) -> Counts {
    let queues = seen
        .queues
        .iter()
        .map(|queue| (queue.id, (queue.put, queue.put.saturating_sub(queue.depth))));
    let pools = seen.pools.iter().map(|pool| (pool.id, (0, pool.done)));
    Counts {
        objects: queues.chain(pools).collect(),
        cpu: seen
            .processes
            .iter()
            .map(|process| (process.pid, process.cpu_ms))
            .collect(),
    }
}
