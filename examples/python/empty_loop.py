"""Put some items, and get them with ``while not queue.empty()`` in the same process.

What to see: all four colours (the standard library stops early: it has not delivered its items
yet).
"""

from procession import Queue


def main():
    queue = Queue()
    for number, colour in enumerate(["red", "green", "blue", "black"], start=1):
        print(f"item {number}: {colour} put")
        queue.put(colour)
    number = 0
    while not queue.empty():
        number += 1
        print(f"item {number}: {queue.get()} got")


if __name__ == "__main__":
    main()
