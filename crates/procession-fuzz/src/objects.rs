//! One object of every kind that an arena holds, in use.

use crate::child;
use crate::choices::{random, Choices};
use procession_core::arena::{counters, Block, Ref, Token};
use procession_core::channel::{Incoming, Lane, Mailbox, Message, Outgoing, Posted, Queue};
use procession_core::ids::Handle;
use procession_core::pool::{Function, Job, JobOptions, Pool, Verdict, Worker, WorkerDeath};
use procession_core::process::ResultSlot;
use procession_core::shared::{Change, SharedBytes, SharedDict, SharedList};
use procession_core::sync::{Arrival, Barrier, Condition, Event, Lock, RLock, Semaphore};
use procession_core::{liveness, sweep_deferred, Deadline, WaitError};
use std::collections::VecDeque;
use std::time::Duration;

/// The number of different uses.
const WAYS: u64 = 43;

pub(crate) struct Objects {
    pub queues: Vec<Ref<Queue>>,
    lock: Lock,
    rlock: RLock,
    semaphores: [Semaphore; 2],
    condition: Condition,
    event: Event,
    barrier: Barrier,
    shared: SharedBytes,
    lane: Ref<Lane>,
    /// Headers of frames of the lane.
    frames: Vec<i32>,
    dict: SharedDict,
    list: SharedList,
    result_slot: Ref<ResultSlot>,
    pool: Pool,
    function: Function,
    job: Job,
    /// One handle of each kind.
    pub handles: Vec<Handle>,
    blocks: Vec<Block>,
    tokens: Vec<(Token, usize)>,
    taken: Vec<Incoming>,
    mailboxes: Vec<Mailbox>,
}

fn message(bytes: &[u8]) -> Result<Message, WaitError> {
    Ok(Message::pack(Outgoing {
        body: bytes,
        ..Outgoing::default()
    })?)
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_micros(50))
}

impl Objects {
    pub fn build() -> Self {
        let pool = Pool::new().unwrap();
        let function = pool.function(message(b"function").unwrap()).unwrap();
        let mut objects = Self {
            queues: vec![Queue::create(0).unwrap(), Queue::create(3).unwrap()],
            lock: Lock::create().unwrap(),
            rlock: RLock::create().unwrap(),
            semaphores: [Semaphore::create(3, 5).unwrap(), Semaphore::recovering(3, 5).unwrap()],
            condition: Condition::create().unwrap(),
            event: Event::create().unwrap(),
            barrier: Barrier::create(2).unwrap(),
            shared: SharedBytes::create(1000).unwrap(),
            lane: Lane::create().unwrap(),
            frames: Vec::new(),
            dict: SharedDict::create().unwrap(),
            list: SharedList::create().unwrap(),
            result_slot: Ref::create().unwrap(),
            job: pool.job(Some(&function), JobOptions::default()),
            function,
            pool,
            handles: Vec::new(),
            blocks: Vec::new(),
            tokens: Vec::new(),
            taken: Vec::new(),
            mailboxes: Vec::new(),
        };
        objects.handles = vec![
            objects.lock.handle(),
            objects.rlock.handle(),
            objects.semaphores[0].handle(),
            objects.semaphores[1].handle(),
            objects.condition.handle(),
            objects.event.handle(),
            objects.barrier.handle(),
            objects.shared.handle(),
            objects.dict.handle(),
            objects.list.handle(),
            objects.result_slot.handle(),
            objects.lane.handle(),
            objects.pool.handle(),
            objects.queues[0].handle(),
            objects.queues[1].handle(),
        ];
        let input = random(2);
        objects.use_all(&mut Choices::new(&input));
        objects
    }

    /// Use one object; the result does not matter.
    pub fn use_once(&mut self, choices: &mut Choices) -> Result<(), WaitError> {
        let way = choices.below(WAYS);
        self.use_in_way(way, choices)
    }

    /// Do each of the uses once.
    pub fn use_all(&mut self, choices: &mut Choices) {
        for way in 0..WAYS {
            let _ = self.use_in_way(way, choices);
        }
    }

