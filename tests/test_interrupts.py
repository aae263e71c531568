"""Ctrl-C while something is made, used or ended: a slice of `make storm`'s `interrupts`."""

from __future__ import annotations

import pytest
from storm import interrupts

pytestmark = pytest.mark.timeout(600)

#: In how many places of each program.
POINTS = 5


@pytest.mark.parametrize("scene", interrupts.SCENES)
def test_an_interrupt_anywhere(scene, method):
    if scene == "imports" and method != "fork":
        pytest.skip("is the same by every start method")
    lines = interrupts.lines_of(scene, method)
    for number in range(POINTS):
        # Most lines belong to the imports, which come first.
        interrupts.at_line(scene, method, lines - number * lines // 3 // POINTS)
    interrupts.at_line(scene, method, lines // 3)
    interrupts.at_random(scene, method, 1)
