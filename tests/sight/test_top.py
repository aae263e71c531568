"""`procession top` in a terminal. Its tables are tested in the crate `procession-cli`."""

from __future__ import annotations

import fcntl
import json
import os
import pathlib
import pty
import re
import signal
import struct
import subprocess
import sys
import termios

import pytest

from tests.sight.family import arena_of, dump_when_asleep, family, run

pytestmark = pytest.mark.timeout(120)


#: A move of the cursor, an erased screen, another sequence, or a character.
TOKEN = re.compile(
    r"\x1b\[(?P<row>\d+);(?P<column>\d+)H|(?P<whole>\x1b\[2J)|\x1b\[[0-9;?]*[A-GI-Za-z]|(?P<char>[^\x1b])"
)


class Terminal:
    """A terminal of 80 columns and 24 lines, and what a program has written to it."""

    def __init__(self, command: list[str], **environment: str) -> None:
        self.fd, end = pty.openpty()
        fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.before = termios.tcgetattr(end)
        self.text = ""
        self.row = self.column = 0
        self.screen = [[" "] * 80 for _ in range(24)]
        self.has_left = False
        self.end = end
        self.process = subprocess.Popen(
            command,
            stdin=end,
            stdout=end,
            stderr=end,
            env={**os.environ, "TERM": "xterm-256color", **environment},
        )

    def read_until(self, shown: str) -> None:
        """Read until this is on the screen."""
        while not any(shown in "".join(line) for line in self.screen):
            self.text += os.read(self.fd, 65536).decode(errors="replace")
            self.draw()

    def draw(self) -> None:
        """Write what was read to the screen. The program writes changes only, with moves of the cursor."""
        while found := TOKEN.match(self.text):
            self.text = self.text[found.end() :]
            if found["row"]:
                self.row, self.column = int(found["row"]) - 1, int(found["column"]) - 1
            elif found["char"] and self.row < 24 and self.column < 80:
                self.screen[self.row][self.column] = found["char"]
                self.column += 1
            elif found["whole"]:
                self.screen = [[" "] * 80 for _ in range(24)]
            self.has_left |= found[0] == "\x1b[?1049l"

    def press(self, keys: str) -> None:
        os.write(self.fd, keys.encode())

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.fd)
        os.close(self.end)


@pytest.fixture
def top():
    """Return a function that starts `top` in a terminal."""
    started = []

    def start(*words: str, **environment: str) -> Terminal:
        command = [sys.executable, "-m", "procession", "top", "--interval", "0.1", *words]
        started.append(Terminal(command, **environment))
        return started[-1]

    yield start
    for terminal in started:
        terminal.close()


def test_tables_follow_keys_and_the_terminal_is_left_as_it_was(tmp_path, capfd, top):
    with family(tmp_path, "fork") as root:
        dump_when_asleep(root.pid, capfd)
        terminal = top(str(root.pid), NO_COLOR="1")
        terminal.read_until("wanter")
        terminal.press("3")
        terminal.read_until("HELD BY")
        terminal.read_until("holder")
        terminal.press("q")
        assert terminal.process.wait(60) == 0
        terminal.text += os.read(terminal.fd, 65536).decode(errors="replace")
        terminal.draw()
        assert terminal.has_left
        assert termios.tcgetattr(terminal.end) == terminal.before


def test_a_process_has_a_page_with_its_stacks(tmp_path, capfd, top):
    fake = tmp_path / "bin" / "py-spy"
    fake.parent.mkdir()
    fake.write_text(
        "#!/bin/sh\n"
        """echo '[{"thread_name": "MainThread", "os_thread_id": 1, "frames": """
        """[{"name": "seen_by_pyspy", "filename": "/srv/sick.py", "line": 7}]}]'\n"""
    )
    fake.chmod(0o755)
    with family(tmp_path, "fork") as root:
        dump_when_asleep(root.pid, capfd)
        terminal = top(str(root.pid), NO_COLOR="1", PATH=f"{fake.parent}:/usr/bin:/bin")
        terminal.read_until("wanter")
        terminal.press("/wanter\r")
        terminal.read_until("[wanter]")
        terminal.press("\r")
        terminal.read_until("waits for")
        terminal.read_until("held by")
        terminal.press("s")
        if not (pathlib.Path(sys.executable).parent / "py-spy").exists():
            terminal.read_until("seen_by_pyspy (/srv/sick.py:7)")
        terminal.press("\x1b")
        terminal.read_until("RUNS, WAITS FOR")


