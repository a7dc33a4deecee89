"""Figures of chapter "Where RWKV went next"."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from torch import Tensor

from rwkv_explainer.drawing.figure import Plot, contrasting_text, draw, heatmap, is_narrow, panels
from rwkv_explainer.drawing.live import Live, live_heatmap, live_lines
from rwkv_explainer.drawing.palette import Theme
from rwkv_explainer.drawing.sliders import Moving, Sliders, slide
from rwkv_explainer.lab.memories import ARCHITECTURES
from rwkv_explainer.lab.memory_tasks import any_told_value

__all__ = [
    "Recall",
    "in_row",
    "live_ages",
    "live_swaps",
    "live_table",
    "plot_learned",
    "plot_learned_cups",
    "plot_learned_recall",
    "plot_recall",
    "plot_state_tables",
    "plot_table_update",
    "touch_swaps",
    "touch_table",
]

NAMES, CITIES = ["Anna", "Ben", "Chloe", "Dan"], ["Rome", "Oslo", "Lima", "Kyiv"]
STORY = [("Anna", "Rome"), ("Ben", "Oslo"), ("Chloe", "Lima"), ("Anna", "Kyiv"), ("Ben", "Rome")]


def touch_table() -> Sliders | Moving:
    """A table that fills, fades and is corrected, with a slider for each."""
    return slide(live_table, facts_told=(1, len(STORY)), a_row_keeps=(0.5, 1.0, 0.1), taken_out_first=(0.0, 1.0, 0.25))


def live_table(facts_told: int = 4, a_row_keeps: float = 1.0, taken_out_first: float = 0.0) -> Live:
    """What a memory holds that is a table of names and cities, after the first facts of a story.

    Args:
        facts_told: how many of the story's sentences.
        a_row_keeps: the share of every row that is left when the next fact is told.
        taken_out_first: the share of what stands in a name's row that is taken out before its new city is written.
    """
    table = torch.zeros(len(NAMES), len(CITIES), dtype=torch.float64)
    for name, city in STORY[:facts_told]:
        row, removed = NAMES.index(name), taken_out_first * table[NAMES.index(name)]
        table = a_row_keeps * table
        table[row] -= removed
        table[row, CITIES.index(city)] += 1
    told = ", ".join(f"{name} in {city}" for name, city in STORY[:facts_told])
    last = STORY[facts_told - 1][0]
    return live_heatmap(
        table,
        NAMES,
        CITIES,
        label="the memory: a row for each name, a column for each city",
        caption=f"Told: {told}. Asked for {last}, the table says {in_row(table[NAMES.index(last)])}.",
        limits=(0, 1),
        digits=2,
    )


def in_row(row: Tensor) -> str:
    """The cities of a row with their numbers, the largest first."""
    found = sorted(zip(row.tolist(), CITIES), reverse=True)
    return " and ".join(f"{city} {number:.2f}" for number, city in found if abs(number) > 0.005) or "nothing"


def plot_state_tables(
    tables: dict[str, Float[Tensor, "rows columns"]], rows: Sequence[str], columns: Sequence[str], caption: str = ""
) -> Plot:
    """Matrices that hold pairs, side by side: the number in each cell, and a shade for it.

    Args:
        tables: by title, numbers of size 1 at most.
        rows: what each row stands for.
        columns: what each column stands for.
        caption: the finding, in a sentence.
    """

    def paint(figure: Figure, theme: Theme) -> None:
        for axes, (title, table) in zip(panels(figure, len(tables)), tables.items()):
            write_numbers(axes, heatmap(axes, table, rows, columns), table)
            axes.set_title(title, fontsize=10)

    said = "; ".join(f"{title}: {cells_in_words(table, rows, columns)}" for title, table in tables.items())
    return draw(
        paint,
        f"Tables with a row for each of {', '.join(rows)} and a column for each of "
        f"{', '.join(columns)}, one after the other. Cells that are not 0: {said}.",
        size=(6.4, 2.7),
        caption=caption,
    )


def write_numbers(axes: Axes, image: AxesImage, table: Float[Tensor, "rows columns"]) -> None:
    """The number in each cell of a map, none in those that are empty."""
    for (row, column), number in zip(itertools.product(*map(range, table.shape)), table.flatten().tolist()):
        words = f"{round(number, 2) + 0.0:.2f}".rstrip("0").rstrip(".").replace("-", "−")
        color = contrasting_text(image, number)
        axes.text(column, row, words, ha="center", va="center", color=color, fontsize=9)


def plot_table_update(
    old: Float[Tensor, "size size"],
    key: Float[Tensor, " size"],
    value: Float[Tensor, " size"],
    decay: Float[Tensor, " size"],
    removal_key: Float[Tensor, " size"],
    rate: Float[Tensor, " size"],
    rows: Sequence[str],
    columns: Sequence[str],
    caption: str = "",
) -> Plot:
    """One write of RWKV-7's memory as a sum of tables: faded, less what was found, plus what is new.

    An outer product has its first vector beside it and its second one above it.

    Args:
        old: the table before.
        key, value, decay, removal_key, rate: of the token that writes.
        rows: what each row stands for.
        columns: what each column stands for.
        caption: the finding, in a sentence.
    """
    found = removal_key @ old  # (size,)
    terms = [  # each with the vectors of an outer product, the first one and the second one
        ("decay ⊙ contents", decay, None, decay[:, None] * old),
        ("− (rate ⊙ removal key) ⊗ found", rate * removal_key, found, torch.outer(rate * removal_key, found)),
        ("+ key ⊗ value", key, value, torch.outer(key, value)),
    ]
    (*_, kept), (*_, removed), (*_, added) = terms
    terms.append(("= the new contents", None, None, kept - removed + added))

    def paint(figure: Figure, theme: Theme) -> None:
        across = 2 if is_narrow(figure) else len(terms)
        down, size = -(-len(terms) // across), len(old)
        figure.set_figheight(figure.get_figheight() * down)
        widths, heights = [1, size] * across, [1, size] * down
        grid = figure.subplots(2 * down, 2 * across, width_ratios=widths, height_ratios=heights, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for place, (title, left, above, table) in enumerate(terms):
            row, column = 2 * (place // across), 2 * (place % across)
            (_, top), (side, middle) = grid[row : row + 2, column : column + 2]
            shade(top, None if above is None else above[None])
            shade(side, None if left is None else left[:, None])
            shade(middle, table)
            top.set_title(title.replace("⊙ removal", "⊙\nremoval"), fontsize=8, loc="center")
            name_columns(middle, columns)
            if column == 0:
                name_rows(middle if left is None else side, rows)

    steps = "; ".join(f"{title}: {cells_in_words(table, rows, columns)}" for title, *_, table in terms)
    return draw(paint, f"One write as a sum of tables. {steps}.", size=(6.8, 2.2), caption=caption)


def shade(axes: Axes, table: Float[Tensor, "rows columns"] | None) -> None:
    """A small table as shades with numbers, or nothing."""
    if table is not None:
        write_numbers(axes, axes.imshow(table.numpy(), vmin=0, vmax=1, aspect="auto"), table)


def name_columns(axes: Axes, names: Sequence[str]) -> None:
    """A small table's column names, below it."""
    bare(axes)
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor")


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """The rows' names, beside whatever stands leftmost."""
    bare(axes)
    axes.set_yticks(range(len(names)), names)


