"""Every figure of the book: data in, a figure and its words out.

A plot function takes numbers that a model computed and returns a `Plot`, which shows itself in a notebook and on the
page: drawn twice, once for light and once for dark paper, with an alternative text that says what is to be seen. The
text is computed from the data, as the picture is.
"""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape

import matplotlib
import matplotlib.ticker
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor


@dataclass(frozen=True)
class Paper:
    """What a figure is drawn on and with. The hues are told apart by colour-blind eyes too (after Okabe and Ito)."""

    ink: str  # text and lines
    faint: str  # grids and frames
    hues: tuple[str, ...]  # for data, in this order
    sequence: str  # the colour map from little to much
    ground: str  # the page behind: figures are transparent, marks on the colour map may need it

    @property
    def settings(self) -> dict[str, object]:
        """As matplotlib wants them."""
        return {
            "font.size": 11, "axes.titlesize": 11, "axes.titlelocation": "left", "legend.frameon": False,
            "text.color": self.ink, "axes.labelcolor": self.ink, "xtick.color": self.ink, "ytick.color": self.ink,
            "axes.edgecolor": self.faint, "grid.color": self.faint, "axes.grid": True, "grid.linewidth": 0.6,
            "axes.axisbelow": True, "axes.spines.top": False, "axes.spines.right": False,
            "axes.prop_cycle": matplotlib.cycler(color=self.hues), "image.cmap": self.sequence,
            "figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none",
            "svg.hashsalt": "rwkv", "lines.linewidth": 2,
        }


LIGHT = Paper("#22272e", "#d4d8de", ("#0072b2", "#d55e00", "#009e73", "#a3528a", "#8a6d00", "#4a90c2"), "Purples", "#ffffff")
DARK = Paper("#e3e6ea", "#4a505a", ("#56b4e9", "#f0913f", "#2fc79b", "#e09bc8", "#f0e442", "#9fc9e8"), "magma", "#14181e")

STYLE = """<style>
.rwkv-figure { margin: 1rem 0; } .rwkv-figure img { max-width: 100%; height: auto; background: none; }
.rwkv-figure .rwkv-dark { display: none; }
html[data-theme="dark"] .rwkv-figure .rwkv-dark, [data-jp-theme-light="false"] .rwkv-figure .rwkv-dark,
html[theme="dark"] .rwkv-figure .rwkv-dark { display: inline; }
html[data-theme="dark"] .rwkv-figure .rwkv-light, [data-jp-theme-light="false"] .rwkv-figure .rwkv-light,
html[theme="dark"] .rwkv-figure .rwkv-light { display: none; }
</style>"""  # the page, JupyterLab and Colab each have their own word for dark


@dataclass(frozen=True)
class Plot:
    """A finished figure. Notebooks show it by themselves; `alt` is what it says to those who do not see it."""

    alt: str
    light: bytes = field(repr=False)  # the same picture as SVG, for light paper
    dark: bytes = field(repr=False)  # and for dark paper

    def _repr_html_(self) -> str:
        images = (
            f'<img class="rwkv-{paper}" alt="{escape(self.alt)}" '
            f'src="data:image/svg+xml;base64,{base64.b64encode(svg).decode()}">'
            for paper, svg in (("light", self.light), ("dark", self.dark))
        )
        return f'{STYLE}<figure class="rwkv-figure">{"".join(images)}</figure>'


def draw(paint: Callable[[Figure, Paper], None], alt: str, size: tuple[float, float] = (6.4, 3.4)) -> Plot:
    """Let `paint` draw the figure on light and on dark paper. `size` is in inches."""
    return Plot(alt, *(render(paint, paper, size) for paper in (LIGHT, DARK)))


