"""A child puts 20 MB into a queue; the parent joins the child before it reads.

What to see: it works (the standard library deadlocks: the child cannot end before its data is
read).
"""

from procession import Process, Queue

MEGABYTE = 1 << 20


def produce(queue):
    for number in range(20):
        queue.put(bytes([number]) * MEGABYTE)


def main():
    queue = Queue()
    producer = Process(target=produce, args=(queue,))
    producer.start()
    producer.join()
    print("joined, exit code", producer.exitcode)
    items = [queue.get() for _ in range(20)]
    right = all(item == bytes([number]) * MEGABYTE for number, item in enumerate(items))
    print(f"read {sum(map(len, items))} bytes, contents {'right' if right else 'WRONG'}")


if __name__ == "__main__":
    main()