def test_a_trace_begins_and_ends_with_a_key(tmp_path, capfd, top, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with family(tmp_path, "fork") as root:
        dump_when_asleep(root.pid, capfd)
        terminal = top(str(root.pid), NO_COLOR="1")
        terminal.read_until("wanter")
        terminal.press("t")
        terminal.read_until("t ends it")
        terminal.press("t")
        terminal.read_until("events, ")
        # A second one ends with the command, and its file is complete as well.
        terminal.press("t")
        terminal.read_until("t ends it")
        terminal.press("q")
        assert terminal.process.wait(60) == 0
        files = list(tmp_path.glob(f"procession-{root.pid}-*.json"))
        assert files
        for file in files:
            assert "traceEvents" in json.loads(file.read_text())


def test_the_screen_stays_when_the_family_ends(tmp_path, capfd, top):
    with family(tmp_path, "fork") as root:
        dump_when_asleep(root.pid, capfd)
        terminal = top(str(root.pid))
        terminal.read_until("wanter")
    terminal.read_until(f"family of process {root.pid}")
    terminal.press("\x03")
    assert terminal.process.wait(60) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_it_and_the_terminal_is_left_as_it_was(tmp_path, capfd, top, number):
    with family(tmp_path, "fork") as root:
        dump_when_asleep(root.pid, capfd)
        # Where the tests run without a terminal, the signal may be ignored.
        before = signal.signal(number, signal.SIG_DFL)
        try:
            terminal = top(str(root.pid))
        finally:
            signal.signal(number, before)
        terminal.read_until("wanter")
        assert termios.tcgetattr(terminal.end) != terminal.before
        terminal.process.send_signal(number)
        assert terminal.process.wait(60) == -number
        terminal.text += os.read(terminal.fd, 65536).decode(errors="replace")
        terminal.draw()
        assert terminal.has_left
        assert termios.tcgetattr(terminal.end) == terminal.before


def test_it_ends_when_its_terminal_is_gone_although_hangups_are_ignored(tmp_path, capfd, top):
    with family(tmp_path, "fork") as root:
        dump_when_asleep(root.pid, capfd)
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            terminal = top(str(root.pid))
        finally:
            signal.signal(signal.SIGHUP, before)
        terminal.read_until("wanter")
        os.close(terminal.end)
        os.close(terminal.fd)
        terminal.fd, terminal.end = os.openpty()
        assert terminal.process.wait(60) == 1


def test_an_ended_family_is_let_go(tmp_path, capfd, top):
    with family(tmp_path, "fork") as root:
        dump_when_asleep(root.pid, capfd)
        terminal = top(str(root.pid))
        terminal.read_until("wanter")
        # A process that looks at the family is not of it.
        assert run("ps", "--json") == 0
        families = json.loads(capfd.readouterr().out)["families"]
        pids = [pid for one in families for pid in one["pids"]]
        assert root.pid in pids and terminal.process.pid not in pids
    terminal.read_until(f"family of process {root.pid}")
    with pytest.raises(AssertionError, match="no arena"):
        arena_of(terminal.process.pid)


def test_without_a_terminal_it_says_so():
    command = [sys.executable, "-m", "procession", "top"]
    done = subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60
    )
    assert (done.returncode, done.stderr) == (
        2,
        "procession: top needs a terminal; dump does not\n",
    )
