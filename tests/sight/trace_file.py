"""A trace file, parsed and checked as a viewer would need it."""

from __future__ import annotations

import collections
import json
import os
from typing import Any

Event = dict[str, Any]


class TraceFile:
    """The events of a file. Raises AssertionError if the file is not a trace that is complete in itself."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
        self.events: list[Event] = content["traceEvents"]
        self.lost: int = content["otherData"]["lost"]
        self.total: int = content["otherData"]["events"]
        #: Slices of threads: begin, end, event.
        self.slices: list[Event] = []
        #: Arrows by name: begin and end of each.
        self.arrows: dict[str, list[tuple[Event, Event]]] = collections.defaultdict(list)
        #: Spans by category: begin and end of each.
        self.spans: dict[str, list[tuple[Event, Event]]] = collections.defaultdict(list)
        #: Names of processes.
        self.names: dict[int, str] = {}
        self._check()

    def _check(self) -> None:
        latest: dict[tuple[int, int], float] = {}
        open_slices: dict[tuple[int, int], list[Event]] = collections.defaultdict(list)
        arrows: dict[int, list[Event]] = collections.defaultdict(list)
        spans: dict[tuple[str, str], list[Event]] = collections.defaultdict(list)
        for event in self.events:
            phase, track = event["ph"], (event["pid"], event["tid"])
            if phase == "M":
                if event["name"] == "process_name":
                    self.names[event["pid"]] = event["args"]["name"]
                continue
            assert event["ts"] >= 0, event
            if phase in "BEXi":
                assert event["ts"] >= latest.get(track, 0), f"goes back in time: {event}"
                latest[track] = event["ts"]
            if phase == "B":
                open_slices[track].append(event)
            elif phase == "E":
                begin = open_slices[track].pop()
                self.slices.append({**begin, "dur": event["ts"] - begin["ts"]})
            elif phase == "X":
                self.slices.append(event)
            elif phase in "sf":
                arrows[event["id"]].append(event)
            elif phase in "be":
                spans[event["cat"], event["id"]].append(event)
            else:
                assert phase == "i", event
        assert not any(open_slices.values()), open_slices
        for begin, end in arrows.values():
            assert (begin["ph"], end["ph"]) == ("s", "f") and begin["ts"] <= end["ts"], (begin, end)
            self.arrows[begin["name"]].append((begin, end))
        for (category, _), (begin, end) in spans.items():
            assert (begin["ph"], end["ph"]) == ("b", "e") and begin["ts"] <= end["ts"], (begin, end)
            self.spans[category].append((begin, end))
        assert {pid for pid, _ in latest} <= set(self.names)

    def named(self, name: str) -> list[Event]:
        """Return the slices of this name."""
        return [one for one in self.slices if one["name"] == name]

    def pids(self, name: str) -> set[int]:
        """Return the processes that have slices of this name."""
        return {one["pid"] for one in self.named(name)}
