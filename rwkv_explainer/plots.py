"""Every figure of the book: data in, a figure and its words out.

A plot function takes numbers that a model computed and returns a `Plot`, which shows itself in a notebook and on the
page: drawn twice, once for light and once for dark paper, with an alternative text that says what is to be seen. The
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
from tokenizers import Tokenizer
from torch import Tensor

from rwkv_explainer.palette import DARK, LIGHT, Paper, on_dark


def settings(paper: Paper) -> dict[str, object]:
    """How matplotlib draws on this paper."""
    return {
        "font.size": 11, "axes.titlesize": 11, "axes.titlelocation": "left", "legend.frameon": False,
        "font.family": ["DejaVu Sans", *more_fonts()],
        "text.color": paper.ink, "axes.labelcolor": paper.ink, "xtick.color": paper.ink, "ytick.color": paper.ink,
        "axes.edgecolor": paper.faint, "grid.color": paper.faint, "axes.grid": True, "grid.linewidth": 0.6,
        "axes.axisbelow": True, "axes.spines.top": False, "axes.spines.right": False,
        "axes.prop_cycle": matplotlib.cycler(color=paper.hues), "image.cmap": paper.sequence,
        "figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none",
        "svg.hashsalt": "rwkv", "lines.linewidth": 2,
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
    with matplotlib.rc_context(settings(paper)):
        figure = Figure(figsize=size, layout="constrained")
        paint(figure, paper)
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    return lean(file.getvalue())


def lean(svg: bytes) -> bytes:
    """The same picture in fewer bytes: places to a hundredth of a point, no indentation."""
    places = re.compile(rb'\b[dxy]="[^"]*"')  # not transforms: sizes of letters stay as they are
    rounded = places.sub(lambda place: re.sub(rb"(\.\d\d)\d+", rb"\1", place[0]), svg)
    return re.sub(rb"\s*\n\s*", b"\n", rounded)


def title_above(figure: Figure, title: str) -> None:
    """A title over the whole figure, which leaves the place right above the axes to a legend."""
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)


def legend_above(axes: Axes, columns: int = 4) -> None:
    """A legend above the axes, where it covers no data."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, borderaxespad=0.2, handlelength=1.4,
                columnspacing=1.2)


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


# ---------------------------------------------------------------------------------------------------------------------
# chapter "Attention and memory"


def plot_fading(rates: Sequence[float], ages: int = 20) -> Plot:
    """How much a token still counts after each further token, for each decay rate.

    Args:
        rates: decay rates per token, above 0; the weight is multiplied by exp(-rate) with every token.
        ages: how many tokens to follow it for.
    """
    age = torch.arange(ages + 1)
    between = torch.linspace(0, ages, 20 * ages + 1)
    half_lives = [torch.log(torch.tensor(2.0)).item() / rate for rate in rates]

    def paint(figure: Figure, paper: Paper) -> None:
        axes = figure.subplots()
        for rate, half_life in zip(rates, half_lives):
            (curve,) = axes.plot(between, torch.exp(-rate * between),
                                 label=f"rate {rate:g}: {half_life:.1f} tokens to half")
            axes.plot(age, torch.exp(-rate * age), "o", markersize=3, color=curve.get_color())
        axes.set(xlabel="tokens since it was written", ylabel="weight left", ylim=(-0.02, 1.05))
        whole_numbers(axes.xaxis)
        axes.legend()

    words = "; ".join(f"at rate {r:g} half of it is gone after {h:.1f} tokens" for r, h in zip(rates, half_lives))
    return draw(paint, f"Curves that fall from 1 towards 0 as a written token ages: {words}.")


