"""Figures of chapter "Time decay"."""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from rwkv_explainer.drawing.figure import Plot, color_layers, draw, panels
from rwkv_explainer.drawing.live import Live, live_heatmap, live_lines, live_text
from rwkv_explainer.drawing.palette import Theme
from rwkv_explainer.lab.record import MIXERS, Record

__all__ = [
    "BANDS",
    "HALF_LIVES",
    "QUANTITIES",
    "live_bands",
    "live_fading_text",
    "live_history",
    "live_moves",
    "plot_two_axes",
]

PerChannel = Float[Tensor, "layers channels"]

HALF_LIVES = [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0]  # tokens
BANDS = {"under 1": (0.0, 1.0), "1 to 10": (1.0, 10.0), "10 to 100": (10.0, 100.0), "over 100": (100.0, math.inf)}
QUANTITIES = ["half-life in tokens", "log_gain", *MIXERS]  # that a record follows, layer by layer
QUARTILES = ["lower quartile", "median", "upper quartile"]
MOMENTS = 60  # of a record that a figure shows at most


def live_fading_text(tokens: Sequence[str], name: str, half_lives: PerChannel) -> Callable[..., Live]:
    """A figure of one argument, `half_life`: what is left of each token's weight when the text has been read.

    Args:
        tokens: the text, cut into tokens.
        name: a word of the text, whose last token the caption tells of.
        half_lives: of a model, which the caption tells of, too.
    """
    place = next(n for n in range(len(tokens)) if name in "".join(tokens[: n + 1]))
    ago = len(tokens) - 1 - place

    def draw_text(half_life: float = 8.0) -> Live:
        ages = range(len(tokens) - 1, -1, -1)  # the last token has not faded yet
        left = [0.5 ** (age / half_life) for age in ages]
        holds = (half_lives >= half_life).double()  # (layers, channels)
        share = f"{left[place]:.1%}" if left[place] >= 0.001 else "less than a thousandth"
        return live_text(
            left,
            tokens,
            limits=(0, 1),
            caption=f"A half-life of {half_life:g} {'token' if half_life <= 1 else 'tokens'}: of {name}'s weight "
            f"{share} is left, {ago} tokens later. In our model {holds.mean():.0%} of the channels hold at "
            f"least that long: {holds[0].mean():.0%} in the first layer, {holds[-1].mean():.0%} in the last.",
        )

    return draw_text


def plot_two_axes(half_lives: PerChannel, title: str = "") -> Plot:
    """Each layer's channels, sorted, on the paper's axis and on a logarithmic axis of half-lives."""
    ordered = half_lives.sort(dim=-1, descending=True).values  # (layers, channels)
    kept = 0.5 ** (1 / ordered)  # (layers, channels), after one token

    def paint(figure: Figure, theme: Theme) -> None:
        decays, lives = panels(figure, 2, share="x")
        colors = color_layers(figure, [decays, lives], len(half_lives))
        for axes, curves in ((decays, kept), (lives, ordered)):
            for curve, color in zip(curves, colors):
                axes.plot(curve, color=color, linewidth=1.8)
            axes.set(xlabel="channel, sorted")
        decays.set(title=f"decay: left after one token{title}", ylim=(-0.02, 1.04))
        lives.set(title=f"half-life in tokens{title}", yscale="log")

    top, bottom = (half_lives > 10).double().mean(), (half_lives < 0.25).double().mean()
    middle = half_lives.median(dim=-1).values  # (layers,)
    return draw(
        paint,
        f"Two panels with {len(half_lives)} falling curves each, one a layer, channels sorted. Left, what is left "
        f"after one token, from {kept.max():.3f} to {kept.min():.3f}. Right, half-lives on a logarithmic axis, from "
        f"{half_lives.max():.0f} to {half_lives.min():.3f} tokens.",
        size=(7.2, 3.4),
        caption=f"The same numbers twice. By decay, {top:.0%} of all channels, those that hold for more than ten "
        f"tokens, crowd into the top strip, and {bottom:.0%}, under a quarter of a token, lie along the floor. By "
        f"half-life, layers are told apart: half of the first one's channels hold for {middle[0]:.1f} tokens or less, "
        f"half of the last one's for {middle[-1]:.1f} or less.",
    )


