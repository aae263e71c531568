"""Two jobs over files with faults.

Needs: pylint
"""

import pathlib

from pylint.lint import Run

if __name__ == "__main__":
    folder = pathlib.Path(__file__).with_name("code")
    folder.mkdir(exist_ok=True)
    for number in range(4):
        (folder / f"m{number}.py").write_text("import os\n\nx = undefined\n")
    files = sorted(map(str, folder.glob("*.py")))
    linter = Run(["--jobs", "2", "--score", "n", *files], exit=False).linter
    print(sorted(linter.stats.by_msg.items()))