def plot_running_average(
    values: Float[Tensor, " time"], weights: Float[Tensor, "time time"], averages: Float[Tensor, " time"],
    tokens: Sequence[str],
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
            lower.bar(range(len(values)), weights[:, j], bottom=bottom, width=0.8, color=hue, edgecolor=paper.ground,
                      linewidth=0.8, label=f"share of {tokens[j].strip()}" if j == top else None)
            bottom = bottom + weights[:, j]
        lower.set(ylabel="shares", ylim=(0, 1))
        legend_above(lower)
        label_tokens(lower, tokens)

    return draw(
        paint,
        f"Above, dots for the values that {len(values)} tokens wrote, and the line of the average read after each: it "
        f"moves towards every new value and ends at {averages[-1]:.2f}. Below, a column for each moment, divided among "
        f"the tokens by their share in the average: in the last one, token {top + 1} ({tokens[top]}) has the largest, "
        f"{last[top]:.0%}.",
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
        title_above(figure, title)
        axes.grid(False, axis="x")
        label_tokens(axes, tokens)
        legend_above(axes)

    found = "; ".join(
        f"{name} takes most from {tokens[int(share.argmax())].strip()} ({share.max():.0%}) and {share[-1]:.0%} from "
        "the last token"
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
        whole_numbers(axes.xaxis)
        legend_above(axes)

    middle = probabilities.median().item()
    apart = [f"layer {n} ({p:.2f})" for n, p in enumerate(probabilities.tolist(), 1) if abs(p - middle) > 0.05]
    found = f"All but {' and '.join(apart)} leave" if apart else "All leave"
    return draw(
        paint,
        f"A bar for each of {len(probabilities)} layers, the probability of {answer.strip()} with {change}; it is "
        f"{untouched:.2f} with nothing changed. {found} {middle:.2f}, give or take 0.05.",
    )


# ---------------------------------------------------------------------------------------------------------------------
# chapter "Time decay"


def plot_time_decays(decays: Float[Tensor, "layers channels"], title: str = "") -> Plot:
    """The paper's Figure 10: what is left of a weight after one token, each layer's channels sorted.

    Args:
        decays: between 0 and 1, as `decay.time_decays` returns them.
    """
    layers = len(decays)
    ordered = decays.sort(dim=-1, descending=True).values  # (layers, channels)

    def paint(figure: Figure, paper: Paper) -> None:
        axes = figure.subplots()
        for curve, color in zip(ordered, color_layers(figure, axes, layers)):
            axes.plot(curve, color=color, linewidth=1.8)
        axes.set(xlabel="channel, sorted", ylabel="left after one token", ylim=(-0.02, 1.04), title=title)

    first, last = decays[0].mean(), decays[-1].mean()
    return draw(
        paint,
        f"{layers} falling curves, one a layer, of what is left of a weight after one token, channels sorted: from "
        f"near {ordered.max():.2f} down to near {ordered.min():.2f}. The mean is {first:.2f} in the first layer and "
        f"{last:.2f} in the last.",
    )


def plot_half_life_counts(half_lives: Float[Tensor, "layers channels"], bounds: Sequence[float] = (1, 10, 100)) -> Plot:
    """How many of each layer's channels forget how fast: stacked bars, a layer a row."""
    edges = [0.0, *bounds, float("inf")]
    names = [f"under {bounds[0]:g}", *(f"{a:g} to {b:g}" for a, b in zip(bounds, bounds[1:])), f"over {bounds[-1]:g}"]
    shares = torch.stack([((half_lives >= a) & (half_lives < b)).float().mean(dim=1) for a, b in zip(edges, edges[1:])])

    def paint(figure: Figure, paper: Paper) -> None:
        axes = figure.subplots()
        colors = matplotlib.colormaps["viridis"](torch.linspace(0.1, 0.9, len(names)).numpy())
        left = torch.zeros(half_lives.shape[0])
        for name, share, color in zip(names, shares, colors):
            axes.barh(range(1, len(share) + 1), share, left=left, color=color, label=name)
            left = left + share
        axes.grid(False)
        axes.invert_yaxis()
        axes.set(xlabel="share of the channels, by half-life in tokens", ylabel="layer", xlim=(0, 1))
        whole_numbers(axes.yaxis)
        legend_above(axes)

    local, lasting = shares[0], shares[-1]
    return draw(
        paint,
        f"A bar for each layer, divided by half-life. Channels that forget half within {bounds[0]:g} token: "
        f"{local[0]:.0%} in the first layer, {local[-1]:.0%} in the last. Channels that hold for over {bounds[-1]:g}: "
        f"{lasting[0]:.0%} in the first layer, {lasting[-1]:.0%} in the last.",
    )


# ---------------------------------------------------------------------------------------------------------------------
# chapter "Causal trace"


def plot_causal_trace(
    grid: Float[Tensor, "tokens layers"],
    tokens: Sequence[str],
    subject: range | None = None,
    label: str = "log-probability of the answer",
    title: str = "",
    ends: tuple[float, float] | None = None,
) -> Plot:
    """The paper's Figure 11: tokens down, layers across, darker (on dark paper: brighter) where more is restored.

    Args:
        grid: a number for each token and layer.
        subject: which tokens are marked with a star.
        ends: the numbers at the two ends of the color scale, for maps to be compared; None for the grid's own.
    """
    layers = grid.shape[1]
    names = [token.replace(" ", "·") + ("*" if subject and i in subject else "") for i, token in enumerate(tokens)]
    low, high = ends or (grid.min().item(), grid.max().item())

    def paint(figure: Figure, paper: Paper) -> None:
        axes = figure.subplots()
        image = axes.imshow(grid.numpy(), aspect="auto", cmap=paper.sequence, interpolation="nearest", vmin=low,
                            vmax=high, extent=(0.5, layers + 0.5, len(names) - 0.5, -0.5))
        axes.set_yticks(range(len(names)), names)
        axes.set(xlabel="layer", title=title)
        axes.grid(False)
        whole_numbers(axes.xaxis)
        figure.colorbar(image, ax=axes, label=label).outline.set_visible(False)

    upper = grid > (low + high) / 2  # (tokens, layers)
    side, cells = ("upper", upper) if upper.sum() <= upper.numel() / 2 else ("lower", ~upper)
    named = [(name, row) for name, row in zip(names, cells) if row.any()]
    found = "; ".join(f"{name}, layer{'s' * (row.sum() > 1)} {in_runs(row)}" for name, row in named)
    return draw(
        paint,
        f"A heat map{f' ({title})' if title else ''}, {len(names)} tokens down, {layers} layers across, {label} from "
        f"{signed(grid.min())} to {signed(grid.max())}. In the {side} half of the scale: {found or 'none'}.",
        size=(6.4, max(2.6, 0.3 * len(names) + 1.0)),
    )


def signed(number: Tensor | float) -> str:
    """A number with two digits after the point, with a true minus, and none before zero."""
    return f"{round(float(number), 2) + 0.0:.2f}".replace("-", "−")


def in_runs(row: Tensor) -> str:
    """Where a row of truth values is true, counted from 1 and in words: 1 to 4, 7."""
    places = [i + 1 for i, true in enumerate(row.tolist()) if true]
    groups = itertools.groupby(enumerate(places), lambda pair: pair[1] - pair[0])  # the same within a run
    runs = [[place for _, place in group] for _, group in groups]
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)


# ---------------------------------------------------------------------------------------------------------------------
# chapter "Strings, tokens, probabilities"

BYTES_ITSELF = [*range(33, 127), *range(161, 173), *range(174, 256)]
BYTE_OF = {chr(byte): byte for byte in BYTES_ITSELF} | {
    chr(256 + n): byte for n, byte in enumerate(byte for byte in range(256) if byte not in BYTES_ITSELF)
}  # byte-level tokenizers write every byte as one printable character: most as themselves, the others from 256 on


def token_name(token_ids: int | Sequence[int], tokenizer: Tokenizer, space: str = "·") -> str:
    """A token as figures write it, or several as one text.

    Spaces become ·, or what `space` says, and line ends ↵. What is no whole character stands as bytes in hexadecimal.
    """
    token_ids = [token_ids] if isinstance(token_ids, int) else token_ids
    data = b"".join(token_bytes(token_id, tokenizer) for token_id in token_ids)
    try:
        return data.decode().translate({ord(" "): space, ord("\n"): "↵", ord("\t"): "⇥", ord("\r"): "␍"})
    except UnicodeDecodeError:
        if len(token_ids) > 1:  # the others are no worse for it
            return "".join(token_name(token_id, tokenizer, space) for token_id in token_ids)
        return data.hex(" ").upper()


def token_bytes(token_id: int, tokenizer: Tokenizer) -> bytes:
    """What a token stands for in UTF-8; its number, such as #9000, where the tokenizer has none of that id."""
    token = tokenizer.id_to_token(token_id)
    if token is None:
        return f"#{token_id}".encode()
    return b"".join(bytes([BYTE_OF[c]]) if c in BYTE_OF else c.encode() for c in token)


def namer(tokenizer: Tokenizer, space: str = "·") -> Callable[..., str]:
    """A function that writes tokens as `token_name` does, one or several as a text, as code for a Markdown table."""
    def name(*token_ids: int) -> str:
        return "`" + token_name(token_ids, tokenizer, space).translate({ord("|"): "¦", ord("`"): "ˋ"}) + "`"

    return name


def in_digits(probability: float) -> str:
    """A probability as figures write it."""
    return f"{probability:.3f}" if probability >= 0.001 else "<0.001"


@dataclass(frozen=True)
class TokenRow:
    """A text cut into its tokens, each in a box above its id. Notebooks show it by themselves."""

    alt: str
    names: tuple[str, ...]
    ids: tuple[int, ...]

    def _repr_html_(self) -> str:
        box = "display:inline-block;margin:2px 1px;padding:1px 4px;border-radius:4px;text-align:center;line-height:1.3"
        plain = "background:none;border:none;padding:0;color:inherit;font-size:1em"
        boxes = (
            f'<span style="{box};background:{LIGHT.hues[n % 3]}40"><code style="{plain}">{escape(name)}</code><br>'
            f'<small style="opacity:.8">{token_id}</small></span>'
            for n, (name, token_id) in enumerate(zip(self.names, self.ids))
        )
        return f'<div class="rwkv-tokens" role="figure" aria-label="{escape(self.alt)}">{"".join(boxes)}</div>'


def show_tokens(text: str, tokenizer: Tokenizer) -> TokenRow:
    """How the tokenizer cuts a text up: a colored box for each token, named as `token_name` does, with its id."""
    ids = tuple(tokenizer.encode(text).ids)
    names = tuple(token_name(token_id, tokenizer) for token_id in ids)
    return TokenRow(f"{len(text)} characters cut into {len(ids)} tokens: {', '.join(names)}.", names, ids)


def plot_top_tokens(
    probabilities: Float[Tensor, " vocabulary"], tokenizer: Tokenizer, k: int = 10, title: str = ""
) -> Plot:
    """The likeliest next tokens: a bar for each, longest on top, its probability written beside it.

    Args:
        probabilities: for every token of the vocabulary, summing to 1.
        tokenizer: it knows their names.
        k: how many tokens to show.
        title: above the bars.
    """
    top = probabilities.topk(min(k, len(probabilities)))
    names = [token_name(token_id, tokenizer) for token_id in top.indices.tolist()]
    values = top.values.tolist()

    def paint(figure: Figure, paper: Paper) -> None:
        axes = figure.subplots()
        bars = axes.barh(range(len(names)), values)
        axes.bar_label(bars, [in_digits(value) for value in values], padding=4, color=paper.ink)
        axes.set_yticks(range(len(names)), names, parse_math=False)
        axes.set(xlabel="probability of being next", xlim=(0, 1.18 * values[0]), title=title)
        axes.invert_yaxis()
        axes.grid(False, axis="y")

    listed = ", ".join(f"{name} {in_digits(value)}" for name, value in zip(names[1:4], values[1:4]))
    return draw(
        paint,
        f"{title + ': ' if title else ''}bars for the {len(names)} likeliest next tokens. First comes {names[0]} with "
        f"probability {values[0]:.3f}, then {listed}; all {len(names)} together have {sum(values):.3f}.",
        size=(6.4, 1.0 + 0.27 * len(names)),
    )


def plot_reshaped(
    distributions: dict[str, Float[Tensor, " vocabulary"]], tokenizer: Tokenizer, k: int = 8, title: str = ""
) -> Plot:
    """One distribution in several shapes, side by side: the likeliest tokens, and all others together.

    Args:
        distributions: for each shape's name, the probability of every token; each sums to 1.
        tokenizer: it knows the tokens' names.
        k: how many tokens to show; they are the likeliest of the first shape.
        title: above the panels.
    """
    top = next(iter(distributions.values())).topk(k).indices
    names = [token_name(token_id, tokenizer) for token_id in top.tolist()]
    others = {name: 1 - shape[top].sum().item() for name, shape in distributions.items()}

    def paint(figure: Figure, paper: Paper) -> None:
        panels = figure.subplots(1, len(distributions), sharex=True, sharey=True, squeeze=False)[0]
        for axes, (name, shape) in zip(panels, distributions.items()):
            axes.barh(range(k), shape[top])
            axes.barh(k, others[name], color=paper.hues[1])
            axes.set(title=name)
            axes.grid(False, axis="y")
            axes.tick_params(left=False)
        panels[0].set_yticks(range(k + 1), [*names, "all others"], parse_math=False)
        panels[0].set_xlim(0, 1)
        panels[0].set_xticks([0, 0.5, 1], ["0", "½", "1"])
        panels[0].invert_yaxis()
        figure.get_layout_engine().set(wspace=0.08)
        figure.supxlabel("probability of being drawn", fontsize=11)
        title_above(figure, title)

    found = "; ".join(
        f"{name}, {names[0]} has {shape[top[0]]:.2f} and all others together {others[name]:.2f}, "
        f"spread over {int((shape > 0).sum()) - int((shape[top] > 0).sum())} tokens"
        for name, shape in distributions.items()
    )
    return draw(
        paint,
        f"{title + ': ' if title else ''}panels side by side, each with bars for the same {k} tokens and one for all "
        f"others: {found}.",
    )


def plot_before_after(
    before: Float[Tensor, "layers channels"], after: Float[Tensor, "layers channels"], start: str = "before training"
) -> Plot:
    """Each channel's half-life after training, and what it is compared with, a dot each, on logarithmic axes.

    Args:
        start: what `before` is, in words.
    """
    layers = len(before)
    low, high = min(before.min(), after.min()).item() / 2, max(before.max(), after.max()).item() * 2

    def paint(figure: Figure, paper: Paper) -> None:
        axes = figure.subplots()
        for x, y, color in zip(before, after, color_layers(figure, axes, layers)):
            # each dot is a line without length: hundreds of them in one path, where scatter takes an element a dot
            points = torch.stack([x, y], dim=1).repeat_interleave(2, dim=0)  # (channels times 2, 2)
            dots = matplotlib.path.Path(points, [matplotlib.path.Path.MOVETO, matplotlib.path.Path.LINETO] * len(x))
            dots.should_simplify = False
            style = {"color": color, "alpha": 0.7, "linewidth": 2.6, "capstyle": "round", "fill": False}
            axes.add_patch(matplotlib.patches.PathPatch(dots, **style))
        axes.plot([low, high], [low, high], color=paper.ink, linewidth=1, linestyle="--")
        axes.set(xscale="log", yscale="log", xlabel=f"half-life {start}, in tokens", xlim=(low, high), ylim=(low, high),
                 ylabel="after training, in tokens")
        axes.annotate("the same", (high, high), ha="right", va="top", xytext=(-28, -2), textcoords="offset points",
                      fontsize=10)

    change = (after / before).log2()
    spread = before.log2() - before.log2().mean()
    slope = 1 + (spread * change).sum() / (spread**2).sum()  # of the line nearest to the dots
    return draw(
        paint,
        f"A dot for each of {before.numel()} channels, its half-life {start} across and after training up. They "
        f"follow a line of slope {slope:.2f}, where the diagonal has 1; half of them are within a factor of "
        f"{2 ** change.abs().median():.2f} of the diagonal, and {(change > 0).double().mean():.0%} lie above it.",
        size=(6.4, 4.6),
    )


def plot_noise(
    levels: Sequence[float], corrupted: Float[Tensor, " levels"], restored: Float[Tensor, " levels"], layer: int
) -> Plot:
    """How hard noise of each size hits, and what a layer restored between subject and answer brings back."""
    def paint(figure: Figure, paper: Paper) -> None:
        axes = figure.subplots()
        axes.plot(levels, restored, marker="o", label=f"layer {layer} restored between")
        axes.plot(levels, corrupted, marker="o", label="nothing restored")
        axes.set(xlabel="size of the noise, in standard deviations", ylabel="log-probability")
        legend_above(axes)

    return draw(
        paint,
        f"Two lines over the size of the noise, from {levels[0]:g} to {levels[-1]:g} standard deviations. With nothing "
        f"restored the log-probability of the answer goes from {signed(corrupted[0])} to {signed(corrupted[-1])}; with "
        f"layer {layer} restored at the words between, from {signed(restored[0])} to {signed(restored[-1])}.",
    )


def plot_role_curves(
    mean: Float[Tensor, "roles layers"], error: Float[Tensor, "roles layers"], roles: Sequence[str], title: str = "",
    top: float | None = None,
) -> Plot:
    """What each role regains, by layer: the mean over many facts, and a band of one standard error.

    Args:
        top: the upper end of the vertical axis, for figures to be compared; None for what the lines need.
    """
    layer = torch.arange(1, mean.shape[1] + 1)
    present = [i for i in range(len(roles)) if mean[i].isfinite().all()]

    def paint(figure: Figure, paper: Paper) -> None:
        axes = figure.subplots()
        for i in present:
            axes.plot(layer, mean[i], label=roles[i], color=paper.hues[i])
            low, high = mean[i] - error[i], mean[i] + error[i]
            axes.fill_between(layer, low, high, color=paper.hues[i], alpha=0.18, linewidth=0)
        axes.set(xlabel="layer", ylabel="probability regained")
        axes.set_ylim(top=top)
        title_above(figure, title)
        whole_numbers(axes.xaxis)
        legend_above(axes, columns=2)

    peaks = "; ".join(f"{roles[i]} {mean[i].max():.2f} in layer {int(mean[i].argmax()) + 1}" for i in present)
    return draw(
        paint, "A line for each role of a token, the probability regained by layer, with bands of one standard error. "
               f"Peaks: {peaks}.", size=(6.4, 4.2)
    )


# ---------------------------------------------------------------------------------------------------------------------
# chapter "Blocks and the residual stream"


def plot_update_sizes(
    attention: Float[Tensor, " layers"], gated_mlp: Float[Tensor, " layers"], stream: Float[Tensor, " layers_and_one"]
) -> Plot:
    """How long the residual stream is, and how long the updates are that each layer adds to it.

    Args:
        attention: the length of attention's update, by layer.
        gated_mlp: the same for the gated MLP.
        stream: the length of the stream before the first block, and after each.
    """
    layers = torch.arange(1, len(attention) + 1)

    def paint(figure: Figure, paper: Paper) -> None:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 3))
        upper.plot(range(len(stream)), stream, marker="o", markersize=4, color=paper.hues[2], label="residual stream")
        lower.bar(layers - 0.2, attention, 0.4, label="update of attention")
        lower.bar(layers + 0.2, gated_mlp, 0.4, label="update of gated MLP")
        lower.set_xlabel("layer (0: the embedding)")
        lower.grid(False, axis="x")
        whole_numbers(lower.xaxis)
        for axes in (upper, lower):
            axes.set(ylabel="length", ylim=(0, None))
            legend_above(axes)

    top_a, top_m = int(attention.argmax()), int(gated_mlp.argmax())
    return draw(
        paint,
        f"Above, the length of the residual stream, from {stream[0]:.1f} before the first block to {stream[-1]:.1f} "
        f"after the last of {len(attention)}. Below, two bars for each layer: attention's update is longest in layer "
        f"{top_a + 1} ({attention[top_a]:.1f}), the gated MLP's in layer {top_m + 1} ({gated_mlp[top_m]:.1f}).",
        size=(6.4, 4.6),
    )


