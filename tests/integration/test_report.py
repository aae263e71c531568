"""The parts of `make integration` that need no other package, and the page it has written."""

from __future__ import annotations

import pytest

from tests.integration import catalogue, report, running, suites


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import multiprocessing\n", "import procession as multiprocessing\n"),
        ("    import multiprocessing, sys\n", "    import procession as multiprocessing, sys\n"),
        ("from multiprocessing import Pool\n", "from procession import Pool\n"),
        ("import multiprocess\nimport torch.multiprocessing\n",) * 2,
    ],
)
def test_a_program_imports_procession(text, expected):
    assert running.with_procession(text) == expected


ENDED = running.Ended(0, "out", "")


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (running.Ended(0, "out", ""), None),
        (running.Ended(1, "out", ""), "status 1"),
        (running.Ended(0, "other", ""), "other"),
        (running.Ended(0, "out", "warned"), "warned"),
    ],
)
def test_what_differs_is_told(other, told):
    found = running.difference(ENDED, other)
    assert found is None if told is None else told in found


REPORT = """<testsuites><testsuite>
<testcase classname="a" name="good"/>
<testcase classname="a" name="bad"><failure message="no"/></testcase>
<testcase classname="a" name="left"><skipped/></testcase>
</testsuite></testsuites>"""


def test_outcomes_of_a_suite_are_compared_one_by_one(tmp_path):
    path = tmp_path / "report.xml"
    path.write_text(REPORT)
    outcomes = suites.read(path)
    assert outcomes == {"a.good": "passed", "a.bad": "failure", "a.left": "skipped"}
    other = {"a.good": "error", "a.left": "skipped"}
    assert report.different(outcomes, other) == ["a.bad", "a.good"]


def test_the_page_has_every_program_and_suite():
    lines = report.PAGE.read_text(encoding="utf-8").splitlines()
    rows = {tuple(cell.strip() for cell in line.split("|")[1:4]) for line in lines if "|" in line}
    found = {(row[0], row[2]) for row in rows}
    wanted = {(program.needs[0], program.title) for program in catalogue.programs()}
    wanted |= {(suite.package, suite.title) for suite in suites.SUITES}
    assert wanted <= found


def test_a_row_says_what_was_not_run():
    page = report.page({"programs": {}, "suites": {}})
    assert page.count("not run") == 3 * len(catalogue.programs()) + 2 * len(suites.SUITES)
