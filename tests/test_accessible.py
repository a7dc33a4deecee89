"""Every page of the built book in a real browser: it is quiet, fits every window, is no burden, and is for all readers.

`visit` fails a test whenever a page writes an error to the console, misses a file, or asks for anything from elsewhere.
A file of its own: of all tests these are among the longest, and two processes share the files.
"""

from collections.abc import Iterator
from itertools import product

import pytest
from playwright.sync_api import Page

from browser import STILL, choose_theme, visit, what_is_serious
from test_pages import PAGES

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
    choose_theme(page, scheme)
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == scheme


@pytest.fixture(scope="module", params=PAGES)
def opened(request, browser, site) -> Iterator[tuple[str, Page]]:
    """The page's name, and the page, opened once for all tests of it."""
    with visit(browser, f"{site}/{request.param}.html") as page:
        page.add_style_tag(content=STILL)
        yield request.param, page


def test_page_fits_every_window(opened, record_property):
    """Phone, tablet and desk, light and dark: nothing cut off, no text in a figure too small, no chapter too heavy."""
    name, page = opened
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime")
    record_property("first paint", (name, paint))  # reported, never judged: machines differ
    assert sum(page.evaluate(WEIGHTS).values()) <= HEAVIEST, page.evaluate(WEIGHTS)
    for width, scheme in product((1440, 768, 360), ("light", "dark")):  # the layout changes with the width
        switch(page, scheme, width)
        over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert (over, page.evaluate(STICKING_OUT)) == (0, []), f"{scheme}, {width} px"
        assert width < 1440 or page.evaluate(CUT_OFF) == []
    assert page.evaluate(SMALLEST_TEXT) >= 9, "pixels, on a phone"


def test_accessible(opened):
    """axe-core finds nothing serious: contrast, landmarks, names, roles, order. Its notes on lesser things may stay."""
    _, page = opened
    told = {}
    for scheme, width in (("light", 1440), ("dark", 360)):
        switch(page, scheme, width)
        told[scheme, width] = what_is_serious(page)
    assert not any(told.values()), told
