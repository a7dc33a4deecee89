"""Figures of chapter "Embedding and unembedding"."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from rwkv_explainer.drawing.figure import Plot, color_bar, draw, heatmap
from rwkv_explainer.drawing.palette import Theme

__all__ = ["plot_similarities"]


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

    def paint(figure: Figure, theme: Theme) -> None:
        axes = figure.subplots()
        image = heatmap(axes, cosines, words, words)
        for edge in range(1, len(words)):
            if kind[edge] != kind[edge - 1]:
                axes.axhline(edge - 0.5, color=theme.hues[1], linewidth=1)
                axes.axvline(edge - 0.5, color=theme.hues[1], linewidth=1)
        color_bar(figure, image, axes, "cosine (0 or less: no shade)")

    return draw(
        paint,
        f"A square of shades for {len(words)} words, {', '.join(kinds)}, each against each. Two different words of one "
        f"kind have a cosine of {cosines[same & pairs].mean():.2f} on average, two of different kinds "
        f"{cosines[~same].mean():.2f}; the most alike across kinds reach {cosines[~same].max():.2f}.",
        size=(6.4, 5.4),
    )