def plot_stopping_early(probabilities: Float[Tensor, "layers_and_one time"], upcoming: Sequence[str]) -> Plot:
    """A map of what the model would say early: layers upwards, the tokens to come along the text.

    Args:
        probabilities: of each token to come, read before the first block (row 0) and after each.
        upcoming: the tokens to come.
    """
    def paint(figure: Figure, paper: Paper) -> None:
        axes = figure.subplots()
        image = axes.imshow(probabilities, vmin=0, vmax=1, origin="lower", aspect="auto")
        axes.set(xlabel="token to come", ylabel="stopped after layer (0: none)")
        axes.grid(False)
        whole_numbers(axes.yaxis)
        label_tokens(axes, upcoming)
        figure.colorbar(image, ax=axes, label="its probability")

    settled = []  # the first layer from which each token stays more likely than not
    for column in (probabilities > 0.5).T.tolist():
        settled.append(len(column) - (column[::-1].index(False) if False in column else len(column)))
    at_once = [token.strip() for token, since in zip(upcoming, settled) if since == 0]
    never = sum(since == len(probabilities) for since in settled)
    last = f"from layer {settled[-1]} on" if settled[-1] < len(probabilities) else "in no layer to the end"
    return draw(
        paint,
        f"A map of the probability of {len(upcoming)} tokens to come, after each of {len(probabilities) - 1} layers. "
        f"More likely than not without any layer: {', '.join(at_once) or 'none'}. "
        f"The last, {upcoming[-1].strip()}, is so {last}; at the end, {never} are not.",
        size=(6.4, 3.8),
    )


