"""A Value('i') and an Array('d') that four processes change.

What to see: the value counts all four, and every element of the array is negated and halved.
"""

from procession import Array, Process, Value


def change(number, array, part):
    with number.get_lock():
        number.value += part
    for index in range(part - 1, len(array), 4):
        array[index] = -array[index] / 2


def main():
    number = Value("i", 100)
    array = Array("d", range(12))
    processes = [Process(target=change, args=(number, array, part)) for part in range(1, 5)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    print("value:", number.value)
    print("array:", array[:])


if __name__ == "__main__":
    main()
