//! The table of jobs against a model, over random events. The file is long because one driver has each event's step in
//! both.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::job_model::{Model, ModelItem, ModelJob};
use crate::pool::job_record::{ItemState, Want};
use crate::pool::job_table::{JobAction, JobTable};
use crate::pool::room::{Feeder, Load, Room};
use crate::pool::types::{JobOptions, Loss, Priority, TaskOptions};

#[derive(Clone, Debug)]
enum JobEvent {
    Open(JobOptions),
    /// Numbers choose among the open jobs, or among the waiting tasks.
    Submit(usize, u32, Option<TaskOptions>),
    Refuse(usize),
    Finish(usize, bool),
    Die(usize),
    Withdraw(usize),
    WithdrawAll(usize),
    /// A task that is not awaited any more is reported lost.
    LoseAgain(usize),
    Take(usize, u64),
    TakeAny(usize),
    Seal(usize),
    Announce(usize),
    Drop(usize),
    NextCompleted,
    Close,
    StopAll,
}

fn of_jobs() -> impl Strategy<Value = JobOptions> {
    (any::<bool>(), of_tasks()).prop_map(|(by_time, tasks)| JobOptions { by_time, tasks })
}

fn of_tasks() -> impl Strategy<Value = TaskOptions> {
    (prop::option::of(1..4_u64), 0..3_u32).prop_map(|(timeout, retries)| TaskOptions {
        timeout: timeout.map(Duration::from_secs),
        retries,
        priority: Priority::Normal, // of which the table knows nothing
    })
}

fn event() -> impl Strategy<Value = JobEvent> {
    let which = any::<usize>;
    prop_oneof![
        8 => of_jobs().prop_map(JobEvent::Open),
        40 => (which(), 0..5000_u32, prop::option::of(of_tasks()))
            .prop_map(|(job, bytes, own)| JobEvent::Submit(job, bytes, own)),
        2 => which().prop_map(JobEvent::Refuse),
        24 => (which(), any::<bool>()).prop_map(|(task, raised)| JobEvent::Finish(task, raised)),
        8 => which().prop_map(JobEvent::Die),
        4 => which().prop_map(JobEvent::Withdraw),
        1 => which().prop_map(JobEvent::WithdrawAll),
        2 => which().prop_map(JobEvent::LoseAgain),
        10 => (which(), 0..8_u64).prop_map(|(job, number)| JobEvent::Take(job, number)),
        6 => which().prop_map(JobEvent::TakeAny),
        4 => which().prop_map(JobEvent::Seal),
        4 => which().prop_map(JobEvent::Announce),
        4 => which().prop_map(JobEvent::Drop),
        4 => Just(JobEvent::NextCompleted),
        1 => Just(JobEvent::Close),
        1 => Just(JobEvent::StopAll),
    ]
}

/// The table, and what is in use outside it according to its actions.
struct Driver {
    table: JobTable<u32>,
    slots: BTreeSet<u32>,
    functions: BTreeSet<u32>,
    closed: bool,
}

impl Driver {
    /// Carry out the table's actions. What is freed must have been in use.
    fn perform(&mut self) -> Result<(), TestCaseError> {
        while let Some(action) = self.table.next_action() {
            match action {
                JobAction::Release(slot) => prop_assert!(self.slots.remove(&slot), "slot {slot} was freed twice"),
                JobAction::LeaveFunction(slot) => prop_assert!(self.functions.remove(&slot), "freed twice"),
                JobAction::Close => self.closed = true,
            }
        }
        Ok(())
    }