def render(paint: Callable[[Figure, Paper], None], paper: Paper, size: tuple[float, float]) -> bytes:
    """One SVG of the figure, the same bytes whenever the data is the same."""
    with matplotlib.rc_context(paper.settings):
        figure = Figure(figsize=size, layout="constrained")
        paint(figure, paper)
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def legend_above(axes: Axes) -> None:
    """A legend in a row above the axes, where it covers no data."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, borderaxespad=0.2, handlelength=1.4, columnspacing=1.2)


def whole_numbers(axes: Axes) -> None:
    """Ticks at whole numbers only, for a horizontal axis that counts."""
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))


def label_tokens(axes: Axes, tokens: Sequence[str]) -> None:
    """One tick for each token along the horizontal axis, its spaces made visible."""
    axes.set_xticks(range(len(tokens)), [token.replace(" ", "·") for token in tokens], rotation=40, ha="right")


# ---------------------------------------------------------------------------------------------------------------------
# chapter "Attention and memory"


def plot_fading(rates: Sequence[float], ages: int = 20) -> Plot:
    """How much a token still counts after each further token, for each decay rate.

    Args:
        rates: decay rates per token, above 0; the weight is multiplied by exp(-rate) with every token.
        ages: how many tokens to follow it for.
    """
    age = torch.arange(ages + 1)
    half_lives = [torch.log(torch.tensor(2.0)).item() / rate for rate in rates]

    def paint(figure: Figure, paper: Paper) -> None:
        axes = figure.subplots()
        for rate, half_life in zip(rates, half_lives):
            axes.plot(age, torch.exp(-rate * age), marker="o", markersize=3, label=f"rate {rate:g}: {half_life:.1f} tokens to half")
        axes.set(xlabel="tokens since it was written", ylabel="weight left", ylim=(-0.02, 1.05))
        whole_numbers(axes)
        axes.legend()

    words = "; ".join(f"at rate {r:g} half of it is gone after {h:.1f} tokens" for r, h in zip(rates, half_lives))
    return draw(paint, f"Curves that fall from 1 towards 0 as a written token ages: {words}.")


def plot_running_average(
    values: Float[Tensor, " time"], weights: Float[Tensor, "time time"], averages: Float[Tensor, " time"], tokens: Sequence[str]
) -> Plot:
    """A memory of one channel at work: what was written, and the average that was read.

    Args:
        values: what each token wrote.
        weights: row i holds the share that each token has in the average read at token i; each row sums to 1.
        averages: what was read at each token.
        tokens: their names.
    """
    last = weights[-1]
    top = int(last.argmax())

    def paint(figure: Figure, paper: Paper) -> None:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        upper.plot(averages, label="average read")
        upper.plot(values, "o", label="value written")
        upper.set_ylabel("value")
        legend_above(upper)
        lower.grid(False)
        bottom = torch.zeros(len(values))
        for j in range(len(values)):
            hue = paper.hues[2] if j == top else paper.faint
            lower.bar(range(len(values)), weights[:, j], bottom=bottom, width=0.8, color=hue, edgecolor=paper.ground, linewidth=0.8,
                      label=f"share of {tokens[j].strip()}" if j == top else None)
            bottom = bottom + weights[:, j]
        lower.set(ylabel="shares", ylim=(0, 1))
        legend_above(lower)
        label_tokens(lower, tokens)

    return draw(
        paint,
        f"Above, dots for the values that {len(values)} tokens wrote, and the line of the average read after each: it moves "
        f"towards every new value and ends at {averages[-1]:.2f}. Below, a column for each moment, divided among the tokens "
        f"by their share in the average: in the last one, token {top + 1} ({tokens[top]}) has the largest, {last[top]:.0%}.",
        size=(6.4, 4.6),
    )


def plot_shares(
    shares: dict[str, Float[Tensor, " time"]], tokens: Sequence[str], title: str = ""
) -> Plot:
    """Bars side by side: for each reader, how much of what it read came from each token.

    Args:
        shares: for each reader's name, the share of every token in what it read; each sums to 1.
        tokens: their names.
    """
    width = 0.8 / len(shares)

    def paint(figure: Figure, paper: Paper) -> None:
        axes = figure.subplots()
        for n, (name, share) in enumerate(shares.items()):
            axes.bar(torch.arange(len(tokens)) + (n - (len(shares) - 1) / 2) * width, share, width, label=name)
        axes.set(ylabel="share of what is read")
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
        axes.grid(False, axis="x")
        label_tokens(axes, tokens)
        legend_above(axes)

    found = "; ".join(
        f"{name} takes most from {tokens[int(share.argmax())].strip()} ({share.max():.0%}) and {share[-1]:.0%} from the last token"
        for name, share in shares.items()
    )
    return draw(paint, f"Bars for the share that each of {len(tokens)} tokens has in what is read: {found}.")


def plot_answer_by_layer(probabilities: Float[Tensor, " layers"], untouched: float, answer: str, change: str) -> Plot:
    """A bar for each layer: how probable the answer still is when that layer alone is changed.

    Args:
        probabilities: of the answer, with each layer changed in turn.
        untouched: the same, with none of them changed.
        answer: the text of the answer.
        change: what was done to the layer, in words.
    """
    def paint(figure: Figure, paper: Paper) -> None:
        axes = figure.subplots()
        axes.bar(range(1, len(probabilities) + 1), probabilities)
        axes.axhline(untouched, color=paper.hues[1], linestyle="--", label="nothing changed")
        axes.set(xlabel=f"layer with {change}", ylabel=f"probability of {answer.strip()}", ylim=(0, 1.05))
        axes.grid(False, axis="x")
        whole_numbers(axes)
        legend_above(axes)

    low = int(probabilities.argmin())
    return draw(
        paint,
        f"A bar for each of {len(probabilities)} layers, the probability of {answer.strip()} with {change}: layer {low + 1} matters "
        f"most, it leaves {probabilities[low]:.2f} of {untouched:.2f}; the others leave at least "
        f"{probabilities.sort().values[1:].min() if len(probabilities) > 1 else untouched:.2f}.",
    )
