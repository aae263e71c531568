"""A lock around printing; the parent starts its children and just ends.

What to see: all ten words. The children are joined when the parent exits, so nothing is lost.
"""

from procession import Lock, Process

WORDS = [
    "alpha",
    "bravo",
    "charlie",
    "delta",
    "echo",
    "foxtrot",
    "golf",
    "hotel",
    "india",
    "juliett",
]


def say(word, lock):
    with lock:
        print("word:", word)


def main():
    lock = Lock()
    for word in WORDS:
        Process(target=say, args=(word, lock)).start()
    print("parent is done")


if __name__ == "__main__":
    main()
