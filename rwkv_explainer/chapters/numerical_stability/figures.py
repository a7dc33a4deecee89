"""Figures of chapter "Numerical stability"."""

import itertools

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from rwkv_explainer.drawing.figure import Plot, draw, legend_above, whole_numbers
from rwkv_explainer.drawing.palette import Theme

__all__ = ["plot_climbing_keys", "plot_key_ranges", "plot_slow_average"]


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

    def paint(figure: Figure, theme: Theme) -> None:
        panels = figure.subplots(len(reads), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
        for axes, (name, read) in zip(panels, reads.items()):
            axes.plot(keys, exact, color=theme.ink, linewidth=1, label="the right answer")
            axes.plot(keys, read, ".", color=theme.hues[1], markersize=5, label="what is read")
            axes.fill_between(
                keys,
                0,
                1,
                where=lost[name].numpy(),
                transform=axes.get_xaxis_transform(),
                color=theme.faint,
                alpha=0.6,
                linewidth=0,
                label="not a number",
            )
            axes.set_ylabel(name)
            axes.grid(False)
        panels[-1].set(xlabel="key")
        legend_above(panels[0])

    found = "; ".join(
        f"{name}, "
        + (f"from {keys[~gone].min():.0f} to {keys[~gone].max():.0f}" if not gone.all() else "nowhere")
        + (f", up to {(read - exact)[~gone].abs().max():.1g} off there" if not gone.all() else "")
        for (name, read), gone in zip(reads.items(), lost.values())
    )
    return draw(
        paint,
        f"A wave, and dots for what memories read of it while their keys climb from {keys[0]:.0f} to "
        f"{keys[-1]:.0f}. Numbers are read for these keys only: {found}.",
        size=(6.4, 4.8),
    )


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

    def paint(figure: Figure, theme: Theme) -> None:
        axes = figure.subplots()
        for height in limits.values():
            axes.axhline(height, color=theme.ink, linewidth=1, linestyle=":")
        axes.vlines(layers, low, high, color=theme.hues[0], linewidth=6, label="keys")
        axes.plot(
            layers,
            log_sums,
            "D",
            color=theme.hues[1],
            markeredgecolor=theme.ground,
            label="logarithm of the largest sum",
        )
        right = axes.secondary_yaxis("right")
        right.set_yticks(list(limits.values()), [f"{name}\noverflows" for name in limits])
        right.tick_params(length=0)
        axes.set(xlabel="layer", ylabel="exponent")
        axes.grid(False, axis="x")
        whole_numbers(axes.xaxis)
        legend_above(axes)

    top = ", ".join(f"{name} at {height:.1f}" for name, height in limits.items())
    return draw(
        paint,
        f"A bar for each layer's keys: they lie between {low.min():.1f} and {high.max():.1f}. The "
        f"largest sums are e to the {log_sums.min():.1f} to {log_sums.max():.1f}. Dotted lines show "
        f"where sums overflow: {top}.",
    )


def plot_slow_average(reads: dict[str, Float[Tensor, " time"]], change: int) -> Plot:
    """What memories read whose values are 0 at first, and 1 from token `change` on. The first one is right."""
    exact = next(iter(reads.values()))

    def paint(figure: Figure, theme: Theme) -> None:
        axes = figure.subplots()
        axes.plot(exact, color=theme.ink, linewidth=4, alpha=0.35, label=next(iter(reads)))
        for (name, read), style in zip(list(reads.items())[1:], itertools.cycle(("-", "-.", "--", ":"))):
            axes.plot(read, style, linewidth=1.8, label=name)
        axes.axvline(change, color=theme.ink, linewidth=0.8, linestyle=":")
        axes.set(xlabel="token", ylabel="average read", ylim=(-0.03, 1.05))
        legend_above(axes, columns=2)

    found = ", ".join(f"{read[-1]:.2f} for {name}" for name, read in reads.items())
    return draw(
        paint,
        f"Lines that stay at 0 up to token {change}, where the values become 1, and then rise at "
        f"different speeds. At token {len(exact)} they stand at {found}.",
    )
