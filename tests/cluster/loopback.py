"""A cluster without Ray: nodes are families of their own on this machine, joined over loopback."""

from __future__ import annotations

import os
import pathlib
import pickle
import signal
import subprocess
import sys

from procession._cluster import cluster, home, place

from ..waiting import until

PROGRAM = pathlib.Path(__file__).with_name("agent_program.py")
HOST = "127.0.0.1"


class Loopback:
    """The driver's node, which is this process's, and `count` others.

    `own_cpus` is the number of processors that the driver's node is said to have: with 0, all
    processes are started on the others.
    """

    def __init__(self, count: int = 1, own_cpus: int = 0) -> None:
        self.key = os.urandom(32)
        self.home = home.Home("driver", HOST, self.key)
        self.agents = []
        own = place.Node("0", "driver", self.home.place.address, {"CPU": own_cpus})
        self.nodes = [own]
        self.home.place.nodes = self.nodes
        for number in range(1, count + 1):
            self.add(f"node{number}")

    def add(self, name: str, settings: dict | None = None) -> None:
        """Start the agent of another node; `settings` are what it is told of this program."""
        agent = subprocess.Popen(
            [sys.executable, str(PROGRAM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.agents.append(agent)
        pickle.dump(
            (name, HOST, self.key, pickle.dumps(settings or cluster.settings())), agent.stdin
        )
        agent.stdin.flush()
        host, port = agent.stdout.readline().split()
        self.nodes.append(place.Node(name, name, (host.decode(), int(port)), {"CPU": 4}))
        cluster.follow(self.home.place, self.nodes[-1])

    def close(self) -> None:
        """End the other nodes, and let this process be none."""
        cluster._close_copies()
        for agent in self.agents:
            agent.wait()
            agent.stdin.close()
            agent.stdout.close()
        self.home.close()
        place.leave()


class Elsewhere:
    """A process on another node that calls functions, one after the other."""

    def __init__(self, ctx) -> None:
        self._tasks, self._results = ctx.SimpleQueue(), ctx.SimpleQueue()
        self.process = ctx.Process(target=_work, args=(self._tasks, self._results), daemon=True)
        self.process.start()

    def begin(self, function, *args) -> None:
        """Have a function called."""
        self._tasks.put((function, args))

    def end(self):
        """Return the result of the call that was begun first, or raise its error."""
        succeeded, result = self._results.get()
        if not succeeded:
            raise result
        return result

    def __call__(self, function, *args):
        """Call a function there."""
        self.begin(function, *args)
        return self.end()

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.join()


def state(pid: int) -> str:
    """Return a process's state as /proc has it: "T" is stopped."""
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def stop(pid: int) -> None:
    """Stop a process; return once it has stopped."""
    os.kill(pid, signal.SIGSTOP)
    until(lambda: state(pid) == "T")


def _work(tasks, results) -> None:
    while True:
        function, args = tasks.get()
        try:
            outcome = True, function(*args)
        except Exception as error:
            outcome = False, error
        results.put(outcome)
        del function, args, outcome
