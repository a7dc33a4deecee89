"""Where everything stands in the drawing of the model's anatomy: three panels, each an SVG that is 360 units wide.

A unit is about a pixel, on a phone a little less. What things look like is for the style in `anatomy.py` to say: shapes
have classes, and `learned` and `remembered` are the two that matter.
"""

from collections.abc import Mapping
from html import escape

from rwkv_explainer.drawing.anatomy_parts import PANELS, Example, Part
from rwkv_explainer.piece import RWKVConfig

__all__ = ["draw_panels"]

WIDTH = 360
HEIGHTS = {"model": 718, "block": 446, "memory": 256}
GAP = 20  # between the columns, where the panels stand side by side
COLUMNS = 105, 203, 301  # of a block: receptance, key, value
LOWER = 22  # how much what comes after the blocks is moved down
MOST_ROWS = 10  # blocks that are drawn one by one
Number = int | float

# ---------------------------------------------------------------------------------------------------------------------
# shapes


def label(x: Number, y: Number, words: str, look: str = "") -> str:
    """Text, centered unless its look says start or end. `^` raises the one sign after it."""
    base, _, raised = escape(words).partition("^")
    if raised:
        base += f'<tspan dy="-4" font-size="9">{raised[0]}</tspan><tspan dy="4">{raised[1:]}</tspan>'
    return f'<text x="{x:g}" y="{y:g}" class="{look}">{base}</text>'


def box(x: Number, y: Number, width: Number, height: Number, look: str = "face", corner: Number = 5) -> str:
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{corner:g}" class="{look}"/>'


def circle(x: Number, y: Number, radius: Number, look: str = "face") -> str:
    return f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" class="{look}"/>'


def path(d: str, look: str) -> str:
    return f'<path d="{d}" class="{look}"/>'


def line(*points: tuple[Number, Number], look: str = "") -> str:
    """A line from point to point."""
    return path("M" + " L".join(f"{x:g},{y:g}" for x, y in points), f"flow {look}".strip())


def arrow(*points: tuple[Number, Number], look: str = "") -> str:
    """A line that ends in a tip."""
    (x0, y0), (x, y) = points[-2:]
    dx, dy = (x > x0) - (x < x0), (y > y0) - (y < y0)
    corners = (x, y), (x - 6 * dx + 3.5 * dy, y - 6 * dy + 3.5 * dx), (x - 6 * dx - 3.5 * dy, y - 6 * dy - 3.5 * dx)
    tip = "M" + " L".join(f"{px:g},{py:g}" for px, py in corners) + "Z"
    return line(*points[:-1], (x - 4 * dx, y - 4 * dy), look=look) + path(tip, "tip")


def operation(x: Number, y: Number, sign: str) -> str:
    """A small circle with a sign: × + σ."""
    return circle(x, y, 9) + label(x, y + 4.5, sign)


def pill(x: Number, y: Number, words: str, look: str) -> str:
    """A name in a rounded box, centered on a point: what goes in from the side."""
    width = 6.2 * len(words) + 14
    return box(x - width / 2, y - 8.5, width, 17, look, 8.5) + label(x, y + 3.8, words, "small")


def grid(x: Number, y: Number) -> str:
    """A learned matrix or table, as a small grid centered on a point."""
    lines = f"M{x - 2.5:g},{y - 7:g}v14 M{x + 2.5:g},{y - 7:g}v14 M{x - 7:g},{y - 2.5:g}h14 M{x - 7:g},{y + 2.5:g}h14"
    return box(x - 7, y - 7, 14, 14, "learned", 2) + path(lines, "learned flow")


def matrix(x: Number, y: Number, width: Number, name: str, shape: str) -> str:
    """A step that multiplies with a learned matrix, its left edge and top given."""
    middle = x + width / 2 + 3
    return (
        box(x, y, width, 30)
        + grid(x, y + 15)
        + label(middle, y + 13, name, "name")
        + label(middle, y + 25, shape, "small")
    )


def mixer(x: Number, y: Number) -> str:
    """Blends the input with the last one, which it remembers; centered on a column."""
    return (
        box(x - 43, y, 86, 22)
        + box(x - 43, y, 41, 22, "remembered full")
        + label(x - 22.5, y + 15, "last_x", "small")
        + label(x + 11, y + 15, "mix", "small")
        + circle(x + 33, y + 11, 7.5, "learned")
        + label(x + 33, y + 14.5, "m", "small")
    )


