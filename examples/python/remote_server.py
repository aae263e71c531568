"""The server of three programs: offers two queues over TCP to any program that knows the key.

Start this one, then ``remote_worker.py PORT NAME`` twice with the port that it prints.
What to see: the squares of ten numbers, each computed by one of the two workers.
"""

import queue
import sys

from procession.managers import BaseManager

KEY = b"an example's key"
JOBS, RESULTS = queue.Queue(), queue.Queue()


def get_jobs():
    return JOBS


def get_results():
    return RESULTS


class QueueManager(BaseManager):
    pass


QueueManager.register("get_jobs", callable=get_jobs)
QueueManager.register("get_results", callable=get_results)


def main():
    workers = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    manager = QueueManager(address=("127.0.0.1", 0), authkey=KEY)
    manager.start()
    print("port", manager.address[1], flush=True)
    jobs, results = manager.get_jobs(), manager.get_results()
    for number in range(10):
        jobs.put(number)
    for number, square, name in sorted(results.get(timeout=60) for _ in range(10)):
        print(f"{number} squared is {square} by {name}")
    for _ in range(workers):
        jobs.put(None)
    for name in sorted(results.get(timeout=60) for _ in range(workers)):
        print(f"{name} leaves")
    manager.shutdown()


if __name__ == "__main__":
    main()