# ---------------------------------------------------------------------------------------------------------------------
# chapters "Embedding and unembedding" and "The zero-layer model"


def show_cells(
    axes: Axes, cells: Float[Tensor, "rows columns"], rows: Sequence[str], columns: Sequence[str]
) -> AxesImage:
    """A table of numbers from 0 to 1 as shades, a token for each row and each column."""
    image = axes.imshow(cells, vmin=0, vmax=1, aspect="auto")
    label_tokens(axes, columns)
    axes.set_yticks(range(len(rows)), [row.replace(" ", "·") for row in rows])
    axes.grid(False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return image


def ink_on(image: AxesImage, value: float) -> str:
    """Black or white: what can be read on the shade that the image has for a value."""
    return "#000000" if sum(image.cmap(image.norm(value))[:3]) > 1.5 else "#ffffff"


def plot_similarities(cosines: Float[Tensor, "words words"], kinds: dict[str, Sequence[str]]) -> Plot:
    """A shade for each pair of words: how much alike their vectors are.

    Args:
        cosines: for each pair, in the order of `kinds`.
        kinds: for each kind's name, its words.
    """
    words = [word for members in kinds.values() for word in members]
    kind = torch.tensor([n for n, members in enumerate(kinds.values()) for _ in members])
    same = kind[:, None] == kind  # (words, words)
    pairs = ~torch.eye(len(words), dtype=torch.bool)  # (words, words), a word and itself left out

    def paint(figure: Figure, paper: Paper) -> None:
        axes = figure.subplots()
        image = show_cells(axes, cosines, words, words)
        for edge in range(1, len(words)):
            if kind[edge] != kind[edge - 1]:
                axes.axhline(edge - 0.5, color=paper.hues[1], linewidth=1)
                axes.axvline(edge - 0.5, color=paper.hues[1], linewidth=1)
        figure.colorbar(image, ax=axes, label="cosine (0 or less: no shade)")

    return draw(
        paint,
        f"A square of shades for {len(words)} words, {', '.join(kinds)}, each against each. Two different words of one "
        f"kind have a cosine of {cosines[same & pairs].mean():.2f} on average, two of different kinds "
        f"{cosines[~same].mean():.2f}; the most alike across kinds reach {cosines[~same].max():.2f}.",
        size=(6.4, 5.4),
    )


def plot_transitions(
    probabilities: Float[Tensor, "tokens followers"], tokens: Sequence[str], followers: Sequence[str]
) -> Plot:
    """A piece of a Markov chain's table: a row for each token, a column for each follower, the probability in the cell.

    Args:
        probabilities: of each follower right after each token; rows need not sum to 1, as other followers are left out.
        tokens: the tokens that came.
        followers: those that may come next.
    """
    def paint(figure: Figure, paper: Paper) -> None:
        axes = figure.subplots()
        image = show_cells(axes, probabilities, tokens, followers)
        axes.set(xlabel="next token", ylabel="token")
        for row, cells in enumerate(probabilities.tolist()):
            for column, p in enumerate(cells):
                if p >= 0.01:
                    axes.text(column, row, f"{p:.2f}", ha="center", va="center", color=ink_on(image, p))

    best = probabilities.max(dim=1)
    found = ", ".join(
        f"{followers[column].strip()} after {token.strip()} ({p:.2f})"
        for token, p, column in zip(tokens, best.values.tolist(), best.indices.tolist())
    )
    return draw(
        paint,
        f"A table of shades, {len(tokens)} tokens by {len(followers)} followers, with the probability of each step. "
        f"The likeliest in each row: {found}.",
        size=(6.4, 1.3 + 0.42 * len(tokens)),
    )


# ---------------------------------------------------------------------------------------------------------------------
# chapter "The whole model"


def plot_parameter_shares(counts: dict[str, dict[str, int]]) -> Plot:
    """Where models keep their parameters: a bar for each model, divided among the kinds.

    Args:
        counts: for each model's name, how many parameters each kind has; every model has the same kinds.
    """
    kinds = list(next(iter(counts.values())))
    totals = {name: sum(own.values()) for name, own in counts.items()}

    def paint(figure: Figure, paper: Paper) -> None:
        axes = figure.subplots()
        left = dict.fromkeys(counts, 0.0)
        for kind in kinds:
            shares = {name: counts[name][kind] / totals[name] for name in counts}
            bars = axes.barh(list(counts), list(shares.values()), left=list(left.values()), label=kind, height=0.6)
            labels = [f"{share:.0%}" if share > 0.05 else "" for share in shares.values()]
            axes.bar_label(bars, labels, label_type="center", color=paper.ground)
            left = {name: left[name] + shares[name] for name in counts}
        axes.set_yticks(range(len(counts)), [f"{name}\n{total / 1e6:,.0f} million" for name, total in totals.items()])
        axes.invert_yaxis()
        axes.grid(False)
        axes.set(xlabel="share of the parameters", xlim=(0, 1))
        axes.xaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1))
        figure.legend(loc="outside upper left", ncols=3, handlelength=1.4, columnspacing=1.2)

    found = "; ".join(
        f"{name} has {totals[name] / 1e6:,.0f} million, "
        + ", ".join(f"{kind} {count / totals[name]:.1%}" for kind, count in own.items())
        for name, own in counts.items()
    )
    return draw(paint, f"Bars for {len(counts)} models, each divided by where its parameters are: {found}.",
                size=(6.4, 1.5 + 0.75 * len(counts)))


