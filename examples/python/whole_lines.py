"""Four processes print as fast as they can, each line in several pieces and without a lock.

What to see: 4 x 200 lines, each whole, even with PYTHONUNBUFFERED=1.
"""

from procession import Barrier, Process


def talk(start):
    start.wait()
    for line in range(200):
        print("process", "line", line, "says", *("word" for _ in range(8)), "end")


def main():
    start = Barrier(4)
    processes = [Process(target=talk, args=(start,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()


if __name__ == "__main__":
    main()
