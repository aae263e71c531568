"""map_async with ready() and wait(); close() refuses new work and finishes the old; terminate().

What to see: not ready at first, ready after wait(), ValueError after close(), and every old result.
terminate() does not wait for tasks that never end.
"""

import time

import procession

gate = None


def share(event):
    global gate
    gate = event


def cube(number):
    gate.wait()
    return number**3


def never_ends(_):
    while True:
        time.sleep(3600)


def main():
    event = procession.Event()
    pool = procession.Pool(2, share, (event,))
    result = pool.map_async(cube, range(8))
    print("ready at once:", result.ready())
    result.wait(0.05)
    print("ready after a short wait:", result.ready())
    pool.close()
    try:
        pool.apply_async(cube, (1,))
    except ValueError as error:
        print("after close:", error)
    event.set()
    result.wait()
    print("ready after wait:", result.ready(), "successful:", result.successful())
    print("old work:", result.get())
    pool.join()

    pool = procession.Pool(2)
    pool.map_async(never_ends, range(4))
    pool.terminate()
    pool.join()
    print("terminated and joined")


if __name__ == "__main__":
    main()
