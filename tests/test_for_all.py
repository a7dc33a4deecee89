"""The pages for all readers: colors that the system forces, keys alone, a screen reader, paper, no scripts."""

import re
from contextlib import closing
from itertools import product

import pytest
from axe_playwright_python.sync_playwright import Axe

from browser import FLAGS, RESTED, STILL, find_chromium, visit
from trees import tree_of

# What tests ask of colors: a color as red, green, blue and alpha; the paper behind an element; contrast as WCAG has it.
COLORS = """() => {
    const pen = Object.assign(document.createElement("canvas"), { width: 1, height: 1 })
        .getContext("2d", { willReadFrequently: true });
    const seen = new Map();
    const rgba = (color) => {
        if (!seen.has(color)) {
            pen.clearRect(0, 0, 1, 1);
            pen.fillStyle = color;
            pen.fillRect(0, 0, 1, 1);
            const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data;
            seen.set(color, [r, g, b, a / 255]);
        }
        return seen.get(color);
    };
    const over = ([r, g, b, a], [R, G, B]) => [a * r + (1 - a) * R, a * g + (1 - a) * G, a * b + (1 - a) * B, 1];
    const paper = (e) => {
        const mine = e ? rgba(getComputedStyle(e).backgroundColor) : [255, 255, 255, 1];
        return mine[3] > 0.99 || !e ? mine : over(mine, paper(e.parentElement));
    };
    const linear = (c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
    const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
    const contrast = (e, color = getComputedStyle(e).color) => {
        const ground = paper(e);
        const [high, low] = [light(over(rgba(color), ground)), light(ground)].sort((a, b) => b - a);
        return (high + 0.05) / (low + 0.05);
    };
    const named = (e) => e.outerHTML.slice(0, 120) + getComputedStyle(e).color + " on " + paper(e).map(Math.round);
    const written = (e) => [...e.childNodes].some((part) => part.nodeType === 3 && part.data.trim());
    const faint = (within) => [...document.querySelectorAll(`${within} *`)]
        .filter((e) => written(e) && !e.closest("svg, script, style, :disabled, mjx-container, .headerlink"))
        .filter((e) => e.checkVisibility({ opacityProperty: true, visibilityProperty: true }) && contrast(e) < 4.5)
        .map(named).slice(0, 4);
    const looks = (selector, property) => [...new Set([...document.querySelectorAll(selector)]
        .filter((e) => e.checkVisibility()).map((e) => property === "paper" ? `${paper(e).map(Math.round)}`
            : `${rgba(getComputedStyle(e)[property])}`))];
    globalThis.colors = { contrast, paper, faint, looks };
}"""


# ---------------------------------------------------------------------------------------------------------------------
# colors that the system forces, as high contrast in Windows

# Where a color is what is said: the page, and for each kind of mark how many colors there are at least.
SAID_BY_COLOR = {
    "the-gated-mlp": [(".lv-text span", "paper", 3)],
    "time-decay": [(".lv-text span", "paper", 3)],
    "strings-tokens-probabilities": [(".rwkv-tokens > span", "paper", 3)],
    "embedding-and-unembedding": [(".wm-map span", "color", 3)],
    "attention-and-memory": [(".bk-bucket i", "paper", 2), (".rwkv-live .lv-legend i", "paper", 2)],
    "the-whole-model": [(".rwkv-anatomy .key i", "paper", 2)],
    "index": [
        (".cover rect, .chapter-cards .two", "fill", 2),
        (".cover-next i, .cover-next", "paper", 2),
    ],
    "playground": [
        (".pg-bar span", "paper", 2),
        (".pg-legend i", "paper", 2),
        (".pg-map > i, .pg-legend", "paper", 2),
    ],
}
# What is chosen, and what could be: each pair must look different.
CHOSEN = {
    "index": [(".cover-choice :checked + span", ".cover-choice :not(:checked) + span")],
    "playground": [
        (".pg-chip :checked + span", ".pg-chip :not(:checked) + span"),
        (".rwkv-playground [aria-pressed=true]", ".rwkv-playground [aria-pressed=false]"),
    ],
}
STYLE_OF = """selector => {
    const style = getComputedStyle(document.querySelector(selector));
    return ["backgroundColor", "color", "outlineStyle", "outlineWidth"].map((name) => style[name]).join(" ");
}"""


