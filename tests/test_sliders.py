"""Sliders: they begin where the figure does, each move draws anew, and a page gets the figure alone."""

import pytest

from rwkv_explainer.drawing.figure import Plot
from rwkv_explainer.drawing.sliders import STILL, slide

WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def drawn(monkeypatch) -> list[dict]:
    monkeypatch.delenv(STILL, raising=False)
    return []


@pytest.fixture
def figure(drawn):
    """A figure that keeps a record of what it was drawn with."""

    def draw(rate: float = 0.5, tokens: int = 3) -> Plot:
        drawn.append({"rate": rate, "tokens": tokens})
        return Plot(f"rate {rate}, {tokens} tokens", b"", b"")

    return draw


def test_sliders_begin_where_the_figure_does(figure):
    rate, tokens = slide(figure, rate=(0.0, 2.0, 0.25), tokens=(1, 9)).sliders.values()
    assert (rate.value, rate.min, rate.max, rate.step) == (0.5, 0.0, 2.0, 0.25)
    assert (tokens.value, tokens.min, tokens.max) == (3, 1, 9) and isinstance(tokens.value, int)


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


def test_a_page_gets_the_figure_alone(figure, drawn, monkeypatch):
    monkeypatch.setenv(STILL, "1")
    assert isinstance(slide(figure, rate=(0.0, 2.0), tokens=(1, 9)), Plot)
    assert drawn == [{"rate": 0.5, "tokens": 3}]


@pytest.mark.parametrize("still", ["", "1"])
def test_a_default_out_of_range_is_refused_on_a_page_too(figure, monkeypatch, still):
    monkeypatch.setenv(STILL, still)
    with pytest.raises(ValueError, match="rate goes from 1.0 to 2.0.*0.5"):
        slide(figure, rate=(1.0, 2.0), tokens=(1, 9))


@pytest.mark.parametrize("ranges", [{"rate": (0.0, 2.0)}, {"rate": (0.0, 2.0), "tokens": (1, 9), "layers": (1, 2)}])
def test_each_argument_has_a_range_and_each_range_an_argument(figure, ranges):
    with pytest.raises(ValueError, match=r"expected arguments of draw .* got .*rate: float = 0.5.* ranges for rate"):
        slide(figure, **ranges)


def test_an_argument_without_a_default_is_refused(drawn):
    with pytest.raises(ValueError, match=r"a default and a range each, got the arguments \(rate\)"):
        slide(lambda rate: None, rate=(0.0, 2.0))
