"""On which nodes processes are placed, by the options of the context and of each process."""

from __future__ import annotations

import pytest

import procession
from procession._cluster import place, placement, start

from ..waiting import LONG
from .loopback import Loopback


@pytest.fixture(scope="module")
def nodes():
    """The driver's node, where no process is started, and two others, of which the last has a GPU."""
    cluster = Loopback(2)
    cluster.nodes[2].resources["GPU"] = 1
    yield cluster
    cluster.close()


def _tell_node(queue):
    queue.put(place.here().node)


def _node_of(**options):
    ctx = procession.get_context("ray")
    queue = ctx.Queue()
    child = ctx.Process(target=_tell_node, args=(queue,), options=options or None)
    child.start()
    child.join(LONG)
    return queue.get(timeout=LONG)


def test_a_process_has_options_of_its_own(nodes):
    assert {_node_of() for _ in range(8)} == {"node1", "node2"}
    assert {_node_of(resources={"GPU": 1}) for _ in range(4)} == {"node2"}
    assert {_node_of(strategy="pack") for _ in range(4)} == {"node1"}
    nodes.nodes[2].resources["CPU"] = 6
    try:
        assert {_node_of(num_cpus=5) for _ in range(4)} == {"node2"}
    finally:
        nodes.nodes[2].resources["CPU"] = 4


class WithOptions(start.RayProcess):
    """Has an attribute of a name that the package might use, too."""

    def __init__(self, options):
        self._options = options
        super().__init__()


def test_a_program_s_own_attributes_are_no_options():
    assert WithOptions(5)._options == 5


def test_a_processs_options_stand_for_those_of_the_context(nodes):
    nodes.home.place.options = {"resources": {"GPU": 1}, "strategy": "pack"}
    try:
        assert _node_of() == "node2"
        assert _node_of(resources={}) == "node1"
    finally:
        nodes.home.place.options = {}


def test_what_no_node_has_is_named_with_what_they_have(nodes):
    with pytest.raises(ValueError, match=r"'GPU': 2.* node1: .*'GPU': 0.*; node2: .*'GPU': 1"):
        _node_of(resources={"GPU": 2})


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"gpus": 1}, TypeError, "a process of the context 'ray' has no option 'gpus'"),
        ({"runtime_env": {}}, TypeError, "has no option 'runtime_env'"),
        ({"strategy": "random"}, ValueError, "strategy must be"),
        ({"num_cpus": -1}, ValueError, "num_cpus must be 0 or more"),
        ({"resources": {"GPU": -1}}, ValueError, "GPU must be 0 or more"),
    ],
)
def test_bad_options(nodes, options, error, text):
    with pytest.raises(error, match=text):
        procession.get_context("ray").Process(options=options)
    if "runtime_env" not in options:
        with pytest.raises(error):
            procession.get_context("ray", **options)


@pytest.mark.parametrize("strategy", ["spread", "pack"])
@pytest.mark.parametrize("cpus", [0, 0.5, 1, 3])
def test_places(strategy, cpus):
    here = place.Place("own", ("127.0.0.1", 1), b"", None, 0)
    here.nodes = [
        place.Node(str(number), str(number), ("127.0.0.1", number), {"CPU": 4})
        for number in (1, 2, 3)
    ]
    here.options = {"strategy": strategy, "num_cpus": cpus}
    chosen = [placement.choose(here, {}).address[1] for _ in range(6)]
    assert sorted(set(chosen)) == ([1, 2, 3] if strategy == "spread" else [1])


def test_no_node_has_what_is_wanted():
    here = place.Place("own", ("127.0.0.1", 1), b"", None, 0)
    here.nodes = [place.Node("1", "1", ("127.0.0.1", 1), {"CPU": 4})]
    here.options = {"resources": {"GPU": 1}}
    with pytest.raises(ValueError, match="GPU"):
        placement.choose(here, {})
