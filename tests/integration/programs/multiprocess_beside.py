"""multiprocess and pathos in one program with the pool of `multiprocessing`.

Needs: multiprocess, pathos
"""

import multiprocessing
import sys

import multiprocess
import pathos.multiprocessing

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    multiprocess.set_start_method(sys.argv[1])
    with multiprocess.Pool(2) as others, multiprocessing.Pool(2) as ours:
        print(others.map(lambda number: number * 3, range(4)), ours.map(abs, range(3)))
    with pathos.multiprocessing.ProcessPool(2) as pool:
        print(pool.map(lambda number: number + 1, range(4)))
        pool.close()
        pool.join()
    queue = multiprocess.Queue()
    child = (
        multiprocess.Process(target=lambda: queue.put("from multiprocess"))
        if sys.argv[1] == "fork"
        else None
    )
    if child is not None:
        child.start()
        print(queue.get())
        child.join()