# ---------------------------------------------------------------------------------------------------------------------
# chapter "The gated MLP"


def plot_spread_by_layer(values: dict[str, Float[Tensor, "layers n"]], quantity: str, marks: dict[str, float]) -> Plot:
    """How numbers spread in each layer: a dot for the middle one, a thick bar for half of them, a thin one for 90 %.

    Args:
        values: for each name, all its numbers in each layer.
        quantity: what they are.
        marks: values to point out, by what they mean.
    """
    quantiles = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95])
    spread = {name: v.quantile(quantiles.to(v.dtype), dim=1) for name, v in values.items()}  # (5, layers) each

    def paint(figure: Figure, paper: Paper) -> None:
        axes = figure.subplots()
        for height in marks.values():
            axes.axhline(height, color=paper.ink, linewidth=0.8, linestyle=":")
        for n, (name, (low, first, middle, third, high)) in enumerate(spread.items()):
            at = torch.arange(1, len(middle) + 1) + 0.3 * (n - (len(spread) - 1) / 2)
            axes.vlines(at, low, high, color=paper.hues[n], linewidth=1.5)
            axes.vlines(at, first, third, color=paper.hues[n], linewidth=6)
            axes.plot(at, middle, "o", color=paper.hues[n], markeredgecolor=paper.ground, markersize=7, label=name)
        right = axes.secondary_yaxis("right")
        right.set_yticks(list(marks.values()), list(marks))
        right.tick_params(length=0)
        axes.set(xlabel="layer", ylabel=quantity)
        axes.grid(False, axis="x")
        whole_numbers(axes.xaxis)
        if len(spread) > 1:
            legend_above(axes)

    found = "; ".join(
        f"{name}, the middle goes from {s[2, 0]:.2f} in layer 1 to {s[2, -1]:.2f} in layer {s.shape[1]}, and the bars "
        f"reach from {s[0].min():.2f} to {s[4].max():.2f}" for name, s in spread.items()
    )
    return draw(paint, f"Dots and bars for the spread of each layer's {quantity}s: {found}.")


