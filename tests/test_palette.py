"""The book's colors: eyes that lack one kind of cone tell them apart, and all stand out from the page."""

from itertools import combinations

import matplotlib
import numpy as np
import pytest

from rwkv_explainer.drawing.palette import DARK, LIGHT, css_hues

# What such eyes see of linear RGB (Machado, Oliveira and Fernandes 2009, severity 1.0).
EYES = {
    "all cones": np.eye(3),
    "no long-wave cones": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "no middle-wave cones": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "no short-wave cones": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
WHITE = XYZ @ np.ones(3)


def linear(color: str) -> np.ndarray:
    """Linear RGB, between 0 and 1."""
    c = np.array(matplotlib.colors.to_rgb(color))
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def seen(color: str, eyes: str) -> np.ndarray:
    """CIELAB coordinates: distances between them are about what people perceive; 2 can just be noticed."""
    xyz = XYZ @ np.clip(np.array(EYES[eyes]) @ linear(color), 0, 1) / WHITE
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def contrast(one: str, other: str) -> float:
    """As WCAG defines it, from 1 to 21."""
    low, high = sorted(XYZ[1] @ linear(color) for color in (one, other))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("eyes", EYES)
def test_hues_are_told_apart(theme, eyes):
    apart = {(a, b): np.linalg.norm(seen(a, eyes) - seen(b, eyes)) for a, b in combinations(theme.hues, 2)}
    assert {pair: distance for pair, distance in apart.items() if distance < 16} == {}


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_colors_stand_out(theme):
    assert {hue: contrast(hue, theme.ground) for hue in theme.hues if contrast(hue, theme.ground) < 3} == {}
    assert contrast(theme.ink, theme.ground) > 7


@pytest.mark.parametrize("name", [LIGHT.sequence, DARK.sequence, "viridis"])
@pytest.mark.parametrize("eyes", EYES)
def test_color_maps_go_one_way_in_lightness(name, eyes):
    steps = matplotlib.colormaps[name](np.linspace(0, 1, 33))
    lightness = np.array([seen(step, eyes)[0] for step in steps])
    assert (np.diff(lightness) > 0).all() or (np.diff(lightness) < 0).all()


def test_css_names_every_hue():
    css = css_hues(".here")
    assert all(hue in css for hue in LIGHT.hues + DARK.hues) and css.count("--rwkv-hue-6") == 2


def test_figures_write_chinese_and_japanese():
    """Tokens are named in any script; a sign that no font has would be a box, and a warning, which fails this test."""
    from rwkv_explainer.drawing.figure import draw

    figure = draw(lambda figure, theme: figure.text(0, 0, "語言 ことば"), "words")
    assert figure.light != figure.dark
