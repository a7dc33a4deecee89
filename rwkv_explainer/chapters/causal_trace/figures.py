"""Figures of chapter "Causal trace"."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from rwkv_explainer.drawing.figure import (
    Plot,
    color_bar,
    draw,
    format_number,
    format_ranges,
    legend_above,
    title_above,
    whole_numbers,
)
from rwkv_explainer.drawing.palette import Theme

__all__ = ["plot_causal_trace", "plot_noise_levels", "plot_role_curves"]


def plot_causal_trace(
    grid: Float[Tensor, "tokens layers"],
    tokens: Sequence[str],
    subject: range | None = None,
    label: str = "log-probability of the answer",
    title: str = "",
    ends: tuple[float, float] | None = None,
) -> Plot:
    """The paper's Figure 11: tokens down, layers across, darker (in the dark theme: brighter) where more is restored.

    Args:
        grid: a number for each token and layer.
        subject: which tokens are marked with a star.
        ends: the numbers at the two ends of the color scale, for maps to be compared; None for the grid's own.
    """
    layers = grid.shape[1]
    names = [token.replace(" ", "·") + ("*" if subject and i in subject else "") for i, token in enumerate(tokens)]
    low, high = ends or (grid.min().item(), grid.max().item())

    def paint(figure: Figure, theme: Theme) -> None:
        axes = figure.subplots()
        image = axes.imshow(
            grid.numpy(),
            aspect="auto",
            cmap=theme.sequence,
            interpolation="nearest",
            vmin=low,
            vmax=high,
            extent=(0.5, layers + 0.5, len(names) - 0.5, -0.5),
        )
        axes.set_yticks(range(len(names)), names)
        axes.set(xlabel="layer", title=title)
        axes.grid(False)
        whole_numbers(axes.xaxis)
        color_bar(figure, image, axes, label)

    upper = grid > (low + high) / 2  # (tokens, layers)
    side, cells = ("upper", upper) if upper.sum() <= upper.numel() / 2 else ("lower", ~upper)
    named = [(name, row) for name, row in zip(names, cells) if row.any()]
    found = "; ".join(f"{name}, layer{'s' * (row.sum() > 1)} {format_ranges(row)}" for name, row in named)
    return draw(
        paint,
        f"A heat map{f' ({title})' if title else ''}, {len(names)} tokens down, {layers} layers across, {label} from "
        f"{format_number(grid.min())} to {format_number(grid.max())}. "
        f"In the {side} half of the scale: {found or 'none'}.",
        size=(6.4, max(2.6, 0.3 * len(names) + 1.0)),
    )


def plot_noise_levels(
    levels: Sequence[float], corrupted: Float[Tensor, " levels"], restored: Float[Tensor, " levels"], layer: int
) -> Plot:
    """How hard noise of each size hits, and what a layer restored between subject and answer brings back."""

    def paint(figure: Figure, theme: Theme) -> None:
        axes = figure.subplots()
        axes.plot(levels, restored, marker="o", label=f"layer {layer} restored between")
        axes.plot(levels, corrupted, marker="o", label="nothing restored")
        axes.set(xlabel="size of the noise, in standard deviations", ylabel="log-probability")
        legend_above(axes)

    return draw(
        paint,
        f"Two lines over the size of the noise, from {levels[0]:g} to {levels[-1]:g} standard deviations. With nothing "
        f"restored the log-probability of the answer goes from {format_number(corrupted[0])} to "
        f"{format_number(corrupted[-1])}; with layer {layer} restored at the words between, from "
        f"{format_number(restored[0])} to {format_number(restored[-1])}.",
    )


def plot_role_curves(
    mean: Float[Tensor, "roles layers"],
    error: Float[Tensor, "roles layers"],
    roles: Sequence[str],
    title: str = "",
    top: float | None = None,
) -> Plot:
    """What each role regains, by layer: the mean over many facts, and a band of one standard error.

    Args:
        top: the upper end of the vertical axis, for figures to be compared; None for what the lines need.
    """
    layer = torch.arange(1, mean.shape[1] + 1)
    present = [i for i in range(len(roles)) if mean[i].isfinite().all()]

    def paint(figure: Figure, theme: Theme) -> None:
        axes = figure.subplots()
        for i in present:
            axes.plot(layer, mean[i], label=roles[i], color=theme.hues[i])
            low, high = mean[i] - error[i], mean[i] + error[i]
            axes.fill_between(layer, low, high, color=theme.hues[i], alpha=0.18, linewidth=0)
        axes.set(xlabel="layer", ylabel="probability regained")
        axes.set_ylim(top=top)
        title_above(figure, title)
        whole_numbers(axes.xaxis)
        legend_above(axes, columns=2)

    peaks = "; ".join(f"{roles[i]} {mean[i].max():.2f} in layer {int(mean[i].argmax()) + 1}" for i in present)
    return draw(
        paint,
        "A line for each role of a token, the probability regained by layer, with bands of one standard error. "
        f"Peaks: {peaks}.",
        size=(6.4, 4.2),
    )
