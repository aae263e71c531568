import multiprocessing
import socket


def work(tasks, results):
    results.put(("here", socket.gethostname()))
    for number in iter(tasks.get, None):
        results.put(("square", number**2))


if __name__ == "__main__":
    tasks, results = multiprocessing.Queue(), multiprocessing.Queue()
    workers = [multiprocessing.Process(target=work, args=(tasks, results)) for _ in range(6)]
    for worker in workers:
        worker.start()
    for item in [*range(100), *[None] * 6]:
        tasks.put(item)
    found = [results.get() for _ in range(106)]
    for worker in workers:
        worker.join()
    print("the sum is", sum(value for kind, value in found if kind == "square"))
    print("the workers were on", sorted({value for kind, value in found if kind == "here"}))
    print("exit codes", [worker.exitcode for worker in workers])
