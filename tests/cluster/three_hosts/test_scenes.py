"""What processes on three hosts share behaves as on one machine.

Each program of scenes runs with fork, too, which checks the scenes themselves. What they expect is
the standard library's documentation of `multiprocessing`, and, where owners die, procession's own.
"""

from __future__ import annotations

import re

import pytest

from tests.cluster.three_hosts.conftest import PROGRAMS

pytestmark = pytest.mark.timeout(400)

#: The programs that consist of scenes.
WITH_SCENES = ["locks.py", "processes.py", "queues.py", "shared.py"]


def scenes_in(name):
    return re.findall(r"^def (\w+)\(ctx\):", (PROGRAMS / name).read_text(), re.MULTILINE)


@pytest.mark.parametrize("method", ["fork", "ray"])
@pytest.mark.parametrize("name", WITH_SCENES)
def test_scenes(begin, method, name):
    out, err = begin(method, name, method).end()
    passed = re.findall(r"^(\w+) ok$", out, re.MULTILINE)
    assert passed == scenes_in(name), f"{out}\n{err}"
