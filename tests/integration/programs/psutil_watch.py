"""Children, their names and states, as a monitor sees them; ends that `wait_procs` reports.

Needs: psutil
"""

import multiprocessing
import sys

import psutil


def wait(ready, go):
    ready.release()
    go.acquire()


if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    ready, go = context.Semaphore(0), context.Semaphore(0)
    children = [context.Process(target=wait, args=(ready, go)) for _ in range(3)]
    for child in children:
        child.start()
    for _ in children:
        ready.acquire()
    watched = [psutil.Process(child.pid) for child in children]
    print([process.is_running() for process in watched])
    below = {process.pid for process in psutil.Process().children(recursive=True)}
    print({child.pid for child in children} <= below)
    print(all(process.memory_info().rss > 2**20 for process in watched))
    watched[0].suspend()
    watched[0].resume()
    watched[1].kill()
    children[1].join()
    for _ in children[1:]:
        go.release()
    for child in children:
        child.join()
    gone, alive = psutil.wait_procs(watched, timeout=30)
    print(len(gone), alive, sorted(child.exitcode for child in children))
