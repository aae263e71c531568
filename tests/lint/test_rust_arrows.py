"""The check of the engine's arrows fails on an arrow that runs up, and on a circle of files."""

from __future__ import annotations

import shutil

import pytest

from tests.lint import rust_arrows

pytestmark = pytest.mark.skipif(not rust_arrows.SOURCE.exists(), reason="needs the engine's source")


@pytest.fixture
def source(tmp_path):
    copy = tmp_path / "src"
    shutil.copytree(rust_arrows.SOURCE, copy)
    return copy


def add(file, code):
    file.write_text(code + file.read_text())


def check(source):
    return rust_arrows.check(source, rust_arrows.PAGE.read_text())


def test_the_engine_has_neither():
    assert check(rust_arrows.SOURCE) == []


@pytest.mark.parametrize(
    "code",
    [
        "use crate::pool::Pool;\n",
        "use crate::{family, pool::{Job, Pool}};\n",
        "fn f() { crate::pool::Pool::new(); }\n",
        "use super::super::pool;\n",
    ],
)
def test_an_arrow_that_runs_up(source, code):
    add(source / "arena/slab.rs", code)
    assert any(line.startswith("arena/slab names pool") for line in check(source)), check(source)


def test_a_name_that_a_room_passes_on(source):
    add(source / "arena/layout.rs", "use super::Block;\n")
    assert any(
        "circle" in line and "arena/block" in line and "arena/layout" in line
        for line in check(source)
    )


@pytest.mark.parametrize(
    "code", ["use super::queue::Queue;\n", "fn f(queue: &super::queue::Queue) {}\n"]
)
def test_a_circle_of_files(source, code):
    add(source / "channel/segment.rs", code)
    assert any("circle" in line and "channel/segment" in line for line in check(source))


def test_what_comments_strings_and_tests_name_does_not_count(source):
    add(
        source / "arena/slab.rs",
        '// use crate::pool::Pool;\nconst X: &str = "crate::pool::Pool";\n'
        "#[cfg(test)]\nuse crate::pool::Pool;\n",
    )
    assert check(source) == check(rust_arrows.SOURCE)


def test_a_room_without_a_floor(source):
    (source / "attic.rs").write_text("")
    assert check(source) == ["the room `attic` has no floor in the list"]
