"""The family's metrics through OpenTelemetry."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from procession.otel import export_metrics
from tests.conftest import PACKAGE_FOLDER
from tests.waiting import until

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def collect():
    """Return a function that returns all figures: by name a list of values and labels."""
    pytest.importorskip("opentelemetry.sdk", reason="opentelemetry-sdk is not installed")
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    export_metrics(provider)

    def collect():
        data = reader.get_metrics_data()
        found = {}
        for resource in () if data is None else data.resource_metrics:
            for scope in resource.scope_metrics:
                assert scope.scope.name == "procession"
                for metric in scope.metrics:
                    points = metric.data.data_points
                    found[metric.name] = [(one.value, dict(one.attributes)) for one in points]
        return found

    yield collect
    provider.shutdown()


def fail(number):
    if number % 2:
        raise ValueError(number)


def collect_in_a_child(collect, results):
    results.put(collect())


def test_figures_are_those_of_the_family(ctx, collect):
    queue = ctx.Queue(7)
    for number in range(5):
        queue.put(number)
    with ctx.Pool(2) as pool:
        for number in range(6):
            result = pool.apply_async(fail, (number,))
            result.wait()
        found = collect()
        put = [labels for value, labels in found["procession.queue.item.put"] if value == 5]
        assert put
        for name, value in (("count", 5), ("limit", 7)):
            values = found[f"procession.queue.item.{name}"]
            assert (value, put[0]) in values
        [pools] = [
            labels["procession.pool.id"]
            for value, labels in found["procession.pool.task.done"]
            if value == 6
        ]
        assert (3, {"procession.pool.id": pools}) in found["procession.pool.task.failed"]
        times = [
            (labels["quantile"], value > 0)
            for value, labels in found["procession.pool.task.duration"]
            if labels["procession.pool.id"] == pools
        ]
        assert sorted(times) == [("0.5", True), ("0.99", True)]
        pids = {labels["process.pid"] for _, labels in found["procession.process.memory.usage"]}
        assert str(os.getpid()) in pids and len(pids) >= 3
    assert all(name.startswith("procession.") for name in found)


def test_a_later_collection_is_a_new_look(ctx, collect):
    queue = ctx.Queue()

    def put() -> float:
        return max(value for value, _ in collect()["procession.queue.item.put"])

    queue.put(1)
    before = put()
    for number in range(1000):
        queue.put(number)
    until(lambda: put() >= 1000 + before - 1)
    for _ in range(1001):
        queue.get()


def test_a_forked_child_exports_nothing(collect):
    import procession

    ctx = procession.get_context("fork")
    assert collect()
    results = ctx.Queue()
    child = ctx.Process(target=collect_in_a_child, args=(collect, results))
    child.start()
    assert all(points == [] for points in results.get().values())
    child.join()


def test_nothing_of_it_is_loaded_unless_asked_for():
    code = (
        "import sys, procession, procession.otel\n"
        "procession.snapshot()\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]\n"
        "sys.modules['opentelemetry'] = None\n"
        "try:\n    procession.otel.export_metrics()\n"
        "except ModuleNotFoundError as error:\n    print(error)\n"
    )
    environment = {**os.environ, "PYTHONPATH": PACKAGE_FOLDER}
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60
    )
    assert out.stdout == "export_metrics needs OpenTelemetry: pip install 'procession[otel]'\n"
