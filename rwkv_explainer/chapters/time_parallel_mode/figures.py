"""Figures of chapter "Time-parallel mode"."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

import matplotlib
import matplotlib.patches
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from rwkv_explainer.drawing.figure import Plot, draw, panels
from rwkv_explainer.drawing.live import Live, live_heatmap, live_lines
from rwkv_explainer.drawing.palette import Theme

__all__ = [
    "live_attention_cost",
    "live_cost",
    "live_matrix",
    "live_pull",
    "plot_chunks",
    "plot_ways",
    "writing_multiplications",
]

LENGTHS = [2**n for n in range(4, 17)]  # tokens, 16 to 65,536


def writing_multiplications(n: int, channels: int) -> tuple[int, int]:
    """Multiplications for token number n: of a Transformer's attention, and of RWKV's attention block.

    Both have four square matrices. The Transformer's query meets n keys, and n values are added up. RWKV has three
    mixes of two products each, a gate, and the memory: two in its read (one is the division), three in its write.
    Exponentials are not counted on either side.
    """
    matrices = 4 * channels**2
    return matrices + 2 * n * channels, matrices + (3 * 2 + 1 + 2 + 3) * channels


def live_cost(tokens_so_far: int = 1024, channels: int = 256) -> Live:
    """What one more token costs after a text of some length, in multiplications of the four matrices.

    Args:
        tokens_so_far: the next one included; one of `LENGTHS`.
        channels: of both models.
    """
    matrices = 4 * channels**2
    theirs, ours = zip(*(writing_multiplications(n, channels) for n in LENGTHS))
    their, our = writing_multiplications(tokens_so_far, channels)
    held = 2 * tokens_so_far * channels, 3 * channels
    lines = {
        "a Transformer's attention": [count / matrices for count in theirs],
        "RWKV's attention block": [count / matrices for count in ours],
        "your text": [their / matrices if n == tokens_so_far else None for n in LENGTHS],
    }
    return live_lines(
        LENGTHS,
        lines,
        xlabel="tokens so far",
        ylabel="multiplications for the next token ÷ those of the four matrices",
        xlog=True,
        ylog=True,
        ylim=(0.8, 200),
        dots=["your text"],
        caption=f"With {channels:,} channels, a Transformer's attention multiplies {their / our:.3g} times as often as "
        f"RWKV's for token number {tokens_so_far:,}, and then holds {held[0]:,} numbers where RWKV holds "
        f"{held[1]:,}. At {2 * channels:,} tokens, twice the channels, the text costs it as much as its four matrices.",
    )


def live_matrix(matrix: Float[Tensor, "time time"], tokens: Sequence[str], title: str, caption: str) -> Live:
    """A channel's memory as an attention matrix: readers down, what they read across; the future stays empty.

    Args:
        matrix: row i for the reader of token i: weights or shares, 0 to 1.
        tokens: their names.
        title: what the numbers are.
        caption: the finding.
    """
    cells = matrix.masked_fill(torch.ones_like(matrix).triu(1).bool(), torch.nan)  # (time, time)
    label = f"{title}, in percent: readers down, what they read across"
    return live_heatmap(cells, tokens, tokens, label=label, caption=caption, limits=(0, 1))


def plot_chunks(time: int, chunk: int) -> Plot:
    """A drawing: what readers look at in one large matrix, and in chunks with a state handed from each to the next."""
    starts = range(0, time, chunk)

    def cell(axes: Axes, x: int, y: int, width: int, color: str, theme: Theme) -> None:
        axes.add_patch(matplotlib.patches.Rectangle((x, y), width, 1, fc=color, ec=theme.ground, lw=0.8))

    def paint(figure: Figure, theme: Theme) -> None:
        token, state = theme.hues[:2]
        whole, chunked = panels(figure, 2)
        for i in range(time):
            start = i // chunk * chunk
            for j in range(i + 1):
                cell(whole, j, i, 1, token, theme)
            for j in range(start, i + 1):
                cell(chunked, j, i, 1, token, theme)
            if start:
                cell(chunked, 0, i, start, state, theme)
        for start in starts[1:]:  # the state, carried over the corner where one chunk ends and the next begins
            curve = {"arrowstyle": "-|>", "color": state, "lw": 1.6, "connectionstyle": "arc3,rad=-0.45"}
            chunked.annotate(
                "", (start + 0.15, start - 0.1), (start - chunk + 0.15, start - chunk - 0.1), arrowprops=curve
            )
        for axes, title in ((whole, "one matrix"), (chunked, f"chunks of {chunk}")):
            axes.set(xlabel="token read", ylabel="reader", title=title, aspect="equal", xticks=[], yticks=[])
            axes.set(xlim=(-0.1, time + 0.1), ylim=(time + 0.1, -0.6))
            axes.grid(False)
        marks = [matplotlib.patches.Patch(color=color) for color in (token, state)]
        names = ["one token", "all before, as one"]
        figure.legend(marks, names, loc="outside lower left", ncols=2)

    cells = time * (time + 1) // 2
    inside = sum(n + 1 for start in starts for n in range(min(chunk, time - start)))
    later = time - chunk
    return draw(
        paint,
        f"Two grids, {time} readers by {time} tokens. Left, one matrix: {cells} cells fill the lower triangle. Right, "
        f"chunks of {chunk}: {inside} cells in small triangles along the diagonal, and in each of the {later} later "
        "readers' rows one wide cell, which stands for all before its chunk. Arrows carry it from chunk to chunk.",
        size=(6.4, 3.9),
        caption=f"One matrix has {cells} entries for {time} tokens. Chunks of {chunk} have {inside}, and {later} for a "
        "past that counts as one token, however long it is. Arrows carry this state from chunk to chunk.",
    )


@dataclass(frozen=True)
class Node:
    """Something computed from others: when, at which token, and which tokens are in it."""

    step: int  # 0 for what is given: a token, or the state before the text, which stands at token -1
    token: int
    sources: tuple["Node", ...] = ()
    reads: bool = False  # what a token reads, or else the summary of a stretch

    @property
    def contains(self) -> frozenset[int]:
        return frozenset([self.token] if not self.sources else ()).union(*(node.contains for node in self.sources))


TOKEN, STEP = attrgetter("token"), attrgetter("step")


def combine(token: int, sources: Sequence[Node], step: int = 0, reads: bool = False) -> Node:
    """A node one step after the latest of its sources, or later."""
    return Node(max(step, 1 + max(node.step for node in sources)), token, tuple(sources), reads)


def loop(time: int) -> list[Node]:
    """All nodes of reading token by token: what each reads, and the state that it leaves."""
    given = [Node(0, token) for token in range(-1, time)]
    state, nodes = given[0], []
    for token in given[1:]:
        nodes += [combine(token.token, [state, token], reads=True), combine(token.token, [state, token])]
        state = nodes[-1]
    return given + nodes


def all_chunks(time: int, chunk: int) -> list[Node]:
    """All nodes of summarizing all chunks, carrying the state, and reading all chunks together."""
    given = [Node(0, token) for token in range(-1, time)]
    chunks = [given[1 + start : 1 + start + chunk] for start in range(0, time, chunk)]
    summaries = [combine(tokens[-1].token, tokens) for tokens in chunks]
    states = [given[0]]
    for summary in summaries:
        states.append(combine(summary.token, [states[-1], summary]))
    last = 1 + states[-2].step
    reads = [
        combine(token.token, [state, *tokens[: n + 1]], last, reads=True)
        for state, tokens in zip(states, chunks)
        for n, token in enumerate(tokens)
    ]
    return given + summaries + states[1:] + reads


def scan(time: int) -> list[Node]:
    """All nodes of a scan: in each round every stretch is joined with the one before it, which is as long."""
    given = [Node(0, token) for token in range(-1, time)]
    stretches, nodes, length = given[:-1], [], 1
    while length < len(stretches):
        joined = [combine(b.token, [a, b]) for a, b in zip(stretches, stretches[length:])]
        stretches, nodes, length = stretches[:length] + joined, nodes + joined, 2 * length
    last = 1 + max(node.step for node in stretches)
    reads = [combine(token.token, [past, token], last, reads=True) for past, token in zip(stretches, given[1:])]
    return given + nodes + reads


def plot_ways(time: int, chunk: int) -> Plot:
    """A drawing of three ways to read a text: what is computed, step by step from above, and what from."""
    ways = {"loop": loop(time), f"chunks of {chunk}": all_chunks(time, chunk), "scan": scan(time)}
    steps = {name: max(node.step for node in nodes if node.reads) for name, nodes in ways.items()}
    joins = {name: sum(1 for node in nodes if node.sources and not node.reads) for name, nodes in ways.items()}

    def paint(figure: Figure, theme: Theme) -> None:
        for axes, (name, nodes) in zip(panels(figure, 3), ways.items()):
            shown = [node for node in nodes if node.step <= steps[name]]  # no reader waits for the state after the text
            lines = [(source, node) for node in shown for source in node.sources]
            x, y = ([spot for ends in lines for spot in (*map(axis, ends), math.nan)] for axis in (TOKEN, STEP))
            axes.plot(x, y, color=theme.faint, lw=0.7, zorder=1)  # one path for all lines: a small file
            for kind, color in ((False, theme.hues[1]), (True, theme.hues[0]), (None, theme.ink)):
                points = [node for node in shown if (node.reads if node.sources else None) is kind]
                axes.plot(
                    list(map(TOKEN, points)),
                    list(map(STEP, points)),
                    "o",
                    color=color,
                    markersize=2.2 if kind else 3,
                    zorder=2,
                )
            axes.set(title=f"{name}: {steps[name]} steps", xlabel="token", xticks=[], ylabel="step")
            axes.set_ylim(time + 0.7, -0.7)
            axes.grid(False)
        marks = [matplotlib.patches.Patch(color=color) for color in (theme.ink, theme.hues[1], theme.hues[0])]
        figure.legend(marks, ["given", "summary", "read"], loc="outside lower left", ncols=3)

    words = "; ".join(f"{name}, {steps[name]} steps and {joins[name]} summaries" for name in ways)
    return draw(
        paint,
        f"Three drawings of the same {time} tokens being read, steps from above: {words}. In the loop each state waits "
        "for the one before it, so the drawing is one long stair. In chunks short stairs stand between two level rows. "
        "In the scan every row joins stretches twice as long as those of the row before.",
        size=(7.2, 4.2),
        caption=f"The same {time} reads. A point can be computed once all points that lines lead to from above are "
        f"there, so the height is what a machine with enough processors waits for: {words}.",
    )


def live_attention_cost(
    lengths: Sequence[int], measured: dict[str, Sequence[float | None]], counted: dict[str, Sequence[float | None]]
) -> Live:
    """Cost against length: what a Transformer's attention takes, divided by what RWKV's takes.

    Args:
        lengths: of the texts, in tokens.
        measured: ratios of the times, for each kind of work.
        counted: ratios of the multiplications, for the same kinds.
    """
    lines = {f"{name}, measured": values for name, values in measured.items()}
    lines |= {f"{name}, counted": values for name, values in counted.items()}
    found = "; ".join(
        f"{name} crosses 1 {crossing(lengths, measured[name])} by the clock and "
        f"{crossing(lengths, counted[name])} by the count"
        for name in measured
    )
    return live_lines(
        lengths,
        lines,
        xlabel="tokens",
        ylabel="Transformer ÷ RWKV: above 1, RWKV is cheaper",
        xlog=True,
        ylog=True,
        ylim=(0.2, 40),
        caption=f"{found[0].upper()}{found[1:]}.",
    )


def crossing(lengths: Sequence[int], ratios: Sequence[float | None]) -> str:
    """Where a ratio rises above 1, in words: between which lengths, or beyond or before all of them."""
    known = [(n, ratio) for n, ratio in zip(lengths, ratios) if ratio is not None]
    below = [n for n, ratio in known if ratio < 1]
    if not below:
        return f"before {known[0][0]:,} tokens"
    above = [n for n, ratio in known if n > below[-1]]
    return f"between {below[-1]:,} and {above[0]:,} tokens" if above else f"beyond {below[-1]:,} tokens"


def live_pull(key: float = 1.0) -> Live:
    """What a token reads while one key moves: the read, and its slope at one key.

    The memory holds an average of 2 with a weight of 1. The token has the value 6.

    Args:
        key: where the slope is drawn.
    """
    average, value = 2.0, 6.0
    at = [n / 4 for n in range(-24, 25)]
    reads = [average + (value - average) / (1 + math.exp(-k)) for k in at]
    share = 1 / (1 + math.exp(-key))
    read = average + share * (value - average)
    slope = share * (value - read)
    tangent = [read + slope * (k - key) if abs(k - key) <= 2 else None for k in at]
    lines = {"what is read": reads, "its slope at your key": tangent, "the token's value": [value] * len(at)}
    return live_lines(
        at,
        lines,
        xlabel="the token's key",
        ylabel="read",
        ylim=(1, 7),
        caption=f"At a key of {key:g} the token has a share of {share:.3f}, and {read:.2f} is read. One more unit "
        f"of key pulls the read towards {value:g} at a rate of {share:.3f} × ({value:g} − {read:.2f}) = {slope:.3f}.",
    )
