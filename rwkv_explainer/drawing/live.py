"""Figures of numbers: bars, lines, maps and shaded texts that a page draws itself.

    live_bars({"now": shares, "before": others}, tokens, caption="Paris takes over.")

A `Live` figure is HTML and its numbers. Its words are text, its places are percentages and its colors the page's own:
one copy serves light and dark, desk and phone, and the picture stands without a script, as in a notebook and in print.
On a page, book/_static/live.js gives the value under pointer, finger or keyboard, and draws other numbers in the same
way where a figure has sliders (`sliders.slide`).
"""

import decimal
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import matplotlib.ticker
from IPython.display import HTML
from torch import Tensor

from rwkv_explainer.drawing.palette import LIGHT, css_colors, dark_rule
from rwkv_explainer.tokens import in_line, visible_signs

__all__ = ["Live", "live_bars", "live_heatmap", "live_lines", "live_text", "side_by_side", "wrap"]

STYLE = f"""<style>
{css_colors(".rwkv-live")}
.rwkv-live {{ margin: 1rem 0; color: var(--rwkv-ink); font-size: .9rem; line-height: 1.35; max-width: 44rem; }}
.rwkv-live figcaption {{ margin: .5rem 0 0; padding: 0; font-size: inherit; font-weight: normal; line-height: 1.45;
  text-align: left; letter-spacing: normal; color: inherit; }}
.rwkv-live .lv-legend {{ display: flex; flex-wrap: wrap; gap: .1rem 1rem; margin: 0 0 .3rem; }}
.rwkv-live .lv-legend i {{ display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .35em; }}
.rwkv-live :is(i, td) {{ forced-color-adjust: none; }}
.rwkv-live .lv-name, .rwkv-live .lv-number {{ white-space: pre; }}
.rwkv-live .lv-bars {{ display: grid; grid-template-columns: fit-content(38%) 1fr max-content; gap: .2rem .5rem;
  align-items: center; }}
.rwkv-live .lv-bars .lv-name {{ text-align: right; overflow: hidden; text-overflow: ellipsis; }}
.rwkv-live .lv-number {{ font-variant-numeric: tabular-nums; text-align: right; }}
.rwkv-live .lv-track {{ position: relative; align-self: stretch; display: flex; flex-direction: column; gap: 1px;
  justify-content: center; min-height: 1.1em; }}
.rwkv-live .lv-track::before {{ content: ""; position: absolute; inset: 0 auto 0 var(--zero);
  border-left: 1px solid var(--rwkv-faint); }}
.rwkv-live .lv-track i {{ display: block; height: .95em; border-radius: 2px; }}
.rwkv-live .lv-track i:not(:only-child) {{ height: .55em; }}
.rwkv-live .lv-lines {{ display: grid; grid-template-columns: max-content 1fr; }}
.rwkv-live .lv-lines > .lv-title {{ grid-column: 1 / -1; justify-self: start; margin-bottom: .5rem; }}
.rwkv-live .lv-lines > .lv-below {{ grid-column: 2; justify-self: center; }}
.rwkv-live .lv-scale {{ position: relative; height: 14rem; margin-right: .4rem; text-align: right; }}
.rwkv-live .lv-scale b, .rwkv-live .lv-under b {{ font-weight: normal; white-space: nowrap; }}
.rwkv-live .lv-scale b {{ position: absolute; right: 0; transform: translateY(-50%); }}
.rwkv-live .lv-scale span {{ visibility: hidden; }}
.rwkv-live .lv-area {{ position: relative; height: 14rem; touch-action: pan-y; }}
.rwkv-live .lv-area svg {{ position: absolute; inset: 0; width: 100%; height: 100%; max-width: none;
  overflow: visible; }}
.rwkv-live .lv-area path {{ fill: none; vector-effect: non-scaling-stroke; stroke-width: 2px; stroke-linejoin: round; }}
.rwkv-live .lv-area .lv-grid {{ stroke: var(--rwkv-faint); stroke-width: 1px; }}
.rwkv-live .lv-area .lv-dots {{ stroke-width: 6px; stroke-linecap: round; }}
.rwkv-live .lv-under {{ position: relative; height: 1.4em; margin: .2rem 1.2rem 0 0; grid-column: 2; width: 100%; }}
.rwkv-live .lv-under b {{ position: absolute; transform: translateX(-50%); }}
.rwkv-live .lv-tilted {{ height: 3.6rem; }}
.rwkv-live .lv-tilted b {{ transform: translate(calc(.4em - 100%), .2em) rotate(-45deg); transform-origin: top right;
  max-width: 4.6rem; overflow: hidden; text-overflow: ellipsis; }}
.rwkv-live .lv-mark {{ position: absolute; top: 0; bottom: 0; border-left: 1px solid var(--rwkv-ink); }}
.rwkv-live .lv-heat {{ width: 100%; border-collapse: separate; border-spacing: 1px; table-layout: fixed; margin: 0;
  font-size: inherit; font-variant-numeric: tabular-nums; }}
.rwkv-live .lv-heat caption {{ caption-side: bottom; color: inherit; padding: .2rem 0 0; }}
.rwkv-live .lv-heat :is(th, td) {{ border: 0; padding: 0; font-weight: normal; line-height: 1.55; background: none; }}
.rwkv-live .lv-heat tr {{ background: none; }}
.rwkv-live .lv-heat tbody th {{ text-align: right; white-space: pre; padding-right: .4rem; overflow: hidden;
  text-overflow: ellipsis; }}
.rwkv-live .lv-heat col:first-child {{ width: var(--names); }}
.rwkv-live .lv-heat thead th {{ text-align: center; vertical-align: bottom; white-space: pre; }}
.rwkv-live .lv-long thead th {{ writing-mode: vertical-rl; transform: rotate(180deg); text-align: left;
  padding: .3rem 0; }}
.rwkv-live .lv-heat td {{ text-align: center; color: #000; overflow: hidden; background: color-mix(in oklab,
  var(--rwkv-high) calc(100% * var(--v)), var(--rwkv-low)); font-size: min(.8rem, calc(33cqi / var(--columns))); }}
@container (max-width: 27rem) {{ .rwkv-live .lv-wide td {{ font-size: 0; height: 1.2rem; }} }}
.rwkv-live .lv-heat td.lv-high {{ color: #fff; }}
{dark_rule(".rwkv-live .lv-heat td", "color: #fff;")}
{dark_rule(".rwkv-live .lv-heat td.lv-mid", "color: #000;")}
.rwkv-live .lv-heat td:not([style]) {{ background: none; }}
.rwkv-live .lv-said td {{ text-overflow: clip; white-space: pre; line-height: 1.9; cursor: pointer;
  font-size: clamp(.56rem, calc(24cqi / var(--columns)), .8rem); }}
.rwkv-live .lv-many td {{ font-size: 0; height: 1.2rem; }}
.rwkv-live .lv-heat .lv-chosen {{ outline: 2px solid var(--rwkv-hue-2); outline-offset: -1px; }}
.rwkv-live .lv-text {{ margin: 0; white-space: pre-wrap; font-size: 1rem; line-height: 1.7; }}
.rwkv-live .lv-text span {{ border-radius: 3px; background: color-mix(in oklab, var(--rwkv-hue-2) calc(50% * var(--v)),
  transparent); }}
.rwkv-live .lv-text span:not([style]) {{ background: none; }}
.rwkv-live .lv-text .lv-chosen {{ outline: 2px solid var(--rwkv-hue-1); }}
.rwkv-live .lv-picture {{ container-type: inline-size; }}
.rwkv-live .lv-read {{ display: block; font-variant-numeric: tabular-nums; }}
.rwkv-live .lv-controls {{ display: flex; flex-wrap: wrap; gap: .4rem 1.5rem; margin: 0 0 .6rem; }}
.rwkv-live .lv-controls[hidden] {{ display: none; }}
.rwkv-live .lv-controls label {{ display: flex; flex-wrap: wrap; align-items: center; gap: .2rem .5rem; }}
.rwkv-live .lv-controls input[type=range] {{ width: min(15rem, 60vw); }}
.rwkv-live .lv-controls select {{ max-width: min(100%, 78vw); }}
.rwkv-live .lv-value {{ display: inline-block; min-width: 3em; font-variant-numeric: tabular-nums; }}
@media print {{
  .rwkv-live .lv-controls, .rwkv-live .lv-read {{ display: none; }}
  .rwkv-live * {{ print-color-adjust: exact; }}
}}
</style>"""
WIDE, MANY = 12, 16  # columns of a map: with more of them, cells show no numbers, on a phone and anywhere