# ---------------------------------------------------------------------------------------------------------------------
# panels


class Panel:
    """An SVG that fills with parts."""

    def __init__(self, name: str, parts: Mapping[str, Part], lit: set[str]):
        self.name, self.parts, self.lit = name, parts, lit
        self.listed = PANELS[name][1]
        self.shapes: list[str] = []
        self.named: set[str] = set()

    def add(self, name: str, *shapes: str) -> None:
        """Draw a part. Where it is drawn first, in the panel that lists it, it has a name and can have the focus."""
        state = "lit" if name in self.lit else "dim"
        part, inside = self.parts[name], "".join(shapes)
        if name in self.listed and name not in self.named:
            self.named.add(name)
            spoken = escape(f"{part.title}. {part.words}")
            self.shapes.append(
                f'<a class="{state}" data-part="{name}" tabindex="0" role="img" data-chapter="{part.chapter}" '
                f'aria-label="{spoken}"><title>{spoken}</title>{inside}</a>'
            )
        else:
            self.shapes.append(f'<g class="{state}" data-part="{name}" aria-hidden="true">{inside}</g>')

    def svg(self, heading: str) -> str:
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="panel-{self.name}" role="group" '
            f'viewBox="0 0 {WIDTH} {HEIGHTS[self.name]}" aria-label="{escape(heading)}">'
            f"<desc>{escape(heading)}: {escape(', '.join(self.parts[name].title for name in self.listed))}.</desc>"
            f"{''.join(self.shapes)}</svg>"
        )


def draw_panels(
    config: RWKVConfig, example: Example | None, headings: Mapping[str, str], parts: Mapping[str, Part], lit: set[str]
) -> list[str]:
    """The three SVGs.

    Args:
        config: the sizes to write into them.
        example: a text that the model has read, if it has.
        headings: of the panels, and
        parts: their parts in the same order as in `PANELS`, with all numbers in their words.
        lit: the names of those that are lit.
    """
    svgs = []
    for name, paint in (("model", draw_model), ("block", draw_block), ("memory", draw_memory)):
        panel = Panel(name, parts, lit)
        paint(panel, config, example)
        svgs.append(panel.svg(headings[name]))
    return svgs


def draw_model(panel: Panel, config: RWKVConfig, example: Example | None) -> None:
    """The model between the text and the next token."""
    c, v = f"{config.channels:,}", f"{config.vocab_size:,}"
    draw_input(panel, example)
    panel.add(
        "model",
        box(40, 124, 308, 420 + LOWER, "frame face", 10),
        label(336, 142, "model", "bold end"),
        label(336, 156, f"{config.n_layer} layers", "small end"),
        label(336, 169, f"{c} channels", "small end"),
    )
    panel.add(
        "stream", path(f"M71,178 h10 V{494 + LOWER} h-10 Z", "river"), label(90, 196, "residual stream", "small start")
    )
    panel.add(
        "embedding",
        box(56, 142, 140, 36),
        grid(56, 160),
        label(130, 157, "embedding", "bold"),
        label(130, 171, f"a row of {v} × {c}", "small"),
    )
    draw_rows(panel, config)
    panel.add(
        "unembedding",
        box(56, 494 + LOWER, 140, 36),
        grid(56, 512 + LOWER),
        label(130, 509 + LOWER, "unembedding", "bold"),
        label(130, 523 + LOWER, f"{c} → {v}", "small"),
    )
    draw_output(panel, example)


def draw_input(panel: Panel, example: Example | None) -> None:
    """Text, tokens, ids, and the way of the last id into the model."""
    text = example.text if example else "Text that has been written so far"
    text = text if len(text) <= 42 else "…" + text[-41:]
    panel.add("text", box(40, 14, 308, 28, "face", 8), label(52, 33, text, "start"))
    chips, x = [], 40.0
    for token, token_id in fitting(example):
        width = max(7.2 * len(token), 6.4 * len(token_id)) + 14
        chips.append((x, width, token, token_id))
        x += width + 5
    *_, (last, width, _, _) = chips
    centre = last + width / 2
    panel.add(
        "tokens",
        *(box(left, 56, wide, 22) + label(left + wide / 2, 71, token) for left, wide, token, _ in chips),
        label(x + 3, 71, "tokens", "small start"),
    )
    panel.add(
        "ids",
        *(label(left + wide / 2, 93, token_id, "small") for left, wide, _, token_id in chips),
        label(x + 3, 93, "ids", "small start"),
        arrow((centre, 98), (centre, 111), (76, 111), (76, 142)),
    )


