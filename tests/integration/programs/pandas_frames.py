"""Frames and groups through pools, queues and a manager's namespace.

Needs: pandas
"""

import multiprocessing
import sys

import pandas


def total(frame):
    return frame.groupby("k").v.sum()


def put(queue):
    times = pandas.date_range("2020", periods=3)
    queue.put(pandas.DataFrame({"a": range(3), "s": list("xyz"), "t": times}))


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    frame = pandas.DataFrame({"k": [n % 3 for n in range(9000)], "v": range(9000)})
    with multiprocessing.Pool(2) as pool:
        print(pandas.concat(pool.map(total, [frame[::2], frame[1::2]])).groupby(level=0).sum())
    queue = multiprocessing.Queue()
    child = multiprocessing.Process(target=put, args=(queue,))
    child.start()
    got = queue.get()
    child.join()
    got.loc[0, "a"] = 9
    print(got, got.dtypes)
    with multiprocessing.Manager() as manager:
        namespace = manager.Namespace()
        namespace.frame = frame
        print(namespace.frame.equals(frame))