def bare(axes: Axes) -> None:
    """Axes that show their names and nothing else."""
    if not axes.axison:  # no names yet
        axes.set_axis_on()
        axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.tick_params(length=0, labelsize=8)
    axes.spines[:].set_visible(False)


def cells_in_words(table: Float[Tensor, "rows columns"], rows: Sequence[str], columns: Sequence[str]) -> str:
    """The cells of a table that are not empty."""
    cells = (table.abs() > 0.005).nonzero().tolist()
    return ", ".join(f"{rows[i]} {columns[j]} {table[i, j]:.2f}" for i, j in cells) or "nothing"


@dataclass(frozen=True)
class Recall:
    """How often a way to write gives back the right value, for each number of keys: over tables, mean and error."""

    mean: Float[Tensor, " counts"]
    error: Float[Tensor, " counts"]  # the standard error of the mean


def plot_recall(pairs: Sequence[int], shares: dict[str, dict[str, Recall]], rows: int, caption: str = "") -> Plot:
    """How often a memory gives back the right value, against the number of keys that it was told of.

    Args:
        pairs: how many keys there were.
        shares: for each panel's title, for each way to write, the share of right answers at each of these numbers.
        rows: the rows of the memory's table, marked by a line.
        caption: the finding, in a sentence.
    """

    def paint(figure: Figure, theme: Theme) -> None:
        for axes, (title, curves) in zip(panels(figure, len(shares)), shares.items()):
            for (who, share), marker in zip(curves.items(), itertools.cycle("os^v")):
                axes.errorbar(
                    pairs, share.mean, yerr=2 * share.error, marker=marker, markersize=4, elinewidth=1.2, label=who
                )
            axes.axvline(rows, color=theme.ink, linewidth=1, linestyle=":", label="as many as rows")
            axes.set(xlabel="keys", title=title, ylim=(-0.02, 1.05))
        figure.axes[0].set_ylabel("share of right answers")
        figure.axes[0].legend(fontsize=9)

    at = max(n for n, count in enumerate(pairs) if count <= rows)
    found = "; ".join(
        f"{title}: "
        + ", ".join(
            f"the memory that {who} is right in {share.mean[0]:.0%} at {pairs[0]} keys, {share.mean[at]:.0%} at "
            f"{pairs[at]} and {share.mean[-1]:.0%} at {pairs[-1]}"
            for who, share in curves.items()
        )
        for title, curves in shares.items()
    )
    return draw(
        paint,
        f"Curves of the share of right answers against the number of keys, in a table of {rows} rows. {found}.",
        caption=caption,
    )


