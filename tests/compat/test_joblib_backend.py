"""The backend "procession" of joblib."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading

import pytest

import procession

numpy = pytest.importorskip("numpy")
joblib = pytest.importorskip("joblib")
if not hasattr(joblib.parallel.ParallelBackendBase, "submit"):
    pytest.skip("needs joblib 1.5", allow_module_level=True)

from joblib import Parallel, delayed, parallel_config  # noqa: E402

import procession.joblib as backend  # noqa: E402


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """Make the name known for a test, and end the workers that stay."""
    monkeypatch.setattr(joblib.parallel, "BACKENDS", dict(joblib.parallel.BACKENDS))
    backend.register()
    yield
    if backend._kept is not None:
        assert backend._kept.users == 0
        backend._kept.executor.shutdown()
        backend._kept = None


def calling(method):
    with parallel_config("procession", n_jobs=2, start_method=method):
        yield lambda *calls, **options: Parallel(**options)(calls)


@pytest.fixture
def run(method):
    """A function that runs calls on the backend, with each start method."""
    yield from calling(method)


@pytest.fixture
def run_forked():
    """The same with forked workers: for what no start method changes."""
    yield from calling("fork")


def double(x):
    return x * 2


def pid(_):
    return os.getpid()


def workers(run):
    """The processes that run calls, of which each has one."""
    meet = procession.Barrier(2)
    return set(run(*(delayed(met)(meet) for _ in range(2)), batch_size=1))


def met(barrier):
    barrier.wait(60)
    return os.getpid()


def refuse(x):
    raise ValueError(x)


def die(x):
    os.kill(os.getpid(), signal.SIGKILL)


def die_once(path):
    try:
        os.mkdir(path)
    except FileExistsError:
        return "survived"
    return os.kill(os.getpid(), signal.SIGKILL)


def test_runs_calls_in_order(run):
    assert run(*(delayed(double)(n) for n in range(50))) == [2 * n for n in range(50)]
    found = run(*(delayed(double)(n) for n in range(9)), return_as="generator")
    assert list(found) == list(range(0, 18, 2))
    found = run(*(delayed(double)(n) for n in range(9)), return_as="generator_unordered")
    assert sorted(found) == list(range(0, 18, 2))


def test_workers_stay_for_later_calls(run):
    first = workers(run)
    assert len(first) == 2 and os.getpid() not in first
    assert workers(run) == first


def test_another_number_of_workers_replaces_them(run_forked):
    first = workers(run_forked)
    assert not first & {*run_forked(*map(delayed(pid), range(6)), n_jobs=3)}


def remember(value):
    global remembered
    remembered = value


def recall(_):
    return remembered


def test_initializers(run):
    """Workers stay for calls with the same initializer and arguments, and for no others."""
    calls = [delayed(recall)(n) for n in range(4)]
    assert run(*calls, initializer=remember, initargs=("one",)) == ["one"] * 4
    first = pids()
    assert run(*calls, initializer=remember, initargs=("one",)) == ["one"] * 4
    assert pids() == first
    assert run(*calls, initializer=remember, initargs=("other",)) == ["other"] * 4
    assert not pids() & first


def pids():
    return set(backend._kept.executor._processes)


def interrupt():
    raise KeyboardInterrupt


def test_an_interrupt_that_a_call_raises_arrives(run):
    with pytest.raises(KeyboardInterrupt):
        run(delayed(interrupt)(), delayed(double)(1))


def test_errors_arrive(run_forked):
    with pytest.raises(ValueError, match="7"):
        run_forked(delayed(refuse)(7), delayed(double)(1))
    assert run_forked(delayed(double)(1), delayed(double)(2)) == [2, 4]


def test_a_dead_worker_ends_the_call_alone(run):
    with pytest.raises(procession.WorkerDied, match="SIGKILL"):
        run(*(delayed(die if n == 3 else double)(n) for n in range(8)))
    assert run(delayed(double)(1), delayed(double)(2)) == [2, 4]


def test_options_are_the_executor_s(tmp_path):
    with parallel_config("procession", n_jobs=2, start_method="fork", retries=2):
        calls = [delayed(die_once)(str(tmp_path / "once")), delayed(double)(1)]
        assert Parallel()(calls) == ["survived", 2]


def test_a_call_that_takes_too_long_times_out(run_forked):
    event = procession.Event()
    with pytest.raises(multiprocessing.TimeoutError):
        run_forked(delayed(event.wait)(), delayed(event.wait)(), timeout=0.2)
    assert run_forked(delayed(double)(1), delayed(double)(2)) == [2, 4]


def add_one(array):
    array += 1
    return float(array[0])


def look(array):
    return array.flags.writeable, array.flags.f_contiguous, float(array.sum()), type(array)


def first(array, index):
    return float(array[index])


LARGE = 200_000  # numbers; more than joblib's `max_nbytes` of 1 MB


def test_large_arrays_are_shared_and_read_only(run):
    array = numpy.ones((LARGE // 2, 2), order="F")
    answers = run(*(delayed(look)(array=array) for _ in range(3)))
    assert answers == [(False, True, LARGE, numpy.ndarray)] * 3
    with pytest.raises(ValueError, match="read-only"):
        run(*(delayed(add_one)(array) for _ in range(2)))
    small = numpy.ones(3)
    assert run(*(delayed(add_one)(small) for _ in range(3))) == [2.0] * 3


def test_copies_can_be_asked_for(run_forked):
    array = numpy.ones(LARGE)
    for options in ({"mmap_mode": "c"}, {"mmap_mode": None}, {"max_nbytes": None}):
        assert run_forked(*(delayed(add_one)(array) for _ in range(3)), **options) == [2.0] * 3
    assert array[0] == 1


def test_an_array_is_in_memory_once_for_all_calls():
    arrays = backend._Arrays(1)
    array = numpy.ones(LARGE)
    lent = arrays.lend(array)
    assert arrays.lend(array) is lent and arrays.lend("text") == "text"
    objects = numpy.array([None])
    assert arrays.lend(objects) is objects
    other = numpy.ones(LARGE)
    assert arrays.lend(other) is not lent
    del array
    assert len(arrays._lent) == 1  # the memory goes with its original


def test_arrays_may_be_more_than_are_kept(run_forked):
    calls = (delayed(first)(numpy.full(LARGE, float(n)), -1) for n in range(8))
    assert Parallel(n_jobs=2)(calls) == [float(n) for n in range(8)]


def nested(n):
    return Parallel(n_jobs=2)(delayed(double)(m) for m in range(n))


def test_calls_within_calls(run_forked):
    assert run_forked(*(delayed(nested)(n) for n in range(4))) == [[0, 2, 4][:n] for n in range(4)]


def test_calls_of_two_threads(run_forked):
    answers = []

    def other():
        with parallel_config("procession", n_jobs=2, start_method="fork"):
            answers.append(Parallel()(delayed(double)(n) for n in range(20)))

    threads = [threading.Thread(target=other) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [[2 * n for n in range(20)]] * 2


def test_a_forked_child_has_workers_of_its_own(run_forked, alone):
    run_forked(delayed(double)(1), delayed(double)(2))

    def in_child():
        assert backend._kept is None

    alone(in_child)


@pytest.mark.parametrize("text", ["import procession", "import procession, joblib"])
def test_nothing_is_imported_unless_asked_for(text):
    code = f"{text}\nimport sys; assert 'procession.joblib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert "joblib" not in procession.__all__


def test_scikit_learn_scores_the_same(run_forked):
    pytest.importorskip("sklearn")
    from sklearn.datasets import make_classification
    from sklearn.model_selection import cross_val_score
    from sklearn.tree import DecisionTreeClassifier

    x, y = make_classification(2000, 100, random_state=0)  # 1.6 MB
    tree = DecisionTreeClassifier(max_depth=2, random_state=0)
    with parallel_config("sequential"):
        wanted = cross_val_score(tree, x, y, cv=3)
    assert list(cross_val_score(tree, x, y, cv=3)) == list(wanted)
