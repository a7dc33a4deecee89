"""Figures of numbers: what Python draws is what the page's script draws, and their words come from the data."""

import json
import math
from pathlib import Path

import pytest
import torch

from rwkv_explainer.drawing.live import fixed, live_bars, live_heatmap, live_lines, live_text, shown
from test_palette import contrast

SCRIPT = Path(__file__).parents[1] / "book/_static/live.js"
TOKENS = ["The", " Eiffel", " <b>&", "\x07", "🦜", "$$"]
ODD = torch.tensor([0.125, -0.0004, math.nan, 1.0, 0.995, -2.5])
FIGURES = {
    "bars": live_bars({"one": ODD, "two & more": ODD.abs()}, TOKENS, digits="%1"),
    "a single bar": live_bars(ODD, TOKENS, digits=0, limits=(-1, 1)),
    "lines": live_lines(range(6), {"line": ODD, "dots": -ODD}, xlabel="<x>", ylabel="y", dots=["dots"], names=TOKENS),
    "logarithmic": live_lines([1, 10, 1e6], [1e-3, 1.0, 1e4], xlabel="x", ylabel="y", xlog=True, ylog=True),
    "many names": live_lines(range(30), range(30), xlabel="x", ylabel="y", names=30 * ["token"]),
    "map": live_heatmap(ODD.view(2, 3), ["a", " b"], ["c", "d", "e"], label="<&>", digits=2),
    "map of words": live_heatmap(
        ODD.view(2, 3), ["a", "b"], ["c", "d", "e"], label="l", texts=[TOKENS[:3], TOKENS[3:]], told=[["<1>"] * 3] * 2
    ),
    "wide map": live_heatmap(torch.rand(2, 14), ["a", "b"], 14 * ["column"], label="l", limits=(0, 1)),
    "long map": live_heatmap(torch.rand(2, 20), ["a", "b"], [str(n) for n in range(20)], label="l", limits=(0, 1)),
    "text": live_text(ODD, TOKENS),
    "text without a shade": live_text(torch.zeros(2), ["a", "b"], limits=(0, 1)),
}


@pytest.fixture(scope="module")
def page(browser):
    opened = browser.new_page()
    opened.goto("about:blank")
    opened.add_script_tag(path=SCRIPT)
    yield opened
    opened.close()


def tidy(page, html: str) -> str:
    """The HTML as the browser writes it."""
    write = "html => Object.assign(document.createElement('div'), {innerHTML: html}).innerHTML"
    return page.evaluate(write, html)


@pytest.mark.parametrize("name", FIGURES)
def test_the_script_draws_what_python_drew(page, name):
    figure = FIGURES[name]
    numbers = json.loads(json.dumps(figure.data))
    drawn = page.evaluate("data => rwkvLive[data.kind](data)", numbers)
    assert tidy(page, drawn) == tidy(page, figure.picture())


def test_numbers_are_rounded_as_in_the_browser(page):
    values = [0.125, 12.5, -12.5, 0.5, 1.5, 2.5, 1.005, -0.0001, 0.0, 1e-9, 99.95]
    for digits in (0, 1, 2):
        expected = page.evaluate("([values, digits]) => values.map(v => v.toFixed(digits))", [values, digits])
        assert [fixed(v, digits) for v in values] == [e.removeprefix("-") if float(e) == 0 else e for e in expected]


def test_a_figure_stands_without_a_script_and_tells_its_finding():
    html = FIGURES["bars"]._repr_html_()
    assert "<script src" not in html and html.count("<script") == 1  # the numbers
    assert '<span class="lv-name">·&lt;b&gt;&amp;</span>' in html and "07" in html
    assert "two &amp; more: $$ has the most, 250.0%; $$, the last, has 250.0%" in html


def test_names_show_what_one_does_not_see():
    assert [shown(name) for name in (" June", "a b ", "  ", "\n", "\u202e", "$$")] == [
        "·June",
        "a b·",
        "··",
        "0A",
        "E2 80 AE",
        "$$",
    ]


