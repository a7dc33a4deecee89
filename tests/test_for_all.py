"""The pages for all readers: colors that the system forces, keys alone, a screen reader, paper, no scripts."""

import pytest

from browser import visit

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


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", SAID_BY_COLOR)
def test_forced_colors_leave_what_a_color_says(browser, site, name, scheme):
    """Marks keep their colors, what is chosen is to be seen, and text can be read, whichever theme was chosen."""
    with visit(browser, f"{site}/{name}.html", scheme=scheme, forced_colors="active") as page:
        if page.locator(".predict-all").is_visible():
            page.locator(".predict-all").click()
        if name == "playground":
            page.locator(".pg-lens tbody tr").first.wait_for()
        page.evaluate(COLORS)
        for theme in ("light", "dark"):
            page.evaluate("theme => { document.documentElement.dataset.theme = theme; }", theme)
            page.wait_for_timeout(500)  # colors change gradually
            for selector, what, least in SAID_BY_COLOR[name]:
                looks = page.evaluate("([selector, what]) => colors.looks(selector, what)", [selector, what])
                assert len(looks) >= least, (theme, selector, looks)
            for chosen, other in CHOSEN.get(name, []):
                assert page.evaluate(STYLE_OF, chosen) != page.evaluate(STYLE_OF, other), (theme, chosen)
            assert page.evaluate("colors.faint('article')") == [], theme


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_on_the_map_can_be_read(browser, site, scheme):
    with visit(browser, f"{site}/embedding-and-unembedding.html", scheme=scheme) as page:
        page.evaluate(COLORS)
        assert len(page.evaluate("colors.looks('.wm-map span', 'color')")) >= 3
        assert page.evaluate("colors.faint('.wm-map')") == []