    fn apply(&mut self, model: &mut Model, event: JobEvent) -> Result<(), TestCaseError> {
        match event {
            JobEvent::Open(options) if !model.closing => self.open(model, options)?,
            JobEvent::Submit(which, bytes, own) => {
                if let Some(key) = model.pick(which, true) {
                    self.submit(model, key, bytes, own)?;
                }
            }
            JobEvent::Refuse(which) => {
                if let Some(key) = model.pick(which, true) {
                    let number = self.table.refuse(key, Loss::Refused);
                    let items = &mut model.jobs.get_mut(&key).unwrap().items;
                    prop_assert_eq!(number, items.len() as u64);
                    items.push(ModelItem::Lost);
                    model.end(key, number, ModelItem::Lost);
                }
            }
            JobEvent::Finish(which, raised) => {
                if let Some((key, number, slot)) = model.pick_task(which) {
                    self.table.finish(key, number, slot, raised);
                    model.done += 1;
                    model.end(key, number, ModelItem::Ready { slot, raised });
                }
            }
            JobEvent::Die(which) => {
                if let Some(task) = model.pick_task(which) {
                    self.die(model, task)?;
                }
            }
            JobEvent::Withdraw(which) => {
                if let Some(task) = model.pick_task(which) {
                    self.lose(model, task, Loss::Cancelled);
                }
            }
            JobEvent::WithdrawAll(which) => {
                if let Some(key) = model.pick(which, false) {
                    self.withdraw_all(model, key);
                }
            }
            JobEvent::LoseAgain(which) if !model.past.is_empty() => {
                let (key, number, slot) = model.past[which % model.past.len()];
                self.table.lose(key, number, slot, Loss::Cancelled);
                prop_assert_eq!(self.table.retry(key, number, slot, |&copy| Some(copy)), None);
            }
            JobEvent::Take(which, number) => {
                if let Some(key) = model.pick(which, false) {
                    self.take(model, key, number)?;
                }
            }
            JobEvent::TakeAny(which) => {
                if let Some(key) = model.pick(which, false) {
                    self.take_any(model, key)?;
                }
            }
            JobEvent::Seal(which) => {
                if let Some(key) = model.pick(which, false) {
                    prop_assert_eq!(self.table.seal(key), !model.jobs[&key].sealed);
                    model.seal(key);
                }
            }
            JobEvent::Announce(which) => {
                if let Some(key) = model.pick(which, false) {
                    self.table.announce(key);
                    model.jobs.get_mut(&key).unwrap().announced = true;
                    model.resolve(key);
                }
            }
            JobEvent::Drop(which) if !model.stopped => {
                if let Some(key) = model.pick(which, false) {
                    self.table.abandon(key);
                    model.jobs.get_mut(&key).unwrap().dropped = true;
                    model.seal(key);
                }
            }
            JobEvent::NextCompleted => self.next_completed(model)?,
            JobEvent::Close => {
                self.table.close();
                model.closing = true;
            }
            JobEvent::StopAll => self.stop_all(model),
            JobEvent::Open(_) | JobEvent::LoseAgain(_) | JobEvent::Drop(_) => {}
        }
        self.perform()
    }

    fn open(&mut self, model: &mut Model, options: JobOptions) -> Result<(), TestCaseError> {
        let function = model.fresh();
        let key = self.table.open(function, options);
        self.functions.insert(function);
        prop_assert!(!model.jobs.contains_key(&key), "a key in use was given again");
        model.open(key, function, options);
        prop_assert!((key as usize) < model.most, "keys are used again");
        Ok(())
    }

    fn submit(
        &mut self,
        model: &mut Model,
        key: u32,
        bytes: u32,
        own: Option<TaskOptions>,
    ) -> Result<(), TestCaseError> {
        let slot = model.fresh();
        let job = model.jobs.get_mut(&key).unwrap();
        let TaskOptions { timeout, retries, .. } = job.options.tasks;
        let (timeout, tries) = own.map_or((timeout, retries), |own| (own.timeout, own.retries));
        let number = self.table.submit(key, slot, bytes, (tries > 0).then_some(slot), own);
        prop_assert_eq!(number, job.items.len() as u64);
        job.items.push(ModelItem::Waiting {
            slot,
            bytes,
            tries,
            timeout,
        });
        self.slots.insert(slot);
        model.slots.insert(slot);
        Ok(())
    }

