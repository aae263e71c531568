"""Run every example on both faces with every start method, and judge what each one prints.

Ends with a side-by-side comparison with the standard library on this machine. ``make demo`` runs
it. Exit code 0: everything was right.
"""

from __future__ import annotations

import argparse
import pathlib
import platform
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass, field

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.programs import catalogue  # noqa: E402
from tests.programs.catalogue import METHODS, PROGRAMS, Command, Program  # noqa: E402

#: The rows of the side-by-side.
COMPARED = [
    *("small_tuples", "round_trip", "one_core", "arrays", "with_lock", "acquire_release"),
    *("fork", "spawn", "forkserver", "pool", "manager_calls", "many"),
]
FACES = {"import": catalogue.swapped, "run": catalogue.stood_in, "rust": catalogue.rust}


@dataclass
class Tour:
    """The number of runs so far, and those that were wrong."""

    wrong: list[tuple[str, str]] = field(default_factory=list)
    runs: int = 0

    def head(self, title: str, faces: list[str]) -> None:
        print(f"\n{title}\n")
        print(
            f"{'':18}" + "".join(f"{METHODS_HEAD}  " for _ in faces) + "what it showed", flush=True
        )

    def one(self, program: Program, face: str, method: str) -> tuple[str, str]:
        """Run a program once. Return the word for its cell, and what it showed."""
        self.runs += 1
        command: Command = FACES[face](method)
        try:
            return "ok", program.judge(program.execute(command, program.name, {}))
        except AssertionError as error:
            self.wrong.append((f"{program.name} ({face}, {method})", str(error)))
            return "WRONG", str(error).splitlines()[0]

    def row(self, program: Program, faces: list[str]) -> None:
        cells, showed = "", ""
        for face in faces:
            for method in METHODS:
                if face == "run" and not program.plain:
                    word = "-"
                else:
                    word, text = self.one(program, face, method)
                    if word == "WRONG" or not showed:
                        showed = text
                cells += f"{word:{WIDTHS[method]}}"
            cells += "  "
        print(f"{program.name:18}{cells}{textwrap.shorten(showed, 90)}", flush=True)


WIDTHS = {"fork": 6, "spawn": 6, "forkserver": 11}
METHODS_HEAD = "".join(f"{method:{width}}" for method, width in WIDTHS.items())


def python_part(tour: Tour, programs: list[Program], faces: list[str]) -> None:
    title = "Python: with the import swapped"
    if "run" in faces:
        title += " (left), and as plain multiprocessing text under `procession run` (right)"
    tour.head(title, faces)
    for program in programs:
        tour.row(program, faces)


def only_exit_code(_run: catalogue.Run) -> str:
    return "exit code 0"


def rust_part(tour: Tour, wanted: set[str]) -> None:
    names = [name for name in catalogue.rust_names() if not wanted or name in wanted]
    if not names:
        return
    print("\nBuilding the Rust examples ...", flush=True)
    catalogue.rust_programs()
    tour.head("Rust", ["rust"])
    known = {program.name: program for program in PROGRAMS}
    order = list(known)
    for name in sorted(
        names, key=lambda name: (order.index(name) if name in known else len(order), name)
    ):
        tour.row(known.get(name) or Program(name, only_exit_code), ["rust"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("programs", nargs="*", help="names of programs; all unless given")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="leave out `procession run`, and compare in fewer rounds",
    )
    parser.add_argument("--no-rust", action="store_true", help="only the Python face")
    parser.add_argument("--no-compare", action="store_true", help="without the side-by-side")
    options = parser.parse_args()
    wanted = set(options.programs)
    if unknown := wanted - {program.name for program in PROGRAMS} - set(catalogue.rust_names()):
        parser.error(f"no such program: {', '.join(sorted(unknown))}")
    if not catalogue.installed():
        print(
            "procession cannot be imported by",
            sys.executable,
            "- `make setup` builds it",
            file=sys.stderr,
        )
        return 1

    begin = time.monotonic()
    tour = Tour()
    print(
        f"procession on Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    )
    programs = [program for program in PROGRAMS if not wanted or program.name in wanted]
    python_part(tour, programs, ["import"] if options.quick else ["import", "run"])
    if not options.no_rust:
        rust_part(tour, wanted)

    compared = 0
    if not options.no_compare and not wanted:
        print("\nSide by side with the standard library, on this machine\n", flush=True)
        compare = [sys.executable, str(ROOT / "benches" / "compare.py"), "--quick"]
        compare += [f"--only={row}" for row in COMPARED]
        compared = subprocess.run(compare, check=False).returncode

    for title, text in tour.wrong:
        print(f"\nWRONG: {title}\n{textwrap.indent(text, '    ')}")
    right = tour.runs - len(tour.wrong)
    print(f"\n{right} of {tour.runs} runs right, in {time.monotonic() - begin:.0f} s")
    if compared:
        print("the side-by-side failed")
    return 1 if tour.wrong or compared else 0


if __name__ == "__main__":
    sys.exit(main())