@pytest.mark.parametrize("name", SAID_BY_COLOR)
def test_forced_colors_leave_what_a_color_says(browser, site, name):
    """Marks keep their colors, what is chosen is to be seen, and text can be read, whichever theme was chosen."""
    with visit(browser, f"{site}/{name}.html", forced_colors="active") as page:
        page.add_style_tag(content=STILL)
        if page.locator(".predict-all").is_visible():
            page.locator(".predict-all").click()
        if name == "playground":
            page.locator(".pg-lens tbody tr").first.wait_for()
        page.evaluate(COLORS)
        for scheme, theme in product(("light", "dark"), ("light", "dark")):
            page.emulate_media(color_scheme=scheme, forced_colors="active")
            page.evaluate("theme => { document.documentElement.dataset.theme = theme; }", theme)
            for selector, what, least in SAID_BY_COLOR[name]:
                looks = page.evaluate("([selector, what]) => colors.looks(selector, what)", [selector, what])
                assert len(looks) >= least, (scheme, theme, selector, looks)
            for chosen, other in CHOSEN.get(name, []):
                assert page.evaluate(STYLE_OF, chosen) != page.evaluate(STYLE_OF, other), (scheme, theme, chosen)
            assert page.evaluate("colors.faint('article')") == [], (scheme, theme)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_on_the_map_can_be_read(browser, site, scheme):
    with visit(browser, f"{site}/embedding-and-unembedding.html", scheme=scheme) as page:
        page.evaluate(COLORS)
        assert len(page.evaluate("colors.looks('.wm-map span', 'color')")) >= 3
        assert page.evaluate("colors.faint('.wm-map')") == []


# ---------------------------------------------------------------------------------------------------------------------
# what opens over the page

OVER_PAGE = {  # what opens: where its opener is, which key opens it there, and the widths at which it exists
    "#pst-search-dialog": (".search-button__button", "Control+k", (360, 1280)),
    "#pst-primary-sidebar-modal": (".primary-toggle", "Enter", (360,)),
    "#pst-secondary-sidebar-modal": (".secondary-toggle", "Enter", (360,)),
}
AT = "[document.querySelector('dialog[open]').getBoundingClientRect().top, scrollY]"


def wheel_over(page, place, by: int = 400) -> None:
    """Turn the wheel over the middle of a place."""
    box = place.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + min(box["height"] / 2, 300))
    page.mouse.wheel(0, by)
    page.wait_for_timeout(300)


@pytest.mark.parametrize(
    "dialog, width", [(dialog, width) for dialog, (*_, widths) in OVER_PAGE.items() for width in widths]
)
def test_what_opens_over_the_page_closes_by_key(browser, site, dialog, width):
    """Escape closes it, whatever in it has the focus, which then goes back; the page behind stays where it was."""
    with visit(browser, f"{site}/time-decay.html", width=width) as page:
        page.set_default_timeout(30_000)
        page.mouse.wheel(0, 1500)
        page.wait_for_function("scrollY > 1000")
        for inside in ("first", "link"):
            opens_and_closes(page, dialog, inside)


def opens_and_closes(page, dialog: str, inside: str) -> None:
    """By key, with the focus on what has it first or on a link."""
    opener, key, _ = OVER_PAGE[dialog]
    button = page.locator(opener).locator("visible=true").first
    button.focus()
    page.wait_for_timeout(200)
    page.evaluate(RESTED)
    before = page.evaluate("scrollY")
    page.keyboard.press(key)
    opened = page.locator(f"{dialog}[open]")
    opened.wait_for()
    assert page.evaluate("document.activeElement.closest('dialog') !== null")
    if inside == "link":  # there Sphinx keeps Escape from the browser
        opened.evaluate(
            "d => { const a = d.querySelector('a[href]') ?? d.appendChild(document.createElement('a'));"
            "a.href ||= '#'; a.focus(); }"
        )
    place = page.evaluate(AT)
    for where in (opened, page.locator("body")):
        wheel_over(page, where)
    page.keyboard.press("PageDown")
    page.wait_for_timeout(500)
    assert page.evaluate(AT) == place and place[1] == before
    page.keyboard.press("Escape")
    opened.wait_for(state="detached")
    page.wait_for_timeout(100)
    assert page.evaluate(f"document.activeElement.matches('{opener}')")
    assert page.evaluate("scrollY") == before
    page.mouse.wheel(0, 200)
    page.wait_for_function(f"scrollY > {before}")


