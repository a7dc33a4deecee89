"""The toolkit of the book's figures: data in, a picture and its words out.

A plot function takes numbers that a model computed and returns a `Plot`, which shows itself in a notebook and on the
page, with an alternative text that says what is to be seen and, if it has one, a caption that states the finding. Both
are computed from the data, as the picture is. The picture is drawn for a wide and for a narrow column, and its colors
are those of the page around, light or dark (`themes.py`).
"""

import functools
import importlib.util
import io
import itertools
import re
import textwrap
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from unittest import mock

import matplotlib
import matplotlib.font_manager
import matplotlib.patches
import matplotlib.path
import matplotlib.text
import matplotlib.ticker
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from torch import Tensor

from rwkv_explainer.drawing.palette import DARK, LIGHT, Theme, css_colors, dark_rule
from rwkv_explainer.drawing.themes import merge_themes
from rwkv_explainer.tokens import in_bytes, in_line

__all__ = [
    "Plot",
    "STYLE",
    "color_bar",
    "color_layers",
    "contrasting_text",
    "draw",
    "format_number",
    "format_probability",
    "format_ranges",
    "heatmap",
    "is_narrow",
    "label_tokens",
    "legend_above",
    "panels",
    "plain_power",
    "title_above",
    "whole_numbers",
]

PHONE = 3.5  # inches: what a page of 360 pixels has for a figure, letters at their size
LONGEST = 22  # signs of a name along an axis
NARROW = 5.0  # inches: what is narrower has its panels and its color bars one below the other


def settings(theme: Theme, narrow: bool = False) -> dict[str, object]:
    """How matplotlib draws in this theme."""
    return {
        "font.size": 9.5 if narrow else 11,
        "axes.titlesize": 9.5 if narrow else 11,
        "text.parse_math": False,  # a token may hold a $
        "axes.titlelocation": "left",
        "legend.frameon": False,
        "font.family": ["DejaVu Sans", *more_fonts()],
        "text.color": theme.ink,
        "axes.labelcolor": theme.ink,
        "xtick.color": theme.ink,
        "ytick.color": theme.ink,
        "axes.edgecolor": theme.faint,
        "grid.color": theme.faint,
        "axes.grid": True,
        "grid.linewidth": 0.6,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.prop_cycle": matplotlib.cycler(color=theme.hues),
        "image.cmap": theme.sequence,
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "savefig.facecolor": "none",
        "svg.hashsalt": "rwkv",
        "lines.linewidth": 2,
    }


@functools.cache
def more_fonts() -> list[str]:
    """Fonts for what DejaVu lacks, Chinese and Japanese signs, where the package that carries one is installed."""
    found = importlib.util.find_spec("matplotlib_fontja")  # importing it would change matplotlib's settings
    fonts = sorted(Path(found.origin).parent.rglob("*.ttf")) if found else []
    for font in fonts:
        matplotlib.font_manager.fontManager.addfont(font)
    return [matplotlib.font_manager.FontProperties(fname=font).get_name() for font in fonts]


STYLE = f"""<style>
{css_colors(".rwkv-figure")}
.rwkv-figure {{ margin: 1rem 0; container-type: inline-size; color: inherit; }}
.rwkv-figure svg {{ display: block; width: 100%; height: auto; background: none; }}
.rwkv-figure svg * {{ stroke-linejoin: round; stroke-linecap: butt; }}
.rwkv-figure figcaption {{ margin: .4rem 0 0; padding: 0; font-size: .9em; font-weight: normal; line-height: 1.45;
  text-align: left; letter-spacing: normal; color: inherit; }}
.rwkv-figure .rwkv-narrow, .rwkv-figure .rwkv-dark {{ display: none; }}
@container (max-width: 27rem) {{
  .rwkv-figure .rwkv-wide {{ display: none; }}
  .rwkv-figure .rwkv-narrow {{ display: block; }}
}}
{dark_rule(".rwkv-figure .rwkv-dark", "display: inline;")}
{dark_rule(".rwkv-figure .rwkv-light", "display: none;")}
</style>"""


@dataclass(frozen=True)
class Plot:
    """A finished figure. Notebooks show it by themselves; `alt` is what it says to those who do not see it."""

    alt: str
    light: bytes = field(repr=False)  # the same picture as SVG, for a light page
    dark: bytes = field(repr=False)  # and for a dark page
    narrow: tuple[bytes, bytes] | None = field(default=None, repr=False)  # both again for a phone; None: as they are
    caption: str = ""  # what is to be seen, in a sentence below the picture

    def pictures(self) -> str:
        """The pictures as HTML, without their words: each with the colors of the page around."""
        wide = merge_themes(self.light, self.dark, "rwkv-wide" if self.narrow else "")
        return wide + (merge_themes(*self.narrow, "rwkv-narrow") if self.narrow else "")

    def _repr_html_(self) -> str:
        caption = f"<figcaption>{escape(in_line(self.caption))}</figcaption>" if self.caption else ""
        picture = f'<div role="img" aria-label="{escape(in_line(self.alt))}">{self.pictures()}</div>'
        return f'{STYLE}<figure class="rwkv-figure">{picture}{caption}</figure>'


