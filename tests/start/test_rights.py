"""A process that has given up rights starts others that do not have them either."""

from __future__ import annotations

import os

import pytest

import procession

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

NOBODY = 65534


def report(results):
    results.put((os.geteuid(), os.getegid()))


def start(method, results):
    process = procession.get_context(method).Process(target=report, args=(results,))
    process.start()
    process.join()
    assert process.exitcode == 0


def give_up(change, method, results):
    getattr(os, change)(NOBODY)
    try:
        start(method, results)
    except (OSError, EOFError) as error:
        results.put(error)  # that user may not run the interpreter


@pytest.mark.parametrize("change", ["setgid", "setegid", "setuid", "seteuid"])
@pytest.mark.parametrize("outer", ["fork", "forkserver"])
def test_the_children_have_their_parent_s_rights(change, outer, method):
    results = procession.SimpleQueue()
    start("forkserver", results)  # a fork server with all rights serves the family
    assert results.get() == (0, 0)
    process = procession.get_context(outer).Process(target=give_up, args=(change, method, results))
    process.start()
    process.join()
    found = results.get()
    expected = (0, NOBODY) if "gid" in change else (NOBODY, 0)
    assert found == expected or ("uid" in change and isinstance(found, PermissionError | EOFError))


def test_the_first_rights_again(method):
    """Back with its first rights, a process has the children have them, too."""
    results = procession.SimpleQueue()
    os.setegid(NOBODY)
    try:
        start(method, results)
    finally:
        os.setegid(0)
    start(method, results)
    assert [results.get(), results.get()] == [(0, NOBODY), (0, 0)]