    fn withdraw_all(&mut self, model: &mut Model, key: u32) {
        self.table.seal(key);
        model.seal(key);
        let waiting: Vec<_> = model.jobs[&key].waiting().collect();
        for (number, slot, _) in waiting {
            self.lose(model, (key, number, slot), Loss::Cancelled);
        }
    }

    fn take_any(&mut self, model: &mut Model, key: u32) -> Result<(), TestCaseError> {
        let job = model.jobs.get_mut(&key).unwrap();
        let named = job.ended.get(job.named).copied().filter(|_| job.options.by_time);
        job.named += usize::from(named.is_some());
        let next = self.table.job(key).next_finished(1);
        prop_assert_eq!(&next, &Vec::from_iter(named));
        for number in next {
            self.take(model, key, number)?;
        }
        Ok(())
    }

    fn stop_all(&mut self, model: &mut Model) {
        self.table.stop_all();
        (model.closing, model.stopped) = (true, true);
        let keys: Vec<u32> = model.jobs.keys().copied().collect();
        for key in keys {
            let waiting: Vec<_> = model.jobs[&key].waiting().collect();
            for (number, slot, _) in waiting {
                // The slot is freed by no event: its task may still run.
                model.past.push((key, number, slot));
                model.end(key, number, ModelItem::Lost);
            }
            model.seal(key);
        }
    }

    /// The worker of a task dies: the task is queued again, in another slot, as often as its job allows.
    fn die(&mut self, model: &mut Model, (key, number, slot): (u32, u64, u32)) -> Result<(), TestCaseError> {
        let now_in = model.fresh();
        let item = &mut model.jobs.get_mut(&key).unwrap().items[number as usize];
        let copied = self.table.retry(key, number, slot, |&copy| Some(copy));
        let ModelItem::Waiting {
            slot: in_model, tries, ..
        } = item
        else {
            panic!("picked as waiting");
        };
        prop_assert_eq!(copied.is_some(), *tries > 0);
        if copied.is_none() {
            model.done += 1;
            self.lose(model, (key, number, slot), Loss::Died(Box::default()));
            return Ok(());
        }
        *tries -= 1;
        *in_model = now_in;
        self.table.requeued(key, number, now_in);
        for slots in [&mut self.slots, &mut model.slots] {
            slots.remove(&slot);
            slots.insert(now_in);
        }
        model.past.push((key, number, slot));
        Ok(())
    }

    /// A task is lost; what reports it frees the slot.
    fn lose(&mut self, model: &mut Model, (key, number, slot): (u32, u64, u32), loss: Loss) {
        self.table.lose(key, number, slot, loss);
        self.slots.remove(&slot);
        model.slots.remove(&slot);
        model.past.push((key, number, slot));
        model.end(key, number, ModelItem::Lost);
    }

    fn take(&mut self, model: &mut Model, key: u32, number: u64) -> Result<(), TestCaseError> {
        let item = model.jobs.get_mut(&key).unwrap().items.get_mut(number as usize);
        let taken = self.table.job(key).take(number);
        match (taken, item.as_deref().copied()) {
            (Some(ItemState::Ready { slot, raised }), Some(of_model)) => {
                prop_assert_eq!(of_model, ModelItem::Ready { slot, raised });
                self.slots.remove(&slot);
                model.slots.remove(&slot);
            }
            (Some(ItemState::Lost(_)), of_model) => prop_assert_eq!(of_model, Some(ModelItem::Lost)),
            (None, Some(ModelItem::Waiting { .. })) => return Ok(()),
            (None, Some(ModelItem::Taken) | None) => {}
            (taken, of_model) => prop_assert!(false, "{taken:?} instead of {of_model:?}"),
        }
        if let Some(item) = item {
            *item = ModelItem::Taken;
        }
        Ok(())
    }