def live_ages(shares: dict[str, Float[Tensor, " facts"]], caption: str = "") -> Live:
    """How often a fact is given back, by how many facts were told after it.

    Args:
        shares: for each way to write, the share of right answers for each fact, the oldest first.
        caption: the finding, in a sentence.
    """
    facts = len(next(iter(shares.values())))
    return live_lines(
        list(range(facts)),
        {who: share.flip(0) for who, share in shares.items()},
        xlabel="facts told since",
        ylabel="share of right answers",
        ylim=(0, 1),
        digits="%",
        caption=caption,
    )


GOOSE_DECAY = math.exp(-math.exp(-0.5))  # the least that a row of RWKV-7's keeps


def touch_swaps() -> Sliders | Moving:
    """What becomes of the difference between two rows that trade places, with a slider for rate and decay."""
    return slide(live_swaps, rate=(0.0, 2.0, 0.1), decay=(0.55, 1.0, 0.05))


def live_swaps(rate: float = 1.0, decay: float = 1.0) -> Live:
    """What swap after swap leaves of the difference between two rows, for a removal key along their difference.

    Args:
        rate: of removal.
        decay: what every row keeps.
    """
    swaps = list(range(13))
    once = decay - rate
    sign = "turns around" if once < 0 else "keeps its sign"
    found = f"{sign} at each swap, and {abs(once):.0%} of it is left" if abs(once) > 0.005 else "is gone after one swap"
    return live_lines(
        swaps,
        {
            "your rate and decay": [once**n for n in swaps],
            "a mirror: rate 2, decay 1": [(-1) ** n for n in swaps],
            "RWKV-7's own limit": [(GOOSE_DECAY - 1) ** n for n in swaps],
        },
        xlabel="swaps",
        ylabel="the two rows' difference, 1 at the start",
        ylim=(-1.05, 1.05),
        caption=f"With rate {rate:g} and decay {decay:g} the difference {found}.",
    )


