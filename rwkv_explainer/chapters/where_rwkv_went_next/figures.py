"""Figures of chapter "Where RWKV went next"."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from rwkv_explainer.drawing.figure import Plot, contrasting_text, draw, heatmap, panels
from rwkv_explainer.drawing.palette import Theme

__all__ = ["plot_learned", "plot_learned_cups", "plot_learned_recall", "plot_recall", "plot_state_tables"]


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
        for axes, (title, table) in zip(panels(figure, len(tables)), tables.items()):
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
        for axes, (title, curves) in zip(panels(figure, len(shares)), shares.items()):
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


def plot_learned_recall(record: dict) -> Plot:
    """What trained memories recall: accuracy against the number of pairs, and against how often each key was told.

    Args:
        record: of `lab.compare_memories`.
    """
    recall, overwriting = (torch.tensor(record["tasks"][task]["asked"]) for task in ("recall", "overwriting"))
    panels = [
        Panel("each key told once", "keys", recall[:, 0].tolist(), 16, **learned(record, "recall")),
        Panel("4 keys told several times", "times", overwriting[:, 1].tolist(), 4, **learned(record, "overwriting")),
    ]
    return plot_learned(panels, size=(6.4, 3.9))


def plot_learned_cups(record: dict) -> Plot:
    """Where trained memories find a ball under cups that trade places, against the number of tokens so far.

    Args:
        record: of `lab.compare_memories`.
    """
    last = [last for _, last in record["settings"]["bins"]]
    panels = [
        Panel(
            f"{cups} cups" + " (parity)" * (cups == 2),
            "tokens, up to",
            last,
            record["settings"]["trained_length"],
            **learned(record, "cups", row),
        )
        for row, (cups, _) in enumerate(record["tasks"]["cups"]["asked"])
    ]
    return plot_learned(panels, size=(6.4, 6.2))


@dataclass(frozen=True)
class Panel:
    """Accuracies against difficulty."""

    title: str
    axis: str
    difficulties: Sequence[int]
    trained: int  # the highest difficulty in training
    runs: dict[str, Float[Tensor, "seeds difficulties"]]  # by architecture
    guess: Sequence[float]  # at each difficulty


def learned(record: dict, task: str, row: int | None = None) -> dict:
    """A panel's runs and guesses: over all difficulties, or of one difficulty over its bins."""
    part = (lambda x: x[..., 0]) if row is None else (lambda x: x[..., row, :])
    numbers = {name: part(torch.tensor(runs)) for name, runs in record["accuracy"][task].items()}
    return {"runs": numbers, "guess": part(torch.tensor(record["tasks"][task]["guess"])).tolist()}


def plot_learned(panels: Sequence[Panel], size: tuple[float, float]) -> Plot:
    """A line for each architecture: the mean over its seeds, in a band from the lowest to the highest."""
    names = list(panels[0].runs)

    def paint(figure: Figure, theme: Theme) -> None:
        grid = figure.subplots(-(-len(panels) // 2), 2, sharey=True, squeeze=False)
        for axes, panel in zip(grid.flat, panels):
            for name, marker in zip(names, "os^vDP"):
                seeds = panel.runs[name]  # (seeds, difficulties)
                low, high = seeds.amin(dim=0), seeds.amax(dim=0)
                (line,) = axes.plot(panel.difficulties, seeds.mean(dim=0), marker=marker, markersize=4, label=name)
                axes.fill_between(panel.difficulties, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
            axes.plot(panel.difficulties, panel.guess, color=theme.ink, linewidth=1, linestyle="--", label="guessing")
            axes.axvline(panel.trained, color=theme.ink, linewidth=1, linestyle=":", label="trained up to here")
            axes.set_xscale("log", base=2)
            axes.set_xticks(panel.difficulties, [str(n) for n in panel.difficulties])
            axes.set_xticks([], minor=True)
            axes.set(xlabel=panel.axis, title=panel.title, ylim=(-0.02, 1.05))
        for axes in grid[:, 0]:
            axes.set_ylabel("share of right answers")
        figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper left", ncols=3, fontsize=9)

    return draw(paint, " ".join(map(panel_in_words, panels)), size)


def panel_in_words(panel: Panel) -> str:
    """What a panel shows at the lowest, at the hardest trained and at the highest difficulty."""
    at = sorted({0, panel.difficulties.index(panel.trained), len(panel.difficulties) - 1})
    places = ", ".join(str(panel.difficulties[n]) for n in at)
    said = lambda shares: ", ".join(f"{shares[n]:.0%}" for n in at)
    lines = [f"{name} {said(seeds.mean(dim=0))}" for name, seeds in panel.runs.items()]
    seeds = len(next(iter(panel.runs.values())))
    over = "one seed" if seeds == 1 else f"mean over {seeds} seeds"
    return (
        f"Share of right answers, {panel.title}, at {places} ({panel.axis}), {over}: "
        f"{'; '.join([*lines, f'guessing {said(panel.guess)}'])}."
    )
