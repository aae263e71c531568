"""python -m tests.integration [--only NAME ...] [--method METHOD ...] [--no-programs] [--suites [NAME ...]]

Run the programs, and with ``--suites`` the packages' own suites, then write
``docs/integrations.md`` from all that is on record. Exits with 1 if something differs without being
expected. ``--needs`` prints what is to be installed, with ``--large`` also packages of gigabytes.
"""

from __future__ import annotations

import argparse
import pathlib
import platform
import sys
import tempfile

from tests.integration import catalogue, report, running, suites


def needs(large: bool) -> list[str]:
    """Return the distributions that programs and suites need."""
    names = {name for program in catalogue.programs() for name in program.needs}
    names |= {name for suite in suites.SUITES for name in (suite.package, *suite.needs)}
    return sorted(names if large else names - catalogue.LARGE)


def compare(program: catalogue.Program, method: str, folder: pathlib.Path) -> str:
    """Return how the runs of a program compare; print what differs."""
    plain = running.run(program, method, "plain", folder)
    if plain.status != 0:
        print(plain)
        return "fails on the standard library"
    for way in running.ways(program):
        found = running.difference(plain, running.run(program, method, way, folder))
        if found is not None:
            print(f"{way}: {found}")
            return report.DIFFERS
    return report.SAME


def run_programs(options: argparse.Namespace, folder: pathlib.Path) -> bool:
    good = True
    for program in catalogue.programs():
        if options.only and program.name not in options.only:
            continue
        if program.missing():
            print(f"{program.name}: {', '.join(program.missing())} not installed")
            continue
        for method in options.method:
            found = compare(program, method, folder)
            print(f"{program.name} {method}: {found}", flush=True)
            report.note("programs", program.name, "methods", method, value=found)
            good &= found == report.SAME
        version = catalogue.version(program.needs[0])
        report.note("programs", program.name, "version", value=version)
    return good


def run_suites(options: argparse.Namespace, folder: pathlib.Path) -> bool:
    good = True
    for suite in suites.SUITES:
        if options.suites and suite.package not in options.suites:
            continue
        if suite.missing():
            print(f"{suite.package}: {', '.join(suite.missing())} not installed")
            continue
        done = {under: suites.run(suite, under, folder) for under in ("plain", "run")}
        version = catalogue.version(suite.package)
        report.note("suites", suite.package, value={"version": version, **done})
        changed = report.different(done["plain"], done["run"])
        print(f"{suite.package}: {len(done['run'])} tests, different: {changed}", flush=True)
        good &= all(test.endswith(tuple(suites.EXPECTED)) for test in changed)
    return good


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.integration")
    parser.add_argument("--needs", action="store_true", help="print what is to be installed")
    parser.add_argument("--large", action="store_true", help="with packages of gigabytes")
    parser.add_argument("--only", nargs="*", default=[], metavar="PROGRAM")
    parser.add_argument("--method", nargs="*", default=report.METHODS, choices=report.METHODS)
    parser.add_argument("--no-programs", action="store_true")
    parser.add_argument(
        "--suites", nargs="*", metavar="PACKAGE", help="run the packages' own suites"
    )
    options = parser.parse_args()
    if options.needs:
        print(*needs(options.large))
        return 0
    report.note("python", value=platform.python_version())
    good = True
    with tempfile.TemporaryDirectory() as made:
        if not options.no_programs:
            good &= run_programs(options, pathlib.Path(made))
        if options.suites is not None:
            good &= run_suites(options, pathlib.Path(made))
    report.write(report.load())
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
