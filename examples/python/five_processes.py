"""Five processes each double a number and print their process ID.

What to see: five lines with five different process IDs, none of them the parent's.
"""

import os

from procession import Process


def double(number):
    print(f"process {os.getpid()} doubles {number}: {2 * number}")


def main():
    print(f"parent {os.getpid()}")
    processes = [Process(target=double, args=(number,)) for number in (5, 10, 15, 20, 25)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    print("all five have ended")


if __name__ == "__main__":
    main()
