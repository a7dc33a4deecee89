"""A small picture for each chapter's card on the front page: a sketch of the chapter's idea, 120 by 60 units.

The pictures are strings of SVG, computed where a formula says how they look. Classes say what a part is: `ink` for
lines, `faint` for what lies behind, `one` and `two` for the palette's first hues, `dash` for what is missing.
"""

from math import cos, exp, pi, sin


def dot(x: float, y: float, r: float = 2.5, kind: str = "one") -> str:
    return f'<circle class="{kind}" cx="{x:.4g}" cy="{y:.4g}" r="{r:.4g}"/>'


def box(x: float, y: float, w: float, h: float, kind: str = "one", strength: float = 1.0) -> str:
    faded = f' fill-opacity="{strength:.2f}"' if strength < 1 else ""
    return f'<rect class="{kind}" x="{x:.4g}" y="{y:.4g}" width="{w:.4g}" height="{h:.4g}" rx="1.5"{faded}/>'


def line(points: list[tuple[float, float]], kind: str = "ink") -> str:
    return f'<path class="{kind}" d="M{" ".join(f"{x:.4g},{y:.4g}" for x, y in points)}"/>'


def word(x: float, y: float, text: str) -> str:
    return f'<text x="{x:.4g}" y="{y:.4g}">{text}</text>'


def curve(function, kind: str = "one-line", begin: float = 0.0, end: float = 1.0) -> str:
    """A function with values between 0 and 1, over the whole picture."""
    steps = [begin + (end - begin) * n / 40 for n in range(41)]
    return line([(8 + 104 * x, 54 - 48 * min(1.05, function(x))) for x in steps], kind)


def grid(cells: list[list[float]], x: float, y: float, size: float, kind: str = "one") -> str:
    """Squares, each as strong as its number."""
    return "".join(
        box(x + n * size, y + m * size, size - 1.5, size - 1.5, kind, strength)
        for m, row in enumerate(cells)
        for n, strength in enumerate(row)
        if strength > 0
    )


AXES = line([(8, 6), (8, 54), (112, 54)], "faint-line")


def tokens_to_bars() -> str:
    """A text in pieces, and a probability for each piece that may come."""
    pieces = "".join(box(6 + 19 * n, 22, 17, 16, "frame") + word(14.5 + 19 * n, 33, t) for n, t in enumerate("abc"))
    bars = "".join(box(80, 8 + 12 * n, w, 8, "two" if n == 0 else "one") for n, w in enumerate((34, 20, 9, 5)))
    return pieces + line([(65, 30), (74, 30), (71, 27), (74, 30), (71, 33)]) + bars


def map_of_words() -> str:
    """Two groups of words that lie close together, and a few that do not."""
    spiral = [(n, 2.4 * n) for n in range(9)]
    groups = (
        dot(x + (3 + 1.6 * n) * cos(angle), y + (2 + 1.3 * n) * sin(angle), 2, kind)
        for x, y, kind in ((36, 22, "one"), (84, 38, "two"))
        for n, angle in spiral
    )
    return "".join(groups) + "".join(dot(x, y, 2, "faint") for x, y in ((14, 50), (60, 8), (106, 12), (54, 50)))


def ring_of_words() -> str:
    """A walk from word to word that ends in a ring."""
    ring = [(78 + 24 * cos(pi + n * pi / 3), 30 + 21 * sin(pi + n * pi / 3)) for n in range(7)]
    walk = [(10, 12), (24, 36), (40, 18), ring[0]]
    return (
        line(walk, "faint-line")
        + line(ring, "two-line")
        + "".join(dot(x, y, 3.5, "faint") for x, y in walk[:3])
        + "".join(dot(x, y, 3.5, "two") for x, y in ring[:6])
    )


def stream_of_blocks() -> str:
    """A stream to which blocks add; one of them is taken out."""
    blocks = []
    for n, x in enumerate((16, 42, 68, 94)):
        kind = "dash" if n == 2 else "one"
        blocks.append(box(x - 8, 10, 16, 14, kind))
        if n != 2:
            blocks.append(line([(x - 12, 46), (x - 12, 17), (x - 8, 17)], "faint-line"))
            blocks.append(line([(x + 8, 17), (x + 12, 17), (x + 12, 42), (x + 10, 39), (x + 12, 42), (x + 14, 39)]))
    return line([(2, 46), (118, 46), (114, 43), (118, 46), (114, 49)], "thick") + "".join(blocks)


