"""Every process has a name: the one it is given, or one made from a counter.

What to see: Process-2 to Process-6 (Process-1 was created but never started), and Test.
"""

from procession import Process, current_process


def double(number):
    print(f"{number} doubled to {2 * number} by {current_process().name}")


def main():
    print(f"parent is {current_process().name}")
    never_started = Process(target=double, args=(0,))
    processes = [Process(target=double, args=(number,)) for number in (5, 10, 15, 20, 25)]
    processes.append(Process(target=double, name="Test", args=(2,)))
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    print(f"never started: {never_started.name}")


if __name__ == "__main__":
    main()
