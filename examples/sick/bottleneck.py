"""A program that is slow: of three steps with queues between them, one cannot keep up.

``procession top`` shows which; the page "Which queue is the bottleneck?" shows it. It never ends.
"""

import time

from procession import Process, Queue


def read(pages):
    while True:
        pages.put("word " * 200)
        time.sleep(0.002)


def count(pages, counts):
    while True:
        page = pages.get()
        until = time.monotonic() + 0.008
        while time.monotonic() < until:
            words = len(page.split())
        counts.put(words)


def add(counts):
    total = 0
    while True:
        total += counts.get()


if __name__ == "__main__":
    pages = Queue()
    counts = Queue()
    steps = [
        Process(target=read, args=(pages,), name="reader"),
        Process(target=count, args=(pages, counts), name="counter"),
        Process(target=add, args=(counts,), name="adder"),
    ]
    for step in steps:
        step.start()
    for step in steps:
        step.join()