def draw(
    paint: Callable[[Figure, Theme], None], alt: str, size: tuple[float, float] = (6.4, 3.4), caption: str = ""
) -> Plot:
    """Let `paint` draw the figure in both themes, at its own width and again as narrow as a phone.

    Args:
        paint: draws on an empty figure; `panels` and `color_bar` lay themselves out for the figure's width.
        alt: what is to be seen, for those who do not see it.
        size: of the wide picture, in inches.
        caption: the finding, in a sentence that stands below the picture.
    """
    light, dark = (render(paint, theme, size) for theme in (LIGHT, DARK))
    narrow = tuple(render(paint, theme, (PHONE, size[1])) for theme in (LIGHT, DARK)) if size[0] > PHONE else None
    return Plot(alt, light, dark, narrow, caption)


def render(paint: Callable[[Figure, Theme], None], theme: Theme, size: tuple[float, float]) -> bytes:
    """One SVG of the figure, the same bytes whenever the data is the same."""
    with matplotlib.rc_context(settings(theme, size[0] < NARROW)), drawable_words():
        figure = Figure(figsize=size, layout="constrained")
        paint(figure, theme)
        fit_axes(figure)
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    return minify_svg(file.getvalue())


def fit_axes(figure: Figure) -> None:
    """Axes without TeX, which tokens rule out, whose names leave room for the picture, and whose words fit."""
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            if isinstance(names := axis.get_major_formatter(), matplotlib.ticker.FuncFormatter):
                axis.set_major_formatter(lambda value, place, names=names: cut(names(value, place)))
            if isinstance(axis.get_major_formatter(), matplotlib.ticker.LogFormatterSciNotation):
                axis.set_major_formatter(lambda value, _: plain_power(value))
            if isinstance(axis.get_minor_formatter(), matplotlib.ticker.LogFormatterSciNotation):
                axis.set_minor_formatter(matplotlib.ticker.NullFormatter())
        if is_narrow(figure):
            axes.set_title(textwrap.fill(axes.get_title("left"), 44), loc="left")
            axes.set_xlabel(textwrap.fill(axes.get_xlabel(), 44))


