"""Histories of a `SharedDict` that processes use together are linearizable.

Each process writes down when each of its calls began and ended, and what came of it. A search then
looks for an order of the calls of each key (Wing and Gong, 1993): one that a plain dictionary could
show, in which no call comes before one that had ended when it began. A call whose process was
killed in the middle may have taken effect, or not. The keys are independent of each other.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from dataclasses import dataclass

import procession
from procession import SharedDict

KEYS = ["a", "b", 3, ("d", 1)]
ABSENT = None
NEVER = float("inf")


@dataclass(frozen=True)
class Call:
    begun: float
    ended: float
    name: str
    argument: object
    result: object


def effect(call, value):
    """Return the value of the key after a call, and the call's result."""
    match call.name:
        case "set":
            return call.argument, None
        case "get":
            return value, value
        case "pop":
            return ABSENT, value
        case "setdefault":
            now = call.argument if value is ABSENT else value
            return now, now
        case "replace":
            expected, new = call.argument
            return (new, True) if value == expected else (value, False)
    raise AssertionError(call.name)


def is_linearizable(calls):
    """Return whether there is an order of these calls that explains their results."""
    calls = sorted(calls, key=lambda call: call.begun)
    seen = set()
    # What is done, as the first call that is not and the later ones that are; and the value.
    stack = [(frozenset(), ABSENT)]
    while stack:
        done, value = stack.pop()
        if (done, value) in seen:
            continue
        seen.add((done, value))
        left = [number for number in range(len(calls)) if number not in done]
        if all(calls[number].ended == NEVER for number in left):
            return True
        first_end = min(calls[number].ended for number in left)
        for number in left:
            call = calls[number]
            if call.begun > first_end:
                break
            now, result = effect(call, value)
            if call.ended == NEVER or result == call.result:
                stack.append((done | {number}, now))
    return False


def test_the_search_finds_what_is_wrong():
    def call(begun, ended, name, argument=None, result=None):
        return Call(begun, ended, name, argument, result)

    assert is_linearizable([call(0, 1, "set", 5), call(0, 2, "get", result=ABSENT)])
    assert is_linearizable([call(0, NEVER, "set", 5), call(1, 2, "get", result=5)])
    assert is_linearizable([call(0, NEVER, "set", 5), call(1, 2, "get", result=ABSENT)])
    assert not is_linearizable([call(0, 1, "set", 5), call(2, 3, "get", result=ABSENT)])
    assert not is_linearizable(
        [call(0, 9, "set", 5), call(1, 2, "get", result=5), call(3, 4, "get", result=ABSENT)]
    )
    assert not is_linearizable([call(0, 9, "set", 5), *[call(1, 2, "pop", result=5)] * 2])


def work(shared, number, path, ready, over):
    chance = random.Random(number)
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    ready.release()
    last = dict.fromkeys(KEYS)
    for turn in range(400):
        key = chance.choice(KEYS)
        name = chance.choice(["set", "get", "get", "pop", "setdefault", "replace"])
        mine = f"{number}.{turn}" + "x" * chance.choice([0, 2000])
        argument = (last[key], mine) if name == "replace" else mine
        os.write(log, repr((time.perf_counter(), key, name, argument)).encode() + b"\n")
        match name:
            case "set":
                result = shared.__setitem__(key, mine)
            case "get":
                result = last[key] = shared.get(key)
            case "pop":
                result = shared.pop(key, None)
            case "setdefault":
                result = last[key] = shared.setdefault(key, mine)
            case "replace":
                expected = SharedDict.ABSENT if last[key] is None else last[key]
                result = shared.compare_and_set(key, expected, mine)
        os.write(log, repr((time.perf_counter(), result)).encode() + b"\n")
        if turn % 3 == 0:
            # Other keys make the table grow and shrink meanwhile.
            for other in range(turn, turn + 20):
                shared[number, other] = other
                shared.pop((number, other - 900), None)
    over.wait()  # a process that has ended cannot be stopped


def calls_of(path):
    """Yield the calls that a process has written down, with their keys."""
    # A process may be killed while it writes its last line, which then has no end.
    *lines, _ = path.read_bytes().split(b"\n")
    for index in range(0, len(lines), 2):
        begun, key, name, argument = eval(lines[index])
        ended, result = eval(lines[index + 1]) if index + 1 < len(lines) else (NEVER, None)
        yield key, Call(begun, ended, name, argument, result)


def test_histories_with_deaths_and_stops_are_linearizable(method, tmp_path):
    ctx = procession.get_context(method)
    shared, ready, over = ctx.SharedDict(), ctx.Semaphore(0), ctx.Event()
    paths = [tmp_path / str(number) for number in range(4)]
    processes = [
        ctx.Process(target=work, args=(shared, number, path, ready, over))
        for number, path in enumerate(paths)
    ]
    for process in processes:
        process.start()
    for _ in processes:
        ready.acquire()
    chance = random.Random(3)
    for process in processes[:2]:
        for stopped in processes[2:]:
            os.kill(stopped.pid, signal.SIGSTOP)
        threading.Event().wait(chance.random() / 50)
        process.kill()
        for stopped in processes[2:]:
            os.kill(stopped.pid, signal.SIGCONT)
    over.set()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes[2:]] == [0, 0]
    histories = {}
    for path in paths:
        for key, call in calls_of(path):
            histories.setdefault(key, []).append(call)
    assert sum(map(len, histories.values())) > 800
    for key, calls in histories.items():
        calls.append(Call(time.perf_counter(), time.perf_counter(), "get", None, shared.get(key)))
        assert is_linearizable(calls), f"no order explains the calls of {key!r}"
