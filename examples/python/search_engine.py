"""A search engine: each process loads a part of a folder's files and answers query after query.

What to see: the number of matching lines for several queries in a row.
Arguments: the folder (by default the standard library's own sources) and the queries.
"""

import os
import pathlib
import sys

from procession import Process, Queue, cpu_count

QUERIES = ["import", "def __init__(self", "lambda", "no line says this 7f3a"]
AT_MOST = 200


def search(paths, queries, results):
    lines = []
    for path in paths:
        lines += path.read_text(encoding="utf-8", errors="replace").split("\n")
    for query in iter(queries.get, None):
        results.put(sum(query in line for line in lines))


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.__file__))
    files = sorted(path for path in folder.glob("*.*") if path.suffix in (".py", ".txt"))[:AT_MOST]
    workers = cpu_count() + 1
    print(f"{len(files)} files in {folder}, {workers} processes")
    results = Queue()
    engines = []
    for worker in range(workers):
        queries = Queue()
        process = Process(target=search, args=(files[worker::workers], queries, results))
        process.start()
        engines.append((process, queries))
    for query in sys.argv[2:] or QUERIES:
        for _, queries in engines:
            queries.put(query)
        print(f"{sum(results.get() for _ in engines)} lines with {query!r}")
    for process, queries in engines:
        queries.put(None)
        process.join()


if __name__ == "__main__":
    main()