def cut(name: str) -> str:
    """A name along an axis; axes give way to the longest one, until nothing is left of them."""
    lines = (drawable(line) for line in name.split("\n"))
    return "\n".join(line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…" for line in lines)


@contextmanager
def drawable_words() -> Iterator[None]:
    """All words that matplotlib draws meanwhile, the names of ticks included, are such as its fonts can draw."""
    set_text = matplotlib.text.Text.set_text
    with mock.patch.object(
        matplotlib.text.Text, "set_text", lambda text, words: set_text(text, drawable(str(words or "")))
    ):
        yield


def drawable(text: str) -> str:
    """A text as the fonts can draw it: a sign that none of them has stands as its bytes in hexadecimal."""
    return "".join(sign if sign == "\n" or ord(sign) in drawn_signs() else in_bytes(sign) for sign in text)


@functools.cache
def drawn_signs() -> frozenset[int]:
    """The code points for which there is a font, without those that are not to be seen."""
    families = settings(LIGHT)["font.family"]
    paths = [matplotlib.font_manager.findfont(family, fallback_to_default=False) for family in families]
    known = {point for path in paths for point in matplotlib.font_manager.get_font(path).get_charmap()}
    return frozenset(point for point in known if unicodedata.category(chr(point))[0] != "C")


def plain_power(value: float) -> str:
    """A number as a logarithmic axis writes it: 0.01, 1, 1000, and 10⁶ in place of many zeros."""
    if 1e-4 < value < 1e5:
        return f"{value:g}"
    mantissa, exponent = f"{value:.0e}".split("e")
    power = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{power}" if mantissa == "1" else f"{mantissa}·10{power}"


def is_narrow(figure: Figure) -> bool:
    """Whether the figure is drawn for a phone."""
    return bool(figure.get_figwidth() < NARROW)


def panels(figure: Figure, count: int, share: str = "y") -> list[Axes]:
    """Axes side by side, or one below the other where the figure is narrow; it then grows as high as they need.

    Args:
        share: the axis that they have in common, "x", "y", "xy" or "" for none.
    """
    shared = {"sharex": "x" in share, "sharey": "y" in share, "squeeze": False}
    if not is_narrow(figure):
        return list(figure.subplots(1, count, **shared)[0])
    figure.set_figheight(figure.get_figheight() * (1 + 0.75 * (count - 1)))
    return list(figure.subplots(count, 1, **shared)[:, 0])


def color_bar(
    figure: Figure, image: matplotlib.cm.ScalarMappable, axes: Axes | Sequence[Axes], label: str, **settings: object
) -> Colorbar:
    """What the colors mean: a bar beside the axes, or below them where the figure is narrow."""
    below = {"location": "bottom", "shrink": 0.9, "aspect": 30}
    bar = figure.colorbar(image, ax=axes, label=label, **(settings | (below if is_narrow(figure) else {})))
    bar.outline.set_visible(False)
    return bar


def minify_svg(svg: bytes) -> bytes:
    """The same picture in fewer bytes: places to a hundredth of a point, no indentation."""
    places = re.compile(rb'\b[dxy]="[^"]*"')  # not transforms: sizes of letters stay as they are
    rounded = places.sub(lambda place: re.sub(rb"(\.\d\d)\d+", rb"\1", place[0]), svg)
    return re.sub(rb"\s*\n\s*", b"\n", rounded)


def title_above(figure: Figure, title: str) -> None:
    """A title over the whole figure, which leaves the place right above the axes to a legend."""
    figure.suptitle(textwrap.fill(title, 44 if is_narrow(figure) else 88), x=0.01, ha="left", fontsize="medium")


def legend_above(axes: Axes, columns: int = 4) -> None:
    """A legend above the axes, where it covers no data; in a narrow figure in as many columns as have room."""
    names = axes.get_legend_handles_labels()[1]
    if is_narrow(axes.figure):
        columns = max(1, min(columns, 38 // (6 + max(map(len, names), default=0))))
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, borderaxespad=0.2, handlelength=1.4, columnspacing=1.2
    )


def whole_numbers(axis: Axis) -> None:
    """Ticks at whole numbers only, for an axis that counts."""
    axis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))


def color_layers(figure: Figure, axes: Axes | Sequence[Axes], layers: int) -> list[tuple[float, ...]]:
    """A color for each layer, from the first to the last, and a bar beside all axes that says which is which."""
    colors = matplotlib.colormaps["viridis"](torch.linspace(0.25, 0.92, layers).numpy())
    scale = matplotlib.cm.ScalarMappable(
        matplotlib.colors.Normalize(0.5, layers + 0.5), matplotlib.colors.ListedColormap(colors)
    )
    bar = color_bar(figure, scale, axes, "layer")
    bar.long_axis.set_major_locator(matplotlib.ticker.MaxNLocator(nbins=8, integer=True))
    return [tuple(color) for color in colors.tolist()]


def label_tokens(axes: Axes, tokens: Sequence[str]) -> None:
    """One tick for each token along the horizontal axis, its spaces made visible."""
    names = [token.replace(" ", "·") for token in tokens]
    axes.set_xticks(range(len(tokens)), names, rotation=40, ha="right", rotation_mode="anchor")


def format_number(number: Tensor | float) -> str:
    """A number with two digits after the point, with a true minus, and none before zero."""
    return f"{round(float(number), 2) + 0.0:.2f}".replace("-", "−")


def format_ranges(row: Tensor) -> str:
    """Where a row of truth values is true, counted from 1 and in words: 1 to 4, 7."""
    places = [i + 1 for i, true in enumerate(row.tolist()) if true]
    groups = itertools.groupby(enumerate(places), lambda pair: pair[1] - pair[0])  # the same within a run
    runs = [[place for _, place in group] for _, group in groups]
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)


def format_probability(probability: float) -> str:
    """A probability as figures write it."""
    return f"{probability:.3f}" if probability >= 0.001 else "<0.001"


def heatmap(axes: Axes, cells: Float[Tensor, "rows columns"], rows: Sequence[str], columns: Sequence[str]) -> AxesImage:
    """A table of numbers from 0 to 1 as shades, a token for each row and each column."""
    image = axes.imshow(cells.numpy(), vmin=0, vmax=1, aspect="auto")
    label_tokens(axes, columns)
    axes.set_yticks(range(len(rows)), [row.replace(" ", "·") for row in rows])
    axes.grid(False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return image


def contrasting_text(image: AxesImage, value: float) -> str:
    """Black or white: what can be read on the shade that the image has for a value."""
    return "#000000" if sum(image.cmap(image.norm(value))[:3]) > 1.5 else "#ffffff"
