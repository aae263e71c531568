"""The page suits every screen, keyboards, and screen readers."""

from __future__ import annotations

import os
import pathlib
import signal

import pytest

from tests.browser.conftest import keep
from tests.browser.test_sick import SHOP
from tests.sight.family import PROGRAM, family, served

WIDTHS = [360, 480, 768, 1024, 1199, 1200, 1440, 1920, 2560]
VIEWS = ["", "processes", "queues", "locks", "pools", "others", "deaths"]

#: What of the page the keyboard should reach.
CONTROLS = "a[href], button, input, [tabindex='0']"
#: Calls `checkVisibility`, which knows of `hidden` in any ancestor.
VISIBLE = f"""() => [...document.querySelectorAll("{CONTROLS}")].filter(one => one.checkVisibility())
    .map(one => {{ one.dataset.number ??= String(document.counted = (document.counted ?? 0) + 1);
        return one.dataset.number; }})"""
#: The focused element's number, and whether it is seen that it has the focus.
FOCUSED = """() => {
    const one = document.activeElement;
    if (one === document.body) return null;
    const outline = getComputedStyle(one).outlineStyle !== "none";
    const inner = one.querySelector("rect");
    const seen = outline || (inner !== null && getComputedStyle(inner).strokeWidth === "3px");
    return [one.dataset.number ?? "", seen, one.outerHTML.slice(0, 200)];
}"""


@pytest.fixture
def sick(tmp_path):
    """A program with all kinds of objects, some of which are waited for."""
    script = tmp_path / "sick.py"
    script.write_text(PROGRAM)
    return script


def details(page):
    """Return the views of a process, a queue and a pool."""
    page.locator("#table-pools tbody a").first.wait_for()
    return [
        page.locator(f"#table-{name} tbody a").first.get_attribute("href").removeprefix("#/")
        for name in ("processes", "queues", "pools")
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_view_is_wider_than_the_window(watch, sick, scheme):
    shown = watch(sick, "fork", ready="ready", color_scheme=scheme)
    for view in [*VIEWS, *details(shown.page)]:
        shown.view(view)
        for width in WIDTHS:
            shown.page.set_viewport_size({"width": width, "height": 800})
            wide = shown.page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, view
            if view in ("", "locks") and width in (360, 1024, 1440, 2560):
                shown.picture(f"{scheme}-{view or 'overview'}-{width}")


@pytest.mark.parametrize("view", ["", "processes", "pools", "process", "pool"])
def test_the_keyboard_reaches_every_control(watch, sick, view):
    shown = watch(sick, "fork", ready="ready")
    page = shown.page
    process, _, pool = details(page)
    shown.view({"process": process, "pool": pool}.get(view, view))
    # What is shown stays as it is.
    page.locator("#pause").click()
    page.locator("#state", has_text="paused").wait_for()
    expected = set(page.evaluate(VISIBLE))
    assert len(expected) > 8
    # From the button that was clicked to the end of the page, and around it.
    for _ in range(len(expected) + 5):
        page.keyboard.press("Tab")
        focused = page.evaluate(FOCUSED)
        if focused is not None:
            number, is_seen, text = focused
            assert is_seen, f"the focus is not seen: {text}"
            expected.discard(number)
    assert expected == set()


def test_keys_sort_filter_and_follow_links(watch, sick):
    shown = watch(sick, "fork", ready="ready")
    page = shown.page
    page.locator("#table-processes").get_by_role("button", name="Name").focus()
    page.keyboard.press("Enter")
    page.locator('#table-processes th[aria-sort="ascending"]', has_text="Name").wait_for()
    page.keyboard.press("Enter")
    page.locator('#table-processes th[aria-sort="descending"]', has_text="Name").wait_for()
    page.get_by_label("Filter processes").focus()
    page.keyboard.type("holder")
    page.wait_for_function("document.querySelectorAll('#table-processes tbody tr').length === 1")
    page.locator("#table-processes tbody a").first.focus()
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Process").wait_for()
    assert page.evaluate("document.activeElement.id") == "main"
    page.locator("#skip").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def axe() -> str:
    """Return the script of axe-core."""
    import axe_playwright_python

    return (pathlib.Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()


#: Returns the contrast of each text of the graph with the box behind it, which axe cannot see, as
#: WCAG 2 defines it.
CONTRASTS = """() => {
    const luminance = (color) => {
        const parts = color.match(/[0-9.]+/g).slice(0, 3).map((part) => part / 255);
        const linear = parts.map((part) => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
    };
    return [...document.querySelectorAll(".node text")].map((text) => {
        const fill = (one) => luminance(getComputedStyle(one).fill);
        const [one, other] = [fill(text), fill(text.parentNode.querySelector("rect"))];
        return (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    });
}"""


def findings(page) -> list[str]:
    """Return what axe-core finds on a page, and what it is not certain of.

    Of a text that is partly scrolled away, or lies on a shape, it does not know the background.
    """
    found = page.evaluate("axe.run(document)")
    return [
        f"{kind} {rule['id']}: {node['html'][:200]}: {node['failureSummary']}"
        for kind in ("violations", "incomplete")
        for rule in found[kind]
        for node in rule["nodes"]
        if not (kind == "incomplete" and rule["id"] == "color-contrast")
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(watch, sick, scheme):
    shown = watch(sick, "fork", ready="ready", color_scheme=scheme)
    shown.page.evaluate(axe())
    for view in [*VIEWS, *details(shown.page)]:
        shown.view(view)
        assert findings(shown.page) == [], view
    shown.view("")
    contrasts = shown.page.evaluate(CONTRASTS)
    assert len(contrasts) > 10 and min(contrasts) >= 4.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_a_deadlock(watch, scheme):
    shop = watch(SHOP, color_scheme=scheme)
    shop.page.locator("#deadlock-list p").first.wait_for()
    shop.page.evaluate(axe())
    assert findings(shop.page) == []
    contrasts = shop.page.evaluate(CONTRASTS)
    assert len(contrasts) == 8 and min(contrasts) >= 4.5
    shop.picture(f"{scheme}-deadlock")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_several_families_are_listed_with_links(open_page, tmp_path, scheme):
    with family(tmp_path, "fork") as one, family(tmp_path, "fork"), served(None) as (address, _):
        page = open_page(address, color_scheme=scheme)
        link = page.get_by_role("link", name=str(one.pid), exact=True)
        link.wait_for()
        page.evaluate(axe())
        assert findings(page) == []
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        keep(page, f"{scheme}-families")
        link.focus()
        page.keyboard.press("Enter")
        page.locator("#facts", has_text=f"first process {one.pid}").wait_for()
        page.get_by_role("link", name="All families").click()
        link.wait_for()
        os.killpg(one.pid, signal.SIGKILL)
        link.wait_for(state="detached")