def fitting(example: Example | None) -> list[tuple[str, str]]:
    """The last tokens and their ids, as many as find a place."""
    if not example:
        return [("to", "id"), ("ken", "id"), ("s", "id")]
    kept, room = [], 240.0
    for token, token_id in reversed(example.tokens):
        room -= 7.2 * max(len(token), len(str(token_id))) + 19
        if room < 0:
            break
        kept.insert(0, (token, str(token_id)))
    return kept or [("…", str(example.tokens[-1][1]))]


def rows_of(layers: int) -> list[int | None]:
    """The blocks to draw, counted from 1; None stands for those left out."""
    return [*range(1, layers + 1)] if layers <= MOST_ROWS else [*range(1, MOST_ROWS - 2), None, layers - 1, layers]


def draw_rows(panel: Panel, config: RWKVConfig) -> None:
    """The blocks along the stream, what each remembers in orange; one of them leads to the next panel."""
    rows = rows_of(config.n_layer)
    pitch = min(33.0, (240 + LOWER) / max(len(rows), 1))
    opened = min(2, max(len(rows) - 1, 0))
    panel.add("attention", label(181, 212, "attention", "bold"), label(181, 224, "time mixing", "small"))
    panel.add("gated_mlp", label(284, 212, "gated MLP", "bold"), label(284, 224, "channel mixing", "small"))
    places = [232 + pitch * (row + 0.5) for row in range(len(rows))]
    for y in places[opened : opened + 1]:
        wedge = f"M340,{y - 11:g} L{WIDTH + GAP},8 V{HEIGHTS['block'] - 8} L340,{y + 11:g} Z"
        panel.shapes.append(path(wedge, "wedge wide"))
    panel.add("blocks", *(draw_row(y, n, 0.74 * pitch, row == opened) for row, (y, n) in enumerate(zip(places, rows))))
    for name, x, radius in (("attention.memory", 204, 5.5), ("attention.mixers", 222, 3), ("gated_mlp.mixers", 311, 3)):
        panel.add(name, *(circle(x, y, radius, "dot remembered") for y, n in zip(places, rows) if n))
    note = f"{4 * config.n_layer * config.channels:,} numbers kept for the next token"
    panel.add("blocks", circle(120, 479 + LOWER, 4, "dot remembered"), label(129, 483 + LOWER, note, "small start"))


def draw_row(y: Number, number: int | None, height: Number, opened: bool) -> str:
    """One block: two steps with their matrices, which read the stream and add to it."""
    if number is None:
        return "".join(circle(x, y + dy, 1.6, "pip") for x in (181, 284) for dy in (-6, 0, 6))
    top = y - height / 2
    return (
        label(62, y + 4, str(number), "small")
        + line((81, y - 4), (112, y - 4))
        + arrow((112, y + 4), (83, y + 4))
        + box(112, top - 1, 228, height + 2, "face zoomed" if opened else "face", 6)
        + box(126, top + 3, 110, height - 6, "face", 4)
        + box(246, top + 3, 80, height - 6, "face", 4)
        + "".join(box(x, y - 4, 8, 8, "learned", 1.5) for x in (136, 149, 162, 175, 256, 269, 282))
    )


