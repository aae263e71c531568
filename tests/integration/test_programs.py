"""A program of each foreign package does on procession what it does on the standard library."""

from __future__ import annotations

import pytest

from tests.integration import catalogue, running

# Three runs, of packages some of which take long to import.
pytestmark = pytest.mark.timeout(3 * running.LIMIT)


@pytest.mark.parametrize("program", catalogue.programs(), ids=lambda program: program.name)
def test_the_same_as_on_the_standard_library(program, method, tmp_path):
    if program.missing():
        pytest.skip(f"{', '.join(program.missing())} not installed: see make integration")
    plain = running.run(program, method, "plain", tmp_path)
    assert plain.status == 0, plain
    assert plain.out
    for way in running.ways(program):
        own = running.run(program, method, way, tmp_path)
        assert running.difference(plain, own) is None
