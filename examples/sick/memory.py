"""A program whose memory grows in two ways: frames wait in a queue, and a process keeps what it has seen.

``procession dump`` shows both; the page "Who eats the memory?" shows it. It never ends, and takes a gigabyte
after about two minutes.
"""

import time

from procession import Process, Queue


def film(frames):
    while True:
        frames.put(bytes(1_000_000))
        time.sleep(0.1)


def archive(frames, names):
    number = 0
    while True:
        frames.get()
        number += 1
        names.put(f"frame {number}")
        time.sleep(0.3)


def index(names):
    known = []
    while True:
        known.append(names.get().encode() * 50_000)


if __name__ == "__main__":
    frames = Queue()
    names = Queue()
    parts = [
        Process(target=film, args=(frames,), name="camera"),
        Process(target=archive, args=(frames, names), name="archive"),
        Process(target=index, args=(names,), name="index"),
    ]
    for part in parts:
        part.start()
    for part in parts:
        part.join()
