"""A subclass of Process that overrides run().

What to see: each child runs its own run(), has the parent's attributes, and the names are numbered.
"""

from procession import Process


class Worker(Process):
    def run(self):
        print(f"run() of {self.name}")


def main():
    workers = [Worker() for _ in range(5)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    print("exit codes:", [worker.exitcode for worker in workers])


if __name__ == "__main__":
    main()
