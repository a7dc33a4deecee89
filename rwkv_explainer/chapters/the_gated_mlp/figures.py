"""Figures of chapter "The gated MLP"."""

import itertools
from collections.abc import Sequence

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from rwkv_explainer.drawing.figure import Plot, draw, legend_above, whole_numbers
from rwkv_explainer.drawing.palette import Theme

__all__ = ["plot_latent_activation", "plot_nonlinearities", "plot_spread_by_layer"]


def plot_spread_by_layer(values: dict[str, Float[Tensor, "layers n"]], quantity: str, marks: dict[str, float]) -> Plot:
    """How numbers spread in each layer: a dot for the middle one, a thick bar for half of them, a thin one for 90 %.

    Args:
        values: for each name, all its numbers in each layer.
        quantity: what they are.
        marks: values to point out, by what they mean.
    """
    quantiles = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95])
    spread = {name: v.quantile(quantiles.to(v.dtype), dim=1) for name, v in values.items()}  # (5, layers) each

    def paint(figure: Figure, theme: Theme) -> None:
        axes = figure.subplots()
        for height in marks.values():
            axes.axhline(height, color=theme.ink, linewidth=0.8, linestyle=":")
        for n, (name, (low, first, middle, third, high)) in enumerate(spread.items()):
            at = torch.arange(1, len(middle) + 1) + 0.3 * (n - (len(spread) - 1) / 2)
            axes.vlines(at, low, high, color=theme.hues[n], linewidth=1.5)
            axes.vlines(at, first, third, color=theme.hues[n], linewidth=6)
            axes.plot(at, middle, "o", color=theme.hues[n], markeredgecolor=theme.ground, markersize=7, label=name)
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
        f"reach from {s[0].min():.2f} to {s[4].max():.2f}"
        for name, s in spread.items()
    )
    return draw(paint, f"Dots and bars for the spread of each layer's {quantity}s: {found}.")


def plot_nonlinearities(inputs: Float[Tensor, " n"], outputs: dict[str, Float[Tensor, " n"]]) -> Plot:
    """Functions of one number, drawn over each other.

    Args:
        inputs: from left to right.
        outputs: what each function makes of them, by its name.
    """

    def paint(figure: Figure, theme: Theme) -> None:
        axes = figure.subplots()
        for (name, output), style in zip(outputs.items(), itertools.cycle(("--", "-", "-.", ":"))):
            axes.plot(inputs, output, style, label=name)
        axes.set(xlabel="in", ylabel="out")
        legend_above(axes)

    found = "; ".join(
        f"{name} rises from {output[0]:.2f} at {inputs[0]:.2f} over {output[len(output) // 2]:.2f} at "
        f"{inputs[len(inputs) // 2]:.2f} to {output[-1]:.2f} at {inputs[-1]:.2f}"
        for name, output in outputs.items()
    )
    return draw(paint, f"Curves of {len(outputs)} functions, left to right: {found}.", size=(6.4, 3.0))


def plot_latent_activation(latent: Float[Tensor, " time"], tokens: Sequence[str], named: int = 5) -> Plot:
    """How much one latent of a gated MLP is excited by each token of a text.

    Args:
        latent: its value at each token, never negative.
        tokens: the text.
        named: how many of the highest places to call by name, with the token before.
    """
    tops = latent.topk(min(named, len(latent))).indices.tolist()
    names = {t: "".join(tokens[max(0, t - 1) : t + 1]).replace("\n", "↵").strip() for t in tops}

    def paint(figure: Figure, theme: Theme) -> None:
        axes = figure.subplots()
        axes.vlines(range(len(latent)), 0, latent, color=theme.hues[0])
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