def plot_nonlinearities(inputs: Float[Tensor, " n"], outputs: dict[str, Float[Tensor, " n"]]) -> Plot:
    """Functions of one number, drawn over each other.

    Args:
        inputs: from left to right.
        outputs: what each function makes of them, by its name.
    """
    def paint(figure: Figure, paper: Paper) -> None:
        axes = figure.subplots()
        for (name, output), style in zip(outputs.items(), itertools.cycle(("--", "-", "-.", ":"))):
            axes.plot(inputs, output, style, label=name)
        axes.set(xlabel="in", ylabel="out")
        legend_above(axes)

    found = "; ".join(
        f"{name} rises from {output[0]:.2f} at {inputs[0]:.2f} over {output[len(output) // 2]:.2f} at "
        f"{inputs[len(inputs) // 2]:.2f} to {output[-1]:.2f} at {inputs[-1]:.2f}" for name, output in outputs.items()
    )
    return draw(paint, f"Curves of {len(outputs)} functions, left to right: {found}.", size=(6.4, 3.0))


def plot_excitement(latent: Float[Tensor, " time"], tokens: Sequence[str], named: int = 5) -> Plot:
    """How much one latent of a gated MLP is excited by each token of a text.

    Args:
        latent: its value at each token, never negative.
        tokens: the text.
        named: how many of the highest places to call by name, with the token before.
    """
    tops = latent.topk(min(named, len(latent))).indices.tolist()
    names = {t: "".join(tokens[max(0, t - 1): t + 1]).replace("\n", "↵").strip() for t in tops}

    def paint(figure: Figure, paper: Paper) -> None:
        axes = figure.subplots()
        axes.vlines(range(len(latent)), 0, latent, color=paper.hues[0])
        for t in tops:
            place = (t, latent[t].item())
            axes.annotate(names[t], place, xytext=(0, 3), textcoords="offset points", rotation=40, fontsize=10)
        axes.set(xlabel="place in the text, in tokens", ylabel="excitement", ylim=(0, 1.35 * latent.max().item() or 1))
        axes.margins(x=0.08)
        axes.grid(False, axis="x")
        whole_numbers(axes.xaxis)

    return draw(
        paint,
        f"A line for each of {len(latent)} tokens, as high as it excites one latent: {(latent == 0).sum()} not at all. "
        f"The highest, with the token before: {', '.join(names[t] for t in tops)}, from {latent[tops[0]]:.1f} down to "
        f"{latent[tops[-1]]:.1f}.",
        size=(6.4, 3.0),
    )


# ---------------------------------------------------------------------------------------------------------------------
# chapter "Numerical stability"


