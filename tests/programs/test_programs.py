"""Every example, in fresh interpreters, in all its variants and with every start method.

swapped: as it stands, with procession imported. run: as plain text of the standard library under
``procession run``. unbuffered: both again with PYTHONUNBUFFERED=1, where several processes print at
once. standard: the plain text on the standard library, which shows that the checks ask for nothing
but multiprocessing; lost items are tolerated there, and examples that hang there are left out.
rust: the Rust program of the same name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.programs import catalogue
from tests.programs.catalogue import METHODS, PROGRAMS, Program

FACES = {"swapped": catalogue.swapped, "run": catalogue.stood_in}


def cases() -> Iterator[Any]:
    rust = set(catalogue.rust_names())
    for program in PROGRAMS:
        variants = ["swapped"]
        if program.plain:
            variants += ["run", "standard"]
        if program.talks:
            variants += ["swapped_unbuffered", "run_unbuffered"]
        if program.name in rust:
            variants += ["rust"]
        for variant in variants:
            marks = []
            if variant == "standard" and program.hangs:
                marks = [pytest.mark.skip(reason=program.hangs)]
            elif variant == "standard" and program.loses:
                marks = [pytest.mark.xfail(reason=program.loses, strict=False)]
            elif variant == "rust":
                marks = [pytest.mark.timeout(900)]  # the first of them builds all
            for method in METHODS:
                yield pytest.param(
                    program, variant, method, marks=marks, id=f"{program.name}-{variant}-{method}"
                )


@pytest.mark.parametrize(("program", "variant", "method"), list(cases()))
def test_program(program: Program, variant: str, method: str) -> None:
    face, _, unbuffered = variant.partition("_")
    environment = catalogue.unbuffered() if unbuffered else {}
    command = (FACES | {"standard": catalogue.standard, "rust": catalogue.rust})[face](method)
    result = program.execute(command, program.name, environment)
    program.judge(result, quiet=face != "standard")


def test_every_example_is_run() -> None:
    programs = {program.name for program in PROGRAMS} - {"remote_manager"} | {
        "remote_server",
        "remote_worker",
    }
    assert {path.stem for path in catalogue.PYTHON_EXAMPLES.glob("*.py")} == programs
