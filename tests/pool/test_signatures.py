"""The options of pools and executors are keyword-only parameters that `inspect.signature` shows.

A misspelt one raises a TypeError that names the parameter it resembles. Their values are checked in
test_limits.py, and the standard library's parameters in compat/test_names.py.
"""

from __future__ import annotations

import inspect

import pytest

import procession
from procession.pool import Pool

OPTIONS = {
    "task_timeout": None,
    "retries": 0,
    "max_rss": None,
    "worker_exit": None,
    "seed": None,
    "threads_per_worker": None,
    "name": None,
}

MAKERS = [
    pytest.param(procession.Pool, "Pool", id="package"),
    pytest.param(procession.get_context("spawn").Pool, "Pool", id="context"),
    pytest.param(Pool, "Pool", id="class"),
    pytest.param(procession.ProcessPoolExecutor, "ProcessPoolExecutor", id="executor"),
]


@pytest.mark.parametrize(("make", "name"), MAKERS)
def test_options_are_keyword_only_parameters(make, name):
    parameters = inspect.signature(make).parameters.values()
    assert all(parameter.kind is not parameter.VAR_KEYWORD for parameter in parameters)
    keyword_only = [each for each in parameters if each.kind is each.KEYWORD_ONLY]
    defaults = {each.name: each.default for each in keyword_only}
    if name == "ProcessPoolExecutor":
        assert defaults.pop("max_tasks_per_child") is None
        assert defaults.pop("idle_timeout") is None
    assert defaults == OPTIONS


@pytest.mark.parametrize(("make", "name"), MAKERS)
@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [("task_timout", "task_timeout"), ("retry", "retries"), ("initialiser", "initializer")],
)
def test_a_misspelt_option_is_told_what_it_resembles(make, name, misspelt, meant):
    with pytest.raises(TypeError) as raised:
        make(1, **{misspelt: None})
    unexpected = f"{name}() got an unexpected keyword argument '{misspelt}'"
    assert str(raised.value) == f"{unexpected}. Did you mean '{meant}'?"


@pytest.mark.parametrize(("make", "name"), MAKERS)
def test_an_unknown_option_that_resembles_none_is_named_alone(make, name):
    with pytest.raises(TypeError) as raised:
        make(1, zebra=None)
    assert str(raised.value) == f"{name}() got an unexpected keyword argument 'zebra'"


@pytest.mark.parametrize(("make", "name"), MAKERS)
def test_a_missing_or_repeated_argument_is_python_s_own_error(make, name):
    with pytest.raises(TypeError, match="multiple values"):
        make(1, **{next(iter(inspect.signature(make).parameters)): 1})


def test_options_at_their_defaults_are_no_options():
    """A subclass with queues of its own takes none, but may pass the defaults on."""

    class WithOwnQueues(Pool):
        def _setup_queues(self):
            super()._setup_queues()

    with pytest.raises(ValueError, match="takes none of procession's options"):
        WithOwnQueues(1, context=procession.get_context("fork"), seed=1)
    with WithOwnQueues(1, context=procession.get_context("fork"), **OPTIONS) as pool:
        assert pool.apply(abs, (-1,)) == 1