    fn next_completed(&mut self, model: &mut Model) -> Result<(), TestCaseError> {
        let awaited: Vec<&ModelJob> = model.jobs.values().filter(|job| job.announced).collect();
        let over = model.closing && model.jobs.values().all(|job| job.sealed) && awaited.is_empty();
        // The number must not exceed how many tasks must finish: a waiter is woken no sooner.
        let most = awaited.iter().map(|job| (job.waiting().count() as u64).max(1)).min();
        match self.table.next_completed() {
            Ok(Some(key)) => prop_assert_eq!(key, model.completed.remove(0)),
            Ok(None) => prop_assert!(over && model.completed.is_empty()),
            Err(missing) => {
                prop_assert!(!over && model.completed.is_empty());
                prop_assert!(missing >= 1 && missing <= most.unwrap_or(u64::MAX));
            }
        }
        Ok(())
    }

    /// Compare all that the table counts with the model's items.
    fn check(&mut self, model: &mut Model) -> Result<(), TestCaseError> {
        if !model.stopped {
            model.closed |= model.closing && model.jobs.values().all(|job| job.sealed);
            prop_assert_eq!(self.closed, model.closed, "workers may leave when no more can come");
        }
        prop_assert_eq!(&self.slots, &model.slots);
        prop_assert_eq!(&self.functions, &model.functions);
        prop_assert_eq!(self.table.unfinished(), model.unfinished());
        prop_assert_eq!(self.table.done(), model.done);
        let idle = model.jobs.values().all(ModelJob::is_complete);
        prop_assert_eq!(self.table.is_idle(), idle);
        let items = model.jobs.values().flat_map(|job| &job.items);
        let timed = items.filter_map(|item| match item {
            ModelItem::Waiting { timeout, .. } => *timeout,
            _ => None,
        });
        prop_assert_eq!(self.table.shortest_timeout(), timed.min());
        for (&key, of_model) in &model.jobs {
            self.check_job(key, of_model)?;
        }
        Ok(())
    }

    fn check_job(&mut self, key: u32, of_model: &ModelJob) -> Result<(), TestCaseError> {
        let job = self.table.job(key);
        let waiting = of_model.waiting().count() as u64;
        prop_assert_eq!(job.submitted(), of_model.items.len() as u64);
        prop_assert_eq!(job.unfinished(), waiting);
        prop_assert_eq!(job.finished, of_model.ended.len() as u64);
        let bytes: u64 = of_model.waiting().map(|(_, _, bytes)| u64::from(bytes)).sum();
        prop_assert_eq!(job.load().bytes, bytes);
        prop_assert_eq!(job.is_complete(), of_model.is_complete());
        prop_assert_eq!(job.failed, of_model.failed);
        prop_assert_eq!(
            job.weigh_finished(|number| number + 1),
            of_model.ended.iter().map(|number| number + 1).sum::<u64>()
        );
        let tried = of_model.items.iter();
        let tried = tried.filter(|item| matches!(item, ModelItem::Waiting { tries: 1.., .. }));
        prop_assert_eq!(
            job.copies.len(),
            tried.count(),
            "copies are kept for unfinished tasks alone"
        );
        let open = u64::from(!of_model.is_complete());
        prop_assert_eq!(job.missing(Want::All), open * waiting.max(1));
        let mut limited = 0;
        for (number, item) in (0..).zip(&of_model.items) {
            let waits = matches!(item, ModelItem::Waiting { .. });
            if let ModelItem::Waiting { timeout, .. } = *item {
                prop_assert_eq!(job.timeout_of(number), timeout);
                limited += usize::from(timeout != of_model.options.tasks.timeout);
            }
            prop_assert_eq!(job.missing(Want::Item(number)), u64::from(waits));
        }
        prop_assert_eq!(
            job.own_timeouts.len(),
            limited,
            "limits are kept for unfinished tasks alone"
        );
        prop_assert_eq!(job.missing(Want::Item(of_model.items.len() as u64)), open);
        let none_ended = of_model.options.by_time && of_model.named == of_model.ended.len();
        prop_assert_eq!(job.missing(Want::Any), open * u64::from(none_ended));
        Ok(())
    }
}

