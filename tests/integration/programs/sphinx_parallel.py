"""A site of twenty pages read and written by two processes.

Needs: sphinx
"""

import pathlib
import re

from sphinx.cmd.build import main

if __name__ == "__main__":
    here = pathlib.Path(__file__).parent
    source = here / "source"
    source.mkdir(exist_ok=True)
    (source / "conf.py").write_text("project = 'p'\nexclude_patterns = []\n")
    names = [f"page{number}" for number in range(20)]
    for name in names:
        (source / f"{name}.rst").write_text(
            f"{name}\n=======\n\n.. _to-{name}:\n\nTitle\n-----\n\n:ref:`to-page3`\n"
        )
    (source / "index.rst").write_text(
        "i\n=\n\n.. toctree::\n\n" + "".join(f"   {name}\n" for name in names)
    )
    print(main(["-q", "-W", "-j", "2", "-b", "html", str(source), str(here / "built")]))
    print(
        sum(
            bool(re.search('href="page3.html#to-page3"', page.read_text()))
            for page in (here / "built").glob("page*.html")
        )
    )