def squared_relu() -> str:
    """Nothing below zero, a parabola above it."""
    bend = line([(60, 6), (60, 54)], "faint-line")
    return AXES + bend + curve(lambda x: 0.02 + max(0.0, 2 * x - 1) ** 2)


def fading_memory() -> str:
    """Rows of a memory: the lower, the longer it holds what came."""
    rows = [[exp(-(7 - t) * rate) for t in range(8)] for rate in (1.6, 0.7, 0.3, 0.1, 0.0)]
    return grid([row[:-1] + [0] for row in rows], 12, 3, 11.5) + grid([[1]] * 5, 12 + 7 * 11.5, 3, 11.5, "two")


def whole_stack() -> str:
    """Embedding, blocks, unembedding."""
    layers = "".join(box(26 + 9 * n, 10, 7, 40, "one", 0.35 + 0.08 * n) for n in range(8))
    return box(6, 20, 14, 20, "frame") + layers + box(101, 20, 14, 20, "two") + line([(20, 30), (26, 30)])


def overflow() -> str:
    """An exponential that leaves the picture, and the line that it must not cross."""
    limit = line([(8, 14), (112, 14)], "dash-line")
    return AXES + limit + curve(lambda x: exp(8 * (x - 0.72)), end=0.73) + curve(lambda x: 0.72 * x, "two-line")


def triangle() -> str:
    """Who looks back at whom, all at the same time: the older, the weaker."""
    return grid([[exp(-0.25 * (m - n)) if n <= m else 0 for n in range(9)] for m in range(9)], 33, 3, 6.1)


def falling_loss() -> str:
    """A loss that falls, first steeply."""
    return AXES + curve(lambda x: 0.12 + 0.85 * exp(-5 * x) + 0.03 * sin(40 * x) * exp(-2 * x))


def half_lives() -> str:
    """Three weights that fade, each at its own rate."""
    kinds = zip((14, 3.5, 0.5), ("one-line", "two-line", "three-line"))
    return AXES + "".join(curve(lambda x, rate=rate: exp(-rate * x), kind) for rate, kind in kinds)


def traced_map() -> str:
    """A map of tokens and layers with two places where the answer returns."""

    def strength(m: int, n: int) -> float:
        return max(0.1, exp(-((m - 1) ** 2 + (n - 2) ** 2) / 3), exp(-((m - 4) ** 2 + (n - 8) ** 2) / 4))

    return grid([[strength(m, n) for n in range(10)] for m in range(5)], 8, 3, 10.8, "two")


def levers() -> str:
    """Sliders, and a sign to play."""
    rows = "".join(
        line([(12, y), (76, y)], "faint-line") + dot(x, y, 4.5, "one") for x, y in ((30, 14), (60, 30), (42, 46))
    )
    return rows + '<path class="two" d="M90,18 L112,30 L90,42 Z"/>'


def table_memory() -> str:
    """A memory with a row for each key and a column for each value."""
    row, column = (0.15, 1.0, 0.3, 0.6), (0.2, 0.9, 0.15, 0.5, 0.3)
    outer = [[a * b for b in column] for a in row]
    key, value = grid([[a] for a in row], 32, 15, 11, "two"), grid([list(column)], 46, 2, 11, "two")
    return key + value + grid(outer, 46, 15, 11)


PICTURES = {
    "strings-tokens-probabilities": tokens_to_bars,
    "embedding-and-unembedding": map_of_words,
    "the-zero-layer-model": ring_of_words,
    "blocks-and-the-residual-stream": stream_of_blocks,
    "the-gated-mlp": squared_relu,
    "attention-and-memory": fading_memory,
    "the-whole-model": whole_stack,
    "numerical-stability": overflow,
    "time-parallel-mode": triangle,
    "training": falling_loss,
    "time-decay": half_lives,
    "causal-trace": traced_map,
    "playground": levers,
    "where-rwkv-went-next": table_memory,
}


def picture(document: str) -> str:
    """The picture of a chapter, by its document's name. Its words are the first line of the function that draws it."""
    draw = PICTURES[document]
    return f'<svg viewBox="0 0 120 60" aria-hidden="true"><title>{draw.__doc__}</title>{draw()}</svg>'