def draw_output(panel: Panel, example: Example | None) -> None:
    """Probabilities, the die, and the way back to the text."""
    top = example.top if example else (("", 0.46), ("", 0.27), ("", 0.12), ("", 0.05))
    bars = []
    for row, (token, probability) in enumerate(top):
        y, length = 560 + LOWER + 19 * row, max(1.0, 150 * probability)
        bars.append(label(112, y + 11, token[:10], "end") + box(119, y, length, 13, "bar", 2))
        if example:
            written = f"{probability:.3f}" if probability >= 0.001 else "<0.001"
            bars.append(label(119 + length + 5, y + 11, written, "small start"))
    panel.add(
        "probabilities",
        arrow((76, 530 + LOWER), (76, 556 + LOWER)),
        *bars,
        label(348, 590 + LOWER, "probabilities", "small end"),
    )
    pips = [circle(76 + dx, 668 + LOWER + dy, 2.4, "pip") for dx, dy in ((-8, -8), (8, 8), (0, 0), (-8, 8), (8, -8))]
    drawn = example.top[0][0][:12] if example else "next token"
    width = 7.4 * len(drawn) + 16
    panel.add(
        "die",
        arrow((76, 560 + LOWER + 19 * len(top)), (76, 652 + LOWER)),
        box(60, 652 + LOWER, 32, 32, "face", 7),
        *pips,
        arrow((92, 668 + LOWER), (119, 668 + LOWER)),
        box(119, 657 + LOWER, width, 22),
        label(119 + width / 2, 672 + LOWER, drawn),
        label(119 + width + 8, 672 + LOWER, "drawn by a loaded die", "small start"),
    )
    bottom = HEIGHTS["model"] - 4
    panel.add(
        "append",
        arrow((119 + width / 2, 679 + LOWER), (119 + width / 2, bottom), (22, bottom), (22, 28), (40, 28)),
        f'<g transform="rotate(-90 14 340)">{label(14, 340, "append, and once more", "small")}</g>',
    )


def draw_block(panel: Panel, config: RWKVConfig, example: Example | None) -> None:
    """Attention and gated MLP beside the stream."""
    panel.shapes.append(box(0, 0, WIDTH, HEIGHTS["block"], "panel", 12))
    panel.add("stream", path("M17,10 h10 V436 h-10 Z", "river"))
    panel.add("norms", *(norm(y, words) for y, words in ((30, "ln1"), (252, "ln2"))))
    panel.shapes.append(label(348, 19, f"one of the {config.n_layer} blocks", "small end"))
    draw_attention(panel, config)
    draw_gated_mlp(panel, config)


def norm(y: Number, name: str) -> str:
    """A LayerNorm between the stream and a step, with its learned scale and shift."""
    return (
        line((27, y), (44, y)) + box(44, y - 10, 44, 20) + circle(44, y, 6, "learned") + label(69, y + 4, name, "small")
    )


def draw_attention(panel: Panel, config: RWKVConfig) -> None:
    """Time mixing, from ln1 to the update."""
    square = f"{config.channels} × {config.channels}"
    receptance, key, value = COLUMNS
    panel.add(
        "attention",
        box(50, 50, 300, 182, "frame face", 8),
        label(114, 66, "attention", "bold start"),
        label(212, 66, "time mixing", "small start"),
    )
    into = [line((88, 30), (value, 30))] + [arrow((x, 30), (x, 74)) for x in COLUMNS]
    panel.add("attention.mixers", *into, *(mixer(x, 74) for x in COLUMNS))
    for x, name in zip(COLUMNS, ("receptance", "key", "value")):
        shapes = [arrow((x, 96), (x, 106)), matrix(x - 39, 106, 82, name, square)]
        if name == "receptance":
            shapes += [line((x, 136), (x, 144)), operation(x, 153, "σ"), line((x, 162), (x, 166))]
        else:
            shapes.append(arrow((x, 136), (x, 148)))
        panel.add(f"attention.{name}", *shapes)
    panel.add(
        "attention.memory",
        box(158, 148, 186, 44, "remembered full face", 7),
        label(252, 164, "WKV memory", "bold"),
        label(252, 177, f"2 × {config.channels:,} numbers", "small"),
        pill(212, 193, "decay", "learned"),
        pill(292, 193, "gain", "learned"),
        arrow((158, 175), (receptance + 9, 175)),
        line((344, 170), (355, 170), (355, HEIGHTS["block"] + 6), look="remembered"),
    )
    panel.add(
        "attention.output",
        operation(receptance, 175, "×"),
        arrow((receptance, 184), (receptance, 196)),
        matrix(receptance - 39, 196, 82, "output", square),
        arrow((receptance - 46, 211), (31, 211)),
        operation(22, 211, "+"),
    )


