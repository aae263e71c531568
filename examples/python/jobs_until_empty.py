"""The parent puts ten jobs; four processes take them with get_nowait() until the queue is Empty.

What to see: all ten jobs done (the standard library's workers may see an empty queue too early).
"""

from queue import Empty

from procession import Process, Queue, current_process


def work(jobs, done):
    while True:
        try:
            job = jobs.get_nowait()
        except Empty:
            break
        done.put(f"job {job} done by {current_process().name}")


def main():
    jobs, done = Queue(), Queue()
    for job in range(10):
        jobs.put(job)
    workers = [Process(target=work, args=(jobs, done)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    while not done.empty():
        print(done.get())


if __name__ == "__main__":
    main()