def plot_climbing_keys(
    keys: Float[Tensor, " time"], exact: Float[Tensor, " time"], reads: dict[str, Float[Tensor, " time"]]
) -> Plot:
    """What a memory reads while its keys climb, a panel for each way of computing it; gaps where it is not a number.

    Args:
        keys: one for each token, from small to large.
        exact: what should be read.
        reads: what each way reads.
    """
    lost = {name: ~read.isfinite() for name, read in reads.items()}

    def paint(figure: Figure, paper: Paper) -> None:
        panels = figure.subplots(len(reads), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
        for axes, (name, read) in zip(panels, reads.items()):
            axes.plot(keys, exact, color=paper.ink, linewidth=1, label="the right answer")
            axes.plot(keys, read, ".", color=paper.hues[1], markersize=5, label="what is read")
            axes.fill_between(keys, 0, 1, where=lost[name].numpy(), transform=axes.get_xaxis_transform(),
                              color=paper.faint, alpha=0.6, linewidth=0, label="not a number")
            axes.set_ylabel(name)
            axes.grid(False)
        panels[-1].set(xlabel="key")
        legend_above(panels[0])

    found = "; ".join(
        f"{name}, " + (f"from {keys[~gone].min():.0f} to {keys[~gone].max():.0f}" if not gone.all() else "nowhere")
        + (f", up to {(read - exact)[~gone].abs().max():.1g} off there" if not gone.all() else "")
        for (name, read), gone in zip(reads.items(), lost.values())
    )
    return draw(paint, f"A wave, and dots for what memories read of it while their keys climb from {keys[0]:.0f} to "
                       f"{keys[-1]:.0f}. Numbers are read for these keys only: {found}.", size=(6.4, 4.8))


def plot_key_ranges(
    keys: Float[Tensor, "layers n"], log_sums: Float[Tensor, " layers"], limits: dict[str, float]
) -> Plot:
    """Each layer's keys from the lowest to the highest, its largest sum, and where each type of float overflows.

    Args:
        keys: all of a layer's keys.
        log_sums: the logarithm of the largest sum that the layer's memory held.
        limits: the logarithm of the largest number, by the name of the type.
    """
    layers = torch.arange(1, len(keys) + 1)
    low, high = keys.amin(dim=1), keys.amax(dim=1)

    def paint(figure: Figure, paper: Paper) -> None:
        axes = figure.subplots()
        for height in limits.values():
            axes.axhline(height, color=paper.ink, linewidth=1, linestyle=":")
        axes.vlines(layers, low, high, color=paper.hues[0], linewidth=6, label="keys")
        axes.plot(layers, log_sums, "D", color=paper.hues[1], markeredgecolor=paper.ground,
                  label="logarithm of the largest sum")
        right = axes.secondary_yaxis("right")
        right.set_yticks(list(limits.values()), [f"{name}\noverflows" for name in limits])
        right.tick_params(length=0)
        axes.set(xlabel="layer", ylabel="exponent")
        axes.grid(False, axis="x")
        whole_numbers(axes.xaxis)
        legend_above(axes)

    top = ", ".join(f"{name} at {height:.1f}" for name, height in limits.items())
    return draw(paint, f"A bar for each layer's keys: they lie between {low.min():.1f} and {high.max():.1f}. The "
                       f"largest sums are e to the {log_sums.min():.1f} to {log_sums.max():.1f}. Dotted lines show "
                       f"where sums overflow: {top}.")


def plot_slow_average(reads: dict[str, Float[Tensor, " time"]], change: int) -> Plot:
    """What memories read whose values are 0 at first, and 1 from token `change` on. The first one is right."""
    exact = next(iter(reads.values()))

    def paint(figure: Figure, paper: Paper) -> None:
        axes = figure.subplots()
        axes.plot(exact, color=paper.ink, linewidth=4, alpha=0.35, label=next(iter(reads)))
        for (name, read), style in zip(list(reads.items())[1:], itertools.cycle(("-", "-.", "--", ":"))):
            axes.plot(read, style, linewidth=1.8, label=name)
        axes.axvline(change, color=paper.ink, linewidth=0.8, linestyle=":")
        axes.set(xlabel="token", ylabel="average read", ylim=(-0.03, 1.05))
        legend_above(axes, columns=2)

    found = ", ".join(f"{read[-1]:.2f} for {name}" for name, read in reads.items())
    return draw(paint, f"Lines that stay at 0 up to token {change}, where the values become 1, and then rise at "
                       f"different speeds. At token {len(exact)} they stand at {found}.")


# ---------------------------------------------------------------------------------------------------------------------
# chapter "Time-parallel mode"


def plot_attention_matrices(
    decays: dict[str, Float[Tensor, "time time"]], shares: dict[str, Float[Tensor, "time time"]], tokens: Sequence[str]
) -> Plot:
    """A memory's channels as attention matrices: readers down, what they read across. A row of two for each channel.

    Args:
        decays: for each channel's name, how much token j counts when token i reads, by its age alone.
        shares: for the same channels, the share that token j has then, its key included; each row sums to 1.
    """
    names = [token.strip() for token in tokens]

    def paint(figure: Figure, paper: Paper) -> None:
        panels = figure.subplots(len(shares), 2, sharex=True, sharey=True, squeeze=False)
        for row, name in zip(panels, shares):
            titles = f"{name}: by age", "by age and key"
            for axes, matrix, title in zip(row, (decays[name], shares[name]), titles):
                future = torch.ones_like(matrix).triu(1).bool()
                image = axes.imshow(matrix.masked_fill(future, torch.nan), cmap=paper.sequence, vmin=0, vmax=1)
                axes.set_title(title, fontsize=10)
                axes.grid(False)
            row[0].set_yticks(range(len(names)), names, fontsize=9)
        for axes in panels[-1]:
            axes.set_xticks(range(len(names)), names, rotation=60, ha="right", rotation_mode="anchor", fontsize=9)
        figure.supylabel("reader", fontsize=11)
        figure.supxlabel("token read", fontsize=11)
        figure.colorbar(image, ax=panels, shrink=0.5, label="weight, share").outline.set_visible(False)

    found = "; ".join(
        f"in {name} the previous token has {matrix.diagonal(-1).mean():.0%} on average, the current one "
        f"{matrix.diagonal()[1:].mean():.0%}, and the last reader takes most from {names[int(matrix[-1].argmax())]} "
        f"({matrix[-1].max():.0%})"
        for name, matrix in shares.items()
    )
    return draw(paint, f"Triangular matrices of {len(names)} readers and what they read, two for each channel: weights "
                       f"by age alone, equal down each diagonal, and shares with the keys, which raise or lower whole "
                       f"columns. Shares: {found}.", size=(6.4, 2.45 * len(shares) + 0.7))


def plot_chunks(time: int, chunk: int) -> Plot:
    """A drawing: what readers look at in one large matrix, and in chunks with a state between them."""
    i, j = torch.arange(time)[:, None], torch.arange(time)
    start = i // chunk * chunk  # of each reader's chunk
    whole = (j <= i).int()
    chunked = ((start <= j) & (j <= i)).int() + 2 * ((j == start - 1) & (i >= chunk)).int()

    def paint(figure: Figure, paper: Paper) -> None:
        colors = matplotlib.colors.ListedColormap(["none", paper.hues[0], paper.hues[1]])
        for axes, cells, title in zip(figure.subplots(1, 2), (whole, chunked), ("one matrix", f"chunks of {chunk}")):
            axes.pcolormesh(cells, cmap=colors, vmin=0, vmax=2, edgecolors=paper.faint, linewidth=0.6)
            axes.set(xlabel="token read", ylabel="reader", title=title, aspect="equal", xticks=[], yticks=[])
            axes.invert_yaxis()
            axes.grid(False)
        marks = [matplotlib.patches.Patch(color=paper.hues[n]) for n in range(2)]
        figure.legend(marks, ["a token", "all before the chunk, as one"], loc="outside lower left", ncols=2)

    return draw(paint, f"Two grids of {time} readers by {time} tokens. Left, one matrix: {int(whole.sum())} cells fill "
                       f"the lower triangle. Right, chunks of {chunk}: {int((chunked == 1).sum())} cells in small "
                       f"triangles along the diagonal, and in each later reader's row one cell that stands for all "
                       f"before its chunk.", size=(6.4, 3.9))


def plot_cost(
    lengths: Sequence[int], ratios: dict[str, list[Float[Tensor, " rounds"]]], memory: Sequence[float]
) -> Plot:
    """Cost against length: how many times as much a Transformer's attention takes as RWKV's.

    Args:
        lengths: of the texts, in tokens.
        ratios: of the times, for each kind of work: one tensor a length, from the shortest on, with a ratio a round.
        memory: ratio of the numbers held, for each length.
    """
    def middle(rounds: list[Float[Tensor, " rounds"]]) -> list[float]:
        return [ratio.median().item() for ratio in rounds]

    def paint(figure: Figure, paper: Paper) -> None:
        left, right = figure.subplots(1, 2)
        for n, (name, rounds) in enumerate(ratios.items()):
            at = lengths[: len(rounds)]
            low, high = ([r.quantile(q) for r in rounds] for q in (0.25, 0.75))
            left.vlines(at, low, high, color=paper.hues[n], linewidth=1.5)
            left.plot(at, middle(rounds), "os"[n], linestyle="-", color=paper.hues[n], markersize=5, label=name)
        right.plot(lengths, memory, "D-", color=paper.hues[2], markersize=5)
        for axes, title in ((left, "time"), (right, "memory held")):
            axes.axhline(1, color=paper.ink, linewidth=1, linestyle=":")
            axes.set_xscale("log")
            axes.set_yscale("log")
            shown = lengths[::2] if len(lengths) > 4 else lengths
            axes.set_xticks(shown, [f"{n:,}" for n in shown])
            axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
            axes.yaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: f"{value:,g}×"))
            axes.yaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
            axes.set(xlabel="tokens", title=title)
        left.yaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
        left.set_ylabel("Transformer ÷ RWKV")
        left.legend()

    found = "; ".join(
        f"{name}, {middle(rounds)[0]:.2g} at {lengths[0]:,} tokens and {middle(rounds)[-1]:.2g} at "
        f"{lengths[len(rounds) - 1]:,}"
        for name, rounds in ratios.items()
    )
    return draw(paint, f"Ratios against length, a Transformer's attention over RWKV's, on logarithmic axes. Time: "
                       f"{found}. Memory held: {memory[0]:.2g} at {lengths[0]:,} tokens, {memory[-1]:,.0f} at "
                       f"{lengths[-1]:,}.")


# ---------------------------------------------------------------------------------------------------------------------
# chapter "Training"