def test_the_page_keeps_its_width_behind_a_dialog(browser, site):
    """Where a scrollbar takes room, as on a desk: it goes away then, and leaves the room."""
    options = {"executable_path": find_chromium(), "args": list(FLAGS), "ignore_default_args": ["--hide-scrollbars"]}
    with closing(browser.browser_type.launch(**options)) as desk, visit(desk, f"{site}/time-decay.html") as page:
        widths = "[document.documentElement.clientWidth, document.body.offsetWidth]"
        before = page.evaluate(widths)
        page.keyboard.press("Control+k")
        page.locator("dialog[open]").wait_for()
        assert before[0] == before[1] < 1280 and page.evaluate(widths) == [1280, before[1]]


# ---------------------------------------------------------------------------------------------------------------------
# where the focus is

# What has the focus, and how it and what stands for it look: itself, its label's span, the box around a field.
FOCUSED = """() => {
    const e = document.activeElement;
    if (e === document.body) return null;
    const shown = [e, e.nextElementSibling, e.closest("form"), e.querySelector(".toctree-toggle"),
        ...(e.matches("summary") ? e.children : [])].filter(Boolean);
    const look = () => shown.map((one) => [one, "::before"].map((_, n) => getComputedStyle(one, n ? "::before" : null))
        .map((s) => [s.outlineStyle !== "none" && s.outlineWidth !== "0px" && s.outlineColor + s.outlineWidth,
            s.boxShadow].join(" ")).join()).join();
    const [before, focused] = [(e.blur(), look()), (e.focus({ preventScroll: true, focusVisible: true }), look())];
    return [e.outerHTML.replace(/\\s+/g, " ").slice(0, 150), before !== focused];
}"""


@pytest.mark.parametrize("name", ["the-gated-mlp", "playground"])
def test_the_focus_can_be_seen(browser, site, name):
    """At each stop of the Tab key: a ring, or it cannot be told where one is."""
    with visit(browser, f"{site}/{name}.html") as page:
        page.add_style_tag(content=STILL)
        if name == "playground":
            page.locator(".pg-lens tbody tr").first.wait_for()
        for scheme, forced in (("light", "none"), ("dark", "none"), ("dark", "active")):
            page.emulate_media(color_scheme=scheme, forced_colors=forced)
            page.wait_for_function("scheme => document.documentElement.dataset.theme === scheme", arg=scheme)
            stops = []
            for _ in range(400):
                page.keyboard.press("Tab")
                if (stop := page.evaluate(FOCUSED)) is None:
                    break
                stops.append(stop)
            assert len(stops) > 50 and len({html for html, _ in stops}) > 40
            assert [html for html, seen in stops if not seen] == [], (scheme, forced)


# ---------------------------------------------------------------------------------------------------------------------
# what a screen reader hears


def test_folds_are_told_apart_by_their_names(built_book):
    """A fold is called what is written on it, and no two on a page are called alike."""
    found = 0
    for path in sorted(built_book.glob("*.html")):
        page = tree_of(path)
        assert page.select("summary[aria-label]") == [] and "Toggle hidden content" not in str(page), path.name
        names = [" ".join(summary.get_text().split()) for summary in page.select(".cell > details > summary")]
        assert len(set(names)) == len(names), (path.name, [name for name in names if names.count(name) > 1][:3])
        found += len(names)
    assert found > 100


