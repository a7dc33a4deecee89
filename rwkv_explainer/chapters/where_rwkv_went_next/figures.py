"""Figures of chapter "Where RWKV went next"."""

import itertools
from collections.abc import Sequence

from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from rwkv_explainer.drawing.figure import Plot, contrasting_text, draw, heatmap
from rwkv_explainer.drawing.palette import Theme


def plot_state_tables(
    tables: dict[str, Float[Tensor, "rows columns"]], rows: Sequence[str], columns: Sequence[str]
) -> Plot:
    """Matrices that hold pairs, side by side: the number in each cell, and a shade for it.

    Args:
        tables: by title, numbers from 0 to 1.
        rows: what each row stands for.
        columns: what each column stands for.
    """

    def paint(figure: Figure, theme: Theme) -> None:
        panels = figure.subplots(1, len(tables), sharey=True, squeeze=False)[0]
        for axes, (title, table) in zip(panels, tables.items()):
            image = heatmap(axes, table, rows, columns)
            axes.set_title(title, fontsize=10)
            for (row, column), number in zip(itertools.product(*map(range, table.shape)), table.flatten().tolist()):
                axes.text(
                    column,
                    row,
                    f"{number:.2f}".rstrip("0").rstrip("."),
                    ha="center",
                    va="center",
                    color=contrasting_text(image, number),
                    fontsize=9,
                )

    def in_words(table: Tensor) -> str:
        cells = (table > 0.005).nonzero().tolist()
        return ", ".join(f"{rows[i]} {columns[j]} {table[i, j]:.2f}" for i, j in cells) or "nothing"

    said = "; ".join(f"{title}: {in_words(table)}" for title, table in tables.items())
    return draw(
        paint,
        f"Tables with a row for each of {', '.join(rows)} and a column for each of "
        f"{', '.join(columns)}, one after the other. Cells above 0: {said}.",
        size=(6.4, 2.7),
    )


def plot_recall(pairs: Sequence[int], shares: dict[str, dict[str, Float[Tensor, " counts"]]], rows: int) -> Plot:
    """How often a memory gives back the right value, against the number of keys that it was told of.

    Args:
        pairs: how many keys there were.
        shares: for each panel's title, for each way to write, the share of right answers at each of these numbers.
        rows: the rows of the memory's table, marked by a line.
    """

    def paint(figure: Figure, theme: Theme) -> None:
        panels = figure.subplots(1, len(shares), sharey=True, squeeze=False)[0]
        for axes, (title, curves) in zip(panels, shares.items()):
            for (who, share), marker in zip(curves.items(), itertools.cycle("os^v")):
                axes.plot(pairs, share, marker=marker, markersize=4, label=who)
            axes.axvline(rows, color=theme.ink, linewidth=1, linestyle=":", label="as many as rows")
            axes.set(xlabel="keys", title=title, ylim=(-0.02, 1.05))
        figure.axes[0].set_ylabel("share of right answers")
        figure.axes[0].legend(fontsize=9)

    at = max(n for n, count in enumerate(pairs) if count <= rows)
    found = "; ".join(
        f"{title}: "
        + ", ".join(
            f"the memory that {who} is right in {share[0]:.0%} at {pairs[0]} keys, {share[at]:.0%} at {pairs[at]} and "
            f"{share[-1]:.0%} at {pairs[-1]}"
            for who, share in curves.items()
        )
        for title, curves in shares.items()
    )
    return draw(
        paint, f"Curves of the share of right answers against the number of keys, in a table of {rows} rows. {found}."
    )