    fn use_in_way(&mut self, way: u64, choices: &mut Choices) -> Result<(), WaitError> {
        let queue = &self.queues[(way % 2) as usize];
        match way {
            0..=3 => queue.send(
                Outgoing {
                    body: &bytes(choices, 3_000),
                    buffers: &[&bytes(choices, 300_000)[..], &[7]][..choices.below(3) as usize],
                    handles: &self.handles[..choices.below(4) as usize],
                    ..Outgoing::default()
                },
                Deadline::Now,
            )?,
            4..=6 => self.taken.push(queue.get(soon())?),
            7 => {
                let mut messages = VecDeque::new();
                for _ in 0..choices.below(5) {
                    let body = &bytes(choices, 300);
                    messages.push_back(Message::pack(Outgoing {
                        body,
                        ..Outgoing::default()
                    })?);
                }
                let put = queue.put_many(&mut messages, Deadline::Now);
                queue.get_many(choices.below(50) as usize + 1, soon(), &mut self.taken)?;
                put?;
            }
            8 => drop(self.taken.drain(..)),
            9 => drop((queue.len()?, queue.is_full()?, queue.task_done(), queue.is_empty()?)),
            10 => self.blocks.push(Block::alloc(bytes(choices, 300_000).len())?),
            11 => drop(self.blocks.pop()),
            12 => self.tokens.extend(self.blocks.pop().map(|block| {
                let length = block.len();
                (block.send(), length)
            })),
            13 => {
                if let Some((token, length)) = self.tokens.pop() {
                    self.blocks.push(Block::take(token, length)?);
                }
            }
            14 => self.mailboxes.push(Mailbox::pack(Outgoing {
                body: &bytes(choices, 3_000),
                ..Outgoing::default()
            })?),
            15 => {
                if let Some(mailbox) = self.mailboxes.pop() {
                    self.taken.push(Mailbox::take(mailbox.token())?);
                }
            }
            16 => self.lock.acquire(soon())?,
            17 => drop((self.lock.release(), self.lock.owner())),
            18 => self.rlock.acquire(soon())?,
            19 => drop((self.rlock.release(), self.rlock.count(), self.rlock.owner())),
            20 => self.semaphores[choices.below(2) as usize].acquire(soon())?,
            21 => drop(self.semaphores[choices.below(2) as usize].release()?),
            22 => {
                let mut waiter = self.condition.enqueue()?;
                self.condition.notify(choices.below(3) as u32)?;
                waiter.wait(soon())?;
            }
            23 => {
                if let Ok(Arrival::Waits(mut participant)) = self.barrier.arrive(Deadline::Never) {
                    let _ = participant.wait(soon());
                }
                self.barrier.reset()?;
            }
            24 => {
                self.event.clear();
                let _ = self.event.wait(self.event.begin(), soon());
                self.event.set();
            }
            25 => {
                let handle = *choices.pick(&self.handles).expect("there are some, once all are built");
                attach_as(choices, handle);
            }
            26 => {
                self.result_slot.post(message(&bytes(choices, 3_000))?);
                drop(self.result_slot.take()?);
            }
            27 => self.work_in_pool(choices)?,
            28 => drop((
                self.pool.stats(),
                self.pool.overdue(),
                self.pool.is_idle(),
                self.job.cancel(),
            )),
            29 => self.die(choices),
            30 => drop((sweep_deferred()?, counters()?)),
            31 => self.send_in_lane(message(&bytes(choices, 300_000))?)?,
            32 => self.receive_from_lane()?,
            33 => drop((liveness::members(), liveness::sweep())),
            way @ 34..39 => self.use_dict(way - 34, choices)?,
            way => self.use_list(way - 39, choices)?,
        }
        Ok(())
    }

    fn use_dict(&mut self, way: u64, choices: &mut Choices) -> Result<(), WaitError> {
        match way {
            0 => {
                // Many, so that the table grows.
                for _ in 0..choices.below(40) {
                    let key = self.dict.key(&choices.below(2000).to_le_bytes(), b"form")?;
                    self.dict.set(&key, &bytes(choices, 3_000))?;
                }
            }
            1 => {
                let key = self.dict.key(&choices.below(50).to_le_bytes(), b"")?;
                drop((self.dict.get(&key)?, self.dict.contains(&key)?));
                self.dict.change(&key, |now| match now {
                    Some(bytes) if bytes.len() < 5_000 => Change::Put(bytes.repeat(2).into()),
                    _ => Change::Remove,
                })?;
            }
            2 => drop((self.dict.snapshot()?.items().len(), self.dict.len()?)),
            3 => drop(self.dict.snapshot_by_freezing()?),
            _ => self.dict.clear()?,
        }
        Ok(())
    }

    fn use_list(&mut self, way: u64, choices: &mut Choices) -> Result<(), WaitError> {
        let (at, len) = (choices.below(2000), choices.below(if way == 0 { 3 } else { 100 }));
        match way {
            0 | 1 => {
                let items: Vec<_> = (0..choices.below(if way == 0 { 3 } else { 200 }))
                    .map(|_| bytes(choices, 300))
                    .collect();
                self.list.splice(&items, |_, now| {
                    let start = at % (now + 1);
                    Some(start..(start + len).min(now))
                })?;
            }
            2 => drop((self.list.get(at as i64 - 1000)?, self.list.len()?)),
            _ => drop(self.list.items(|now| at.min(now)..(at + len).min(now))?),
        }
        Ok(())
    }

    fn send_in_lane(&mut self, message: Message) -> Result<(), WaitError> {
        let waits = self.lane.begin()?;
        if let Some(Err(posted)) = self.lane.post(message)?.map(Posted::hand_over) {
            if let Ok(named) = posted.announce() {
                self.frames.push(i32::from_be_bytes(named.frame()));
                named.written();
            }
        }
        if waits {
            self.taken.extend(self.lane.withdraw()?);
        }
        Ok(())
    }

