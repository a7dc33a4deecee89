"""Every page of the built book in a real browser: it is quiet, whole, fits every window, and can be used by keyboard.

`visit` fails a test whenever a page writes an error to the console, misses a file, or asks for anything from elsewhere.
"""

from itertools import product
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import Page

from browser import visit

ROOT = Path(__file__).resolve().parents[1]
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
ENTRIES = [chapter["file"] for part in TOC["parts"] for chapter in part["chapters"]]
CHAPTERS = [name for name in ENTRIES if (ROOT / "book" / f"{name}.ipynb").exists()]
PAGES = [TOC["root"], *ENTRIES, "genindex", "search"]
HEAVIEST = 1_500_000  # bytes that a chapter may take besides the files that all pages share

# What the page itself weighs, and what only it loads: none of _static's files, which pages share.
WEIGHTS = """() => Object.fromEntries([...performance.getEntriesByType("navigation"),
    ...performance.getEntriesByType("resource")]
    .filter(e => !/\\/_static\\/|^data:/.test(e.name)).map(e => [e.name, e.decodedBodySize]))"""

# Elements that reach beyond the window and do not lie in a box that scrolls or hides what is too wide.
STICKING_OUT = """() => {
    const clipped = e => e && e !== document.body &&
        (getComputedStyle(e).overflowX !== "visible" || getComputedStyle(e).position === "fixed"
         || clipped(e.parentElement));
    return [...document.body.querySelectorAll("*")]
        .filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !clipped(e.parentElement) && !clipped(e))
        .map(e => e.outerHTML.slice(0, 120)).slice(0, 3);
}"""

# The smallest text in a figure, in CSS pixels as it stands on the page. In plots letters are outlines, drawn at a
# hundredth of their size in points.
SMALLEST_TEXT = """async () => {
    const scale = svg => svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
    const drawn = [...document.querySelectorAll(".rwkv-graph svg")].filter(scale).flatMap(svg =>
        [...svg.querySelectorAll("text")].map(text => parseFloat(getComputedStyle(text).fontSize) * scale(svg)));
    const plots = [...document.querySelectorAll(".rwkv-figure svg")].map(svg => [svg.outerHTML, scale(svg)]);
    for (const image of [...document.querySelectorAll("article img")].filter(image => image.offsetWidth))
        plots.push([await (await fetch(image.src)).text(), 96 / 72 * image.offsetWidth / image.naturalWidth]);
    const plotted = plots.filter(([, scale]) => scale).flatMap(([svg, scale]) =>
        [...svg.matchAll(/scale\\((0\\.\\d+) -/g)].map(found => 100 * found[1] * scale));
    return Math.min(99, ...drawn, ...plotted);
}"""


# Code and equations that end at the right edge of their box, until one moves them: on a phone only.
CUT_OFF = """() => [...document.querySelectorAll(".cell_input pre, div.math")].filter(e => e.checkVisibility())
    .filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.textContent.trim().slice(0, 80))"""


def switch(page: Page, scheme: str, width: int) -> None:
    """Resize the window, and choose light or dark as the button of that name does."""
    page.set_viewport_size({"width": width, "height": 900})
    page.evaluate("scheme => Object.assign(document.documentElement.dataset, {mode: scheme, theme: scheme})", scheme)
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == scheme


@pytest.mark.parametrize("name", PAGES)
def test_page_fits_every_window(browser, site, name, record_property):
    """Phone, tablet and desk, light and dark: nothing cut off, no text in a figure too small, no chapter too heavy."""
    with visit(browser, f"{site}/{name}.html") as page:
        paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime")
        record_property("first paint", (name, paint))  # reported, never judged: machines differ
        assert sum(page.evaluate(WEIGHTS).values()) <= HEAVIEST, page.evaluate(WEIGHTS)
        for scheme, width in product(("light", "dark"), (1440, 768, 360)):
            switch(page, scheme, width)
            over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert (over, page.evaluate(STICKING_OUT)) == (0, []), f"{scheme}, {width} px"
            assert width < 1440 or page.evaluate(CUT_OFF) == []
        assert page.evaluate(SMALLEST_TEXT) >= 9, "pixels, on a phone"


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