fn cases() -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    ProptestConfig {
        cases: asked.unwrap_or(64),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn the_table_agrees_with_a_model(events in prop::collection::vec(event(), 1..200)) {
        let mut model = Model::default();
        let mut driver = Driver {
            table: JobTable::new(),
            slots: BTreeSet::new(),
            functions: BTreeSet::new(),
            closed: false,
        };
        for event in events {
            driver.apply(&mut model, event)?;
            driver.check(&mut model)?;
        }
        if model.stopped {
            return Ok(());
        }
        // When all tasks are finished and all jobs dropped, nothing is left.
        while let Some((key, number, slot)) = model.pick_task(0) {
            driver.table.finish(key, number, slot, false);
            model.end(key, number, ModelItem::Ready { slot, raised: false });
            driver.perform()?;
        }
        while let Some(key) = model.pick(0, false) {
            driver.apply(&mut model, JobEvent::Drop(0))?;
            prop_assert!(!model.jobs.contains_key(&key));
        }
        prop_assert!(driver.table.is_idle() && driver.slots.is_empty() && driver.functions.is_empty());
    }

    #[test]
    fn the_nearest_waiter_and_feeder_are_told_first(
        sizes in prop::collection::vec(0..2_000_000_u64, 1..12),
        waiters in prop::collection::vec(1..30_u64, 0..6),
        rooms in prop::collection::vec((0..10_u64, 0..4_000_000_u64, 1..6_u64), 0..6),
    ) {
        let mut table: JobTable<()> = JobTable::new();
        let key = table.open(0, JobOptions::default());
        for (slot, &size) in (1..).zip(&sizes) {
            table.submit(key, slot, size as u32, None, None);
        }
        for &missing in &waiters {
            table.add_waiter(missing);
        }
        prop_assert_eq!(table.wake_at(), waiters.iter().min().map_or(0, |&least| least as u32));
        let feeders = rooms.iter().map(|&(tasks, bytes, least)| Room { tasks, bytes, least });
        let feeders: Vec<Feeder> = feeders.map(|room| Feeder { job: key, room }).collect();
        for &feeder in &feeders {
            table.add_feeder(feeder);
        }
        // Whether a feeder has room, by the definition of `Room`.
        let has_room = |feeder: &Feeder, tasks: u64, bytes: u64| {
            let room = feeder.room;
            tasks < room.least || tasks <= room.tasks && bytes <= room.bytes
        };
        let (mut wanted, mut ready) = table.feeders_wake_at();
        for (slot, number) in (1..).zip(0..sizes.len()) {
            let (tasks, bytes) = ((sizes.len() - number) as u64, sizes[number..].iter().sum());
            prop_assert_eq!(ready, feeders.iter().any(|feeder| has_room(feeder, tasks, bytes)));
            prop_assert_eq!(wanted == 0, feeders.is_empty());
            prop_assert!(u64::from(wanted) <= tasks, "a feeder is told when nothing is left, at the latest");
            let load = Load { tasks, bytes, sealed: false };
            let nearest = feeders.iter().map(|feeder| feeder.room.missing(load).max(1)).min();
            prop_assert_eq!(u64::from(wanted), nearest.unwrap_or(0));
            table.finish(key, number as u64, slot, false);
            (wanted, ready) = table.feeders_wake_at();
        }
        prop_assert_eq!(ready, !feeders.is_empty());
        for feeder in feeders {
            table.forget_feeder(feeder);
        }
        for missing in waiters {
            table.forget_waiter(missing);
        }
        prop_assert_eq!((table.wake_at(), table.feeders_wake_at()), (0, (0, false)));
    }
}
