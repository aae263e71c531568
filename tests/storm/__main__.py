"""Run the storms: `python -m tests.storm [--kills 1000] [--seed 1] [--method fork] [SCENE...]`.

Prints a line for each.
"""

from __future__ import annotations

import argparse
import faulthandler
import sys
import time

import procession

from .ends import storm as end_interpreters
from .interrupts import storm as interrupt
from .scenes import SCENES

STORMS = {
    **SCENES,
    # Each unit of these is several programs, not one kill.
    "ends": lambda context, seed, kills: end_interpreters(context, seed, max(1, kills // 20)),
    "interrupts": lambda context, seed, kills: interrupt(context, seed, max(2, kills // 10)),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.storm", description=__doc__)
    parser.add_argument(
        "scenes", nargs="*", metavar="SCENE", help=f"of {', '.join(STORMS)}; all by default"
    )
    parser.add_argument("--kills", type=int, default=1000, help="processes to kill in each (1000)")
    parser.add_argument(
        "--seed", type=int, default=1, help="of the choice of victims and moments (1)"
    )
    parser.add_argument("--method", default="fork", help="start method (fork)")
    options = parser.parse_args()
    faulthandler.dump_traceback_later(1800, exit=True)
    print("| storm | killed | seconds | outcome |\n| --- | ---: | ---: | --- |")
    for name in options.scenes or STORMS:
        begin = time.monotonic()
        said = STORMS[name](procession.get_context(options.method), options.seed, options.kills)
        print(
            f"| {name} | {options.kills:,} | {time.monotonic() - begin:.0f} | {said} |", flush=True
        )


if __name__ == "__main__":
    sys.exit(main())
