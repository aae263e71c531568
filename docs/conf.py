"""Configuration of the documentation site: `make docs` builds it into `.build/docs`."""

from __future__ import annotations

import pathlib
import re
import sys
import zlib

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT / "python"))

project = "procession"
author = "the authors of procession"
copyright = "the authors of procession"
version = release = re.search(
    r'^version = "(.*?)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE
).group(1)

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
nitpicky = True
#: Classes without a page: of annotations, and of objects that programs only pass on.
nitpick_ignore = [
    ("py:class", "procession._executor.calls.Calls"),
    ("py:class", "procession._actor.face._R"),
    ("py:class", "procession._actor.face._T"),
    ("py:obj", "procession._actor.lines._T"),
    ("py:class", "procession._executor.calls._T"),
    ("py:class", "procession._executor.map.Results"),
    ("py:class", "procession._procession.SharedBytes"),
    ("py:class", "procession._share._T"),
    ("py:class", "procession.managers.Server"),
    ("py:class", "procession.process.AuthenticationString"),
]
# Docstrings put code between single backquotes.
default_role = "literal"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_use_ivar = True
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = "procession"
html_show_sphinx = False
html_static_path = []
html_copy_source = False
copybutton_prompt_text = "$ "
copybutton_exclude = ".linenos, .gp, .go"
linkcheck_timeout = 10

#: Python's documentation, whose own index cannot be fetched where a build has no way to it. The
#: site links to few of its pages: these, by role and page.
PYTHON = {
    "library/collections.abc.html#{}": {
        "class": [
            f"collections.abc.{name}"
            for name in (
                *("Callable", "Generator", "Iterable", "Iterator", "Mapping", "Sequence"),
                *("ItemsView", "KeysView", "ValuesView"),
            )
        ]
    },
    "library/concurrent.futures.html#{}": {
        "class": [
            "concurrent.futures.Executor",
            "concurrent.futures.Future",
            "concurrent.futures.ProcessPoolExecutor",
        ],
        "exception": [
            "concurrent.futures.CancelledError",
            "concurrent.futures.process.BrokenProcessPool",
        ],
    },
    "library/concurrent.futures.html#concurrent.futures.Future": {
        "class": ["concurrent.futures._base.Future"]
    },
    "library/{}.html": {"module": ["concurrent.futures", "multiprocessing", "threading"]},
    "library/exceptions.html#{}": {
        "exception": [
            *("AssertionError", "BaseException", "Exception", "EOFError", "ImportError"),
            *("KeyError", "MemoryError", "OSError", "RuntimeError", "TimeoutError"),
            *("TypeError", "ValueError"),
        ]
    },
    "library/functions.html#{}": {"class": ["bool", "float", "int", "object", "property", "type"]},
    "library/constants.html#{}": {"data": ["None", "False", "True"]},
    "library/logging.html#{}": {"class": ["logging.Logger"]},
    "library/os.html#{}": {"class": ["os.PathLike"]},
    "library/pickle.html#{}": {"exception": ["pickle.PicklingError"]},
    "library/queue.html#{}": {"exception": ["queue.Empty", "queue.Full"]},
    "library/socket.html#{}": {"class": ["socket.socket"]},
    "library/stdtypes.html#{}": {
        "class": ["bytes", "dict", "frozenset", "list", "memoryview", "set", "str", "tuple"]
    },
    "library/threading.html#{}": {
        "class": ["threading.Barrier"],
        "exception": ["threading.BrokenBarrierError"],
    },
    "library/types.html#{}": {"class": ["types.TracebackType"]},
    "library/typing.html#{}": {"data": ["typing.Any", "typing.Literal"]},
}


def python_inventory() -> str:
    """Write the index of Python's documentation that `PYTHON` lists, and return its path."""
    lines = [
        f"{name} py:{role} 1 {page.format(name)} -"
        for page, roles in PYTHON.items()
        for role, names in roles.items()
        for name in names
    ]
    head = "# Sphinx inventory version 2\n# Project: Python\n# Version: 3\n"
    head += "# The remainder of this file is compressed using zlib.\n"
    path = ROOT / ".build" / "python.inv"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(head.encode() + zlib.compress("\n".join([*lines, ""]).encode()))
    return str(path)


intersphinx_mapping = {"python": ("https://docs.python.org/3", python_inventory())}

#: Pages of the repository's root that the site includes.
PAGES = {"ARCHITECTURE": "architecture", "CHANGELOG": "changelog", "CONTRIBUTING": "contributing"}
PAGES["SECURITY"] = "security"


def link_within(_app: object, name: str, source: list[str]) -> None:
    """Let links between pages of the repository's root and of `docs` stay within the site."""
    depth = "../" * name.count("/")
    if name in PAGES.values():
        root_page = next(page for page, site_page in PAGES.items() if site_page == name)
        text = (ROOT / f"{root_page}.md").read_text()
        text = re.sub(r"\]\((?!https?:|#)(?!docs/)([^)\s]+)\)", r"](../\1)", text)
        source[0] = text.replace("](docs/", "](")
    for root_page, site_page in PAGES.items():
        source[0] = re.sub(
            rf"\]\((?:\.\./)+{root_page}\.md(#[^)]*)?\)", rf"]({depth}{site_page}.md\1)", source[0]
        )
    # Other pages of the repository are not part of the site: only their names are shown.
    source[0] = re.sub(r"\[([^]]*)\]\((?:\.\./)+((?!_)[^)]*/README\.md)\)", r"\1 (`\2`)", source[0])


def setup(app: object) -> None:
    app.connect("source-read", link_within)
