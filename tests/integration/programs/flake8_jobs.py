"""Two jobs over files with faults.

Needs: flake8
"""

import pathlib
import sys

from flake8.main.cli import main

if __name__ == "__main__":
    folder = pathlib.Path(__file__).with_name("code")
    folder.mkdir(exist_ok=True)
    for number in range(6):
        (folder / f"m{number}.py").write_text("import os\nx=1\n" * (number + 1))
    sys.exit(main(["--jobs", "2", "--exit-zero", "--isolated", str(folder)]))
