"""Figures of chapter "Blocks and the residual stream"."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from rwkv_explainer.drawing.figure import Plot, color_bar, draw, label_tokens, legend_above, whole_numbers
from rwkv_explainer.drawing.palette import Theme

__all__ = ["plot_answer_by_layer", "plot_stopping_early", "plot_update_sizes"]


def plot_answer_by_layer(probabilities: Float[Tensor, " layers"], untouched: float, answer: str, change: str) -> Plot:
    """A bar for each layer: how probable the answer still is when that layer alone is changed.

    Args:
        probabilities: of the answer, with each layer changed in turn.
        untouched: the same, with none of them changed.
        answer: the text of the answer.
        change: what was done to the layer, in words.
    """

    def paint(figure: Figure, theme: Theme) -> None:
        axes = figure.subplots()
        axes.bar(range(1, len(probabilities) + 1), probabilities)
        axes.axhline(untouched, color=theme.hues[1], linestyle="--", label="nothing changed")
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

    def paint(figure: Figure, theme: Theme) -> None:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 3))
        upper.plot(range(len(stream)), stream, marker="o", markersize=4, color=theme.hues[2], label="residual stream")
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

    def paint(figure: Figure, theme: Theme) -> None:
        axes = figure.subplots()
        image = axes.imshow(probabilities, vmin=0, vmax=1, origin="lower", aspect="auto")
        axes.set(xlabel="token to come", ylabel="stopped after layer (0: none)")
        axes.grid(False)
        whole_numbers(axes.yaxis)
        label_tokens(axes, upcoming)
        color_bar(figure, image, axes, "its probability")

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
