"""Four processes increment one shared number 100,000 times each, under a lock.

What to see: exactly 400,000.
"""

from procession import Lock, Process, Value

TIMES = 100_000


def count(number, lock):
    for _ in range(TIMES):
        with lock:
            number.value += 1


def main():
    lock = Lock()
    number = Value("i", 0, lock=False)
    processes = [Process(target=count, args=(number, lock)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    print(f"counted to {number.value} of {4 * TIMES}")


if __name__ == "__main__":
    main()
