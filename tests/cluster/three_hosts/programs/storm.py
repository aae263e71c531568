"""A storm: ``storm.py METHOD KILLS``. Processes at work on all hosts are killed at random.

Each worker takes numbers from a counter, under its lock, and puts each into a queue. The driver
takes them, and kills a worker from time to time, which it replaces. No number may come twice. A
killed worker may keep its last one: it dies between taking it and putting it.
"""

from __future__ import annotations

import faulthandler
import queue
import random
import sys

from scenes import LONG, context_of, host, started, until

import procession

WORKERS = 5
#: Items that come between two kills.
BETWEEN = 20
#: Seconds for each kill, after which the storm has hung.
LIMIT = 15


def work(counter, lock, numbers, stop, told):
    told.put(host())
    while not stop.is_set():
        try:
            with lock:
                number = counter.value
                counter.value = number + 1
        except procession.OwnerDied:
            continue  # the number of the dead is taken, or is not; either is right
        numbers.put(number)


def main():
    method, kills = sys.argv[1], int(sys.argv[2])
    ctx, chance = context_of(method), random.Random(1)
    counter, lock = ctx.RawValue("i", 0), ctx.Lock()
    numbers, stop, told = ctx.Queue(100), ctx.Event(), ctx.Queue()
    shared = (counter, lock, numbers, stop, told)
    workers = started(ctx, work, *shared, times=WORKERS)
    hosts = {told.get(timeout=LONG) for _ in workers}
    seen = set()

    def take(count):
        for _ in range(count):
            number = numbers.get(timeout=LONG)
            assert number not in seen, f"{number} came twice"
            seen.add(number)

    for _ in range(kills):
        take(BETWEEN)
        victim = workers.pop(chance.randrange(WORKERS))
        victim.kill()
        victim.join(LONG)
        assert victim.exitcode == -9, victim.exitcode
        workers += started(ctx, work, *shared)
        hosts.add(told.get(timeout=LONG))
        faulthandler.dump_traceback_later(max(LIMIT, 2 * LONG), exit=True)
    print("killed", kills, "on", len(hosts), "hosts", flush=True)
    if sys.stdin.readline().strip() == "a host is dead":
        until(lambda: any(worker.exitcode is not None for worker in workers))
        take(10 * BETWEEN)
    stop.set()
    while any(worker.is_alive() for worker in workers):
        try:
            take(1) if numbers.qsize() else workers[0].join(0.01)
        except queue.Empty:
            pass
    take(numbers.qsize())
    dead = [worker for worker in workers if worker.exitcode]
    for worker in workers:
        worker.join(LONG)
    lost = counter.value - len(seen)
    assert 0 <= lost <= kills + len(dead), f"{lost} numbers were lost by {kills} kills"
    print("no number came twice,", "at most one was lost for each death", flush=True)


if __name__ == "__main__":
    main()
