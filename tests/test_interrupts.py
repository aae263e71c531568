"""Ctrl-C while something is made, used or ended: a slice of `make storm`'s `interrupts`."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import pytest
from storm import interrupts

import procession

pytestmark = pytest.mark.timeout(600)

#: In how many places of each program.
POINTS = 5


@pytest.mark.parametrize("scene", interrupts.SCENES)
def test_an_interrupt_anywhere(scene, method):
    if scene == "imports" and method != "fork":
        pytest.skip("is the same by every start method")
    points = interrupts.points_of(scene, method)
    for number in range(POINTS):
        # Most lines belong to the imports, which come first.
        interrupts.at_line(scene, method, points[-1 - number * len(points) // 3 // POINTS])
    interrupts.at_line(scene, method, points[len(points) // 3])
    interrupts.at_random(scene, method, 1)


def classes_with_finalizers():
    for module in pkgutil.walk_packages(procession.__path__, "procession."):
        if module.name.endswith(("__main__", "win32", "._procession", "._tracker")):
            continue
        for cls in vars(importlib.import_module(module.name)).values():
            ours = inspect.isclass(cls) and cls.__module__.startswith("procession")
            if ours and hasattr(cls, "__del__"):
                yield cls


def test_a_finalizer_takes_an_object_whose_making_was_interrupted(monkeypatch):
    """An interrupt may come before `__init__` has set a single attribute."""
    unraisable = []
    monkeypatch.setattr("sys.unraisablehook", unraisable.append)
    classes = set(classes_with_finalizers())
    assert len(classes) > 8, classes
    for cls in classes:
        cls.__new__(cls)
    assert not unraisable