def plot_learned_recall(record: dict, caption: str = "") -> Plot:
    """What trained memories recall: accuracy against the number of pairs, and against how often each key was told.

    Guessing is the better of two ways where keys are told again: a value of the key's own, or the one told last of all.

    Args:
        record: of `lab.compare_memories`.
        caption: the finding, in a sentence.
    """
    recall, overwriting = (torch.tensor(record["tasks"][task]["asked"]) for task in ("recall", "overwriting"))
    once, again = learned(record, "recall"), learned(record, "overwriting")
    again["guess"] = [max(pair) for pair in zip(again["guess"], map(any_told_value, overwriting[:, 0].tolist()))]
    panels = [
        Panel("each key told once", "keys", recall[:, 0].tolist(), 16, **once),
        Panel("4 keys told again", "times", overwriting[:, 1].tolist(), 4, **again),
    ]
    return plot_learned(panels, (6.4, 3.9), caption)


def plot_learned_cups(record: dict, caption: str = "") -> Plot:
    """Where trained memories find a ball under cups that trade places, against the number of tokens so far.

    Args:
        record: of `lab.compare_memories`.
        caption: the finding, in a sentence.
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
    return plot_learned(panels, (6.4, 6.2), caption)


@dataclass(frozen=True)
class Panel:
    """Accuracies against difficulty."""

    title: str
    axis: str
    difficulties: Sequence[int]
    trained: int  # the highest difficulty in training
    runs: dict[str, Float[Tensor, "seeds difficulties"]]  # by architecture
    guess: Sequence[float]  # at each difficulty, what the best simple guess gives


def learned(record: dict, task: str, row: int | None = None) -> dict:
    """A panel's runs and guesses: over all difficulties, or of one difficulty over its bins."""
    part = (lambda x: x[..., 0]) if row is None else (lambda x: x[..., row, :])
    numbers = {name: part(torch.tensor(runs)) for name, runs in record["accuracy"][task].items()}
    return {"runs": numbers, "guess": part(torch.tensor(record["tasks"][task]["guess"])).tolist()}


def plot_learned(panels: Sequence[Panel], size: tuple[float, float], caption: str = "") -> Plot:
    """A line for each architecture: the mean over its seeds, in a band from the lowest to the highest."""

    def paint(figure: Figure, theme: Theme) -> None:
        narrow = is_narrow(figure)
        grid = figure.subplots(-(-len(panels) // 2), 2, sharey=True, squeeze=False)
        for axes, panel in zip(grid.flat, panels):
            for name, seeds in panel.runs.items():  # (seeds, difficulties)
                place = list(ARCHITECTURES).index(name)  # a model looks the same in every figure
                color, marker = theme.hues[place], "os^vDP"[place]
                low, high = seeds.amin(dim=0), seeds.amax(dim=0)
                axes.plot(panel.difficulties, seeds.mean(dim=0), color=color, marker=marker, markersize=4, label=name)
                axes.fill_between(panel.difficulties, low, high, color=color, alpha=0.2, linewidth=0)
            axes.plot(panel.difficulties, panel.guess, color=theme.ink, linewidth=1, linestyle="--", label="guessing")
            axes.axvline(panel.trained, color=theme.ink, linewidth=1, linestyle=":", label="trained up to here")
            ticks = [n for n in panel.difficulties if not narrow or n & (n - 1) == 0] or panel.difficulties
            axes.set_xscale("log", base=2)
            axes.set_xticks(ticks, [str(n) for n in ticks])
            axes.set_xticks([], minor=True)
            axes.tick_params(labelsize=8 if narrow else 10)
            axes.set(xlabel=panel.axis, title=panel.title, ylim=(-0.02, 1.05))
        for axes in grid[:, 0]:
            axes.set_ylabel("share of right answers")
        lines = grid[0, 0].get_legend_handles_labels()
        figure.legend(*lines, loc="outside upper left", ncols=2 if narrow else 3, fontsize=8 if narrow else 9)

    return draw(paint, " ".join(map(panel_in_words, panels)), size, caption)


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
