"""A node of its own on this machine: an agent in an interpreter of its own, as Ray would start it.

Standard input has the agent's arguments, pickled; the address goes to standard output.
"""

from __future__ import annotations

import pickle
import sys
import threading

if __name__ == "__main__":
    arguments = pickle.load(sys.stdin.buffer)
    sys.path[:] = pickle.loads(arguments[-1])["sys_path"]
    from procession._cluster.agent import Agent

    print(*Agent().serve(*arguments), flush=True)
    threading.Event().wait()
