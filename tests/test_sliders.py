"""Sliders: they begin where the figure does, each move draws anew, and a page gets what each position shows."""

import json
import re

import pytest

from rwkv_explainer.drawing import figure as toolkit
from rwkv_explainer.drawing import sliders as module
from rwkv_explainer.drawing.figure import Plot
from rwkv_explainer.drawing.live import Live, live_bars
from rwkv_explainer.drawing.sliders import BUILDING, slide

WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def drawn(monkeypatch) -> list[dict]:
    monkeypatch.delenv(BUILDING, raising=False)
    return []


@pytest.fixture
def figure(drawn):
    """A figure that keeps a record of what it was drawn with."""

    def draw(rate: float = 0.5, tokens: int = 3) -> Live:
        drawn.append({"rate": rate, "tokens": tokens})
        return live_bars([rate, float(tokens)], ["rate", "tokens"], alt=f"rate {rate}, {tokens} tokens", digits=2)

    return draw


def test_sliders_begin_where_the_figure_does(figure):
    rate, tokens = slide(figure, rate=(0.0, 2.0, 0.25), tokens=(1, 9)).sliders.values()
    assert rate.value == 0.5 and [value for _, value in rate.options] == [n / 4 for n in range(9)]
    assert tokens.value == 3 and [value for _, value in tokens.options] == list(range(1, 10))


def test_a_moved_slider_draws_anew(figure, drawn):
    sliders = slide(figure, rate=(0.0, 2.0, 0.25), tokens=(1, 9))
    sliders.sliders["rate"].value = 1.75
    assert drawn[-1] == {"rate": 1.75, "tokens": 3}
    assert "rate 1.75, 3 tokens" in sliders.picture.value


def test_a_slider_draws_when_it_is_let_go(figure):
    sliders = slide(figure, rate=(0.0, 2.0), tokens=(1, 9)).sliders
    assert not any(slider.continuous_update for slider in sliders.values())


def test_a_notebook_without_a_kernel_shows_the_first_figure(figure):
    sliders = slide(figure, rate=(0.0, 2.0), tokens=(1, 9))
    sliders.sliders["tokens"].value = 9
    shown = sliders._repr_mimebundle_()
    assert WIDGET in shown and "rate 0.5, 3 tokens" in shown["text/html"]


def test_values_are_numbers_words_or_a_switch(drawn):
    def draw(layer: int = 2, restored: str = "state", gates: bool = True) -> Live:
        return live_bars([layer], [restored], alt=f"{layer} {restored} {gates}")

    layer, restored, gates = slide(draw, layer=(1, 5), restored=["both", "state"], gates=(False, True)).sliders.values()
    assert (layer.value, restored.value, gates.value) == (2, "state", True)
    assert [type(widget).__name__ for widget in (layer, restored, gates)] == ["SelectionSlider", "Dropdown", "Checkbox"]


def numbers_on(html: str) -> dict:
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', html)[1].replace("<\\/", "</"))


def test_a_page_gets_what_every_position_shows(figure, drawn, monkeypatch):
    monkeypatch.setenv(BUILDING, "1")
    html = slide(figure, rate=(0.0, 2.0, 0.5), tokens=(1, 9))._repr_html_()
    told = numbers_on(html)
    assert len(told["frames"]) == 5 * 9 and told["start"] == 1 * 9 + 2
    assert told["frames"][told["start"]] == {} and told["base"]["alt"] == "rate 0.5, 3 tokens"
    assert told["frames"][4 * 9 + 8] == {
        "series": [["", [2.0, 9.0]]],
        "limits": [0.0, 9.0],
        "alt": "rate 2.0, 9 tokens",
    }
    assert html.count('type="range"') == 2 and 'data-values="0|0.5|1|1.5|2"' in html and "<b>" not in html
    assert '<div class="lv-controls" hidden>' in html  # until a script has heard of them


def test_pictures_share_their_parts(monkeypatch):
    monkeypatch.setenv(BUILDING, "1")

    def draw(height: int = 2) -> Plot:
        def paint(figure, theme):
            figure.subplots().plot([0, height])
            figure.axes[0].set_ylim(0, 3)

        return toolkit.draw(paint, f"up to {height}", caption="higher")

    html = slide(draw, height=(1, 3))._repr_html_()
    told = numbers_on(html)
    first, _, third = ("".join(told["pieces"][n] for n in frame["picture"]) for frame in told["frames"])
    assert first != third and first.count("<svg") == third.count("<svg") == 2
    assert re.sub("frame-", "", first).count("href") == draw(1).pictures().count("href")
    assert sum(map(len, told["pieces"])) < 1.3 * len(first) and told["frames"][2]["alt"] == "up to 3"


def test_too_much_for_a_page_is_refused(figure, monkeypatch):
    monkeypatch.setenv(BUILDING, "1")
    monkeypatch.setattr(module, "MOST_BYTES", 1000)
    with pytest.raises(
        ValueError, match="10 positions of draw take . kB, compressed: expected 1 at most.*steps larger"
    ):
        slide(figure, rate=(0.0, 0.5, 0.5), tokens=(1, 5))
    with pytest.raises(ValueError, match="70 positions are too many to draw as pictures.*live.py"):
        slide(lambda n=1: Plot("", b"", b""), n=(1, 70))


@pytest.mark.parametrize("still", ["", "1"])
def test_a_default_out_of_range_is_refused_on_a_page_too(figure, monkeypatch, still):
    monkeypatch.setenv(BUILDING, still)
    with pytest.raises(ValueError, match="rate goes from 1.0 to 2.0.*0.5"):
        slide(figure, rate=(1.0, 2.0), tokens=(1, 9))


@pytest.mark.parametrize("ranges", [{"rate": (0.0, 2.0)}, {"rate": (0.0, 2.0), "tokens": (1, 9), "layers": (1, 2)}])
def test_each_argument_has_a_range_and_each_range_an_argument(figure, ranges):
    with pytest.raises(ValueError, match=r"expected arguments of draw .* got .*rate: float = 0.5.* ranges for rate"):
        slide(figure, **ranges)


def test_an_argument_without_a_default_is_refused(drawn):
    with pytest.raises(ValueError, match=r"a default and a range each, got the arguments \(rate\)"):
        slide(lambda rate: None, rate=(0.0, 2.0))


def test_a_default_between_the_steps_is_refused(figure):
    with pytest.raises(ValueError, match="rate has the values 0.0, 0.4, 0.8; it cannot begin at 0.5"):
        slide(figure, rate=(0.0, 1.0, 0.4), tokens=(1, 9))