def plot_loss_curve(
    losses: Sequence[float], baselines: dict[str, float], rates: Sequence[float], window: int = 20
) -> Plot:
    """The loss of every step, its mean over the last few, and baselines, on a logarithmic axis; the learning rate.

    Args:
        losses: one a step, in nats per token.
        baselines: losses to compare with, by name.
        rates: the learning rate of every step, as a part of the highest.
        window: how many steps the mean is taken over; all of them if there are fewer.
    """
    window = min(window, len(losses))
    smooth = torch.tensor(losses).unfold(0, window, 1).mean(dim=1)  # (steps - window + 1,)

    def paint(figure: Figure, paper: Paper) -> None:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        upper.grid(False)
        upper.set_yscale("log")
        upper.set_yticks([t for t in (0.2, 0.5, 1, 2, 5, 10) if min(baselines.values()) / 2 < t < losses[0] * 1.2])
        upper.yaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
        upper.yaxis.set_minor_locator(matplotlib.ticker.NullLocator())
        upper.plot(range(1, len(losses) + 1), losses, color=paper.hues[0], linewidth=0.5, alpha=0.5)
        upper.plot(range(window, len(losses) + 1), smooth, color=paper.hues[0], linewidth=1.8)
        highest = max(baselines.values())
        for hue, (name, loss) in zip(itertools.cycle(paper.hues[1:]), baselines.items()):
            upper.axhline(loss, color=hue, linestyle="--", linewidth=1.4)
            side, by = ("bottom", 3) if loss == highest else ("top", -3)
            upper.annotate(f"{name} {loss:.2f}", (1, loss), (0, by), ("axes fraction", "data"), "offset points",
                           ha="right", va=side, color=paper.ink, fontsize=10)
        lowest = min(min(baselines.values()), smooth.min().item())
        upper.set(ylabel="loss, nats per token", xlim=(0, len(rates)), ylim=(0.7 * lowest, 1.25 * losses[0]))
        lower.plot(range(1, len(rates) + 1), rates, color=paper.hues[0])
        lower.set(xlabel="step", ylabel="learning\nrate", ylim=(0, 1.15), yticks=[0, 1])

    passed = "; ".join(
        f"{name} at {loss:.2f}, "
        + (f"passed by step {int((smooth < loss).int().argmax()) + window}" if (smooth < loss).any() else "not reached")
        for name, loss in baselines.items()
    )
    return draw(
        paint,
        f"A falling curve, the loss over {len(losses)} steps, from {losses[0]:.2f} to {smooth[-1]:.2f}. Dashed lines: "
        f"{passed}. Below, the learning rate: a short ramp up, a plain, a ramp down to zero.",
        size=(6.4, 4.6),
    )


def plot_learned(steps: Sequence[int], curves: dict[str, Float[Tensor, " moments"]]) -> Plot:
    """Shares or probabilities, between 0 and 1, noted now and then in a training run."""
    def paint(figure: Figure, paper: Paper) -> None:
        axes = figure.subplots()
        for marker, (name, curve) in zip(itertools.cycle("osD^v"), curves.items()):
            axes.plot(steps, curve, marker=marker, markersize=4, label=name)
        axes.set(xlabel="step", ylabel="share, or probability", ylim=(-0.02, 1.05), xlim=(0, steps[-1]))
        legend_above(axes)

    found = []
    for name, curve in curves.items():
        over = curve > 0.5
        when = f"first over one half at step {steps[int(over.int().argmax())]}" if over.any() else "never over one half"
        found.append(f"{name}, {when}, {curve[-1]:.2f} at the end")
    return draw(paint, f"Curves over {steps[-1]} training steps: {'; '.join(found)}.")


# ---------------------------------------------------------------------------------------------------------------------
# chapter "Where RWKV went next"


def plot_tables(
    tables: dict[str, Float[Tensor, "rows columns"]], rows: Sequence[str], columns: Sequence[str]
) -> Plot:
    """Matrices that hold pairs, side by side: the number in each cell, and a shade for it.

    Args:
        tables: by title, numbers from 0 to 1.
        rows: what each row stands for.
        columns: what each column stands for.
    """
    def paint(figure: Figure, paper: Paper) -> None:
        panels = figure.subplots(1, len(tables), sharey=True, squeeze=False)[0]
        for axes, (title, table) in zip(panels, tables.items()):
            image = show_cells(axes, table, rows, columns)
            axes.set_title(title, fontsize=10)
            for (row, column), number in zip(itertools.product(*map(range, table.shape)), table.flatten().tolist()):
                axes.text(column, row, f"{number:.2f}".rstrip("0").rstrip("."), ha="center", va="center",
                          color=ink_on(image, number), fontsize=9)

    def in_words(table: Tensor) -> str:
        cells = (table > 0.005).nonzero().tolist()
        return ", ".join(f"{rows[i]} {columns[j]} {table[i, j]:.2f}" for i, j in cells) or "nothing"

    said = "; ".join(f"{title}: {in_words(table)}" for title, table in tables.items())
    return draw(paint, f"Tables with a row for each of {', '.join(rows)} and a column for each of "
                       f"{', '.join(columns)}, one after the other. Cells above 0: {said}.", size=(6.4, 2.7))


def plot_recall(pairs: Sequence[int], shares: dict[str, dict[str, Float[Tensor, " counts"]]], rows: int) -> Plot:
    """How often a memory gives back the right value, against the number of keys that it was told of.

    Args:
        pairs: how many keys there were.
        shares: for each panel's title, for each way to write, the share of right answers at each of these numbers.
        rows: the rows of the memory's table, marked by a line.
    """
    def paint(figure: Figure, paper: Paper) -> None:
        panels = figure.subplots(1, len(shares), sharey=True, squeeze=False)[0]
        for axes, (title, curves) in zip(panels, shares.items()):
            for (who, share), marker in zip(curves.items(), itertools.cycle("os^v")):
                axes.plot(pairs, share, marker=marker, markersize=4, label=who)
            axes.axvline(rows, color=paper.ink, linewidth=1, linestyle=":", label="as many as rows")
            axes.set(xlabel="keys", title=title, ylim=(-0.02, 1.05))
        figure.axes[0].set_ylabel("share of right answers")
        figure.axes[0].legend(fontsize=9)

    at = max(n for n, count in enumerate(pairs) if count <= rows)
    found = "; ".join(
        f"{title}: " + ", ".join(
            f"the memory that {who} is right in {share[0]:.0%} at {pairs[0]} keys, {share[at]:.0%} at {pairs[at]} and "
            f"{share[-1]:.0%} at {pairs[-1]}" for who, share in curves.items()
        )
        for title, curves in shares.items()
    )
    return draw(paint, f"Curves of the share of right answers against the number of keys, in a table of {rows} rows. "
                       f"{found}.")