    fn receive_from_lane(&mut self) -> Result<(), WaitError> {
        let _ = (self.lane.is_awaited(), self.lane.has_left(), self.lane.is_pending());
        if let Some(header) = self.frames.pop() {
            self.taken.push(self.lane.open(header)?);
            self.lane.settle();
        }
        self.taken.extend(self.lane.receive()?);
        Ok(())
    }

    /// Let a child of ours use objects and die; the sweep then finds the dead process.
    fn die(&mut self, choices: &mut Choices) {
        let times = choices.below(5);
        let deeds = choices.bytes(16);
        let pid = child::fork(|| {
            let mut deeds = Choices::new(deeds);
            for _ in 0..=times {
                // No forks: its own children would be too many.
                let way = deeds.below(31);
                let way = if way < 26 { way } else { way + 6 };
                let _ = self.use_in_way(way, &mut deeds);
            }
        });
        let status = child::wait(pid);
        assert_eq!(status, 0, "a child that shares the arena ended with {status}");
        liveness::sweep();
    }

    /// Submit a task, let a worker do it and end, and read the result.
    fn work_in_pool(&mut self, choices: &mut Choices) -> Result<(), WaitError> {
        let item = self.job.submit(message(&bytes(choices, 3_000))?)?;
        let worker_index = self.pool.enlist()?;
        let dies = choices.below(2) == 0;
        let handle = self.pool.handle();
        let pid = child::fork(|| {
            // What it waits for may never come; this is so in an intact arena, too.
            end_soon();
            let _ = work(handle, worker_index, dies);
        });
        let status = child::wait(pid);
        assert!(status == 0 || status == libc::SIGALRM, "a worker ended with {status}");
        let death = WorkerDeath {
            pid,
            exitcode: status,
            ..WorkerDeath::default()
        };
        let _ = (self.pool.is_ready(worker_index), self.pool.is_busy(worker_index));
        drop(self.pool.reap(worker_index, death)?);
        drop(self.job.take(item, soon())?);
        let _ = &self.function;
        Ok(())
    }
}

/// Some bytes, mostly few.
fn bytes(choices: &mut Choices, most: u64) -> Vec<u8> {
    let reach = [most / 30, most / 5, most][choices.below(3) as usize];
    vec![7; choices.below(reach) as usize]
}

/// End this process after 50 ms, whatever it is doing.
fn end_soon() {
    let moment = libc::itimerval {
        it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 },
        it_value: libc::timeval {
            tv_sec: 0,
            tv_usec: 50_000,
        },
    };
    // SAFETY: reads what it is given; takes the place of the alarm, which is the same timer.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const moment, std::ptr::null_mut()) };
}

fn work(pool: Handle, worker_index: u32, dies: bool) -> Result<(), WaitError> {
    let worker = Worker::attach(pool, worker_index)?;
    worker.ready();
    let Some((task, arguments)) = worker.next()? else {
        return Ok(());
    };
    worker.begin_item();
    worker.measured(&task, Duration::from_micros(3));
    let function = worker.function(&task)?;
    if let (Some(known), false) = (task.function(), dies) {
        let _ = (worker.is_current(known), worker.is_cancelled(&task));
        worker.finish(task, Verdict::Done, message(&[arguments.body(), &function].concat())?)?;
    }
    Ok(())
}

/// Attach to a handle as to some kind of object, whatever it refers to.
pub(crate) fn attach_as(choices: &mut Choices, handle: Handle) {
    match choices.below(12) {
        0 => drop(Lock::attach(handle).map(|lock| lock.try_acquire())),
        1 => drop(RLock::attach(handle).map(|lock| lock.try_acquire())),
        2 => drop(Semaphore::attach(handle).map(|semaphore| (semaphore.try_acquire(), semaphore.bound()))),
        3 => drop(Condition::attach(handle).map(|condition| condition.notify_all())),
        4 => drop(Event::attach(handle).map(|event| event.set())),
        5 => drop(Barrier::attach(handle).map(|barrier| (barrier.waiting(), barrier.parties(), barrier.abort()))),
        6 => drop(SharedBytes::attach(handle).map(|shared| read(&shared))),
        7 => drop(Ref::<ResultSlot>::attach(handle).map(|result_slot| result_slot.take())),
        8 => drop(Ref::<Lane>::attach(handle).map(|lane| lane.receive())),
        9 => drop(SharedDict::attach(handle).map(|dict| dict.len())),
        10 => drop(SharedList::attach(handle).map(|list| list.items(|len| 0..len))),
        _ => drop(Ref::<Queue>::attach(handle).map(|queue| queue.get(soon()))),
    }
}

/// Check that the bytes are there: read the first and the last.
fn read(shared: &SharedBytes) -> u8 {
    if shared.is_empty() {
        return 0;
    }
    // SAFETY: this tests whether the start and length that `SharedBytes` reports hold; atomic, as other processes may
    // write.
    unsafe { shared.as_ptr().read_volatile() ^ shared.as_ptr().add(shared.len() - 1).read_volatile() }
}
