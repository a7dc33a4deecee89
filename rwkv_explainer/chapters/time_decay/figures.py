"""Figures of chapter "Time decay"."""

from collections.abc import Sequence

import matplotlib
import matplotlib.font_manager
import matplotlib.patches
import matplotlib.path
import matplotlib.ticker
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from rwkv_explainer.drawing.figure import Plot, draw, legend_above, whole_numbers
from rwkv_explainer.drawing.palette import Theme

__all__ = ["plot_half_life_counts"]


def plot_half_life_counts(half_lives: Float[Tensor, "layers channels"], bounds: Sequence[float] = (1, 10, 100)) -> Plot:
    """How many of each layer's channels forget how fast: stacked bars, a layer a row."""
    edges = [0.0, *bounds, float("inf")]
    names = [f"under {bounds[0]:g}", *(f"{a:g} to {b:g}" for a, b in zip(bounds, bounds[1:])), f"over {bounds[-1]:g}"]
    shares = torch.stack([((half_lives >= a) & (half_lives < b)).float().mean(dim=1) for a, b in zip(edges, edges[1:])])

    def paint(figure: Figure, theme: Theme) -> None:
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
