"""Other packages' own test suites, run on the standard library and under `procession run`."""

from __future__ import annotations

import dataclasses
import pathlib
import subprocess
import sys
import tarfile
import xml.etree.ElementTree

from tests.integration import catalogue, running

SOURCES = catalogue.FOLDER.with_name(f"integration-sources-{catalogue.VERSION}")
LIMIT = 3600  # seconds for one run of a suite


@dataclasses.dataclass(frozen=True)
class Suite:
    """Tests of a package, by what is given to pytest.

    With `source` they are those of the source distribution, whose folder pytest is run in.
    """

    package: str
    title: str
    arguments: tuple[str, ...]
    source: bool = False
    needs: tuple[str, ...] = ("pytest", "pytest-timeout")

    def missing(self) -> list[str]:
        """Return the needed distributions that are not installed."""
        return [name for name in (self.package, *self.needs) if catalogue.version(name) is None]


_LOKY = ("-o", "faulthandler_timeout=0", "--skip-high-memory", "--loky-verbosity", "20", "tests")
SUITES = [
    Suite(
        "joblib",
        "memory mapping, and `Parallel` with every process backend",
        (
            "--pyargs",
            "joblib.test.test_memmapping",
            "joblib.test.test_parallel",
            "-k",
            "multiprocessing or loky or memmap",
        ),
    ),
    Suite(
        "loky",
        "the whole suite but its high-memory tests",
        _LOKY,
        source=True,
        needs=("pytest", "psutil"),
    ),
    Suite(
        "scikit-learn",
        "parallel utilities, searches, forests, bagging, voting, pairwise metrics",
        (
            "--pyargs",
            "sklearn.utils.tests.test_parallel",
            "sklearn.tests.test_config",
            "sklearn.model_selection.tests.test_search",
            "sklearn.model_selection.tests.test_validation",
            "sklearn.ensemble.tests.test_forest",
            "sklearn.ensemble.tests.test_bagging",
            "sklearn.ensemble.tests.test_voting",
            "sklearn.metrics.tests.test_pairwise",
            "-k",
            "parallel or n_jobs or thread or multimetric or joblib or backend or callback or config",
        ),
    ),
]

#: What differs on purpose, by the end of a test's name.
EXPECTED = {
    "test_sync_object_handling": "counts the descriptors of a worker; the family's memory is one more, "
    "and the way to the tracker is a socket where a pipe is expected",
}


def run(suite: Suite, under: str, folder: pathlib.Path) -> dict[str, str]:
    """Return by test whether it "passed", was "skipped", or a "failure" or "error"."""
    report = folder / f"{suite.package}-{under}.xml"
    before = ["-m", "procession", "run"] if under == "run" else []
    options = ["-q", "-p", "no:cacheprovider", "--timeout", "300", "--junitxml", str(report)]
    command = [sys.executable, *before, "-m", "pytest", *options, *suite.arguments]
    subprocess.run(
        command,
        cwd=_source(suite.package) if suite.source else folder,
        env=running.environment(),
        stdin=subprocess.DEVNULL,
        stdout=(folder / f"{suite.package}-{under}.log").open("w"),
        stderr=subprocess.STDOUT,
        timeout=LIMIT,
    )
    return read(report)


def read(report: pathlib.Path) -> dict[str, str]:
    """Return the outcome of each test in a report of pytest."""
    outcomes = {}
    for case in xml.etree.ElementTree.parse(report).iter("testcase"):
        bad = [part.tag for part in case if part.tag in ("failure", "error", "skipped")]
        outcomes[f"{case.get('classname')}.{case.get('name')}"] = bad[0] if bad else "passed"
    return outcomes


def _source(package: str) -> pathlib.Path:
    """Return the folder of a package's source distribution, which is downloaded if need be."""
    wanted = f"{package}-{catalogue.version(package)}"
    folder = SOURCES / wanted
    if not folder.exists():
        command = ["-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", package]
        exact = f"{package}=={catalogue.version(package)}"
        subprocess.run([sys.executable, *command, "--dest", str(SOURCES), exact], check=True)
        with tarfile.open(SOURCES / f"{wanted}.tar.gz") as archive:
            archive.extractall(SOURCES, filter="data")
    return folder