Number = float | int
Numbers = Sequence[Number | None]


@dataclass(frozen=True)
class Live:
    """A figure that a page draws from its numbers. Notebooks show it by themselves, standing still."""

    data: dict[str, object]  # what book/_static/live.js draws from: kind, numbers, names, limits
    alt: str  # what is to be seen, for those who do not see it
    caption: str = ""  # the finding, in a sentence below

    def _repr_html_(self) -> str:
        return wrap(self.picture(), self.alt, self.caption, numbers=self.data)

    def picture(self) -> str:
        """The drawing as HTML, without its words: the same that live.js makes of `data`."""
        return {"bars": bars, "lines": lines, "heat": heat, "text": text}[self.data["kind"]](self.data)


def side_by_side(*figures, grow: bool = True) -> HTML:
    """Figures of any kind that a notebook shows, in a row, and below each other where a page is narrow.

    Args:
        grow: whether they share the whole width evenly; else each keeps its own.
    """
    size, gap = ("1 1 18rem", "1.5rem") if grow else ("0 1 auto", "2rem")
    each = "".join(f'<div style="flex:{size};min-width:0">{figure._repr_html_()}</div>' for figure in figures)
    return HTML(f'<div style="display:flex;flex-wrap:wrap;align-items:flex-start;gap:0 {gap}">{each}</div>')


