"""Compare how many instructions engine operations execute with the counts that are on record.

The killer steps each operation once and counts. Counts do not depend on what else the machine does,
so a regression shows where times are too noisy. They do depend on the compiler, and on the processor,
for which the C library chooses its copies: ``--update`` writes the record with the names of both.
With another compiler or processor the difference is only printed.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import subprocess
import sys

RECORD = pathlib.Path(__file__).with_suffix(".json")
KILLER = ["cargo", "run", "--release", "--quiet", "-p", "procession-killer", "--", "--points", "1"]
RUNS = 3
TOLERANCE = 0.05
"""Least counts of the same program differ by less."""


def counted(names: list[str]) -> dict[str, int]:
    """Return the least count of some runs: reading the clock, for one, may take several attempts."""
    runs = [counted_once(names) for _ in range(RUNS)]
    missing = [name for name in names if name not in runs[0]]
    if missing:
        sys.exit(
            f"the killer has no operation of these names: {', '.join(missing)}; mend {RECORD.name}"
        )
    return {name: min(run[name] for run in runs) for name in names}


def counted_once(names: list[str]) -> dict[str, int]:
    """Return the instructions of each operation whose name contains one of these."""
    table = subprocess.run([*KILLER, *names], check=True, stdout=subprocess.PIPE, text=True).stdout
    rows = (line.split("|")[1:3] for line in table.splitlines() if line.startswith("| "))
    return {name.strip(): int(count) for name, count in rows if count.strip().isdigit()}


def machine() -> str:
    """Return the compiler and the processor."""
    version = subprocess.run(["rustc", "--version"], check=True, stdout=subprocess.PIPE, text=True)
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2] for line in lines if line.startswith("model name")), "?")
    return f"{version.stdout.strip()} on {model.strip()}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--update", action="store_true", help="write the record")
    options = parser.parse_args()
    record = json.loads(RECORD.read_text())
    now = counted(list(record["counts"]))
    if options.update:
        RECORD.write_text(json.dumps({"machine": machine(), "counts": now}, indent=1) + "\n")
    comparable = record["machine"] == machine()
    worse = []
    for name, count in now.items():
        before = record["counts"][name]
        print(f"{name:44} {before:>8} {count:>8} {count / before - 1:+8.1%}")
        if count > before * (1 + TOLERANCE):
            worse.append(name)
    if not comparable:
        print(f"the record is of {record['machine']}, this is {machine()}: nothing is judged")
    elif worse and not options.update:
        print(f"more instructions than on record: {', '.join(worse)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
