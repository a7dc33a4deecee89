"""Figures of chapter "The gated MLP"."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from rwkv_explainer.drawing.figure import Plot, draw, legend_above, whole_numbers
from rwkv_explainer.drawing.live import Live, Number, live_bars, live_text
from rwkv_explainer.drawing.palette import Theme

__all__ = ["live_by_layer", "live_gates", "live_latent", "live_mixture", "live_rules", "plot_mixes"]


def live_latent(
    activation: Float[Tensor, " time"], tokens: Sequence[str], latent: str, favored: Sequence[str], places: int = 5
) -> Live:
    """A text shaded by how active one latent is at each token.

    Args:
        activation: the latent after the nonlinearity, never negative.
        tokens: the text.
        latent: what it is called.
        favored: the tokens that its value makes more likely.
        places: of how many of the strongest places the caption tells.
    """
    silent, total = (activation == 0).double().mean(), activation.sum().clamp(min=1e-9)
    strongest = activation.topk(min(places, len(tokens))).values.sum() / total
    return live_text(
        activation,
        tokens,
        caption=f"{latent} is silent at {silent:.0%} of the tokens, and {places} places make up {strongest:.0%} of its "
        f"activation. What it writes favors {' '.join(favored)}.",
    )


def live_mixture(weight: float = 1.5) -> Live:
    """What a mixer makes of a channel that goes from 4 to 6, by its weight."""
    mixed = 6 * weight + 4 * (1 - weight)
    where = {0: "the past alone", 1: "the present alone"}.get(weight) or (
        "beyond the present" if weight > 1 else "beyond the past" if weight < 0 else "between the two"
    )
    return live_bars(
        [4, mixed, 6],
        ["previous", "mixed", "current"],
        limits=(0, 8),
        digits=1,
        caption=f"A weight of {weight:g} makes {weight:g} · 6 + ({1 - weight:g}) · 4 = {mixed:g}: {where}.".replace(
            "-", "−"
        ),
    )


KEYS = (0, 120, 240)  # where the keys of three detectors point, in degrees


def live_rules(input_points_to: int = 120, gate_of_channel_2: float = 0.5) -> Live:
    """Three rules over two channels: what each detector finds, and what the gates let through of what they write.

    Keys point to 0, 120 and 240 degrees, and each rule writes a vector of length 1 along its own key.

    Args:
        input_points_to: the direction of the input, which has a length of 1, in degrees.
        gate_of_channel_2: from 0 to 1; the gate of channel 1 is open.
    """
    latents = [max(0.0, round(math.cos(math.radians(input_points_to - key)), 6)) ** 2 for key in KEYS]
    written = [sum(z * turn(math.radians(key)) for z, key in zip(latents, KEYS)) for turn in (math.cos, math.sin)]
    update = [written[0], gate_of_channel_2 * written[1]]
    awake = [n for n, latent in enumerate(latents, 1) if latent > 0]
    which = f"rule {awake[0]} is" if len(awake) == 1 else f"rules {' and '.join(map(str, awake))} are"
    return live_bars(
        [*latents, *(round(number, 4) for number in update)],
        [*(f"latent {n}: key at {key}°" for n, key in enumerate(KEYS, 1)), "update, channel 1", "update, channel 2"],
        limits=(-1, 1),
        digits=2,
        caption=f"With the input at {input_points_to}°, {which} at work. What is written into channel 2 is "
        f"{written[1]:.2f}, and its gate lets {update[1]:.2f} through.".replace("-", "−"),
    )


def live_gates(trained: Float[Tensor, " n"], before: Float[Tensor, " m"]) -> Live:
    """How gates are spread between closed and open, in a trained model and before training."""
    edges = [0.0, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.01]
    names = ["below 0.05", *(f"{low:g} to {high:g}" for low, high in pairwise(edges[1:-1])), "above 0.9"]

    def spread(gates: Tensor) -> list[float]:
        return [((low <= gates) & (gates < high)).double().mean().item() for low, high in pairwise(edges)]

    closed = (trained < 0.2).double().mean()
    return live_bars(
        {"trained": spread(trained), "before training": spread(before)},
        names,
        limits=(0, 1),
        caption=f"After training {closed:.0%} of the gates are below 0.2, and {(trained > 0.9).double().mean():.1%} "
        f"above 0.9. Before training every gate stands at {before.median():.1f}.",
    )


def live_by_layer(series: dict[str, Sequence[float]], caption: str, limits: tuple[Number, Number], digits: str) -> Live:
    """A bar for each layer and each of several quantities."""
    layers = range(1, 1 + len(next(iter(series.values()))))
    return live_bars(series, [f"layer {n}" for n in layers], limits=limits, digits=digits, caption=caption)


def plot_mixes(mixes: dict[str, Float[Tensor, "layers n"]], began: Float[Tensor, " layers"], caption: str) -> Plot:
    """How mixing weights spread in each layer: a dot for the median, a thick bar for half of them, a thin one for 90 %.

    Args:
        mixes: for each name, all its weights in each layer.
        began: each layer's median before training, drawn as a gray line behind the dots.
        caption: the finding.
    """
    marks = {"only the past": 0.0, "only the present": 1.0}
    quantiles = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95])
    spread = {name: v.quantile(quantiles.to(v.dtype), dim=1) for name, v in mixes.items()}  # (5, layers) each

    def paint(figure: Figure, theme: Theme) -> None:
        axes = figure.subplots()
        for height in marks.values():
            axes.axhline(height, color=theme.ink, linewidth=0.8, linestyle=":")
        places = torch.arange(1, len(began) + 1)
        axes.hlines(began, places - 0.4, places + 0.4, color=theme.hues[5], linewidth=3, label="median before training")
        for n, (name, (low, first, middle, third, high)) in enumerate(spread.items()):
            at = torch.arange(1, len(middle) + 1) + 0.3 * (n - (len(spread) - 1) / 2)
            axes.vlines(at, low, high, color=theme.hues[n], linewidth=1.5)
            axes.vlines(at, first, third, color=theme.hues[n], linewidth=6)
            axes.plot(at, middle, "o", color=theme.hues[n], markeredgecolor=theme.ground, markersize=7, label=name)
        right = axes.secondary_yaxis("right")
        right.set_yticks(list(marks.values()), list(marks))
        right.tick_params(length=0)
        axes.set(xlabel="layer", ylabel="mixing weight")
        axes.grid(False, axis="x")
        whole_numbers(axes.xaxis)
        legend_above(axes)

    found = "; ".join(
        f"{name}, the middle goes from {s[2, 0]:.2f} in layer 1 to {s[2, -1]:.2f} in layer {s.shape[1]}, and the bars "
        f"reach from {s[0].min():.2f} to {s[4].max():.2f}"
        for name, s in spread.items()
    )
    return draw(
        paint,
        f"Dots and bars for the spread of each layer's mixing weights: {found}. Before training the median went from "
        f"{began[0]:.2f} to {began[-1]:.2f}.",
        caption=caption,
    )
