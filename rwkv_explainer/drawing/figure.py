"""The toolkit of the book's figures: data in, a picture and its words out.

A plot function takes numbers that a model computed and returns a `Plot`, which shows itself in a notebook and on the
page: drawn twice, once for light and once for a dark page, with an alternative text that says what is to be seen. The
text is computed from the data, as the picture is.
"""

import base64
import functools
import importlib.util
import io
import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import matplotlib
import matplotlib.font_manager
import matplotlib.patches
import matplotlib.path
import matplotlib.ticker
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from torch import Tensor

from rwkv_explainer.drawing.palette import DARK, LIGHT, Theme, on_dark


def settings(theme: Theme) -> dict[str, object]:
    """How matplotlib draws in this theme."""
    return {
        "font.size": 11,
        "axes.titlesize": 11,
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


# On a phone, a figure scrolls in its box, and its smallest text stays 9 pixels high.
STYLE = f"""<style>
.rwkv-figure {{ margin: 1rem 0; overflow-x: auto; }}
.rwkv-figure img {{ max-width: 100%; min-width: 30rem; height: auto; background: none; }}
.rwkv-figure .rwkv-dark {{ display: none; }}
{on_dark(".rwkv-figure .rwkv-dark")} {{ display: inline; }}
{on_dark(".rwkv-figure .rwkv-light")} {{ display: none; }}
</style>"""


@dataclass(frozen=True)
class Plot:
    """A finished figure. Notebooks show it by themselves; `alt` is what it says to those who do not see it."""

    alt: str
    light: bytes = field(repr=False)  # the same picture as SVG, for a light page
    dark: bytes = field(repr=False)  # and for a dark page

    def _repr_html_(self) -> str:
        images = (
            f'<img class="rwkv-{theme}" alt="{escape(self.alt)}" '
            f'src="data:image/svg+xml;base64,{base64.b64encode(svg).decode()}">'
            for theme, svg in (("light", self.light), ("dark", self.dark))
        )
        return f'{STYLE}<figure class="rwkv-figure">{"".join(images)}</figure>'


def draw(paint: Callable[[Figure, Theme], None], alt: str, size: tuple[float, float] = (6.4, 3.4)) -> Plot:
    """Let `paint` draw the figure on light and in the dark theme. `size` is in inches."""
    return Plot(alt, *(render(paint, theme, size) for theme in (LIGHT, DARK)))


def render(paint: Callable[[Figure, Theme], None], theme: Theme, size: tuple[float, float]) -> bytes:
    """One SVG of the figure, the same bytes whenever the data is the same."""
    with matplotlib.rc_context(settings(theme)):
        figure = Figure(figsize=size, layout="constrained")
        paint(figure, theme)
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    return minify_svg(file.getvalue())


def minify_svg(svg: bytes) -> bytes:
    """The same picture in fewer bytes: places to a hundredth of a point, no indentation."""
    places = re.compile(rb'\b[dxy]="[^"]*"')  # not transforms: sizes of letters stay as they are
    rounded = places.sub(lambda place: re.sub(rb"(\.\d\d)\d+", rb"\1", place[0]), svg)
    return re.sub(rb"\s*\n\s*", b"\n", rounded)


def title_above(figure: Figure, title: str) -> None:
    """A title over the whole figure, which leaves the place right above the axes to a legend."""
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)


def legend_above(axes: Axes, columns: int = 4) -> None:
    """A legend above the axes, where it covers no data."""
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, borderaxespad=0.2, handlelength=1.4, columnspacing=1.2
    )


def whole_numbers(axis: Axis) -> None:
    """Ticks at whole numbers only, for an axis that counts."""
    axis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))


def color_layers(figure: Figure, axes: Axes, layers: int) -> list[tuple[float, ...]]:
    """A color for each layer, from the first to the last, and a bar beside the axes that says which is which."""
    colors = matplotlib.colormaps["viridis"](torch.linspace(0.25, 0.92, layers).numpy())
    scale = matplotlib.cm.ScalarMappable(
        matplotlib.colors.Normalize(0.5, layers + 0.5), matplotlib.colors.ListedColormap(colors)
    )
    bar = figure.colorbar(scale, ax=axes, label="layer")
    bar.ax.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(nbins=8, integer=True))
    bar.outline.set_visible(False)
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
    image = axes.imshow(cells, vmin=0, vmax=1, aspect="auto")
    label_tokens(axes, columns)
    axes.set_yticks(range(len(rows)), [row.replace(" ", "·") for row in rows])
    axes.grid(False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return image


def contrasting_text(image: AxesImage, value: float) -> str:
    """Black or white: what can be read on the shade that the image has for a value."""
    return "#000000" if sum(image.cmap(image.norm(value))[:3]) > 1.5 else "#ffffff"