def draw_gated_mlp(panel: Panel, config: RWKVConfig) -> None:
    """Channel mixing, from ln2 to the update."""
    c, h = config.channels, config.intermediate_size
    receptance, middle = COLUMNS[0], 252
    panel.add(
        "gated_mlp",
        box(50, 270, 300, 164, "frame face", 8),
        label(114, 286, "gated MLP", "bold start"),
        label(348 - 8, 286, "channel mixing", "small end"),
    )
    into = [line((88, 252), (middle, 252))] + [arrow((x, 252), (x, 294)) for x in (receptance, middle)]
    panel.add("gated_mlp.mixers", *into, *(mixer(x, 294) for x in (receptance, middle)))
    panel.add(
        "gated_mlp.receptance",
        arrow((receptance, 316), (receptance, 326)),
        matrix(receptance - 39, 326, 82, "receptance", f"{c} × {c}"),
        line((receptance, 356), (receptance, 366)),
        operation(receptance, 375, "σ"),
        line((receptance, 384), (receptance, 402)),
    )
    panel.add("gated_mlp.key", arrow((middle, 316), (middle, 326)), matrix(164, 326, 180, "key", f"{c} → {h}"))
    panel.add(
        "gated_mlp.nonlinearity",
        arrow((middle, 356), (middle, 364)),
        box(164, 364, 180, 20, "face", 10),
        label(middle, 378, "squared ReLU", "small"),
    )
    panel.add(
        "gated_mlp.value",
        arrow((middle, 384), (middle, 396)),
        matrix(164, 396, 180, "value", f"{h} → {c}"),
        arrow((157, 411), (receptance + 9, 411)),
        operation(receptance, 411, "×"),
        arrow((receptance - 9, 411), (31, 411)),
        operation(22, 411, "+"),
    )


def draw_memory(panel: Panel, config: RWKVConfig, example: Example | None) -> None:
    """Two leaking buckets: one channel of the memory while a token goes by."""
    panel.shapes.append(box(0, 0, WIDTH, HEIGHTS["memory"], "panel", 12))
    left, middle, right = 100, 180, 260
    panel.shapes.append(label(348, 19, f"memory: one of {config.channels:,} channels", "small end"))
    panel.add(
        "weight",
        label(left, 32, "value"),
        arrow((left, 37), (left, 49)),
        label(right, 32, "key"),
        arrow((right, 37), (right, 48)),
        box(right - 24, 48, 48, 20, "face", 10),
        label(right, 62, "exp"),
        arrow((right - 24, 58), (left + 9, 58)),
        label(middle, 53, "weight", "small"),
        operation(left, 58, "×"),
        arrow((left, 67), (left, 96)),
        arrow((right, 68), (right, 96)),
    )
    panel.add(
        "contents",
        bucket(left, 0.72),
        label(left, 128, "contents", "bold"),
        label(left, 142, "weight × value", "small"),
    )
    panel.add(
        "normalizer", bucket(right, 0.88), label(right, 128, "normalizer", "bold"), label(right, 142, "weight", "small")
    )
    panel.add("decay", *(leak(x) for x in (left, right)))
    panel.add("gain", arrow((middle, 58), (middle, 208)), pill(middle, 106, "gain", "learned"))
    panel.add(
        "read",
        arrow((left + 44, 146), (middle - 18, 146), (middle - 18, 208)),
        arrow((right - 44, 146), (middle + 18, 146), (middle + 18, 208)),
        box(middle - 92, 208, 184, 24, "face", 12),
        label(middle, 224, "average: contents ÷ normalizer", "small"),
        arrow((middle, 232), (middle, 248)),
        label(middle + 8, 247, "to the gates", "small start"),
    )


def bucket(x: Number, level: Number) -> str:
    """An open vessel that is wider at its top, filled to a level."""
    top, bottom, wide, narrow = 90, 158, 54, 44
    y = bottom - level * (bottom - top)
    edge = narrow + level * (wide - narrow)
    water = f"M{x - edge:g},{y:g} L{x + edge:g},{y:g} L{x + narrow},{bottom} L{x - narrow},{bottom} Z"
    wall = f"M{x - wide},{top} L{x - narrow},{bottom} L{x + narrow},{bottom} L{x + wide},{top}"
    return path(water, "remembered full") + path(wall, "remembered wall face")


def leak(x: Number) -> str:
    """Where a bucket loses what has decayed."""
    drops = "".join(
        path(f"M{x + dx:g},{y:g} c4,5 3,8 0,8 s-4,-3 0,-8Z", "dot remembered")
        for dx, y in ((0, 178), (-9, 187), (8, 190))
    )
    return pill(x, 165, "decay", "learned") + drops
