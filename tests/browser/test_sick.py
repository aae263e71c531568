"""What is sick in a program is seen on its page."""

from __future__ import annotations

import os
import pathlib
import signal

from tests.conftest import PACKAGE_FOLDER

SHOP = pathlib.Path(PACKAGE_FOLDER).parent / "examples" / "sick" / "shop.py"

#: Puts as many items as a line says.
GROWS = """
import sys
import procession

if __name__ == "__main__":
    queue = procession.Queue()
    print("ready", flush=True)
    for line in sys.stdin:
        for number in range(int(line)):
            queue.put(number)
"""

#: Two workers wait for an event.
POOL = """
import sys
import procession

def keep(event):
    global never
    never = event

def task(number):
    never.wait()

if __name__ == "__main__":
    procession.set_start_method("fork")
    never = procession.Event()
    pool = procession.Pool(2, keep, (never,))
    results = pool.map_async(task, range(2), chunksize=1)
    print("ready", flush=True)
    never.wait()
"""


def test_a_deadlock_is_named(watch):
    shop = watch(SHOP)
    page = shop.page
    red = page.locator("#deadlocks")
    red.get_by_text("server").first.wait_for()
    # A sentence for each thread.
    sentences = red.locator("p").all_inner_texts()
    assert len(sentences) == 2
    assert all("has waited" in one and "shop.py:" in one for one in sentences), sentences
    assert "Deadlock of 2 threads" in page.locator("#announcement").text_content()
    assert page.title().startswith("Deadlock: ")
    assert page.locator(".node.stuck").count() == 4
    # Nothing of the locks is scrolled away, however long the path of the program is.
    scroller = page.locator("#table-locks .scroller")
    assert scroller.evaluate("one => one.scrollWidth <= one.clientWidth")
    shop.picture("deadlock")


def test_a_killed_worker_is_in_the_table_of_deaths(watch, tmp_path):
    script = tmp_path / "pool.py"
    script.write_text(POOL)
    pool = watch(script, ready="ready")
    page = pool.page
    busy = page.locator("#table-pools td", has_text="2 (2 busy)")
    busy.wait_for()
    page.locator("#table-pools tbody a").click()
    pids = page.locator("#table-workers tbody th a")
    pids.nth(1).wait_for()
    victim, other = pids.all_inner_texts()
    os.kill(int(victim), signal.SIGKILL)
    # Another worker takes its place.
    page.locator("#table-workers tbody th", has_text=victim).wait_for(state="detached")
    page.wait_for_function(
        "pids => { const there = [...document.querySelectorAll('#table-workers tbody a')];"
        " return there.length === 2 && there.every((one) => one.textContent !== pids); }",
        arg=victim,
    )
    assert other in pids.all_inner_texts()
    pool.view("deaths")
    row = page.locator("#table-deaths tr", has=page.get_by_text(victim, exact=True))
    row.get_by_text("killed").wait_for()
    pool.picture("killed")


def test_a_queue_that_grows_is_a_warning(watch, tmp_path):
    script = tmp_path / "grows.py"
    script.write_text(GROWS)
    grows = watch(script, ready="ready")
    page = grows.page
    items = page.locator("#table-queues tbody td").nth(1)
    for text, more in [("0", 5), ("5", 200), ("205", 1000)]:
        items.get_by_text(text, exact=True).wait_for()
        grows.process.stdin.write(f"{more}\n")
        grows.process.stdin.flush()
    items.get_by_text("1205", exact=True).wait_for()
    page.locator("#warnings").get_by_text("only grows").wait_for()
    page.locator(".chart").get_by_text("at most 1205 items").wait_for()
    page.locator(".graph text", has_text="1205 items").wait_for()
    grows.picture("queue")
