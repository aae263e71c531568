"""A loop that only computes, in cpu_count() processes at the same time.

What to see: the loops overlap in time, and together use more CPU seconds than pass on the clock
(on a machine with more than one idle core).
"""

import time

from procession import Barrier, Process, Queue, cpu_count

LOOPS = 10_000_000


def compute(start, results):
    start.wait()
    begin, cpu = time.monotonic(), time.process_time()
    total = 0
    for number in range(LOOPS):
        total += number & 7
    results.put((begin, time.monotonic(), time.process_time() - cpu, total))


def main():
    count = cpu_count()
    start, results = Barrier(count), Queue()
    processes = [Process(target=compute, args=(start, results)) for _ in range(count)]
    for process in processes:
        process.start()
    begins, ends, cpus, totals = zip(*(results.get() for _ in processes), strict=True)
    for process in processes:
        process.join()
    overlap = max(begins) < min(ends)
    print(f"processes: {count}, same total: {len(set(totals)) == 1}")
    print(f"all at work at the same time: {overlap}")
    print(f"wall {max(ends) - min(begins):.3f} s, cpu {sum(cpus):.3f} s")


if __name__ == "__main__":
    main()