def test_what_is_written_on_a_control_is_in_its_name(browser, site):
    only = {"runOnly": {"type": "rule", "values": ["label-content-name-mismatch", "summary-name"]}}
    rules = {"rules": {"label-content-name-mismatch": {"enabled": True}}, "preload": False}
    with visit(browser, f"{site}/training.html") as page:
        theme = [".search-button__button"]  # it shows its keys as well
        found = Axe().run(page, {"exclude": [["article svg"], theme]}, only | rules).response
    assert [node["html"][:160] for rule in found["violations"] for node in rule["nodes"]] == []
    assert {"label-content-name-mismatch", "summary-name"} & {rule["id"] for rule in found["passes"]}


def test_the_playgrounds_tables_are_told_apart(browser, site):
    with visit(browser, f"{site}/playground.html") as page:
        page.locator(".pg-lens tbody tr").first.wait_for()
        names = page.locator(".rwkv-playground summary").evaluate_all("all => all.map(e => e.textContent)")
        assert len(names) >= 3 and len(set(names)) == len(names)


# ---------------------------------------------------------------------------------------------------------------------
# small things


def test_downloads_are_called_what_they_are(built_book):
    for name, kind in (("training", "Notebook"), ("glossary", "Source")):
        page = tree_of(built_book / f"{name}.html")
        items = page.select(".dropdown-download-buttons .dropdown-item")
        assert [item.get_text(strip=True) for item in items] == [kind, "Print or PDF"]
        assert items[0].has_attr("download") == (kind == "Notebook")


def test_there_is_more_shows_dark_and_through_stripes(browser, site):
    """At the edge of what scrolls the paper is darker, on a dark page too, and no row of a table covers it."""
    with visit(browser, f"{site}/symbol-map.html", scheme="dark", width=360) as page:
        shade = "getComputedStyle(document.querySelector('article .pst-scrollable-table-container')).backgroundImage"
        assert "rgba(0, 0, 0, 0.8)" in page.evaluate(shade) and "255, 255, 255" not in page.evaluate(shade)
        page.evaluate(COLORS)
        rows = page.locator("article .table tbody tr").evaluate_all(
            "rows => [...new Set(rows.map((row) => getComputedStyle(row).backgroundColor))]"
        )
        assert len(rows) == 2 and all(re.search(r"[/,] 0(\.\d+)?\)$", color) for color in rows), rows


# ---------------------------------------------------------------------------------------------------------------------
# what is told of a page


def test_pages_tell_what_they_are(built_book):
    """Each has a title and a description of its own, in plain words, for searches and for messages that share it."""
    book, told = "RWKV, explained piece by piece", {}
    for path in sorted(built_book.glob("*.html")):
        page = tree_of(path)
        head = {tag.get("name") or tag.get("property"): tag.get("content") for tag in page.head.select("meta")}
        assert len(page.head.select("meta[name=description]")) == 1, path.name
        title = page.head.title.get_text()
        assert title.count(book) == 1 and len(title) > len(book) or path.stem == "index" and title == book
        assert 20 <= len(head["description"]) <= (250 if path.stem == "index" else 160), path.name
        assert not re.search(r"[<>\\$\n]|…\w", head["description"]), head["description"]
        assert head["og:description"] == head["description"] and head["og:title"] in title
        assert head["og:type"] == ("website" if path.stem == "index" else "article")
        assert page.select_one(".logo__title") is None or page.select_one(".logo__title").get_text() == book
        told[path.name] = head["description"], title
    assert len(set(told.values())) == len(told) > 25 and len({words for words, _ in told.values()}) == len(told)


# ---------------------------------------------------------------------------------------------------------------------
# without scripts; formulas


def test_without_scripts_a_dark_system_gets_a_page_that_can_be_read(browser, site):
    """The theme's scripts choose light or dark; without them text, links and code must fit one paper all the same."""
    opened = browser.new_context(java_script_enabled=False, color_scheme="dark")
    page = opened.new_page()
    page.goto(f"{site}/the-gated-mlp.html")
    page.evaluate(COLORS)  # what the test asks runs all the same
    assert page.evaluate("colors.faint('article')") == []
    opened.close()


def test_formulas_are_no_stops_of_the_tab_key(browser, site):
    with visit(browser, f"{site}/time-decay.html") as page:
        assert page.locator("mjx-container").count() > 20
        assert page.locator("mjx-container[tabindex='0']").count() == 0
