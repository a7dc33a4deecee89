"""Pages of the built book in a real browser: from the disk, and by keyboard.

`visit` fails a test whenever a page writes an error to the console, misses a file, or asks for anything from elsewhere.
"""

from pathlib import Path

import pytest
import yaml
from playwright.sync_api import Page

from browser import RESTED, visit

ROOT = Path(__file__).resolve().parents[1]
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
ENTRIES = [chapter["file"] for part in TOC["parts"] for chapter in part["chapters"]]
CHAPTERS = [name for name in ENTRIES if (ROOT / "book" / f"{name}.ipynb").exists()]
PAGES = [TOC["root"], *ENTRIES, "genindex", "search"]


@pytest.mark.parametrize("name", PAGES)
def test_opens_from_a_file(browser, built_book, name):
    """As by a double click, in a folder that was copied elsewhere: equations are set, pictures are there."""
    with visit(browser, f"{built_book.as_uri()}/{name}.html") as page:
        equations = page.locator("article .math").count()
        assert page.locator("article .math mjx-container").count() >= equations
        assert page.locator("mjx-merror").count() == 0
        assert page.evaluate("[...document.images].filter(i => i.complete && !i.naturalWidth).length") == 0


# ---------------------------------------------------------------------------------------------------------------------
# by keyboard


def focused(page: Page, what: str = "e => e.outerHTML.slice(0, 200)") -> str:
    return page.evaluate(f"({what})(document.activeElement)")


def tab_until(page: Page, selector: str, limit: int = 150) -> None:
    """Press Tab until an element of this kind has the focus, and assert that it can then be seen."""
    for _ in range(limit):
        page.keyboard.press("Tab")
        if page.evaluate("s => document.activeElement.matches(s)", selector):
            break
    else:
        pytest.fail(f"no {selector} within {limit} steps; the last was {focused(page)}")
    page.wait_for_timeout(400)  # what appears does so in a third of a second
    assert page.evaluate("document.activeElement.checkVisibility({opacityProperty: true, visibilityProperty: true})")


def test_first_step_skips_to_the_text(browser, site):
    with visit(browser, f"{site}/{CHAPTERS[0]}.html") as page:
        page.keyboard.press("Tab")
        assert "Skip to main content" in focused(page)
        page.keyboard.press("Enter")
        assert page.url.endswith("#main-content")
        tab_until(page, "article a, article button, main button, main a", limit=1)


def test_keyboard_reaches_everything(browser, site):
    """Search, the list of chapters, the switch of colours, and the buttons that copy code."""
    with visit(browser, f"{site}/{CHAPTERS[0]}.html", permissions=["clipboard-read", "clipboard-write"]) as page:
        tab_until(page, ".search-button__button")
        tab_until(page, f"nav a[href='{CHAPTERS[1]}.html']")
        tab_until(page, ".theme-switch-button")
        before = page.evaluate("document.documentElement.dataset.mode")
        page.keyboard.press("Enter")
        assert page.evaluate("document.documentElement.dataset.mode") != before
        tab_until(page, "button.copybtn")
        page.keyboard.press("Enter")
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied.strip() and copied.strip() in page.locator("article .highlight pre:visible").first.inner_text()


def test_search_opens_by_keyboard(browser, site):
    with visit(browser, f"{site}/{CHAPTERS[0]}.html") as page:
        page.keyboard.press("Control+k")
        page.keyboard.type("residual")
        page.keyboard.press("Enter")
        page.wait_for_url("**/search.html?q=residual*")
        page.locator("#search-results a").first.wait_for()


def test_graph_opens_large(browser, site, built_book):
    """A button beside each drawing, by keyboard: it opens over the page and stays there, Escape closes it."""
    name = next(c for c in CHAPTERS if 'class="rwkv-graph"' in (built_book / f"{c}.html").read_text("utf-8"))
    with visit(browser, f"{site}/{name}.html", width=360) as page:
        assert page.locator(".zoom-open").count() == page.locator("figure.rwkv-graph").count()
        tab_until(page, ".zoom-open")
        page.evaluate(RESTED)
        behind = page.evaluate("scrollY")
        page.keyboard.press("Enter")
        drawing = page.locator("dialog[open] svg")
        before = drawing.bounding_box()["width"]
        page.keyboard.press("+")
        assert drawing.bounding_box()["width"] > before
        page.wait_for_timeout(500)
        top = page.locator("dialog[open]").bounding_box()["y"]
        close = page.locator("dialog[open] form button").last
        for place in (close, page.locator("dialog[open] > div")):
            place.hover()
            page.mouse.wheel(0, 400)
            page.wait_for_timeout(300)
        assert (page.evaluate("scrollY"), page.locator("dialog[open]").bounding_box()["y"]) == (behind, top)
        button = close.bounding_box()
        assert 0 <= top <= button["y"] and button["x"] + button["width"] <= 360 and button["y"] < 900
        page.keyboard.press("Escape")
        page.locator("dialog.zoom").wait_for(state="detached")
        assert "zoom-open" in focused(page)
