"""A subclass of Process with its own __init__, which sets the name and takes its own arguments.

What to see: each child has its given name and works on its own arguments.
"""

from procession import Process, Queue


class Adder(Process):
    def __init__(self, name, numbers, results):
        super().__init__()
        self.name = name
        self.numbers = numbers
        self.results = results

    def run(self):
        print(f"{self.name} adds {len(self.numbers)} numbers")
        self.results.put((self.name, sum(self.numbers)))


def main():
    results = Queue()
    adders = [
        Adder("small", range(10), results),
        Adder("middle", range(100), results),
        Adder("large", range(1000), results),
    ]
    for adder in adders:
        adder.start()
    for name, total in sorted(results.get() for _ in adders):
        print(f"{name}: {total}")
    for adder in adders:
        adder.join()


if __name__ == "__main__":
    main()
