"""Make the pictures of README.md: `procession top` in a terminal, and the page of `procession web`.

Both show the program that hangs, examples/sick/shop.py. ``make pictures`` writes them into
docs/figures: the terminal's cells as SVG, the page as Chromium without a window draws it.
"""

from __future__ import annotations

import contextlib
import fcntl
import html
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator

import pyte
from playwright.sync_api import sync_playwright

ROOT = pathlib.Path(__file__).resolve().parent.parent
FIGURES = ROOT / "docs" / "figures"
SHOP = ROOT / "examples" / "sick" / "shop.py"
COLUMNS, LINES = 100, 16
#: Width and height of a cell, in units of the picture.
WIDE, HIGH = 8.4, 18
SETTLES = 8.0
"""Seconds until the deadlock is found, and the numbers are no longer those of the start."""

COLOURS = {
    "default": "#d8dee9", "black": "#3b4252", "red": "#e06c75", "green": "#98c379", "brown": "#e5c07b",
    "blue": "#61afef", "magenta": "#c678dd", "cyan": "#56b6c2", "white": "#e5e9f0",
}  # fmt: skip
GROUND = "#1e2127"


@contextlib.contextmanager
def shop() -> Iterator[int]:
    """Run a copy of the program that hangs, in a folder with a short path; its pid once it hangs."""
    folder = pathlib.Path("/srv" if os.access("/srv", os.W_OK) else tempfile.mkdtemp())
    shutil.copy(SHOP, folder)
    process = subprocess.Popen(
        [sys.executable, "shop.py"], cwd=folder, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        assert process.stderr is not None
        process.stderr.readline()  # it says that it hangs
        yield process.pid
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        (folder / SHOP.name).unlink()


def terminal_of(pid: int) -> pyte.Screen:
    """Return the screen of `procession top` once it has shown the deadlock for some seconds."""
    screen = pyte.Screen(COLUMNS, LINES)
    stream = pyte.ByteStream(screen)
    child, descriptor = pty.fork()
    if child == 0:
        os.environ["TERM"] = "xterm-256color"
        os.environ.pop("NO_COLOR", None)
        os.execv(sys.executable, [sys.executable, "-m", "procession", "top", str(pid)])
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    end = time.monotonic() + SETTLES
    while (left := end - time.monotonic()) > 0:
        if select.select([descriptor], [], [], left)[0]:
            stream.feed(os.read(descriptor, 1 << 16))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(descriptor)
    return screen


def colour(name: str) -> str:
    if re.fullmatch("[0-9a-f]{6}", name):
        return f"#{name}"
    return COLOURS.get(name.removeprefix("bright"), COLOURS["default"])


def svg_of(screen: pyte.Screen) -> str:
    """Draw a screen: a rectangle for each cell with a colour behind it, a text for each run of cells that look alike."""
    parts = []
    for row in range(LINES):
        cells = [screen.buffer[row][column] for column in range(COLUMNS)]
        looks = [
            (cell.bg, cell.fg, cell.bold) if not cell.reverse else (cell.fg, cell.bg, cell.bold)
            for cell in cells
        ]
        first = 0
        for column in range(1, COLUMNS + 1):
            if column < COLUMNS and looks[column] == looks[first]:
                continue
            text = "".join(cell.data for cell in cells[first:column])
            ground, ink, bold = looks[first]
            reverse = cells[first].reverse
            x, y, width = 10 + first * WIDE, 10 + row * HIGH, (column - first) * WIDE
            if ground != "default" or reverse:
                parts.append(
                    f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{HIGH}" fill="{colour(ground)}"/>'
                )
            if text.strip():
                fill = GROUND if reverse and ink == "default" else colour(ink)
                weight = ' font-weight="bold"' if bold else ""
                parts.append(
                    f'<text x="{x:.1f}" y="{y + 14}" fill="{fill}"{weight} textLength="{width:.1f}"'
                    f' lengthAdjust="spacingAndGlyphs" xml:space="preserve">{html.escape(text)}</text>'
                )
            first = column
    width, height = 20 + COLUMNS * WIDE, 20 + LINES * HIGH
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}"'
        f' font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="14">\n'
        f'<rect width="100%" height="100%" rx="8" fill="{GROUND}"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def page_of(pid: int, path: pathlib.Path) -> None:
    """Write a picture of the page of `procession web`."""
    command = [sys.executable, "-m", "procession", "web", str(pid), "--port", "0"]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server,
        sync_playwright() as playwright,
    ):
        assert server.stdout is not None
        found = re.search(r"http://\S+", server.stdout.readline())
        assert found is not None
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium") or None, args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": 1100, "height": 760})
        page.goto(found[0])
        page.locator("#deadlocks:not([hidden])").wait_for()
        page.wait_for_timeout(3000)
        page.screenshot(path=path)
        browser.close()
        server.terminate()


def main() -> None:
    FIGURES.mkdir(parents=True, exist_ok=True)
    with shop() as pid:
        (FIGURES / "top.svg").write_text(svg_of(terminal_of(pid)))
        page_of(pid, FIGURES / "web.png")
    for name in ("top.svg", "web.png"):
        print(f"{FIGURES / name}: {(FIGURES / name).stat().st_size // 1024} KB")


if __name__ == "__main__":
    main()