def live_bands(half_lives: PerChannel) -> Live:
    """How many channels of each layer lie in each band of half-lives."""
    counts = torch.stack([((half_lives >= a) & (half_lives < b)).sum(dim=1) for a, b in BANDS.values()], dim=1)
    layers, channels = half_lives.shape
    largest = [list(BANDS)[int(row.argmax())] for row in counts]
    return live_heatmap(
        counts,
        [f"layer {n + 1}" for n in range(layers)],
        list(BANDS),
        label=f"channels of each layer, of {channels}, by their half-life in tokens",
        limits=(0, channels),
        digits=0,
        caption=f"Of {layers * channels:,} channels, {counts[:, 0].sum():,} lose half of a weight within a token and "
        f"{counts[:, -1].sum():,} hold for over a hundred. The largest group is {largest[0]} in the first layer and "
        f"{largest[-1]} in the last.",
    )


def live_moves(before: PerChannel, after: PerChannel, start: str = "at the start") -> Callable[..., Live]:
    """A figure of one argument, `layer`: each channel's half-life now over what it was, on logarithmic axes.

    Args:
        start: what `before` is, in words.
    """
    limits = min(before.min(), after.min()).item() / 1.3, max(before.max(), after.max()).item() * 1.3

    def draw_layer(layer: int = 1) -> Live:
        order = before[layer - 1].argsort()
        then, now = before[layer - 1, order], after[layer - 1, order]  # (channels,) each
        factors = now / then
        slow = then > 10  # (channels,)
        of_slow = f"{int((factors[slow] > 1).sum())} of the {int(slow.sum())} that began beyond 10 tokens"
        longer = f"{int((factors > 1).sum())} of {len(then)} channels hold longer than {start}"
        return live_lines(
            then,
            {"on this line nothing has changed": then, "a channel": now},
            xlabel=f"half-life {start}, in tokens",
            ylabel="half-life now, in tokens",
            xlog=True,
            ylog=True,
            xlim=limits,
            ylim=limits,
            dots=["a channel"],
            caption=f"Layer {layer}: {longer}, {of_slow} among them. The median channel has moved by a factor of "
            f"{factors.log().abs().median().exp():.2f}, up or down.",
        )

    return draw_layer


def live_history(record: Record) -> Callable[..., Live]:
    """A figure of `quantity` and `layer`: minimum, quartiles and maximum of a layer's channels while it is trained."""
    spacing = max(1, math.ceil(len(record.lines) / MOMENTS))
    lines = [line for n, line in enumerate(reversed(record.lines)) if n % spacing == 0 or line["step"] == 0][::-1]
    steps = [line["step"] for line in lines]

    def draw_history(quantity: str = QUANTITIES[0], layer: int = 1) -> Live:
        rows = [rows_of(line, quantity)[layer - 1] for line in lines]
        names = QUARTILES if quantity in MIXERS else ["smallest", *QUARTILES, "largest"]
        curves = {name: [row[n] for row in rows] for n, name in reversed(list(enumerate(names)))}
        everything = [number for line in lines for row in rows_of(line, quantity) for number in row]
        low, high = min(everything), max(everything)
        logarithmic = quantity == QUANTITIES[0]
        median = curves["median"]
        return live_lines(
            steps,
            curves,
            xlabel="steps of training",
            ylabel=f"{quantity}, layer {layer}",
            ylog=logarithmic,
            ylim=(low / 1.3, high * 1.3) if logarithmic else (low - 0.1, high + 0.1),
            caption=f"Layer {layer}, {quantity}: the median goes from {plain(median[0])} to {plain(median[-1])}, the "
            f"middle half of the channels from {middle_half(curves, 0)} to {middle_half(curves, -1)}.",
        )

    return draw_history


def rows_of(line: dict, quantity: str) -> list[list[float]]:
    """The quantiles that a record's line has of a quantity, layer by layer."""
    if quantity in MIXERS:
        return line["mixes"][quantity]
    return line["half_lives" if quantity == QUANTITIES[0] else "log_gain"]


def middle_half(curves: dict[str, list[float]], moment: int) -> str:
    """The quartiles at one moment, in words."""
    return f"{plain(curves['lower quartile'][moment])} … {plain(curves['upper quartile'][moment])}"


def plain(number: float) -> str:
    return f"{number:.3g}".replace("-", "−")
