"""``python -m procession``: the `procession` command."""

import sys

from procession._cli import main

__all__: list[str] = []

if __name__ == "__main__":
    sys.exit(main())