def wrap(picture: str, alt: str, caption: str, numbers: dict[str, object], controls: str = "") -> str:
    """The whole figure: controls, which a script shows, the picture, its caption, and the numbers for the script."""
    said = json.dumps(numbers, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")  # nor <!-- nor </
    alt, caption = in_line(alt), in_line(caption)
    return (
        f'{STYLE}<figure class="rwkv-live">{controls}'
        f'<div class="lv-picture" role="group" aria-label="{escape(alt)}">{picture}</div>'
        f"<figcaption{'' if caption else ' hidden'}>{escape(caption)}</figcaption>"
        f'<script type="application/json">{said}</script></figure>'
    )


# ---------------------------------------------------------------------------------------------------------------------
# what chapters call


def live_bars(
    series: dict[str, Numbers | Tensor] | Numbers | Tensor,
    names: Sequence[str],
    *,
    caption: str = "",
    alt: str = "",
    limits: tuple[Number, Number] | None = None,
    digits: int | str = "%",
) -> Live:
    """A bar for each name, one below the other, its number beside it.

    Args:
        series: the numbers in the order of `names`; for several bars a name, by what they are.
        names: such as tokens.
        caption: the finding, in a sentence.
        alt: what is to be seen; by default it names the largest and the last bar of each series.
        limits: of the scale, 0 included; None for what the numbers need. Give them to figures that are compared or
            move.
        digits: after the point, or "%" for shares in percent, or "%1" for percent with a digit after the point.

    Raises:
        ValueError: if a series has not one number a name.
    """
    series = {name: numbers(values) for name, values in named(series).items()}
    for name, values in series.items():
        if len(values) != len(names):
            raise ValueError(f"live_bars: expected {len(names)} numbers in {name!r}, one a name, got {len(values)}")
    every = [value for values in series.values() for value in values if value is not None] or [0.0]
    data = {
        "kind": "bars",
        "names": [shown(name) for name in names],
        "series": [[in_line(name), values] for name, values in series.items()],
        "limits": list(limits or (min(0.0, *every), max(0.0, *every) or 1.0)),
        "digits": digits,
    }
    return Live(data, alt or bars_in_words(data), caption)


def live_lines(
    x: Numbers | Tensor,
    series: dict[str, Numbers | Tensor] | Numbers | Tensor,
    *,
    xlabel: str,
    ylabel: str,
    caption: str = "",
    alt: str = "",
    xlim: tuple[Number, Number] | None = None,
    ylim: tuple[Number, Number] | None = None,
    xlog: bool = False,
    ylog: bool = False,
    dots: Sequence[str] = (),
    names: Sequence[str] = (),
    digits: int | str = 2,
) -> Live:
    """Lines over a common axis. A finger or the arrow keys read all of them at one place.

    Args:
        x: places along the axis, rising.
        series: for each line's name, a number a place; None or nan leaves a gap. At most six lines.
        xlabel: below the axis.
        ylabel: above the picture, where it is read first and takes no width.
        caption: the finding, in a sentence.
        alt: what is to be seen; by default it says where each line begins, ends and is highest.
        xlim, ylim: the ends of the axes; None for what the numbers need. Give them to figures that move.
        xlog, ylog: whether an axis is logarithmic.
        dots: the names of series that are dots without a line.
        names: what stands at each place along the axis in place of its number, such as tokens.
        digits: of the values that are read, as for `live_bars`.

    Raises:
        ValueError: if a series has not one number a place, or there are more series than hues.
    """
    x, series = numbers(x), {name: numbers(values) for name, values in named(series).items()}
    if len(series) > len(LIGHT.hues):
        raise ValueError(f"live_lines: expected at most {len(LIGHT.hues)} series, a hue each, got {len(series)}")
    for name, values in series.items():
        if len(values) != len(x):
            raise ValueError(f"live_lines: expected {len(x)} numbers in {name!r}, one a place, got {len(values)}")
    every = [value for values in series.values() for value in values if value is not None]
    xlim, ylim = xlim or (x[0], x[-1]), ylim or padded(every, ylog)
    data = {
        "kind": "lines",
        "x": x,
        "series": [[in_line(name), values, int(name in dots)] for name, values in series.items()],
        "xlim": list(xlim),
        "ylim": list(ylim),
        "xlog": xlog,
        "ylog": ylog,
        "xticks": [[place, shown(name)] for place, name in zip(x, names)] if names else ticks(xlim, xlog, 6),
        "yticks": ticks(ylim, ylog, 5),
        "xlabel": in_line(xlabel),
        "ylabel": in_line(ylabel),
        "digits": digits,
    }
    return Live(data, alt or lines_in_words(data), caption)


def live_heatmap(
    cells: Sequence[Numbers] | Tensor,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    label: str,
    caption: str = "",
    alt: str = "",
    limits: tuple[Number, Number] | None = None,
    digits: int | str = "%",
    texts: Sequence[Sequence[str]] = (),
    told: Sequence[Sequence[str]] = (),
) -> Live:
    """A table whose cells are shaded by their numbers. The numbers stand in the cells where there is room.

    Args:
        cells: a row of numbers for each of `rows`; None or nan leaves a cell empty.
        rows: names of the rows, such as tokens.
        columns: names of the columns.
        label: what a number is, and how rows and columns are to be read.
        caption: the finding, in a sentence.
        alt: what is to be seen; by default it names the largest cell.
        limits: the numbers that get no shade and full shade; None for the smallest and the largest.
        digits: as for `live_bars`.
        texts: what stands in each cell in place of its number, such as a token.
        told: what is read of each cell in place of its number, where a reader points at it.

    Raises:
        ValueError: if the numbers, or the texts, do not fit the names.
    """
    table = [numbers(row) for row in (cells.tolist() if isinstance(cells, Tensor) else cells)]
    for what, filled in {"numbers": table, "texts": texts or table, "told": told or table}.items():
        if [len(row) for row in filled] != len(rows) * [len(columns)]:
            raise ValueError(
                f"live_heatmap: expected {len(rows)} rows of {len(columns)} {what}, got {[len(row) for row in filled]}"
            )
    every = [value for row in table for value in row if value is not None] or [0.0]
    low, high = limits or (min(every), max(every))
    data = {
        "kind": "heat",
        "rows": [shown(name) for name in rows],
        "columns": [shown(name) for name in columns],
        "cells": table,
        "limits": [low, high if high > low else low + 1.0],
        "label": in_line(label),
        "digits": digits,
    }
    if texts:
        data["texts"] = [[shown(text) for text in row] for row in texts]
    if told:
        data["told"] = [[in_line(words) for words in row] for row in told]
    return Live(data, alt or heat_in_words(data), caption)


def live_text(
    values: Numbers | Tensor,
    tokens: Sequence[str],
    *,
    caption: str = "",
    alt: str = "",
    limits: tuple[Number, Number] | None = None,
    digits: int | str = 2,
) -> Live:
    """A text whose tokens are shaded by a number each. A pointer or the arrow keys read the number of one token.

    Args:
        values: a number a token.
        tokens: the text, cut into tokens, spaces included.
        caption: the finding, in a sentence.
        alt: what is to be seen; by default it names the token with the largest number.
        limits: the numbers that get no shade and full shade; None for 0 and the largest.
        digits: as for `live_bars`.

    Raises:
        ValueError: if there is not one number a token.
    """
    values = numbers(values)
    if len(values) != len(tokens):
        raise ValueError(f"live_text: expected {len(tokens)} numbers, one a token, got {len(values)}")
    low, high = limits or (0.0, max((value for value in values if value is not None), default=1.0))
    data = {
        "kind": "text",
        "tokens": [in_line(token) for token in tokens],
        "values": values,
        "limits": [low, high if high > low else low + 1.0],
        "digits": digits,
    }
    return Live(data, alt or text_in_words(data), caption)


def named(series: object) -> dict[str, Numbers | Tensor]:
    """The series by name; a single one needs none."""
    return series if isinstance(series, dict) else {"": series}


def numbers(values: Numbers | Tensor) -> list[Number | None]:
    """Numbers with four digits, as a page gets them; None where there is none."""
    values = values.tolist() if isinstance(values, Tensor) else values
    return [
        None if v is None or not math.isfinite(v) else v if isinstance(v, int) else float(f"{v:.4g}") for v in values
    ]


def shown(name: object) -> str:
    """A name as a page shows it: spaces at its ends are seen, and what is not to be seen stands as bytes."""
    name = visible_signs(str(name))
    inner = name.strip(" ")
    left = len(name) - len(name.lstrip(" "))
    return "·" * left + inner + "·" * (len(name) - left - len(inner)) if inner else "·" * len(name)


def padded(values: Numbers, logarithmic: bool) -> tuple[Number, Number]:
    """Ends of an axis with a little room beyond the numbers."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    if logarithmic:
        return low / 1.2, high * 1.2
    room = 0.04 * (high - low) or 0.5
    return low - room, high + room


def ticks(limits: Numbers, logarithmic: bool, count: int) -> list[list]:
    """Round numbers between the limits, with the words for each."""
    low, high = limits
    if logarithmic:
        powers = range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)
        step = max(1, len(powers) // count)
        return [[10.0**power, f"{10.0**power:,g}" if power < 6 else f"10^{power}"] for power in powers[::step]]
    places = matplotlib.ticker.MaxNLocator(count, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high).tolist()
    inside = [place for place in places if low - 1e-9 <= place <= high + 1e-9]
    return [[float(f"{place:.6g}"), f"{float(f'{place:.6g}'):,g}".replace("-", "−")] for place in inside]


# ---------------------------------------------------------------------------------------------------------------------
# the drawings: live.js has the same four functions, and a test holds them together


def legend(names: Sequence[str]) -> str:
    if names == [""]:
        return ""
    keys = (
        f'<span><i style="background:var(--rwkv-hue-{n})"></i>{escape(name, quote=False)}</span>'
        for n, name in enumerate(names, 1)
    )
    return f'<div class="lv-legend">{"".join(keys)}</div>'


def bars(data: dict) -> str:
    low, high = data["limits"]

    def place(value: Number) -> float:
        return 100 * min(max((value - low) / (high - low), 0.0), 1.0)

    def bar(value: Number | None, n: int) -> str:
        start = place(min(value or 0, 0))
        width = place(max(value or 0, 0)) - start
        places = f"margin-left:{fixed(start, 2)}%;width:{fixed(width, 2)}%"
        return f'<i style="{places};background:var(--rwkv-hue-{n})"></i>'

    rows = []
    for row, name in enumerate(data["names"]):
        values = [values[row] for _, values in data["series"]]
        drawn = "".join(bar(value, n) for n, value in enumerate(values, 1))
        told = "  ".join(words(value, data["digits"]) for value in values)
        rows.append(
            f'<span class="lv-name">{escape(name, quote=False)}</span>'
            f'<span class="lv-track" style="--zero:{fixed(place(0), 2)}%">{drawn}</span>'
            f'<span class="lv-number">{told}</span>'
        )
    return f'{legend([name for name, _ in data["series"]])}<div class="lv-bars">{"".join(rows)}</div>'


def lines(data: dict) -> str:
    def across(value: Number) -> float:
        return 100 * share(value, data["xlim"], data["xlog"])

    def down(value: Number) -> float:
        return 100 - 100 * share(value, data["ylim"], data["ylog"])

    grid = "".join(f"M0 {fixed(down(at), 2)}H100" for at, _ in data["yticks"])
    paths = [f'<path class="lv-grid" d="{grid}"></path>']
    for n, (_, values, dotted) in enumerate(data["series"], 1):
        path, pen = "", "M"
        for at, value in zip(data["x"], values):
            if value is None:
                pen = "M"
                continue
            path += f"{'M' if dotted else pen}{fixed(across(at), 2)} {fixed(down(value), 2)}{'h0' if dotted else ''}"
            pen = "L"
        kind = "lv-dots" if dotted else "lv-line"
        paths.append(f'<path class="{kind}" style="stroke:var(--rwkv-hue-{n})" d="{path}"></path>')
    widest = max((name for _, name in data["yticks"]), key=len, default="")
    left = "".join(f'<b style="top:{fixed(down(at), 2)}%">{name}</b>' for at, name in data["yticks"])
    below = "".join(
        f'<b style="left:{fixed(across(at), 2)}%">{escape(name, quote=False)}</b>' for at, name in data["xticks"]
    )
    tilted = " lv-tilted" * (sum(len(name) + 2 for _, name in data["xticks"]) > 42)
    return (
        f'{legend([name for name, *_ in data["series"]])}<div class="lv-lines">'
        f'<span class="lv-title">{escape(data["ylabel"], quote=False)}</span>'
        f'<div class="lv-scale" aria-hidden="true"><span>{widest}</span>{left}</div>'
        '<div class="lv-area"><svg viewBox="0 0 100 100" preserveAspectRatio="none" aria-hidden="true">'
        f"{''.join(paths)}</svg></div>"
        f'<div class="lv-under{tilted}" aria-hidden="true">{below}</div>'
        f'<span class="lv-below">{escape(data["xlabel"], quote=False)}</span></div>'
    )


def heat(data: dict) -> str:
    low, high = data["limits"]
    texts, body = data.get("texts"), []
    for n, (name, cells) in enumerate(zip(data["rows"], data["cells"])):
        row = f'<th scope="row">{escape(name, quote=False)}</th>'
        for m, value in enumerate(cells):
            if value is None:
                row += "<td></td>"
                continue
            at = min(max((value - low) / (high - low), 0), 1)
            mark = ' class="lv-mid lv-high"' if at > 0.62 else ' class="lv-mid"' if at > 0.47 else ""
            inside = escape(texts[n][m], quote=False) if texts else words(value, data["digits"]).rstrip("%")
            row += f'<td{mark} style="--v:{fixed(at, 3)}">{inside}</td>'
        body.append(f"<tr>{row}</tr>")
    head = "".join(f'<th scope="col">{escape(name, quote=False)}</th>' for name in data["columns"])
    count, longest = len(data["columns"]), max(map(len, data["columns"]), default=0)
    kinds = "lv-heat" + " lv-long" * (count * longest > 40) + " lv-wide" * (count > WIDE) + " lv-many" * (count > MANY)
    kinds += " lv-said" * bool(texts)
    names = min(max(map(len, data["rows"]), default=0), 14)
    return (
        f'<table class="{kinds}" style="--columns:{count};--names:{names + 1}ch">'
        f"<caption>{escape(data['label'], quote=False)}</caption><colgroup><col>{'<col>' * count}</colgroup>"
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    )


def text(data: dict) -> str:
    low, high = data["limits"]

    def shade(value: Number | None) -> str:
        at = min(max(((value or 0) - low) / (high - low), 0), 1)
        return f' style="--v:{fixed(at, 2)}"' if at > 0 else ""

    spans = (
        f"<span{shade(value)}>{escape(token, quote=False)}</span>"
        for token, value in zip(data["tokens"], data["values"])
    )
    return f'<p class="lv-text">{"".join(spans)}</p>'


def share(value: Number, limits: Numbers, logarithmic: bool) -> float:
    """Where a number lies between the limits, 0 to 1."""
    low, high = limits
    if logarithmic:
        return math.log(value / low) / math.log(high / low)
    return (value - low) / (high - low)


def words(value: Number | None, digits: int | str) -> str:
    """A number as the figure writes it: with so many digits after the point, or in percent."""
    if value is None:
        return "–"
    if isinstance(digits, str):
        return f"{fixed(100 * value, int(digits[1:] or 0))}%"
    return fixed(value, digits).replace("-", "−")


def fixed(value: Number, digits: int) -> str:
    """As JavaScript's toFixed: of two numbers equally near, the one further from zero; no minus before zero."""
    rounded = decimal.Decimal(value).quantize(decimal.Decimal(1).scaleb(-digits), decimal.ROUND_HALF_UP)
    return f"{rounded + 0 if rounded else abs(rounded):f}"


# ---------------------------------------------------------------------------------------------------------------------
# the figures in words


def bars_in_words(data: dict) -> str:
    found = []
    for name, values in data["series"]:
        known = [(value, data["names"][n]) for n, value in enumerate(values) if value is not None]
        if known:
            (most, first), (last, end) = max(known), known[-1]
            most, last = (words(value, data["digits"]) for value in (most, last))
            found.append(f"{name + ': ' * bool(name)}{first} has the most, {most}; {end}, the last, has {last}")
    return f"A bar for each of {len(data['names'])} names. {'. '.join(found)}."


def lines_in_words(data: dict) -> str:
    found = []
    for name, values, _ in data["series"]:
        known = [(value, at) for at, value in zip(data["x"], values) if value is not None]
        if known:
            (top, at), begin, end = max(known), known[0][0], known[-1][0]
            top, begin, end = (words(value, data["digits"]) for value in (top, begin, end))
            found.append(f"{name + ': ' * bool(name)}from {begin} to {end}, highest at {at:g} with {top}")
    return f"{data['ylabel']} over {data['xlabel']}. {'. '.join(found)}."


def heat_in_words(data: dict) -> str:
    cells = [
        (value, row, column)
        for row, values in zip(data["rows"], data["cells"])
        for column, value in zip(data["columns"], values)
        if value is not None
    ]
    top = max(cells, default=None)
    found = f" The largest, {words(top[0], data['digits'])}, is at row {top[1]}, column {top[2]}." if top else ""
    return f"{data['label']}: {len(data['rows'])} rows by {len(data['columns'])} columns.{found}"


def text_in_words(data: dict) -> str:
    known = [(value, token) for value, token in zip(data["values"], data["tokens"]) if value is not None]
    top, token = max(known, default=(None, ""))
    return (
        f"A text of {len(data['tokens'])} tokens, shaded by a number each: {sum(value > 0 for value, _ in known)} are "
        f"above 0, and {shown(token)} has the largest, {words(top, data['digits'])}."
    )
