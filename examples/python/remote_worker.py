"""The client program: takes jobs from remote_server.py and returns the results.

Arguments: the port, a name and, to see AuthenticationError, a wrong key.
"""

import sys

from procession import AuthenticationError
from procession.managers import BaseManager


class QueueManager(BaseManager):
    pass


QueueManager.register("get_jobs")
QueueManager.register("get_results")


def main():
    port, name = int(sys.argv[1]), sys.argv[2]
    key = sys.argv[3].encode() if len(sys.argv) > 3 else b"an example's key"
    manager = QueueManager(address=("127.0.0.1", port), authkey=key)
    try:
        manager.connect()
    except AuthenticationError as error:
        print(f"{name} is refused: {type(error).__name__}")
        return
    jobs, results = manager.get_jobs(), manager.get_results()
    count = 0
    for number in iter(jobs.get, None):
        results.put((number, number * number, name))
        count += 1
    print(f"{name} did {count} jobs")
    results.put(name)


if __name__ == "__main__":
    main()
