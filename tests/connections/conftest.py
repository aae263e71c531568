"""Fixtures of the tests of pipes."""

import pytest

from procession import connection
from tests.connections.pipes import echo


@pytest.fixture(params=["duplex", "simplex"])
def duplex(request):
    """Whether the pipe is for both directions."""
    return request.param == "duplex"


@pytest.fixture
def pair(duplex):
    """A pipe: the reading end first."""
    reader, writer = connection.Pipe(duplex)
    yield reader, writer
    reader.close()
    writer.close()


@pytest.fixture
def partner(ctx):
    """The end of a pipe whose other end echoes in a child."""
    mine, theirs = ctx.Pipe()
    # Only a child of fork has both ends.
    other = mine if ctx.get_start_method() == "fork" else ctx.Pipe()[0]
    child = ctx.Process(target=echo, args=(theirs, other))
    child.start()
    theirs.close()
    yield mine
    if not mine.closed:
        mine.send(None)
        mine.close()
    child.join()
    assert child.exitcode == 0
