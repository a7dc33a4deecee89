"""Figures of chapter "The zero-layer model"."""

from collections.abc import Sequence

from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from rwkv_explainer.drawing.figure import Plot, contrasting_text, draw, heatmap
from rwkv_explainer.drawing.palette import Theme

__all__ = ["plot_transitions"]


def plot_transitions(
    probabilities: Float[Tensor, "tokens followers"], tokens: Sequence[str], followers: Sequence[str]
) -> Plot:
    """A piece of a Markov chain's table: a row for each token, a column for each follower, the probability in the cell.

    Args:
        probabilities: of each follower right after each token; rows need not sum to 1, as other followers are left out.
        tokens: the tokens that came.
        followers: those that may come next.
    """

    def paint(figure: Figure, theme: Theme) -> None:
        axes = figure.subplots()
        image = heatmap(axes, probabilities, tokens, followers)
        axes.set(xlabel="next token", ylabel="token")
        for row, cells in enumerate(probabilities.tolist()):
            for column, p in enumerate(cells):
                if p >= 0.01:
                    axes.text(column, row, f"{p:.2f}", ha="center", va="center", color=contrasting_text(image, p))

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
