"""One process creates items, another consumes them, over a queue that ends with a sentinel.

What to see: the consumer receives every item, in order.
"""

from procession import Process, Queue

SENTINEL = None


def create(queue, count):
    for number in range(count):
        queue.put(number)
    queue.put(SENTINEL)


def consume(queue):
    for number in iter(queue.get, SENTINEL):
        print(f"item {number} doubled is {2 * number}")
    print("consumer has seen the sentinel")


def main():
    queue = Queue()
    creator = Process(target=create, args=(queue, 20))
    consumer = Process(target=consume, args=(queue,))
    creator.start()
    consumer.start()
    queue.close()
    queue.join_thread()
    creator.join()
    consumer.join()
    print("both have ended:", creator.exitcode, consumer.exitcode)


if __name__ == "__main__":
    main()