def test_words_come_from_the_data():
    line = live_lines([1, 2, 4], {"loss": [3.0, 1.0, 2.0]}, xlabel="step", ylabel="loss")
    assert line.alt == "loss over step. loss: from 3.00 to 2.00, highest at 1 with 3.00."
    cells = live_heatmap([[0.1, 0.9]], ["a"], ["b", "c"], label="share in percent")
    assert cells.alt.endswith("The largest, 90%, is at row a, column c.")
    shaded = live_text([0.0, 2.0, 0.5], ["A", " b", " c"])
    assert shaded.alt == "A text of 3 tokens, shaded by a number each: 2 are above 0, and ·b has the largest, 2.00."
    assert live_bars([1, 2], ["a", "b"], alt="said", digits=0).alt == "said"


@pytest.mark.parametrize(
    "make",
    [
        lambda: live_bars([1.0], ["a", "b"]),
        lambda: live_lines([1, 2], {"y": [1.0]}, xlabel="x", ylabel="y"),
        lambda: live_lines([1], {str(n): [1.0] for n in range(7)}, xlabel="x", ylabel="y"),
        lambda: live_heatmap([[1.0]], ["a", "b"], ["c"], label="l"),
        lambda: live_heatmap([[1.0]], ["a"], ["b"], label="l", texts=[["c", "d"]]),
    ],
)
def test_numbers_that_do_not_fit_are_refused(make):
    with pytest.raises(ValueError, match="expected"):
        make()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_numbers_are_read_on_every_shade(page, theme):
    shades = torch.linspace(0, 1, 41)
    figure = live_heatmap(shades[:, None], [str(n) for n in range(41)], ["c"], label="l", limits=(0.0, 1.0))
    page.set_content(figure._repr_html_())
    page.evaluate("theme => { document.documentElement.dataset.theme = theme }", theme)
    colors = page.evaluate(
        """() => [...document.querySelectorAll("tbody td")].map(cell => {
            const canvas = new OffscreenCanvas(1, 1).getContext("2d"), style = getComputedStyle(cell);
            return [style.color, style.backgroundColor].map(color => {
                canvas.fillStyle = color;
                canvas.fillRect(0, 0, 1, 1);
                return "#" + [...canvas.getImageData(0, 0, 1, 1).data.slice(0, 3)]
                    .map(c => c.toString(16).padStart(2, "0")).join("");
            });
        })"""
    )
    assert len(set(background for _, background in colors)) > 35
    assert min(contrast(*pair) for pair in colors) >= 4.5


def test_a_shaded_text_gives_its_numbers(browser):
    page = browser.new_page()
    page.set_content(live_text([0.0, 2.0, 0.5], ["A", " b", " c"])._repr_html_())
    page.add_script_tag(path=SCRIPT)
    page.evaluate("dispatchEvent(new Event('DOMContentLoaded'))")
    page.locator(".lv-text span").nth(1).hover()
    assert page.locator(".lv-read").inner_text() == "“b”: 2.00"
    page.locator(".lv-picture").press("ArrowRight")
    assert page.locator(".lv-read").inner_text() == "“c”: 0.50"
    assert page.locator(".lv-chosen").all_inner_texts() == [" c"]
    page.close()


def test_a_map_of_words_tells_more_than_it_shows(browser):
    page = browser.new_page()
    figure = live_heatmap([[0.1, 0.9]], ["1"], ["b", "c"], label="l", texts=[["x", " y"]], told=[["x 10%", "y 90%"]])
    page.set_content(figure._repr_html_())
    page.add_script_tag(path=SCRIPT)
    page.evaluate("dispatchEvent(new Event('DOMContentLoaded'))")
    assert page.locator("tbody td").all_inner_texts() == ["x", "·y"]
    page.locator("tbody td").nth(1).hover()
    assert page.locator(".lv-read").inner_text() == "1, c: y 90%"
    page.close()


def test_a_text_has_a_number_a_token():
    with pytest.raises(ValueError, match="expected 2 numbers, one a token, got 1"):
        live_text([1.0], ["a", "b"])
