"""Two processes put squares and cubes into one queue, which is read after both have been joined.

What to see: all ten results.
"""

from procession import Process, Queue


def squares(numbers, queue):
    for number in numbers:
        queue.put(("square", number, number**2))


def cubes(numbers, queue):
    for number in numbers:
        queue.put(("cube", number, number**3))


def main():
    numbers, queue = range(1, 6), Queue()
    processes = [Process(target=target, args=(numbers, queue)) for target in (squares, cubes)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    while not queue.empty():
        kind, number, result = queue.get()
        print(f"{kind} of {number} is {result}")


if __name__ == "__main__":
    main()
